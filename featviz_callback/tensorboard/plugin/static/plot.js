// The plot: score, best real score, drift above its noise floor, and functional drift, with axes,
// units, and the values at the pointer or at the epoch that the keyboard chose.

import { h, setAttribute, setText, svg } from './dom.js';
import { floorsOf } from './numbers.js';
import { formatNumber, shortStep, stepLabel } from './words.js';

const [NARROWEST, WIDEST] = [280, 640];
const PANEL = 96;
const [LEFT, RIGHT, TOP, BOTTOM, BETWEEN] = [60, 12, 18, 34, 30];

// Returns the series of a target by name, each a list with a value or null for each step.
export function seriesOf(target, steps) {
  const best = target.ratio && target.score
    ? target.ratio.map((ratio, i) => (ratio && target.score[i] !== null ? target.score[i] / ratio : null)) : null;
  return {
    score: target.score ?? null, best, drift: target.drift ?? null,
    floor: floorsOf(target, steps), functional: target.functional ?? null,
  };
}

export const LABELS = { score: 'score', best: 'best real score', drift: 'drift', floor: 'noise floor', functional: 'functional drift' };
const PANELS = [['score', 'best'], ['drift', 'floor', 'functional']];
const AXES = ['score (activation)', 'drift (0 the same, 1 unrelated)'];

// `runs` are `{ run, target, colour }`; the steps are those of the time line.
export function drawPlot({ steps, run, target, width }) {
  const series = seriesOf(target, run.steps);
  const panels = PANELS.map((kinds) => kinds.filter((kind) => series[kind])).map((kinds, i) => ({ kinds, axis: AXES[i] }))
    .filter(({ kinds }) => kinds.length);
  const height = TOP + panels.length * PANEL + Math.max(0, panels.length - 1) * BETWEEN + BOTTOM;
  const x = scale(steps[0], steps.at(-1), LEFT, width - RIGHT);
  const parts = panels.flatMap(({ kinds, axis }, i) => {
    const top = TOP + i * (PANEL + BETWEEN);
    return drawPanel(kinds.map((kind) => [kind, series[kind]]), run.steps, x, top, axis, kinds.includes('drift'), width);
  });
  const ticks = ticksOf(steps, x, width).map(([step, label, anchor]) => (
    svg('text', { x: x(step), y: height - BOTTOM + 15, class: 'tick', 'text-anchor': anchor }, label)));
  const title = svg('text', { x: (LEFT + width - RIGHT) / 2, y: height - 4, class: 'axis', 'text-anchor': 'middle' }, 'epoch');
  return { height, x, series, nodes: [...parts, ...ticks, title] };
}

function drawPanel(kinds, steps, x, top, axis, fromZero, width) {
  const values = kinds.flatMap(([, list]) => list.filter((value) => value !== null));
  const low = fromZero ? 0 : Math.min(...values, Infinity);
  const high = Math.max(...values, fromZero ? 1e-6 : -Infinity);
  const room = high > low ? 0 : Math.abs(high) || 1;
  const y = scale(low - room / 2, high + room / 2, top + PANEL, top);
  const grid = values.length ? niceTicks(low, high).flatMap((value) => [
    svg('line', { x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value), class: 'grid' }),
    svg('text', { x: LEFT - 6, y: y(value) + 4, class: 'tick', 'text-anchor': 'end' }, formatNumber(value)),
  ]) : [];
  const lines = kinds.map(([kind, list]) => svg('path', {
    class: `line-${kind}`, d: kind === 'floor' ? areaPath(steps, list, x, y, top + PANEL) : linePath(steps, list, x, y),
  }));
  return [...grid, ...lines, svg('text', { x: LEFT, y: top - 7, class: 'axis' }, axis)];
}

// Returns a step, its label and its anchor for as many steps as have room side by side.
function ticksOf(steps, x, width) {
  const found = [];
  let end = -Infinity;
  for (const step of pickTicks(steps, width < 480 ? 5 : 9)) {
    const label = shortStep(step);
    const half = 3.2 * label.length;
    const anchor = x(step) + half > width ? 'end' : 'middle';
    if (x(step) - (anchor === 'end' ? 2 : 1) * half < end) continue;
    end = x(step) + half + 8;
    found.push([step, label, anchor]);
  }
  return found;
}

function scale(low, high, from, to) {
  return (value) => (high > low ? from + ((value - low) / (high - low)) * (to - from) : (from + to) / 2);
}

function linePath(steps, values, x, y) {
  let pen = 'M';
  return values.map((value, i) => {
    if (value === null) {
      pen = 'M';
      return '';
    }
    const point = `${pen}${x(steps[i]).toFixed(1)} ${y(value).toFixed(1)}${pen === 'M' ? 'h0' : ''}`;
    pen = 'L';
    return point;
  }).join('');
}

function areaPath(steps, values, x, y, bottom) {
  const known = values.flatMap((value, i) => (value === null ? [] : [[x(steps[i]).toFixed(1), y(value).toFixed(1)]]));
  if (!known.length) return '';
  return `M${known[0][0]} ${bottom}${known.map((point) => `L${point.join(' ')}`).join('')}L${known.at(-1)[0]} ${bottom}Z`;
}

function niceTicks(low, high) {
  const step = 10 ** Math.floor(Math.log10((high - low) || Math.abs(high) || 1));
  const width = [0.2, 0.5, 1, 2, 5].map((times) => times * step).find((one) => (high - low) / one <= 4) ?? step;
  const first = Math.ceil(low / width);
  return Array.from({ length: Math.max(1, Math.floor(high / width) - first + 1) }, (_, i) => (first + i) * width);
}

export function pickTicks(steps, most) {
  const every = Math.ceil(steps.length / most);
  return steps.filter((_, i) => i % every === 0);
}

// The width of a chart in its own units, at which its letters have about their usual size.
export function widthFor(node) {
  return Math.max(NARROWEST, Math.min(WIDEST, node.clientWidth || WIDEST));
}

export class Plot {
  constructor(clock) {
    this.clock = clock;
    this.mark = svg('line', { class: 'mark' });
    this.pointer = svg('line', { class: 'pointer' });
    this.svg = svg('svg', { class: 'plot', role: 'img' });
    this.values = h('output', { class: 'values', 'aria-live': 'off' });
    this.legend = h('p', { class: 'plot-key' });
    this.node = h('div', { class: 'plot-frame' }, this.legend, this.svg, this.values);
    this.svg.addEventListener('pointermove', (event) => this.#point(event));
    this.svg.addEventListener('pointerleave', () => this.#show(this.step));
    // On a narrow page a chart that only shrank could not be read.
    new ResizeObserver(() => {
      if (!this.run || widthFor(this.node) === this.width) return;
      this.draw(this.run, this.target, this.steps);
      this.showStep(this.step);
    }).observe(this.node);
    this.svg.addEventListener('click', (event) => clock.go(clock.steps.indexOf(this.#stepAt(event))));
  }

  draw(run, target, steps) {
    const width = widthFor(this.node);
    const { height, x, series, nodes } = drawPlot({ steps, run, target, width });
    Object.assign(this, { run, target, steps, x, series, width });
    setAttribute(this.svg, 'viewBox', `0 0 ${width} ${height}`);
    for (const line of [this.mark, this.pointer]) {
      setAttribute(line, 'y1', String(TOP));
      setAttribute(line, 'y2', String(height - BOTTOM));
    }
    this.svg.replaceChildren(this.mark, this.pointer, ...nodes);
    const kinds = Object.keys(LABELS).filter((kind) => series[kind]);
    this.legend.replaceChildren(...kinds.map((kind) => h('span', { class: `key-${kind}` }, LABELS[kind])));
    this.node.hidden = steps.length < 2 || !kinds.length;
  }

  // Left and right move the epoch, and with it the mark and the values.
  showStep(step) {
    this.step = step;
    setAttribute(this.mark, 'x1', this.x(step).toFixed(1));
    setAttribute(this.mark, 'x2', this.x(step).toFixed(1));
    this.#show(step);
  }

  #stepAt({ clientX }) {
    const { left, width } = this.svg.getBoundingClientRect();
    const at = ((clientX - left) / width) * this.width;
    return this.steps.reduce((a, b) => (Math.abs(this.x(b) - at) < Math.abs(this.x(a) - at) ? b : a));
  }

  #point(event) {
    this.#show(this.#stepAt(event));
  }

  #show(step) {
    const index = this.run.steps.findLastIndex((one) => one <= step);
    // Between two measurements the noise floor lies about on a line.
    const about = (kind) => (kind === 'floor' && index >= 0 && this.target.floor[index] === null ? 'about ' : '');
    const values = Object.keys(LABELS).filter((kind) => this.series[kind])
      .map((kind) => `${LABELS[kind]} ${about(kind)}${formatNumber(this.series[kind][index])}`);
    const at = this.run.steps[index];
    const said = at === undefined ? 'not seen yet' : `${stepLabel(at)}${at === step ? '' : `, the last one before ${stepLabel(step)}`}: ${values.join(', ')}`;
    setAttribute(this.pointer, 'x1', this.x(step).toFixed(1));
    setAttribute(this.pointer, 'x2', this.x(step).toFixed(1));
    setText(this.values, said);
    setAttribute(this.svg, 'aria-label', this.values.textContent);
  }
}
