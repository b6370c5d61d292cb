// The neighbours: the targets of a run whose pictures are most like that of the open one.

import { fetchNearest, pictureUrl } from './api.js';
import { h, setText } from './dom.js';
import { cutMiddle, formatNumber } from './words.js';

export class Neighbours {
  #asked = null;

  constructor(clock, open) {
    this.clock = clock;
    this.open = open;
    this.list = h('ul', { class: 'neighbours' });
    this.said = h('p', { class: 'said', role: 'status' });
    this.node = h('details', { class: 'nearest', ontoggle: () => this.update() }, h('summary', {}, 'Nearest units, by picture'), this.list, this.said);
  }

  setTarget(run, name) {
    Object.assign(this, { run, name });
    this.node.hidden = run.targets.size < 2;
    this.update();
  }

  async update() {
    if (!this.node.open || !this.run) return;
    const { run, name, clock: { step } } = this;
    const asked = JSON.stringify([run.name, name, step]);
    if (this.#asked === asked) return;
    this.#asked = asked;
    setText(this.said, 'Comparing…');
    try {
      const { targets, compared } = await fetchNearest(run.name, name, step);
      if (this.#asked !== asked) return;
      this.list.replaceChildren(...targets.map((target) => this.#item(target)));
      setText(this.said, `By the correlation of the pictures with those of ${compared} others.`);
    } catch {
      if (this.#asked !== asked) return;
      this.#asked = null;
      this.list.replaceChildren();
      setText(this.said, 'These pictures cannot be compared.');
    }
  }

  #item({ name, correlation, key }) {
    return h('li', {}, h('button', { type: 'button', class: 'neighbour', title: name, onclick: () => this.open(name) },
      h('img', { src: pictureUrl(key), alt: '' }), h('span', {}, cutMiddle(name, 24)), h('span', { class: 'number' }, formatNumber(correlation))));
  }
}
