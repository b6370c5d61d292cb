// The activations of a layer: a histogram for each of some epochs, one below the other.

import { fetchActivations } from './api.js';
import { h, setAttribute, setText, svg } from './dom.js';
import { widthFor } from './plot.js';
import { formatNumber, stepLabel } from './words.js';

const [LEFT, RIGHT, TOP, BOTTOM] = [72, 12, 46, 34];
const [RIDGE, BETWEEN] = [44, 20];

export class Activations {
  #asked = null;

  constructor() {
    this.title = h('h3', {});
    this.svg = svg('svg', { class: 'ridges', role: 'img' });
    this.said = h('p', { class: 'said', role: 'status' });
    this.node = h('section', { class: 'activations', hidden: true, 'aria-label': 'Activations' }, this.title, this.svg, this.said);
    new ResizeObserver(() => {
      if (!this.histograms || this.node.hidden || widthFor(this.node) === this.width) return;
      this.#draw(this.histograms);
      this.mark(this.step);
    }).observe(this.node);
  }

  // Every version of a run is asked for once.
  async show(run, layer) {
    const asked = run && JSON.stringify([run.name, run.version, layer]);
    if (this.#asked === asked) return;
    this.#asked = asked;
    this.histograms = null;
    this.node.hidden = !run;
    if (!run) return;
    setText(this.title, `Activations of ${layer}, ${run.label}`);
    setText(this.said, 'Reading…');
    try {
      const { histograms } = await fetchActivations(run.name, layer);
      if (this.#asked !== asked) return;
      this.#draw(histograms.filter(({ buckets }) => buckets.length));
      this.mark(this.step);
      setText(this.said, 'Across, the activation; up, the share of activations for its width, by its square root, each epoch to its own highest.');
    } catch {
      if (this.#asked !== asked) return;
      this.#asked = undefined;
      this.svg.replaceChildren();
      setText(this.said, 'The histograms cannot be read.');
    }
  }

  #draw(histograms) {
    this.histograms = histograms;
    this.width = widthFor(this.node);
    const { width } = this;
    const edges = histograms.flatMap(({ buckets }) => [buckets[0][0], buckets.at(-1)[1]]);
    const [low, high] = [Math.min(...edges), Math.max(...edges)];
    const height = TOP + histograms.length * BETWEEN + BOTTOM;
    const x = (value) => LEFT + ((value - low) / (high - low || 1)) * (width - RIGHT - LEFT);
    const bottom = height - BOTTOM + 8;
    setAttribute(this.svg, 'viewBox', `0 0 ${width} ${height}`);
    const ridges = histograms.map(({ step, buckets }, i) => drawRidge(step, buckets, x, TOP + (i + 1) * BETWEEN - 4));
    const ticks = [low, (low + high) / 2, high].map((value, i) => svg('text', { x: x(value), y: bottom + 10, class: 'tick', 'text-anchor': ['start', 'middle', 'end'][i] }, formatNumber(value)));
    const zero = low < 0 && high > 0 ? [svg('line', { class: 'grid', x1: x(0), x2: x(0), y1: 4, y2: bottom - 4 })] : [];
    this.svg.replaceChildren(...zero, ...ridges, ...ticks);
    setAttribute(this.svg, 'aria-label', `${this.title.textContent}: ${histograms.map(({ step, buckets }) => `${stepLabel(step)} from ${formatNumber(buckets[0][0])} to ${formatNumber(buckets.at(-1)[1])}`).join('; ')}`);
  }

  // The histogram of the last epoch up to a step is the one of that step.
  mark(step) {
    this.step = step;
    const ridges = [...this.svg.querySelectorAll('.ridge')];
    const now = ridges.findLast((ridge) => ridge.step <= step);
    for (const ridge of ridges) ridge.classList.toggle('now', ridge === now);
  }
}

function drawRidge(step, buckets, x, base) {
  const densities = buckets.map(([left, right, count]) => count / (right - left || 1));
  const most = Math.max(...densities) || 1;
  const y = (density) => (base - RIDGE * Math.sqrt(density / most)).toFixed(1);
  const steps = buckets.map(([left, right], i) => `L${x(left).toFixed(1)} ${y(densities[i])}L${x(right).toFixed(1)} ${y(densities[i])}`).join('');
  const path = svg('path', { d: `M${x(buckets[0][0]).toFixed(1)} ${base}${steps}L${x(buckets.at(-1)[1]).toFixed(1)} ${base}Z` });
  const group = svg('g', { class: 'ridge' }, path, svg('text', { x: LEFT - 8, y: base, class: 'tick', 'text-anchor': 'end' }, stepLabel(step)));
  group.step = step;
  return group;
}
