// The film strip: small stills of a target at every epoch of a run.

import { pictureUrl } from './api.js';
import { arrange, h, setAttribute } from './dom.js';
import { isSignal } from './signal.js';
import { shortStep, stepLabel } from './words.js';

// The width that unit.css gives to a still.
const STILL = 68;
const FIRST_RETRY = 3000;
// Of more epochs, evenly chosen ones have a still.
const MOST_STILLS = 1000;

export class FilmStrip {
  #stills = new Map(); // by key
  #centred = null;

  constructor(clock) {
    this.clock = clock;
    this.node = h('div', { class: 'strip', role: 'group' });
  }

  forget() {
    this.#stills = new Map();
    this.#centred = null;
  }

  // The strip would flicker if it made all stills anew.
  setTarget(run, target) {
    const all = run.steps.map((_, i) => i).filter((i) => target.key[i]);
    const every = Math.ceil(all.length / MOST_STILLS);
    const chosen = all.filter((_, i) => (all.length - 1 - i) % every === 0);
    setAttribute(this.node, 'aria-label', `Film strip of ${target.name}, ${run.name}${every > 1 ? `, one of ${every} epochs` : ''}`);
    arrange(this.node, chosen.map((i) => this.#still(run, target, i)));
  }

  #still(run, target, index) {
    const key = target.key[index];
    if (!this.#stills.has(key)) {
      const step = run.steps[index];
      const go = () => this.clock.go(this.clock.steps.indexOf(step));
      this.#stills.set(key, makeStill(pictureUrl(key), step, go));
    }
    const node = this.#stills.get(key);
    setAttribute(node, 'data-status', run.frameAt(target.name, run.steps[index])?.status ?? 'unknown');
    return node;
  }

  show(frame) {
    const focused = this.node.contains(document.activeElement);
    const stills = [...this.node.children];
    const shown = stills.findLast(({ step }) => step <= frame?.step);
    for (const still of stills) {
      const current = still === shown;
      setAttribute(still, 'aria-current', String(current));
      still.tabIndex = current ? 0 : -1;
      if (current && focused) still.focus({ preventScroll: true });
      if (current) this.#centre(still);
    }
  }

  // The strip moves only when another still becomes the current one: the user may scroll it.
  #centre(still) {
    if (this.#centred === still || !this.node.clientWidth) return;
    this.#centred = still;
    const left = still.offsetLeft - (this.node.clientWidth - still.offsetWidth) / 2;
    this.node.scrollTo({ left, behavior: 'instant' });
  }
}

function makeStill(src, step, go) {
  const image = h('img', { src, alt: '', loading: 'lazy', decoding: 'async' });
  image.onload = () => {
    image.classList.remove('lost');
    image.classList.toggle('small', image.naturalWidth <= STILL / 2);
    image.classList.toggle('signal', isSignal(image));
  };
  // The server may only be restarting. A damaged picture stays a hatched square.
  let wait = FIRST_RETRY;
  image.onerror = () => {
    image.classList.add('lost');
    setTimeout(() => { image.src = src; }, wait);
    wait *= 2;
  };
  const node = h('button', {
    type: 'button', class: 'still', tabindex: -1, 'aria-label': stepLabel(step), onclick: go,
  }, image, h('span', { 'aria-hidden': 'true' }, shortStep(step)));
  node.step = step;
  return node;
}
