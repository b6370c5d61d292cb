// The difference: one picture minus another, each colour by itself, about a middle grey.

import { h, setAttribute, setText } from './dom.js';
import { paint } from './pictures.js';
import { isSignal } from './signal.js';
import { formatNumber, stepLabel } from './words.js';

// Larger pictures are made smaller before they are compared.
const MOST_SIDE = 1024;
const GREY = 127.5;

export class Difference {
  constructor() {
    this.canvas = h('canvas', { width: 1, height: 1, role: 'img' });
    [this.low, this.high] = [h('span', {}), h('span', {})];
    this.scale = h('p', { class: 'difference-scale' }, this.low, h('span', { class: 'grey-ramp', 'aria-hidden': 'true' }), this.high);
    this.said = h('figcaption', { class: 'said', role: 'status' });
    this.picture = h('span', { class: 'picture' }, this.canvas);
    this.node = h('figure', { class: 'difference' }, this.picture, this.scale, this.said);
  }

  // Takes two frames, the left one first, and the pictures that have come so far.
  show(frames, pictures) {
    const bitmaps = frames.map(({ key }) => pictures.get(key));
    const asked = JSON.stringify(frames.map(({ key }, i) => [key, bitmaps[i] === null ? null : Boolean(bitmaps[i])]));
    if (this.asked === asked) return;
    this.asked = asked;
    const trouble = troubleOf(bitmaps);
    this.picture.hidden = this.scale.hidden = trouble !== null;
    if (trouble !== null) {
      setText(this.said, trouble);
      return;
    }
    const { image, most, mean } = subtract(...bitmaps);
    paint(this.canvas, image);
    setAttribute(this.canvas, 'aria-label', `${frames[0].name}, difference: ${frames.map(nameOf).join(' minus ')}`);
    this.scale.hidden = most === 0;
    setText(this.low, formatNumber(-most));
    setText(this.high, formatNumber(most));
    setText(this.said, most === 0 ? 'Both pictures are the same.'
      : `Left minus right, each colour by itself, as a share of the range of values: middle grey where they are the same, white where the left one has ${formatNumber(most)} more, black where the right one has. Mean size ${formatNumber(mean)}.`);
  }
}

function nameOf({ run, step }) {
  return `${run}, ${stepLabel(step)}`;
}

// Says why there is no difference; an empty text while a picture is on its way.
function troubleOf(bitmaps) {
  if (bitmaps.some((bitmap) => bitmap === null)) return 'One of these pictures cannot be shown, so there is no difference.';
  if (bitmaps.some((bitmap) => !bitmap)) return '';
  if (bitmaps.some(isSignal)) return 'These are plots of signals: compare them by the slider.';
  const [left, right] = bitmaps.map(({ width, height }) => `${width} × ${height}`);
  return left === right ? null : `These pictures have ${left} and ${right} pixels, so there is no difference.`;
}

// Returns the difference as a canvas, its largest value, and the mean of its absolute values, both
// as shares of the range.
export function subtract(left, right) {
  const times = Math.min(1, MOST_SIDE / Math.max(left.width, left.height));
  const [width, height] = [left.width, left.height].map((side) => Math.max(1, Math.round(side * times)));
  const [a, b] = [pixelsOf(left, width, height), pixelsOf(right, width, height)];
  let [most, sum] = [0, 0];
  for (let at = 0; at < a.data.length; at += 1) {
    if (at % 4 === 3) continue;
    const size = Math.abs(a.data[at] - b.data[at]);
    sum += size;
    if (size > most) most = size;
  }
  for (let at = 0; at < a.data.length; at += 1) {
    a.data[at] = at % 4 === 3 ? 255 : GREY + (GREY * (a.data[at] - b.data[at])) / (most || 1);
  }
  const image = h('canvas', { width, height });
  image.getContext('2d').putImageData(a, 0, 0);
  return { image, most: most / 255, mean: sum / (3 * width * height) / 255 };
}

function pixelsOf(bitmap, width, height) {
  const context = h('canvas', { width, height }).getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}
