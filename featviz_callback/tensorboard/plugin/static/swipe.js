// The swipe: two pictures of a target on top of each other, of two epochs or two runs, a slider that
// uncovers one, and their difference.

import { Difference } from './difference.js';
import { h, setAttribute, setText } from './dom.js';
import { paint } from './pictures.js';
import { stepLabel } from './words.js';

class Side {
  constructor(label, changed) {
    this.canvas = h('canvas', { width: 1, height: 1, role: 'img' });
    this.run = h('select', { 'aria-label': `Run on the ${label}`, onchange: changed });
    this.step = h('select', { 'aria-label': `Epoch on the ${label}`, onchange: changed });
    this.node = h('span', { class: 'swipe-choice' }, this.run, this.step);
  }

  // Offers the steps at which the chosen run has a picture.
  fill(runs, name, usualRun, isFirst) {
    refill(this.run, runs.map((run) => [run.name, run.label]), usualRun);
    const run = runs.find((one) => one.name === this.run.value);
    const steps = run.steps.filter((_, i) => run.targets.get(name).key[i]);
    refill(this.step, steps.map((step) => [String(step), stepLabel(step)]), String(isFirst ? steps[0] : steps.at(-1)));
    this.run.hidden = runs.length < 2;
  }
}

// A choice that is still there stays.
function refill(select, options, usual) {
  const text = JSON.stringify(options);
  if (select.filled === text) return;
  const kept = select.value;
  select.filled = text;
  select.replaceChildren(...options.map(([value, label]) => h('option', { value }, label)));
  select.value = options.some(([value]) => value === kept) && kept !== '' ? kept : usual;
}

export class Swipe {
  constructor(pictures, changed) {
    this.pictures = pictures;
    const update = () => {
      if (this.steps) this.setRuns(this.runs, this.name, this.steps);
      changed();
      this.draw();
    };
    this.sides = [new Side('left', update), new Side('right', update)];
    this.range = h('input', { type: 'range', min: 0, max: 100, value: 50, 'aria-label': 'Swipe', oninput: () => this.#cut() });
    this.difference = new Difference();
    this.said = h('span', { class: 'unseen', role: 'status' });
    this.frame = h('span', { class: 'picture swipe-frame' }, ...this.sides.map(({ canvas }) => canvas));
    this.node = h('details', { class: 'swipe', ontoggle: update },
      h('summary', {}, 'Compare two epochs or runs'),
      h('div', { class: 'swipe-choices' }, this.sides[0].node, h('span', {}, 'against'), this.sides[1].node),
      h('div', { class: 'swipe-body' }, h('div', { class: 'swipe-side' }, this.frame, this.range), this.difference.node), this.said);
    this.#cut();
  }

  setRuns(runs, name, steps) {
    const having = runs.filter((run) => run.targets.has(name));
    Object.assign(this, { runs: having, name, steps });
    this.node.hidden = !having.length || (steps.length < 2 && having.length < 2);
    if (this.node.hidden) return;
    const other = having.at(-1).name;
    this.sides[0].fill(having, name, having[0].name, having.length < 2);
    this.sides[1].fill(having, name, other, false);
    this.draw();
  }

  #cut() {
    this.frame.style.setProperty('--cut', `${this.range.value}%`);
    setAttribute(this.range, 'aria-valuetext', `${this.range.value} % of the left picture`);
  }

  frames() {
    if (!this.node.open || this.node.hidden) return [];
    return this.sides.map(({ run, step }) => this.runs.find(({ name }) => name === run.value)?.frameAt(this.name, Number(step.value)))
      .filter(Boolean);
  }

  draw() {
    const frames = this.frames();
    frames.forEach((frame, i) => {
      const side = this.sides[i];
      const bitmap = this.pictures.get(frame.key);
      setAttribute(side.canvas, 'aria-label', `${frame.name}, ${frame.run}, ${stepLabel(frame.step)}`);
      if (bitmap) paint(side.canvas, bitmap);
    });
    if (frames.length === 2) this.difference.show(frames, this.pictures);
    setText(this.said, frames.map(({ run, step }) => `${run}, ${stepLabel(step)}`).join(' against '));
  }
}
