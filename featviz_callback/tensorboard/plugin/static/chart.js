// The chart as a figure: the plot of a unit with its title and its key, in colours for white paper.

import { svg } from './dom.js';
import { fitMiddle } from './fit.js';
import { drawPlot, LABELS } from './plot.js';
import { FACE, FONT, INK, QUIET } from './sheet.js';

export const MILLIMETRES = 180;
const WIDTH = 640;
const [LEFT, TITLE, KEY, HEAD] = [8, 16, 36, 44];
const line = (stroke, dashes) => ({ fill: 'none', stroke, 'stroke-width': 2, 'stroke-linejoin': 'round', 'stroke-linecap': 'round', 'stroke-dasharray': dashes });

// A program that sets pages has no style sheet of ours.
const LOOKS = {
  'line-score': line('#b34700'),
  'line-best': line('#0f7a55', '5 4'),
  'line-drift': line('#5b6270'),
  'line-functional': line('#8537a8', '2 4'),
  'line-floor': { fill: '#737b8b', 'fill-opacity': 0.28, stroke: '#737b8b', 'stroke-dasharray': '1 3' },
  grid: { stroke: '#dfe1e6', 'stroke-width': 1 },
  tick: { fill: QUIET, 'font-size': 11, style: FONT },
  axis: { fill: QUIET, 'font-size': 11, 'font-style': 'italic', style: FONT },
};

// Returns an SVG element, its size, and its width in print.
export function drawChart({ run, target, steps }) {
  const { height, series, nodes } = drawPlot({ steps, run, target, width: WIDTH });
  for (const node of nodes) dress(node, LOOKS[node.getAttribute('class')]);
  const text = (x, y, content, more) => svg('text', { x, y, fill: INK, 'font-size': 12, style: FONT, ...more }, content);
  const title = text(LEFT, TITLE, fitMiddle(`${target.name}, ${run.label}`, WIDTH - 2 * LEFT, `600 12px ${FACE}`), { 'font-weight': 600 });
  let x = LEFT;
  const key = Object.keys(LABELS).filter((kind) => series[kind]).flatMap((kind) => {
    const mark = svg('path', { d: kind === 'floor' ? `M${x} ${KEY - 8}h20v8h-20Z` : `M${x} ${KEY - 4}h20`, ...LOOKS[`line-${kind}`] });
    const label = text(x + 26, KEY, LABELS[kind], { 'font-size': 11, fill: QUIET });
    x += 44 + 5.6 * LABELS[kind].length;
    return [mark, label];
  });
  const whole = HEAD + height;
  const node = svg('svg', {
    xmlns: 'http://www.w3.org/2000/svg', viewBox: `0 0 ${WIDTH} ${whole}`,
    width: `${MILLIMETRES}mm`, height: `${(MILLIMETRES * whole) / WIDTH}mm`,
  }, svg('rect', { width: WIDTH, height: whole, fill: '#fff' }), title, ...key, svg('g', { transform: `translate(0 ${HEAD})` }, ...nodes));
  return { node, width: WIDTH, height: whole };
}

function dress(node, look = {}) {
  for (const [name, value] of Object.entries(look)) if (value !== undefined) node.setAttribute(name, value);
}
