// A part of the viewer: one run's picture, numbers, film strip, examples, chart and downloads.

import { fetchAnimation, pictureUrl } from './api.js';
import { Chart, chartKey } from './chart.js';
import { h, setAttribute, setText } from './dom.js';
import { Examples } from './examples.js';
import { FilmStrip } from './filmstrip.js';
import { formatNumber, STATUS_LABELS, stepLabel, STATUSES } from './model.js';
import { paint } from './pictures.js';

const COLUMNS = ['Epoch', 'Score', 'Drift', 'Status'];

export class Part {
  constructor(run, letter, colour, clock) {
    this.clock = clock;
    this.title = h('h3', {}, letter ? h('span', { class: 'letter' }, letter) : null, run.name);
    this.canvas = h('canvas', { width: 1, height: 1, role: 'img' });
    this.badge = h('span', { class: 'badge' });
    this.numbers = h('dl', {});
    this.png = h('a', { class: 'download' }, 'PNG');
    this.gif = h('button', { type: 'button', class: 'download', onclick: () => this.#saveAnimation() }, 'GIF');
    this.strip = new FilmStrip(clock);
    this.chart = new Chart('plot');
    this.chart.node.addEventListener('click', (event) => this.#goTo(event));
    this.range = h('span', {});
    this.examples = new Examples();
    this.rows = h('tbody', {});
    this.table = h('details', { class: 'all-numbers', ontoggle: () => this.#fillTable() },
      h('summary', {}, 'All numbers'),
      h('table', {}, h('thead', {}, h('tr', {}, ...COLUMNS.map((text) => h('th', { scope: 'col' }, text)))),
        this.rows));
    const downloads = h('p', { class: 'downloads' }, h('span', {}, 'Download'), this.png, this.gif);
    this.first = h('span', {});
    this.last = h('span', {});
    this.plot = h('div', { class: 'plot-frame' }, this.range, chartKey(), this.chart.node,
      this.first, this.last);
    this.node = h('section', { class: 'part' }, this.title, h('div', { class: 'sheet' },
      h('span', { class: 'picture large' }, this.canvas, this.badge),
      this.numbers, downloads, this.strip.node, this.examples.node, this.plot, this.table));
    this.node.style.setProperty('--run', `var(--run-${colour})`);
  }

  setRun(run, name, steps, ranges) {
    const target = run.targets.get(name);
    const same = this.run?.version === run.version && this.name === name && this.steps === steps;
    this.steps = steps;
    if (this.name !== name) this.#forget();
    [this.run, this.name, this.target] = [run, name, target];
    if (same) return;
    this.node.hidden = !target;
    if (!target) return;
    this.chart.draw(run, target, steps, ranges.score, ranges.drift);
    setText(this.range, `score ${ranges.score.map(formatNumber).join(' to ')}`);
    setText(this.first, stepLabel(steps[0]));
    setText(this.last, stepLabel(steps.at(-1)));
    this.plot.hidden = steps.length < 2;
    this.strip.setTarget(run, target);
    this.#fillTable();
  }

  // Until the new target's pictures come, the old target's pictures would pass for them.
  #forget() {
    this.strip.forget();
    this.examples.forget();
    this.drawn = undefined;
    this.canvas.width = 1;
  }

  // The server takes a while to make a long animation, and a plain link would not say so.
  async #saveAnimation() {
    const { gif, run, name } = this;
    if (gif.getAttribute('aria-busy') === 'true') return;
    setAttribute(gif, 'aria-busy', 'true');
    setText(gif, 'GIF, being made…');
    try {
      const url = URL.createObjectURL(await fetchAnimation(run.name, name));
      h('a', { href: url, download: `${fileName(run.name, name)}.gif` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      setText(gif, 'GIF');
    } catch (error) {
      console.warn(error);
      setText(gif, 'GIF: failed, try again');
    }
    setAttribute(gif, 'aria-busy', 'false');
  }

  #goTo(event) {
    const { left, width } = this.chart.node.getBoundingClientRect();
    this.clock.go(this.clock.steps.indexOf(this.chart.stepAt((event.clientX - left) / width)));
  }

  show(step, pictures) {
    const frame = this.run.frameAt(this.name, step);
    this.frame = frame;
    this.chart.showFrame(frame, step);
    setText(this.badge, frame?.status && frame.status !== 'ok' ? STATUS_LABELS[frame.status] : '');
    setAttribute(this.node, 'data-status', frame?.status ?? 'unknown');
    const label = frame ? stepLabel(frame.step) : 'not seen yet';
    setAttribute(this.canvas, 'aria-label', `${this.name}, ${this.run.name}, ${label}`);
    this.#showNumbers(frame, label);
    this.strip.show(frame);
    this.examples.show(this.run, this.target, frame);
    this.png.hidden = !frame;
    if (frame) {
      this.png.href = pictureUrl(this.run.name, this.name, frame.step, frame.key);
      this.png.download = `${fileName(this.run.name, this.name)}_${stepLabel(frame.step).replace(' ', '_')}.png`;
    }
    this.draw(pictures);
  }

  draw(pictures) {
    const key = this.frame?.key ?? null;
    const bitmap = key === null ? null : pictures.get(key);
    if (this.drawn === key || bitmap === undefined) return;
    this.drawn = key;
    this.node.classList.toggle('missing', bitmap === null);
    if (bitmap === null) {
      this.canvas.width = 1;
      return;
    }
    paint(this.canvas, bitmap);
  }

  #showNumbers(frame, label) {
    const facts = [
      ['Epoch', label.replace('epoch ', '')],
      ['Score', formatNumber(frame?.score)],
      ['Drift', formatNumber(frame?.drift)],
    ];
    if (this.target.ratio) facts.push(['Score ÷ best real', formatNumber(frame?.ratio)]);
    if (frame?.status) facts.push(['Status', this.#since(frame)]);
    const text = JSON.stringify(facts);
    if (this.facts === text) return;
    this.facts = text;
    this.numbers.replaceChildren(...facts.map(([term, value]) => h('div', {}, h('dt', {}, term), h('dd', {}, value))));
  }

  // A trouble is shown with the epoch at which it began.
  #since({ status, step }) {
    const label = STATUS_LABELS[status];
    if (status === 'ok') return label;
    let first = this.run.steps.indexOf(step);
    while (first > 0 && this.target.status[first - 1] === STATUSES.indexOf(status)) first -= 1;
    return `${label} since ${stepLabel(this.run.steps[first])}`;
  }

  #fillTable() {
    if (!this.table.open) return;
    const { steps } = this.run;
    const { key, score, drift, status } = this.target;
    this.rows.replaceChildren(...steps.map((step, i) => (key[i] ? h('tr', {},
      h('th', { scope: 'row' }, stepLabel(step)), h('td', {}, formatNumber(score?.[i])),
      h('td', {}, formatNumber(drift?.[i])), h('td', {}, STATUS_LABELS[STATUSES[status?.[i]]] ?? '–')) : '')));
  }
}

function fileName(...parts) {
  return parts.join('_').replace(/[^\p{L}\p{N}._-]+/gu, '_');
}
