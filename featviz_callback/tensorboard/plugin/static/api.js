// The server's answers: one function for each route that plugin.py describes.

async function get(url, options) {
  const answer = await fetch(url, options);
  if (!answer.ok) throw Object.assign(new Error(await answer.text()), { status: answer.status });
  return answer;
}

// Names may be longer than any address, so they go into the body.
function post(route, content) {
  return get(`./${route}`, { method: 'POST', body: JSON.stringify(content), headers: { 'Content-Type': 'application/json' } });
}

export async function fetchRuns() {
  return (await (await get('./index')).json()).runs;
}

// Resolves to an object: for each run its frames, or null where nothing is newer than a version.
export async function fetchNews(versions) {
  return (await post('news', { runs: versions })).json();
}

const REASON = 0x80000000;

// Resolves to a list: for each key `{ blob }`, or `{ reason }` where there is no picture. An answer
// has the first ones, as many as fit, so large pictures take several.
export async function fetchPictures(keys) {
  const found = [];
  while (found.length < keys.length) {
    const some = await fetchFirst(keys.slice(found.length));
    if (!some.length) throw new Error('The answer has no picture.');
    found.push(...some);
  }
  return found;
}

async function fetchFirst(keys) {
  const buffer = await (await post('pictures', { keys })).arrayBuffer();
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

export function pictureUrl(key) {
  return `./picture?${new URLSearchParams({ key })}`;
}

export async function fetchAnimation(run, name) {
  return (await post('animation', { run, name })).blob();
}

export async function fetchReal(run, name, step) {
  return (await post('real', { run, name, step })).json();
}

// `by` is "picture" or "function".
export async function fetchNearest(run, name, step, by) {
  return (await post('nearest', { run, name, step, by })).json();
}

export async function fetchActivations(run, layer) {
  return (await post('activations', { run, layer })).json();
}
