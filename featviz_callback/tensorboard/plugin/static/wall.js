// The wall: a card for each target, grouped by layer, with one picture for each run.

import { Chart, chartKey } from './chart.js';
import { arrange, breakable, h, setAttribute, setText } from './dom.js';
import { formatNumber, rangeOf, shortName, STATUS_LABELS, stepLabel } from './model.js';
import { paint } from './pictures.js';

// The page fetches pictures up to this far outside the screen.
const MARGIN = '300px';

// A run's part of a card.
class Column {
  constructor(run, letter) {
    this.run = run;
    this.canvas = h('canvas', { width: 1, height: 1 });
    this.badge = h('span', { class: 'badge' });
    this.number = h('span', { class: 'number' });
    this.late = h('span', { class: 'late' });
    this.chart = new Chart('spark');
    this.node = h('span', { class: 'column' },
      h('span', { class: 'picture' }, this.canvas, this.badge),
      h('span', { class: 'line' },
        letter ? h('span', { class: 'letter' }, letter) : null, this.number, this.late),
      this.chart.node);
  }

  setRun(run, name, steps, ranges) {
    this.run = run;
    const target = run.targets.get(name);
    this.chart.draw(run, target, steps, ranges.score, ranges.drift);
    this.chart.node.classList.toggle('empty', !target || steps.length < 2);
  }

  show(frame, step, number) {
    this.frame = frame;
    this.chart.showFrame(frame, step);
    setAttribute(this.node, 'data-status', frame ? frame.status ?? 'unknown' : 'unseen');
    setText(this.badge, frame && frame.status && frame.status !== 'ok' ? STATUS_LABELS[frame.status] : '');
    setText(this.number, frame ? `${number === 'score' ? '' : `${number} `}${formatNumber(frame[number])}` : '–');
    setText(this.late, frame && frame.step !== step ? stepLabel(frame.step) : '');
  }

  // The old picture stays until the new one comes, so that nothing flickers.
  draw(pictures) {
    const { frame, canvas } = this;
    const key = frame?.key ?? null;
    const bitmap = key === null ? null : pictures.get(key);
    const isThere = this.drawn === key;
    this.node.classList.toggle('waiting', bitmap === undefined && !isThere);
    if (bitmap === undefined || isThere) return;
    this.drawn = key;
    this.node.classList.toggle('missing', bitmap === null);
    if (bitmap === null) canvas.width = 1;
    else paint(canvas, bitmap);
  }

  describe(step) {
    const { frame, run } = this;
    if (!frame) return `${run.name}: not seen yet`;
    const status = frame.status ? `, ${STATUS_LABELS[frame.status]}` : '';
    const late = frame.step === step ? '' : `, at ${stepLabel(frame.step)}`;
    return `score ${formatNumber(frame.score)}, drift ${formatNumber(frame.drift)}${status}${late}`;
  }
}

class Card {
  constructor(name, open) {
    this.name = name;
    this.columns = [];
    this.label = h('span', { class: 'name' });
    this.strip = h('span', { class: 'columns', 'aria-hidden': 'true' });
    this.button = h('button', { type: 'button', class: 'card', onclick: () => open(name) },
      this.label, this.strip);
    setAttribute(this.button, 'aria-label', name);
    this.node = h('li', {}, this.button);
    this.node.card = this;
    this.visible = false;
  }

  // The heading above the card says the layer already.
  setLayer(layer) {
    const text = shortName(this.name, layer);
    if (this.label.textContent !== text) this.label.replaceChildren(...breakable(text));
  }

  setRuns(runs, colours, steps) {
    const ranges = { score: rangeOf(runs, this.name, 'score'), drift: rangeOf(runs, this.name, 'drift') };
    const old = new Map(this.columns.map((column) => [column.run.name, column]));
    const letters = runs.length > 1;
    if (this.letters !== letters) old.clear();
    this.letters = letters;
    this.columns = runs.map((run) => {
      const { letter, colour } = colours.get(run.name);
      const column = old.get(run.name) ?? new Column(run, letters ? letter : '');
      column.node.style.setProperty('--run', `var(--run-${colour})`);
      column.setRun(run, this.name, steps, ranges);
      return column;
    });
    arrange(this.strip, this.columns.map(({ node }) => node));
  }

  show(step, number) {
    for (const column of this.columns) column.show(column.run.frameAt(this.name, step), step, number);
    const parts = this.columns.map((column) => (
      this.letters ? `${column.run.name}: ${column.describe(step)}` : column.describe(step)));
    // The button has the target's name as its label; the title describes the target.
    setAttribute(this.button, 'title', [this.name, stepLabel(step), ...parts].join('\n'));
  }

  draw(pictures) {
    for (const column of this.columns) column.draw(pictures);
  }
}

export class Wall {
  #cards = new Map();
  #sections = new Map();

  constructor(pictures, { open, changed, root }) {
    this.pictures = pictures;
    this.open = open;
    this.step = 0;
    this.key = chartKey();
    this.sections = h('div', {});
    this.node = h('div', { class: 'wall' }, this.key, this.sections);
    this.watcher = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        target.card.visible = isIntersecting;
        if (isIntersecting) this.#refresh(target.card);
      }
      changed();
    }, { root, rootMargin: MARGIN });
    pictures.addEventListener('arrival', () => this.draw());
  }

  // The number under each picture is the one that orders the wall, else the score.
  arrange(groups, runs, colours, steps, sort) {
    this.setup = [runs, colours, steps];
    this.number = sort.endsWith('drift') ? 'drift' : 'score';
    const names = new Set(groups.flatMap((group) => group.names));
    for (const [name, card] of this.#cards) {
      card.stale = true;
      if (names.has(name)) continue;
      this.watcher.unobserve(card.node);
      card.node.remove();
      this.#cards.delete(name);
    }
    this.key.hidden = !groups.length || steps.length < 2;
    const only = runs.length === 1 ? colours.get(runs[0].name) : null;
    this.key.style.setProperty('--run', only ? `var(--run-${only.colour})` : 'var(--ink)');
    arrange(this.sections, groups.map((group) => this.#section(group)));
    for (const card of this.#cards.values()) if (card.visible) this.#refresh(card);
  }

  #section({ layer, names, total }) {
    if (!this.#sections.has(layer)) {
      const id = `layer-${this.#sections.size}`;
      const count = h('span', { class: 'count' });
      const list = h('ul', { class: 'cards' });
      const heading = h('h2', { id }, h('span', { class: 'layer' }, layer), count);
      const node = h('section', { 'aria-labelledby': id }, heading, list);
      this.#sections.set(layer, { node, list, count });
    }
    const { node, list, count } = this.#sections.get(layer);
    setText(count, names.length === total ? String(total) : `${names.length} of ${total}`);
    const cards = names.map((name) => this.#card(name));
    for (const card of cards) card.setLayer(layer);
    arrange(list, cards.map((card) => card.node));
    return node;
  }

  #card(name) {
    if (!this.#cards.has(name)) {
      const card = new Card(name, this.open);
      card.stale = true;
      this.#cards.set(name, card);
      this.watcher.observe(card.node);
    }
    return this.#cards.get(name);
  }

  // A card is brought up to date only on the screen, because a log may have thousands.
  #refresh(card) {
    if (card.stale) card.setRuns(...this.setup);
    card.stale = false;
    card.show(this.step, this.number);
    card.draw(this.pictures);
  }

  show(step) {
    this.step = step;
    for (const card of this.#cards.values()) {
      if (!card.visible) continue;
      card.show(step, this.number);
      card.draw(this.pictures);
    }
  }

  draw() {
    for (const card of this.#cards.values()) if (card.visible) card.draw(this.pictures);
  }

  // Returns the frames that the visible cards would show at a step.
  framesAt(step) {
    const visible = [...this.#cards.values()].filter((card) => card.visible && !card.stale);
    return visible.flatMap((card) => (
      card.columns.map((column) => column.run.frameAt(card.name, step)).filter(Boolean)));
  }

  get order() {
    return [...this.sections.querySelectorAll('li')].map((node) => node.card.name);
  }

  focus(name) {
    this.#cards.get(name)?.button.focus();
  }
}
