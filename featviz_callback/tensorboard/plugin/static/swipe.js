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

  // Offers the steps at which the chosen run has a picture. What is wanted and not there is left.
  fill(runs, name, usualRun, isFirst, [wantedRun, wantedStep]) {
    refill(this.run, runs.map((run) => [run.name, run.label]), wantedRun, usualRun);
    const run = runs.find((one) => one.name === this.run.value);
    const steps = run.steps.filter((_, i) => run.targets.get(name).key[i]);
    refill(this.step, steps.map((step) => [String(step), stepLabel(step)]), wantedStep, String(isFirst ? steps[0] : steps.at(-1)));
    this.run.hidden = runs.length < 2;
  }
}

// A choice that is still there stays.
function refill(select, options, wanted, usual) {
  const text = JSON.stringify(options);
  const kept = select.value;
  if (select.filled !== text) select.replaceChildren(...options.map(([value, label]) => h('option', { value }, label)));
  select.filled = text;
  select.value = [wanted, kept].find((one) => one && options.some(([value]) => value === one)) ?? usual;
}

export class Swipe {
  // `change` takes what the view keeps: nothing, or run and step of both sides and the place of the cut.
  constructor(pictures, change) {
    this.pictures = pictures;
    const tell = () => change(this.node.open ? this.#choice() : null);
    const update = () => {
      // The steps that are offered are those of the run that is chosen now.
      this.setRuns(this.runs, this.name, this.steps, this.#choice());
      tell();
    };
    this.sides = [new Side('left', update), new Side('right', update)];
    this.range = h('input', { type: 'range', min: 0, max: 100, value: 50, 'aria-label': 'Swipe', oninput: () => this.#cut(), onchange: tell });
    this.difference = new Difference();
    this.said = h('span', { class: 'unseen', role: 'status' });
    this.frame = h('span', { class: 'picture swipe-frame' }, ...this.sides.map(({ canvas }) => canvas));
    this.node = h('details', { class: 'swipe', ontoggle: () => this.node.open !== this.isWanted && tell() },
      h('summary', {}, 'Compare two epochs or runs'),
      h('div', { class: 'swipe-choices' }, this.sides[0].node, h('span', {}, 'against'), this.sides[1].node),
      h('div', { class: 'swipe-body' }, h('div', { class: 'swipe-side' }, this.frame, this.range), this.difference.node), this.said);
    this.#cut();
  }

  setRuns(runs, name, steps, choice) {
    const having = runs.filter((run) => run.targets.has(name));
    Object.assign(this, { runs: having, name, steps, isWanted: choice !== null });
    if (this.node.open !== this.isWanted) this.node.open = this.isWanted;
    this.node.hidden = !having.length || (steps.length < 2 && having.length < 2);
    if (this.node.hidden) return;
    const other = having.at(-1).name;
    const [left, right] = [choice?.slice(0, 2) ?? [], choice?.slice(2, 4) ?? []];
    this.sides[0].fill(having, name, having[0].name, having.length < 2, left);
    this.sides[1].fill(having, name, other, false, right);
    // While the slider is drawn along, nothing moves it back.
    if (choice && choice[4] !== this.cut) [this.range.value, this.cut] = [choice[4], choice[4]];
    this.#cut();
    this.draw();
  }

  #choice() {
    return [...this.sides.flatMap(({ run, step }) => [run.value, step.value]), this.range.value];
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
