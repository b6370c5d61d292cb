// A target's score and drift over the epochs, with the epoch that is shown.

import { h, setAttribute, svg } from './dom.js';

const WIDTH = 100;
const HEIGHT = 24;

export class Chart {
  constructor(className) {
    this.drift = svg('path', { class: 'drift' });
    this.score = svg('path', { class: 'score' });
    this.mark = svg('line', { class: 'mark', y1: 0, y2: HEIGHT, x1: 0, x2: 0 });
    this.node = svg('svg', {
      class: className, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true',
    }, this.drift, this.score, this.mark);
  }

  // Steps are what the width stands for; ranges are those of the heights.
  draw(run, target, steps, scores, drifts) {
    this.steps = steps;
    this.score.setAttribute('d', this.#path(run.steps, target.score, scores));
    this.drift.setAttribute('d', this.#path(run.steps, target.drift, [0, Math.max(drifts[1], 1e-9)]));
  }

  showStep(step) {
    const x = this.#x(step).toFixed(2);
    setAttribute(this.mark, 'x1', x);
    setAttribute(this.mark, 'x2', x);
  }

  #x(step) {
    const [first, last] = [this.steps[0], this.steps.at(-1)];
    return last > first ? 1 + ((step - first) / (last - first)) * (WIDTH - 2) : WIDTH / 2;
  }

  #path(steps, values, [low, high]) {
    const span = high - low || 1;
    let pen = 'M';
    return (values ?? []).map((value, i) => {
      if (value === null) {
        pen = 'M';
        return '';
      }
      const y = HEIGHT - 2 - ((value - low) / span) * (HEIGHT - 4);
      const point = `${pen}${this.#x(steps[i]).toFixed(2)} ${y.toFixed(2)}`;
      pen = 'L';
      return point;
    }).join('');
  }
}

// Which line is which.
export function chartKey() {
  return h('p', { class: 'key' },
    h('span', { class: 'key-score' }, 'score'), h('span', { class: 'key-drift' }, 'drift'));
}
