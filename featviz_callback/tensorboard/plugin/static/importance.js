// Importance: a log has it as a mask, white where the score comes from, or as the picture itself,
// faded where it does not. A mask is laid over the picture, and a faded picture takes its place.

import { h } from './dom.js';

const SIDE = 48;
// So large a share of a faded picture is as it was, since the most important fifth is not faded.
const LEAST_SAME = 0.12;
const NEAR = 12;

// Returns whether a bitmap is a mask, and not the other bitmap faded.
export function isMask(bitmap, picture) {
  const [found, shown] = [pixelsOf(bitmap), pixelsOf(picture)];
  let same = 0;
  for (let at = 0; at < found.length; at += 4) {
    const spread = Math.max(found[at], found[at + 1], found[at + 2]) - Math.min(found[at], found[at + 1], found[at + 2]);
    if (spread > NEAR) return false;
    same += [0, 1, 2].every((i) => Math.abs(found[at + i] - shown[at + i]) <= NEAR);
  }
  return same < LEAST_SAME * (found.length / 4);
}

function pixelsOf(bitmap) {
  const context = h('canvas', { width: SIDE, height: SIDE }).getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, SIDE, SIDE);
  return context.getImageData(0, 0, SIDE, SIDE).data;
}
