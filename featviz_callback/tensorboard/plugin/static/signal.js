// Signals: their pictures are plots, in colours that this module tells as a legend.

import { h } from './dom.js';

// The size and the colours of records/pictures.py.
const SIZE = [240, 120];
const FRAME = [200, 200, 200];
const COLOURS = [
  [0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [230, 159, 0], [0, 0, 0],
];

const counts = new WeakMap();

export function isSignal(bitmap) {
  const [width, height] = [bitmap.naturalWidth ?? bitmap.width, bitmap.naturalHeight ?? bitmap.height];
  return width === SIZE[0] && height === SIZE[1] && channelsIn(bitmap) > 0;
}

// Returns how many channels a plot shows, or 0 if it is another picture of that size.
export function channelsIn(bitmap) {
  if (!counts.has(bitmap)) counts.set(bitmap, count(bitmap));
  return counts.get(bitmap);
}

function count(bitmap) {
  const canvas = h('canvas', { width: SIZE[0], height: SIZE[1] });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, ...SIZE);
  const is = (at, colour, away) => colour.every((value, i) => Math.abs(data[at + i] - value) <= away);
  if (!is(0, FRAME, 24) || !is(data.length - 4, FRAME, 24)) return 0;
  let last = 0;
  for (let at = 0; at < data.length; at += 4) {
    const index = COLOURS.findIndex((colour) => is(at, colour, 3));
    if (index >= last) last = index + 1;
  }
  return last;
}

export function legendOf(count_) {
  return h('ul', { class: 'signal-legend', 'aria-label': 'Channels' }, ...COLOURS.slice(0, count_).map((colour, i) => {
    const mark = h('span', { class: 'swatch', 'aria-hidden': 'true' });
    mark.style.background = `rgb(${colour.join(' ')})`;
    return h('li', {}, mark, `channel ${i}`);
  }));
}
