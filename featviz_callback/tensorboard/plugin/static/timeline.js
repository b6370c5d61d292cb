// Time: the clock, and the timeline with its slider and its button that plays.

import { h, setAttribute, setText, svg } from './dom.js';
import { stepLabel } from './words.js';

// While the clock plays, a frame lasts so many milliseconds, or longer until its pictures come.
const FRAME = 220;
const LONGEST_WAIT = 1500;
const SPEEDS = [0.5, 1, 2, 4];

const ICONS = {
  play: 'M8 5v14l11-7z',
  pause: 'M6 5h4v14H6zm8 0h4v14h-4z',
};

// One clock drives every timeline on the page, so that all pictures show the same step.
export class Clock extends EventTarget {
  steps = [];
  index = 0;
  following = true;
  playing = false;
  speed = 1;

  get step() {
    return this.steps[this.index] ?? 0;
  }

  get last() {
    return Math.max(0, this.steps.length - 1);
  }

  // Returns the step that is shown, then so many that follow, then the one before.
  near(ahead) {
    const indices = [...Array.from({ length: ahead + 1 }, (_, i) => this.index + i), ...(this.playing ? [] : [this.index - 1])];
    return indices.filter((index) => index in this.steps).map((index) => this.steps[index]);
  }

  // New steps do not move the clock, unless it follows the latest step.
  setSteps(steps, wanted) {
    this.steps = steps;
    this.following = wanted === null;
    const after = steps.findIndex((step) => step > wanted);
    this.index = wanted === null || after < 0 ? this.last : Math.max(0, after - 1);
    this.#tell('move');
  }

  go(index, { rest = true } = {}) {
    this.index = Math.min(this.last, Math.max(0, index));
    this.following = this.index === this.last && !this.playing;
    this.#tell('move');
    if (rest && !this.playing) this.#tell('rest');
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (this.steps.length < 2) return;
    this.playing = true;
    if (this.index === this.last) this.go(0);
    this.#tell('play');
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.following = this.index === this.last;
    this.#tell('play');
    this.#tell('rest');
  }

  // A frame waits for its pictures, but not for ever: one of them may never come.
  tick(elapsed, ready) {
    if (!this.playing || elapsed < FRAME / this.speed || (!ready && elapsed < LONGEST_WAIT)) return false;
    if (this.index >= this.last) this.pause();
    else this.go(this.index + 1);
    return true;
  }

  #tell(what) {
    this.dispatchEvent(new Event(what));
  }
}

export class Timeline {
  constructor(clock) {
    this.clock = clock;
    this.icon = svg('path');
    this.button = h('button', { class: 'play', type: 'button', onclick: () => clock.toggle() },
      svg('svg', { viewBox: '0 0 24 24', 'aria-hidden': 'true' }, this.icon));
    this.range = h('input', {
      type: 'range', min: 0, step: 1, 'aria-label': 'Epoch',
      title: 'Keys: left, right, home, end. The silhouette: how much all pictures changed at each epoch.',
      oninput: () => clock.go(Number(this.range.value), { rest: false }),
      onchange: () => clock.go(Number(this.range.value)),
    });
    this.drift = svg('path');
    this.label = h('output', { class: 'epoch', 'aria-live': 'off' });
    this.latest = h('button', { type: 'button', class: 'latest idle', onclick: () => clock.go(clock.last) }, 'Latest');
    this.speed = h('select', { class: 'speed', 'aria-label': 'Speed', title: 'How fast it plays', onchange: () => { clock.speed = Number(this.speed.value); } },
      ...SPEEDS.map((speed) => h('option', { value: speed, selected: speed === 1 }, `${speed} ×`)));
    // The slider comes first for the tab key, though the button stands before it.
    this.node = h('section', { class: 'timeline', 'aria-label': 'Time' },
      h('div', { class: 'track' },
        svg('svg', { class: 'change', viewBox: '0 0 100 20', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, this.drift),
        this.range),
      this.button, this.label, this.speed, this.latest);
    clock.addEventListener('move', () => this.update());
    clock.addEventListener('play', () => this.update());
    this.update();
  }

  update() {
    const { steps, index, last, playing, step } = this.clock;
    setAttribute(this.range, 'max', String(last));
    if (this.range.value !== String(index)) this.range.value = String(index);
    this.range.disabled = steps.length < 2;
    this.button.disabled = steps.length < 2;
    const label = steps.length ? stepLabel(step) : '';
    setAttribute(this.range, 'aria-valuetext', `${label}, ${index + 1} of ${steps.length}`);
    this.range.style.setProperty('--share', last ? `${(100 * index) / last}%` : '0%');
    setAttribute(this.button, 'aria-label', playing ? 'Pause' : 'Play');
    setAttribute(this.button, 'title', playing ? 'Pause (space)' : 'Play (space)');
    setAttribute(this.icon, 'd', playing ? ICONS.pause : ICONS.play);
    setText(this.label, label);
    // The idle button keeps its place, so that the slider keeps its length under the pointer.
    this.latest.classList.toggle('idle', index === last || playing);
    setAttribute(this.latest, 'title', `${last - index} later`);
    this.speed.value = String(this.clock.speed);
  }

  // Square roots, because the first changes dwarf all later ones.
  drawChange(values) {
    const roots = values.map((value) => Math.sqrt(Math.max(0, value ?? 0)));
    const most = Math.max(...roots, 1e-9);
    const points = roots.map((root, i) => (
      `L${((100 * i) / Math.max(1, roots.length - 1)).toFixed(2)} ${(20 - (18 * root) / most).toFixed(2)}`));
    setAttribute(this.drift, 'd', values.length > 1 ? `M0 20${points.join('')}L100 20Z` : '');
  }
}
