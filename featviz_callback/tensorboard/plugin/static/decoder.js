// The decoder: it makes bitmaps of the answer of the route `/pictures`. A page that scrolls has no
// time for that, so a worker does it.

const REASON = 0x80000000;

// Returns a list: for each picture its file, `{ blob, reason }`, which is null where there is none.
export function blobsIn(buffer) {
  const [view, found] = [new DataView(buffer), []];
  for (let at = 0; at < buffer.byteLength;) {
    const mark = view.getUint32(at, true);
    const length = mark % REASON;
    const part = new Uint8Array(buffer, at + 4, length);
    at += 4 + length;
    const isReason = mark >= REASON || !length;
    found.push(isReason ? { blob: null, reason: new TextDecoder().decode(part) } : { blob: new Blob([part], { type: 'image/png' }), reason: '' });
  }
  return found;
}

// Resolves to a list of `{ bitmap, reason }`.
function decodeAll(buffer) {
  return Promise.all(blobsIn(buffer).map(async ({ blob, reason }) => ({ bitmap: await decode(blob), reason })));
}

async function decode(blob) {
  try {
    return blob && await createImageBitmap(blob);
  } catch {
    return null;
  }
}

if (typeof WorkerGlobalScope !== 'undefined') {
  self.onmessage = async ({ data: { id, buffer } }) => {
    const found = await decodeAll(buffer).catch(() => null);
    self.postMessage({ id, found }, found?.map(({ bitmap }) => bitmap).filter(Boolean) ?? []);
  };
}

// Decodes in a worker, or where there can be none, as on some pages of other origins, on the page.
export class Decoder {
  #waiting = new Map();
  #next = 0;

  constructor() {
    try {
      this.worker = new Worker(import.meta.url, { type: 'module' });
    } catch {
      return;
    }
    this.worker.onmessage = ({ data: { id, found } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (found) resolve(found);
      else reject(new Error('The answer is no list of pictures.'));
    };
    this.worker.onerror = () => {
      this.worker = null;
      for (const { reject } of this.#waiting.values()) reject(new Error('The worker has failed.'));
      this.#waiting.clear();
    };
  }

  decode(buffer) {
    if (!this.worker) return decodeAll(buffer);
    return new Promise((resolve, reject) => {
      const id = this.#next;
      this.#next += 1;
      this.#waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, buffer }, [buffer]);
    });
  }
}
