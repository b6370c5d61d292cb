// The pictures: this module fetches those that are on the screen, or about to be, and keeps them
// while there is room. One request asks for all pictures of a screen and step.

import { fetchPictures } from './api.js';
import { Decoder } from './decoder.js';

const MOST_KEYS = 1000;
const MOST_REQUESTS = 2;
const MOST_BYTES = 256 * 1024 * 1024;
// The page enlarges pictures of up to half this width before it shows them.
const SMALL = 256;

export class Pictures extends EventTarget {
  #kept = new Map(); // bitmaps by key, null where a picture cannot be read; the oldest first
  #reasons = new Map(); // why a picture cannot be read, by key
  #bytes = 0;
  #asked = new Set();
  #requests = 0;
  #decoder = new Decoder();
  #wanted = [];

  // Returns a bitmap, null where none can be read, or undefined until the bitmap comes.
  get(key) {
    const bitmap = this.#kept.get(key);
    if (bitmap !== undefined) {
      this.#kept.delete(key);
      this.#kept.set(key, bitmap);
    }
    return bitmap;
  }

  has(key) {
    return this.#kept.has(key);
  }

  // Says why a picture cannot be read, and where in which file it is.
  reasonOf(key) {
    return this.#reasons.get(key) ?? '';
  }

  // Takes lists of keys, the most urgent list first; they replace all that was wanted before.
  want(lists) {
    const urgencies = new Map();
    lists.forEach((keys, urgency) => {
      for (const key of keys) if (key && !urgencies.has(key)) urgencies.set(key, urgency);
    });
    this.#wanted = [...urgencies].map(([key, urgency]) => ({ key, urgency })).filter(({ key }) => !this.#kept.has(key));
    this.#fetchNext();
  }

  #fetchNext() {
    while (this.#requests < MOST_REQUESTS) {
      const batch = this.#takeBatch();
      // What may be looked at next waits for what is on the screen.
      if (!batch.length || (this.#requests && batch[0].urgency > 0)) return;
      this.#fetch(batch);
    }
  }

  #takeBatch() {
    const open = this.#wanted.filter(({ key }) => !this.#kept.has(key) && !this.#asked.has(key));
    const urgency = open[0]?.urgency;
    const batch = open.filter((frame) => frame.urgency === urgency).slice(0, MOST_KEYS);
    this.#wanted = open;
    return batch;
  }

  async #fetch(batch) {
    this.#requests += 1;
    for (const { key } of batch) this.#asked.add(key);
    try {
      const answers = await fetchPictures(batch.map(({ key }) => key), (buffer) => this.#decoder.decode(buffer));
      batch.forEach(({ key }, i) => {
        const { bitmap, reason } = answers[i];
        if (!bitmap) this.#reasons.set(key, reason || 'The browser cannot decode the picture.');
        this.#keep(key, bitmap);
      });
    } catch {
      this.#wanted = [];
      this.dispatchEvent(new Event('failure'));
    }
    for (const { key } of batch) this.#asked.delete(key);
    this.#requests -= 1;
    this.dispatchEvent(new CustomEvent('arrival', { detail: batch.map(({ key }) => key) }));
    this.#fetchNext();
  }

  #keep(key, bitmap) {
    this.#kept.set(key, bitmap);
    this.#bytes += bytes(bitmap);
    for (const [oldest, old] of this.#kept) {
      if (this.#bytes <= MOST_BYTES || oldest === key) break;
      this.#kept.delete(oldest);
      this.#bytes -= bytes(old);
      old?.close();
    }
  }
}

// A small bitmap is enlarged by a whole number, so that its pixels stay squares of one size at
// any width of the canvas. `most` is how wide or high the canvas need be, at most.
export function paint(canvas, bitmap, most = SMALL) {
  const times = Math.max(1, Math.floor(Math.min(most, SMALL) / Math.max(bitmap.width, bitmap.height)));
  const [width, height] = [bitmap.width * times, bitmap.height * times];
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext('2d');
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
}

function bytes(bitmap) {
  return bitmap ? bitmap.width * bitmap.height * 4 : 0;
}
