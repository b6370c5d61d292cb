// The sheet: a labelled figure as SVG, of any choice of targets, epochs and runs.

import { h, svg } from './dom.js';
import { asXml } from './download.js';
import { fitMiddle } from './fit.js';
import { formatNumber, shortName, stepLabel } from './words.js';

const CELL = 96;
const GAP = 8;
const LEFT = 150;
const TOP = 26;
const LINE = 14;
// On white paper, in every program.
export const FACE = 'Helvetica, Arial, sans-serif';
export const FONT = `font-family:${FACE}`;
export const [INK, QUIET] = ['#1c1f26', '#5b6270'];

// Returns an SVG element: a row for each target and run, a column for each step. `images` are
// addresses of pictures by key; `millimetres` is the width in print.
export function drawSheet({ runs, names, steps, images, caption, millimetres, layerOf }) {
  const rows = names.flatMap((name) => runs.filter((run) => run.targets.has(name)).map((run) => ({ name, run })));
  const width = LEFT + steps.length * (CELL + GAP);
  const lines = wrap(caption, Math.floor(width / 5.6));
  const height = TOP + rows.length * (CELL + LINE + GAP) + lines.length * LINE + 12;
  const text = (x, y, content, more = {}) => svg('text', { x, y, fill: INK, 'font-size': 10.5, style: FONT, ...more }, content);
  const fit = (label) => fitMiddle(label, LEFT - 12, `10.5px ${FACE}`);
  const heads = steps.map((step, i) => text(LEFT + i * (CELL + GAP) + CELL / 2, TOP - 10, stepLabel(step), { 'text-anchor': 'middle' }));
  const body = rows.flatMap(({ name, run }, row) => {
    const y = TOP + row * (CELL + LINE + GAP);
    const label = [text(LEFT - 10, y + CELL / 2, fit(shortName(name, layerOf(name))), { 'text-anchor': 'end' }),
      text(LEFT - 10, y + CELL / 2 + LINE, fit(layerOf(name)), { 'text-anchor': 'end', fill: QUIET })];
    if (runs.length > 1) label.push(text(LEFT - 10, y + CELL / 2 + 2 * LINE, fit(run.label), { 'text-anchor': 'end', fill: QUIET }));
    return [...label, ...steps.flatMap((step, i) => cell(run.frameAt(name, step), step, LEFT + i * (CELL + GAP), y, images, text))];
  });
  const foot = lines.map((line, i) => text(0, height - 6 - (lines.length - 1 - i) * LINE, line));
  const node = svg('svg', {
    xmlns: 'http://www.w3.org/2000/svg', viewBox: `0 0 ${width} ${height}`, width: `${millimetres}mm`,
    height: `${(millimetres * height) / width}mm`, role: 'img', 'aria-label': 'Preview of the figure',
  }, svg('rect', { width, height, fill: '#fff' }), ...heads, ...body, ...foot);
  return { node, width, height };
}

// A run without a snapshot at a step has an empty cell there.
function cell(frame, step, x, y, images, text) {
  if (frame?.step !== step || !images.has(frame.key)) return [text(x + CELL / 2, y + CELL / 2, '–', { 'text-anchor': 'middle' })];
  const said = [formatNumber(frame.score), frame.status && frame.status !== 'ok' ? frame.status.replace('_', ' ') : ''].filter(Boolean).join(' · ');
  return [
    svg('image', { href: images.get(frame.key), x, y, width: CELL, height: CELL, preserveAspectRatio: 'xMidYMid meet', style: 'image-rendering:pixelated' }),
    text(x + CELL / 2, y + CELL + 11, said, { 'text-anchor': 'middle', 'font-size': 9 }),
  ];
}

function wrap(text, letters) {
  const lines = [];
  for (const word of text.split(/\s+/).filter(Boolean)) {
    if (lines.length && lines.at(-1).length + word.length < letters) lines[lines.length - 1] += ` ${word}`;
    else lines.push(word);
  }
  return lines;
}

// Draws the sheet as a PNG at print size.
export async function rasterise({ node, width, height }, millimetres, dotsPerInch = 300) {
  const source = new Blob([asXml(node)], { type: 'image/svg+xml' });
  const image = new Image();
  const scale = Math.min((millimetres / 25.4) * dotsPerInch / width, Math.sqrt(6e7 / (width * height)));
  image.src = await dataUrl(source);
  await image.decode();
  const canvas = h('canvas', { width: Math.round(width * scale), height: Math.round(height * scale) });
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  const png = await new Promise((resolve) => { canvas.toBlob(resolve, 'image/png'); });
  return withSize(png, canvas.width / (millimetres / 1000));
}

// Adds the pixels of a metre to a PNG. Without it, programs take the sheet for far larger.
async function withSize(png, perMetre) {
  const bytes = new Uint8Array(await png.arrayBuffer());
  const chunk = new DataView(new ArrayBuffer(21));
  chunk.setUint32(0, 9);
  [...'pHYs'].forEach((letter, i) => chunk.setUint8(4 + i, letter.charCodeAt(0)));
  chunk.setUint32(8, Math.round(perMetre));
  chunk.setUint32(12, Math.round(perMetre));
  chunk.setUint8(16, 1);
  chunk.setUint32(17, crc32(new Uint8Array(chunk.buffer, 4, 13)));
  // The first chunk, which always has as many bytes, comes before all others.
  return new Blob([bytes.subarray(0, 33), chunk, bytes.subarray(33)], { type: 'image/png' });
}

function crc32(bytes) {
  let sum = ~0;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

export function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
