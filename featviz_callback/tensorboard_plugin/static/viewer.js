// One target, large: its film strip, its numbers, real images, and what can be kept.

import { animationUrl, pictureUrl } from './api.js';
import { Chart, chartKey } from './chart.js';
import { arrange, h, setAttribute, setText } from './dom.js';
import { formatNumber, rangeOf, STATUS_LABELS, stepLabel, STATUSES } from './model.js';
import { Timeline } from './timeline.js';

const COLUMNS = ['Epoch', 'Score', 'Drift', 'Status'];

// A run's part of the view.
class Part {
  constructor(run, letter, colour, clock) {
    this.clock = clock;
    this.title = h('h3', {}, letter ? h('span', { class: 'letter' }, letter) : null, run.name);
    this.canvas = h('canvas', { width: 1, height: 1, role: 'img' });
    this.badge = h('span', { class: 'badge' });
    this.numbers = h('dl', {});
    this.png = h('a', { class: 'download' }, 'PNG');
    this.gif = h('a', { class: 'download' }, 'GIF');
    this.strip = h('div', { class: 'strip', role: 'group' });
    this.chart = new Chart('plot');
    this.high = h('span', { class: 'high' });
    this.low = h('span', { class: 'low' });
    this.examples = h('img', { alt: '' });
    this.real = h('figure', { class: 'examples', hidden: true }, this.examples,
      h('figcaption', {}, 'The optimised picture, beside the real images that excite this unit most'));
    this.rows = h('tbody', {});
    this.table = h('details', { class: 'all-numbers', ontoggle: () => this.#fillTable() },
      h('summary', {}, 'All numbers'),
      h('table', {}, h('thead', {}, h('tr', {}, ...COLUMNS.map((text) => h('th', { scope: 'col' }, text)))),
        this.rows));
    const downloads = h('p', { class: 'downloads' }, h('span', {}, 'Download'), this.png, this.gif);
    const plot = h('div', { class: 'plot-frame' }, chartKey(), this.high, this.chart.node, this.low);
    this.node = h('section', { class: 'part' }, this.title, h('div', { class: 'sheet' },
      h('span', { class: 'picture large' }, this.canvas, this.badge),
      this.numbers, downloads, this.strip, this.real, plot, this.table));
    this.node.style.setProperty('--run', `var(--run-${colour})`);
  }

  setRun(run, name, steps, ranges) {
    const target = run.targets.get(name);
    const same = this.run?.version === run.version && this.name === name;
    if (this.name !== name) this.stills = new Map();
    [this.run, this.name, this.target] = [run, name, target];
    if (same) return;
    this.node.hidden = !target;
    if (!target) return;
    this.chart.draw(run, target, steps, ranges.score, ranges.drift);
    setText(this.high, formatNumber(ranges.score[1]));
    setText(this.low, formatNumber(ranges.score[0]));
    this.gif.href = animationUrl(run.name, name);
    this.gif.download = `${fileName(run.name, name)}.gif`;
    setAttribute(this.strip, 'aria-label', `Film strip of ${name}, ${run.name}`);
    arrange(this.strip, run.steps.map((step, i) => (target.key[i] ? this.#still(step, target.key[i]) : null)).filter(Boolean));
    this.#fillTable();
  }

  // A still of the film strip; those that stay are kept, so that the strip does not flicker.
  #still(step, key) {
    const id = `${this.name}\n${key}`;
    if (!this.stills.has(id)) {
      const image = h('img', {
        src: pictureUrl(this.run.name, this.name, step, key), alt: '', loading: 'lazy', decoding: 'async',
      });
      const node = h('button', {
        type: 'button', class: 'still', tabindex: -1, 'aria-label': stepLabel(step),
        onclick: () => this.clock.go(this.clock.steps.indexOf(step)),
      }, image, h('span', { 'aria-hidden': 'true' }, step < 0 ? 'untrained' : String(step)));
      node.step = step;
      this.stills.set(id, node);
    }
    return this.stills.get(id);
  }

  show(step, pictures) {
    const frame = this.run.frameAt(this.name, step);
    this.frame = frame;
    this.chart.showStep(step);
    setText(this.badge, frame?.status && frame.status !== 'ok' ? STATUS_LABELS[frame.status] : '');
    setAttribute(this.node, 'data-status', frame?.status ?? 'unknown');
    const label = frame ? stepLabel(frame.step) : 'not seen yet';
    setAttribute(this.canvas, 'aria-label', `${this.name}, ${this.run.name}, ${label}`);
    this.#showNumbers(frame, label);
    this.#showStrip(frame);
    this.#showExamples(frame);
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
    Object.assign(this.canvas, { width: bitmap.width, height: bitmap.height });
    this.canvas.getContext('2d').drawImage(bitmap, 0, 0);
    this.canvas.classList.toggle('small', bitmap.width < 160);
  }

  #showNumbers(frame, label) {
    const facts = [
      ['Epoch', label.replace('epoch ', '')],
      ['Score', formatNumber(frame?.score)],
      ['Drift', formatNumber(frame?.drift)],
    ];
    if (this.target.ratio) facts.push(['Score ÷ best real', formatNumber(frame?.ratio)]);
    if (frame?.status) facts.push(['Status', STATUS_LABELS[frame.status]]);
    const text = JSON.stringify(facts);
    if (this.facts === text) return;
    this.facts = text;
    this.numbers.replaceChildren(...facts.map(([term, value]) => h('div', {}, h('dt', {}, term), h('dd', {}, value))));
  }

  #showStrip(frame) {
    for (const still of this.strip.children) {
      const current = still.step === frame?.step;
      setAttribute(still, 'aria-current', String(current));
      still.tabIndex = current ? 0 : -1;
      if (current && this.strip.clientWidth) {
        const middle = still.offsetLeft - (this.strip.clientWidth - still.offsetWidth) / 2;
        this.strip.scrollTo({ left: middle, behavior: 'instant' });
      }
    }
  }

  #showExamples(frame) {
    const keys = this.target.examples ?? [];
    let index = frame ? this.run.steps.indexOf(frame.step) : -1;
    while (index >= 0 && !keys[index]) index -= 1;
    this.real.hidden = index < 0;
    if (index < 0 || this.shownExamples === keys[index]) return;
    this.shownExamples = keys[index];
    const image = h('img', { src: pictureUrl(this.run.name, this.name, this.run.steps[index], keys[index], 'examples') });
    image.alt = `The optimised picture beside real images, ${stepLabel(this.run.steps[index])}`;
    // Shown when it is decoded, so that the page does not jump.
    image.decode().then(() => {
      if (this.shownExamples !== keys[index]) return;
      this.examples.replaceWith(image);
      this.examples = image;
    }).catch(() => { this.real.hidden = true; });
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

export class Viewer {
  #parts = new Map();

  constructor(clock, pictures, { close, go }) {
    this.clock = clock;
    this.pictures = pictures;
    this.name = null;
    this.title = h('h2', { id: 'viewer-title', tabindex: -1, autofocus: true });
    this.layer = h('span', { class: 'layer-name' });
    this.body = h('div', { class: 'parts' });
    this.timeline = new Timeline(clock);
    const button = (label, text, onclick) => (
      h('button', { type: 'button', 'aria-label': label, title: label, onclick }, text));
    this.node = h('dialog', { class: 'viewer', 'aria-labelledby': 'viewer-title', onclose: close },
      h('div', { class: 'bar' }, this.title, this.layer,
        button('Previous target', '‹', () => go(-1)), button('Next target', '›', () => go(1)),
        button('Close', '×', () => this.node.close())),
      this.body, this.timeline.node);
    this.node.addEventListener('pointerdown', (event) => {
      if (event.target === this.node) this.node.close();
    });
    pictures.addEventListener('arrival', () => this.draw());
  }

  open(name) {
    this.name = name;
    if (!this.node.open) this.node.showModal();
  }

  close() {
    if (this.node.open) this.node.close();
  }

  setRuns(runs, colours, steps) {
    if (!this.name) return;
    const ranges = { score: rangeOf(runs, this.name, 'score'), drift: rangeOf(runs, this.name, 'drift') };
    setText(this.title, this.name);
    const layer = runs.map((run) => run.targets.get(this.name)?.layer).find(Boolean);
    setText(this.layer, layer ?? '');
    this.body.classList.toggle('several', runs.length > 1);
    const parts = runs.map((run) => {
      const { letter, colour } = colours.get(run.name);
      const id = `${run.name}\n${runs.length > 1}`;
      if (!this.#parts.has(id)) this.#parts.set(id, new Part(run, runs.length > 1 ? letter : '', colour, this.clock));
      const part = this.#parts.get(id);
      part.setRun(run, this.name, steps, ranges);
      return part;
    });
    this.shown = parts.filter((part) => part.target);
    arrange(this.body, this.shown.map(({ node }) => node));
    this.show(this.clock.step);
  }

  show(step) {
    if (!this.name) return;
    for (const part of this.shown ?? []) part.show(step, this.pictures);
  }

  draw() {
    for (const part of this.shown ?? []) part.draw(this.pictures);
  }

  framesAt(step) {
    if (!this.name) return [];
    return (this.shown ?? []).map((part) => part.run.frameAt(this.name, step)).filter(Boolean);
  }
}
