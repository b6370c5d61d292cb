// The fit: names as long as their place is wide, cut in their middle, whatever their letters.

import { cutMiddle } from './words.js';

const FACES = 'system-ui, Roboto, "Segoe UI", sans-serif';
// As the style sheets set them.
export const FONTS = { card: `600 12px ${FACES}`, small: `11px ${FACES}`, bold: `bold 11px ${FACES}`, neighbour: `12px ${FACES}` };
const LEAST = 3;

let pen;

// Returns the text, or as many letters of its beginning and its end as so many pixels hold.
export function fitMiddle(text, pixels, font) {
  pen ??= document.createElement('canvas').getContext('2d');
  pen.font = font;
  const fits = (count) => pen.measureText(cutMiddle(text, count)).width <= pixels;
  let [low, high] = [LEAST, [...text].length];
  if (high > pixels) high = Math.max(LEAST, Math.ceil(pixels)); // no letter is narrower than a pixel
  else if (high <= LEAST || fits(high)) return text;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return cutMiddle(text, low);
}
