// The spark line: a target's score and drift over the epochs, small, without axes.

import { h, setAttribute, svg } from './dom.js';

const WIDTH = 100;
const HEIGHT = 24;

export class Spark {
  steps = [];
  scores = [0, 0];

  constructor() {
    this.drift = svg('path', { class: 'drift' });
    this.score = svg('path', { class: 'score' });
    this.mark = svg('line', { class: 'mark', y1: 0, y2: HEIGHT, x1: 0, x2: 0 });
    this.dot = svg('path', { class: 'dot' });
    this.node = svg('svg', {
      class: 'spark', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true',
    }, this.mark, this.drift, this.score, this.dot);
  }

  // The steps span the width, and the ranges of scores and drifts span the height. Roots of the
  // drift are drawn, because the drift of an untrained network dwarfs all later drift.
  draw(run, target, steps, scores, drifts) {
    this.steps = steps;
    this.scores = scores;
    const roots = target?.drift?.map((value) => (value === null ? null : Math.sqrt(Math.max(0, value))));
    this.score.setAttribute('d', this.#path(run.steps, target?.score, scores));
    this.drift.setAttribute('d', this.#path(run.steps, roots, [0, Math.sqrt(Math.max(drifts[1], 1e-9))]));
  }

  showFrame(frame, step) {
    const x = this.#x(step).toFixed(2);
    setAttribute(this.mark, 'x1', x);
    setAttribute(this.mark, 'x2', x);
    const known = frame && frame.score !== null;
    setAttribute(this.dot, 'd', known ? `M${this.#x(frame.step).toFixed(2)} ${y(frame.score, this.scores)}h0` : '');
  }

  #x(step) {
    const [first, last] = [this.steps[0], this.steps.at(-1)];
    return last > first ? 1 + ((step - first) / (last - first)) * (WIDTH - 2) : WIDTH / 2;
  }

  #path(steps, values, range) {
    let pen = 'M';
    return (values ?? []).map((value, i) => {
      if (value === null) {
        pen = 'M';
        return '';
      }
      const point = `${pen}${this.#x(steps[i]).toFixed(2)} ${y(value, range)}`;
      pen = 'L';
      return point;
    }).join('');
  }
}

function y(value, [low, high]) {
  return (HEIGHT - 2 - ((value - low) / (high - low || 1)) * (HEIGHT - 4)).toFixed(2);
}

export function sparkKey() {
  return h('p', { class: 'key' },
    h('span', { class: 'key-score' }, 'score'), h('span', { class: 'key-drift', title: 'How far the picture moved since the last snapshot, on a scale of square roots' }, 'drift'));
}
