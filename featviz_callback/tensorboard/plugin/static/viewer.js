// One target, large: its film strip, its numbers, real images, and what can be kept.

import { fetchAnimation, pictureUrl } from './api.js';
import { Chart, chartKey } from './chart.js';
import { arrange, breakable, h, setAttribute, setText } from './dom.js';
import { formatNumber, rangeOf, STATUS_LABELS, stepLabel, STATUSES } from './model.js';
import { paint } from './pictures.js';
import { Timeline } from './timeline.js';

const COLUMNS = ['Epoch', 'Score', 'Drift', 'Status'];
// Width of a still of the film strip, in style.css.
const STILL = 68;

// A run's part of the view.
class Part {
  constructor(run, letter, colour, clock) {
    this.clock = clock;
    this.title = h('h3', {}, letter ? h('span', { class: 'letter' }, letter) : null, run.name);
    this.canvas = h('canvas', { width: 1, height: 1, role: 'img' });
    this.badge = h('span', { class: 'badge' });
    this.numbers = h('dl', {});
    this.png = h('a', { class: 'download' }, 'PNG');
    this.gif = h('button', { type: 'button', class: 'download', onclick: () => this.#saveAnimation() }, 'GIF');
    this.strip = h('div', { class: 'strip', role: 'group' });
    this.chart = new Chart('plot');
    this.chart.node.addEventListener('click', (event) => this.#goTo(event));
    this.range = h('span', {});
    this.examples = h('img', { alt: '' });
    this.caption = h('figcaption', {});
    this.real = h('figure', { class: 'examples', hidden: true }, this.examples, this.caption);
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
      this.numbers, downloads, this.strip, this.real, this.plot, this.table));
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
    setAttribute(this.strip, 'aria-label', `Film strip of ${name}, ${run.name}`);
    arrange(this.strip, run.steps.map((step, i) => (target.key[i] ? this.#still(step, i) : null)).filter(Boolean));
    this.#fillTable();
  }

  // Nothing of another target stays until this one's is here.
  #forget() {
    this.stills = new Map();
    this.shownStill = null;
    this.drawn = undefined;
    this.canvas.width = 1;
    this.shownExamples = null;
    this.real.hidden = true;
  }

  // A still of the film strip; those that stay are kept, so that the strip does not flicker.
  #still(step, index) {
    const key = this.target.key[index];
    if (!this.stills.has(key)) {
      const src = pictureUrl(this.run.name, this.name, step, key);
      const image = h('img', { src, alt: '', loading: 'lazy', decoding: 'async' });
      image.onload = () => image.classList.toggle('small', image.naturalWidth <= STILL / 2);
      // The server may only be restarting.
      let wait = 3000;
      image.onerror = () => {
        setTimeout(() => { image.src = src; }, wait);
        wait *= 2;
      };
      const node = h('button', {
        type: 'button', class: 'still', tabindex: -1, 'aria-label': stepLabel(step),
        onclick: () => this.clock.go(this.clock.steps.indexOf(step)),
      }, image, h('span', { 'aria-hidden': 'true' }, step < 0 ? 'untrained' : String(step)));
      node.step = step;
      this.stills.set(key, node);
    }
    const node = this.stills.get(key);
    setAttribute(node, 'data-status', STATUSES[this.target.status?.[index]] ?? 'unknown');
    return node;
  }

  // A long one takes its time, which a plain link would not say.
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

  // A status, and where it is trouble, from when on it has lasted.
  #since({ status, step }) {
    const label = STATUS_LABELS[status];
    if (status === 'ok') return label;
    let first = this.run.steps.indexOf(step);
    while (first > 0 && this.target.status[first - 1] === STATUSES.indexOf(status)) first -= 1;
    return `${label} since ${stepLabel(this.run.steps[first])}`;
  }

  #showStrip(frame) {
    const focused = this.strip.contains(document.activeElement);
    for (const still of this.strip.children) {
      const current = still.step === frame?.step;
      setAttribute(still, 'aria-current', String(current));
      still.tabIndex = current ? 0 : -1;
      if (current && focused) still.focus({ preventScroll: true });
      if (current && this.shownStill !== still && this.strip.clientWidth) {
        this.shownStill = still;
        const middle = still.offsetLeft - (this.strip.clientWidth - still.offsetWidth) / 2;
        this.strip.scrollTo({ left: middle, behavior: 'instant' });
      }
    }
  }

  #showExamples(frame) {
    const keys = this.target.examples ?? [];
    let index = frame ? this.run.steps.indexOf(frame.step) : -1;
    while (index >= 0 && !keys[index]) index -= 1;
    const key = keys[index] ?? null;
    if (this.shownExamples === key) return;
    this.shownExamples = key;
    if (key === null) {
      this.real.hidden = true;
      return;
    }
    const label = stepLabel(this.run.steps[index]);
    // The ratio is to the best score of a real image, and there is none to one of 0 or less.
    const excites = (this.target.ratio?.[index] ?? null) !== null;
    const image = h('img', {
      src: pictureUrl(this.run.name, this.name, this.run.steps[index], key, 'examples'),
      alt: `The optimised picture beside real images, ${label}`,
    });
    // Shown when it is decoded, so that the page does not jump.
    image.decode().then(() => {
      if (this.shownExamples !== key) return;
      this.examples.replaceWith(image);
      this.examples = image;
      setText(this.caption, excites
        ? `The optimised picture, beside the real images that excite this unit most, ${label}`
        : `The optimised picture, beside real images: none excites this unit, ${label}`);
      this.real.hidden = false;
    }).catch(() => {
      if (this.shownExamples !== key) return;
      this.shownExamples = null;
      this.real.hidden = true;
    });
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
    this.notice = h('p', { class: 'notice', hidden: true });
    this.timeline = new Timeline(clock);
    this.timeline.node.append(h('span', { class: 'keys', 'aria-hidden': 'true' }, '← → epoch · space play · j k target'));
    const button = (label, text, onclick) => (
      h('button', { type: 'button', 'aria-label': label, title: label, onclick }, text));
    this.node = h('dialog', { class: 'viewer', 'aria-labelledby': 'viewer-title', onclose: close },
      h('div', { class: 'bar' }, this.title, this.layer,
        button('Previous target (k)', '‹', () => go(-1)), button('Next target (j)', '›', () => go(1)),
        button('Close (escape)', '×', () => this.node.close())),
      this.notice, this.body, this.timeline.node);
    this.node.addEventListener('pointerdown', (event) => {
      if (event.target === this.node) this.node.close();
    });
    pictures.addEventListener('arrival', () => this.draw());
  }

  // What is amiss with the server, above the picture.
  say(text) {
    this.notice.hidden = !text;
    setText(this.notice, text);
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
    if (this.title.textContent !== this.name) this.title.replaceChildren(...breakable(this.name));
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
