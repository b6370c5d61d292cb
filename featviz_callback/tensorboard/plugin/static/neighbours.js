// The neighbours: the targets of a run whose pictures are most like that of the open one, or which
// the same real images activate most.

import { fetchNearest, pictureUrl } from './api.js';
import { h, setText } from './dom.js';
import { FONTS, fitMiddle } from './fit.js';
import { formatNumber } from './words.js';

// As charts.css sets it.
const WIDTH = 96;

const SAID = {
  picture: (compared) => `By the correlation of the pictures with those of ${compared} others.`,
  function: (compared, found) => (found ? 'By the share of top activating real images that they have in common' : 'No top activating real image is in common') + `, compared with ${compared} others.`,
};

export class Neighbours {
  #asked = null;

  constructor(clock, open) {
    this.clock = clock;
    this.open = open;
    this.by = h('select', { 'aria-label': 'Nearest by', onchange: () => this.update() },
      h('option', { value: 'function' }, 'by function'), h('option', { value: 'picture' }, 'by picture'));
    this.list = h('ul', { class: 'neighbours' });
    this.said = h('p', { class: 'said', role: 'status' });
    this.node = h('details', { class: 'nearest', ontoggle: () => this.update() }, h('summary', {}, 'Nearest units'), this.by, this.list, this.said);
  }

  // Only real images tell what a unit does.
  setTarget(run, { name, real, private: scores }) {
    Object.assign(this, { run, name });
    this.node.hidden = run.targets.size < 2;
    const isKnown = Boolean(real || scores);
    this.by.hidden = !isKnown;
    if (!isKnown) this.by.value = 'picture';
    this.update();
  }

  async update() {
    if (!this.node.open || !this.run) return;
    const { run, name, by: { value: by }, clock: { step } } = this;
    const asked = JSON.stringify([run.name, name, step, by]);
    if (this.#asked === asked) return;
    this.#asked = asked;
    setText(this.said, 'Comparing…');
    try {
      const { targets, compared } = await fetchNearest(run.name, name, step, by);
      if (this.#asked !== asked) return;
      this.list.replaceChildren(...targets.map((target) => this.#item(target)));
      setText(this.said, SAID[by](compared, targets.length));
    } catch {
      if (this.#asked !== asked) return;
      this.#asked = null;
      this.list.replaceChildren();
      setText(this.said, 'These units cannot be compared.');
    }
  }

  #item({ name, alike, key }) {
    return h('li', {}, h('button', { type: 'button', class: 'neighbour', title: name, onclick: () => this.open(name) },
      h('img', { src: pictureUrl(key), alt: '' }), h('span', {}, fitMiddle(name, WIDTH, FONTS.neighbour)), h('span', { class: 'number' }, formatNumber(alike))));
  }
}
