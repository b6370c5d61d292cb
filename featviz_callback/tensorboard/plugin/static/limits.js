// The limits: fields for the least and the most of each number, and whether all layers are one.

import { h } from './dom.js';
import { NUMBERS } from './numbers.js';

export class Limits {
  #rows = new Map();

  constructor(change) {
    this.change = change;
    this.across = h('input', { type: 'checkbox', onchange: () => change({ across: this.across.checked }) });
    const rows = Object.entries(NUMBERS).map(([kind, label]) => this.#row(kind, label));
    this.node = h('fieldset', { class: 'limits' }, h('legend', {}, 'Numbers'),
      h('label', { class: 'switch' }, this.across, 'Order across layers'), ...rows);
  }

  #row(kind, label) {
    const field = (which) => h('input', {
      type: 'number', step: 'any', placeholder: which, 'aria-label': `${label}, ${which}`, onchange: () => this.#collect(),
    });
    const [least, most] = [field('least'), field('most')];
    const node = h('div', { class: 'limit' }, h('span', {}, label), least, most);
    this.#rows.set(kind, { node, least, most });
    return node;
  }

  #collect() {
    const number = ({ value }) => (value === '' ? null : Number(value));
    const all = [...this.#rows].map(([kind, { least, most }]) => [kind, [number(least), number(most)]]);
    this.change({ limits: Object.fromEntries(all.filter(([, pair]) => pair.some((value) => value !== null))) });
  }

  // `kinds` are the numbers that some run has.
  update({ across, limits }, kinds) {
    this.across.checked = across;
    for (const [kind, { node, least, most }] of this.#rows) {
      node.hidden = !kinds.has(kind);
      const [low, high] = limits[kind] ?? [null, null];
      if (document.activeElement !== least) least.value = low ?? '';
      if (document.activeElement !== most) most.value = high ?? '';
    }
  }
}

// Returns the numbers that the log of some run has.
export function kindsIn(runs) {
  const kinds = new Set(runs.length > 1 ? ['difference'] : []);
  for (const run of runs) {
    for (const target of run.targets.values()) {
      for (const kind of Object.keys(NUMBERS)) if (target[kind]) kinds.add(kind);
      if (target.floor && target.drift && target.functional) kinds.add('settled');
    }
  }
  return kinds;
}
