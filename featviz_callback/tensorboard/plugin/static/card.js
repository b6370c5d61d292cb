// The card: one target on the wall, with a column for each run.

import { arrange, h, setAttribute, setText, svg } from './dom.js';
import { FONTS, fitMiddle } from './fit.js';
import { Mini } from './mini.js';
import { rangeOf } from './numbers.js';
import { Spark } from './spark.js';
import { Thumb } from './thumb.js';
import { describeFrame, formatNumber, shortName, stepLabel, verdictOf } from './words.js';

const PIN = 'M9 3h6l-1 7 3 3v2h-4v6h-2v-6H7v-2l3-3z';

// A run's part of a card. One of a dense wall is only a picture.
class Column {
  constructor(run, letter, isDense) {
    this.run = run;
    this.isDense = isDense;
    this.thumb = isDense ? new Mini() : new Thumb();
    this.node = h('span', { class: 'column' }, this.thumb.node);
    if (isDense) return;
    this.number = h('span', { class: 'number' });
    this.late = h('span', { class: 'late' });
    this.verdict = h('span', { class: 'verdict' });
    this.spark = new Spark();
    const name = letter ? h('span', { class: 'letter' }, letter) : '';
    this.node.append(h('span', { class: 'line' }, name, this.number, this.late), this.verdict, this.spark.node);
  }

  setRun(run, name, steps, ranges) {
    this.run = run;
    if (this.isDense) return;
    const target = run.targets.get(name);
    this.spark.draw(run, target, steps, ranges.score, ranges.drift);
    this.spark.node.classList.toggle('empty', !target || steps.length < 2);
  }

  show(frame, step, number) {
    this.thumb.show(frame, this.node);
    if (this.isDense) return;
    this.spark.showFrame(frame, step);
    setText(this.number, frame ? `${number === 'score' ? '' : `${number} `}${formatNumber(frame[number])}` : '–');
    setText(this.late, frame && frame.step !== step ? stepLabel(frame.step) : '');
    setText(this.verdict, frame ? verdictOf(frame) : '');
  }
}

export class Card {
  constructor(name, open, pin, isDense) {
    Object.assign(this, { name, isDense, columns: [], stale: true });
    this.strip = h('span', { class: 'columns', 'aria-hidden': 'true' });
    this.button = h('button', { type: 'button', class: 'card', tabindex: -1, 'data-name': name, onclick: () => open(name) }, this.strip);
    this.node = h('li', {}, this.button);
    this.node.card = this;
    if (!isDense) this.#addTexts(pin);
  }

  #addTexts(pin) {
    const { name } = this;
    this.label = h('span', { class: 'name', 'aria-hidden': 'true' });
    // What can be seen is too short for a name, so the name is text that cannot be seen.
    this.said = h('span', { class: 'unseen described' });
    this.strip.before(this.said, this.label);
    // By keyboard, the key p does the same.
    this.pin = h('button', { type: 'button', class: 'pin', tabindex: -1, 'aria-label': `Pin ${name}`, title: 'Keep at the top (p)', onclick: () => pin(name) },
      svg('svg', { viewBox: '0 0 24 24', 'aria-hidden': 'true' }, svg('path', { d: PIN })));
    this.node.append(this.pin);
  }

  // The heading above the card says the layer already.
  setLayer(layer, width) {
    if (this.isDense || (this.layer === layer && this.width === width)) return;
    Object.assign(this, { layer, width });
    setText(this.label, fitMiddle(shortName(this.name, layer), width, FONTS.card));
  }

  setPinned(isPinned) {
    if (this.pin) setAttribute(this.pin, 'aria-pressed', String(isPinned));
  }

  setRuns(runs, colours, steps) {
    const { isDense } = this;
    const ranges = { score: rangeOf(runs, this.name, 'score'), drift: rangeOf(runs, this.name, 'drift') };
    const old = new Map(this.columns.map((column) => [column.run.name, column]));
    const letters = runs.length > 1;
    if (this.letters !== letters) old.clear();
    this.letters = letters;
    this.columns = runs.map((run) => {
      const { letter, colour } = colours.get(run.name);
      const column = old.get(run.name) ?? new Column(run, letters ? letter : '', isDense);
      column.node.style.setProperty('--run', colour);
      column.setRun(run, this.name, steps, ranges);
      return column;
    });
    arrange(this.strip, this.columns.map(({ node }) => node));
    this.stale = false;
  }

  show(step, number) {
    const parts = this.columns.map((column) => {
      const frame = column.run.frameAt(this.name, step);
      column.show(frame, step, number);
      return `${this.letters ? `${column.run.label}: ` : ''}${describeFrame(frame, step)}`;
    });
    Object.assign(this, { parts, step });
    this.#say();
  }

  // Takes a row of the backdrop, and how far from its left end each run's picture is.
  put(row, lefts) {
    this.columns.forEach(({ thumb }, i) => thumb.put(row, lefts[i]));
  }

  draw(pictures, most) {
    for (const { thumb } of this.columns) thumb.draw(pictures, most);
    this.#say();
  }

  // A picture that cannot be shown is told in words too.
  #say() {
    const parts = this.parts.map((part, i) => [part, this.columns[i].thumb.trouble].filter(Boolean).join('. '));
    const said = [this.name, ...parts].join('; ');
    if (this.isDense) setAttribute(this.button, 'aria-label', said);
    else setText(this.said, said);
    setAttribute(this.button, 'title', [this.name, stepLabel(this.step), ...parts].join('\n'));
  }

  keysAt(step) {
    return this.columns.map(({ run }) => run.keyAt(this.name, step));
  }
}
