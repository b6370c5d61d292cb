// The toolbar: it chooses the runs, the targets, their order and their size.

import { arrange, h, setAttribute, setText } from './dom.js';
import { SORTS, STATUS_LABELS, STATUSES } from './model.js';
import { SIZES } from './view.js';

// A button that opens a list of boxes to tick.
class Menu {
  #boxes = new Map();

  constructor(title, changed) {
    this.title = title;
    this.changed = changed;
    this.summary = h('summary', {});
    this.list = h('div', { class: 'choices', role: 'group', 'aria-label': title });
    this.node = h('details', { class: 'menu' }, this.summary, this.list);
    this.node.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !this.node.open) return;
      this.node.open = false;
      this.summary.focus();
      event.stopPropagation();
    });
    document.addEventListener('pointerdown', (event) => {
      if (!this.node.contains(event.target)) this.node.open = false;
    });
  }

  // Choices are `{ value, label, note, letter, colour }`.
  update(choices, ticked, text) {
    setText(this.summary, text);
    this.node.hidden = choices.length < 2;
    arrange(this.list, choices.map((choice) => this.#box(choice, ticked)));
  }

  #box({ value, label, note, letter, colour }, ticked) {
    if (!this.#boxes.has(value)) {
      const input = h('input', { type: 'checkbox', onchange: () => this.#collect() });
      const mark = h('span', { class: 'letter' });
      const text = h('span', {}, label);
      const small = h('span', { class: 'note' });
      const only = h('button', {
        type: 'button', class: 'only', 'aria-label': `Only ${label}`, onclick: () => this.changed([value]),
      }, 'only');
      const node = h('div', { class: 'choice' }, h('label', {}, input, mark, text, small), only);
      this.#boxes.set(value, { node, input, small, mark });
    }
    const { node, input, small, mark } = this.#boxes.get(value);
    input.checked = ticked.includes(value);
    setText(small, note ?? '');
    setText(mark, letter ?? '');
    mark.hidden = !letter;
    if (colour !== undefined) node.style.setProperty('--run', `var(--run-${colour})`);
    return node;
  }

  #collect() {
    const all = [...this.#boxes].filter(([, { node }]) => node.parentNode);
    this.changed(all.filter(([, { input }]) => input.checked).map(([value]) => value));
  }
}

export class Toolbar {
  constructor(change) {
    this.runs = new Menu('Runs', (runs) => change({ runs }));
    this.layers = new Menu('Layers', (layers) => change({ layers }));
    this.query = h('input', {
      type: 'search', placeholder: 'Filter by name', 'aria-label': 'Filter by name, a regular expression',
      spellcheck: 'false', autocomplete: 'off', oninput: () => change({ query: this.query.value }),
    });
    this.statuses = new Map(STATUSES.map((status) => [status, h('button', {
      type: 'button', class: 'chip', 'data-status': status, onclick: () => change({ statuses: this.#toggle(status) }),
    })]));
    this.sort = h('select', { 'aria-label': 'Order', onchange: () => change({ sort: this.sort.value }) },
      ...SORTS.map(([value, label]) => h('option', { value }, label)));
    this.size = h('input', {
      type: 'range', min: SIZES.least, max: SIZES.most, step: 8, 'aria-label': 'Size of the pictures',
      oninput: () => change({ size: Number(this.size.value) }),
    });
    this.shown = h('span', { class: 'shown', role: 'status' });
    this.legend = h('span', { class: 'legend' });
    this.node = h('div', { class: 'toolbar', role: 'search', 'aria-label': 'Pictures to show' },
      this.runs.node, this.legend, this.layers.node, this.query,
      h('div', { class: 'chips', role: 'group', 'aria-label': 'Status' }, ...this.statuses.values()),
      this.sort,
      h('label', { class: 'size' }, h('span', {}, 'Size'), this.size),
      this.shown);
  }

  #toggle(status) {
    const pressed = this.pressed.includes(status);
    return pressed ? this.pressed.filter((other) => other !== status) : [...this.pressed, status];
  }

  // `chosen` are the names of the ticked runs, some of which may not have been fetched yet.
  // `complaint` says what is wrong with the expression.
  update({ view, allRuns, chosen, runs, colours, layers, counts, shown, total, complaint }) {
    this.pressed = view.statuses;
    const names = runs.map((run) => run.name);
    this.runs.update(allRuns.map(({ name }) => ({ value: name, label: name, ...colours.get(name) })), chosen,
      chosen.length === 1 ? `Run: ${chosen[0]}` : `Runs: ${chosen.length} of ${allRuns.length}`);
    arrange(this.legend, names.length > 1 ? names.map((name) => this.#legendEntry(name, colours)) : []);
    const ticked = view.layers.filter((layer) => layers.some((group) => group.layer === layer));
    this.layers.update(layers.map(({ layer, names: all }) => ({ value: layer, label: layer, note: String(all.length) })),
      view.layers, ticked.length ? `Layers: ${ticked.length} of ${layers.length}` : 'All layers');
    if (document.activeElement !== this.query) this.query.value = view.query;
    for (const [status, chip] of this.statuses) {
      setAttribute(chip, 'aria-pressed', String(view.statuses.includes(status)));
      setText(chip, `${STATUS_LABELS[status]} ${counts[status]}`);
      chip.hidden = !counts[status] && !view.statuses.includes(status);
    }
    this.sort.value = view.sort;
    this.size.value = String(view.size);
    const first = names.length > 1 ? ` (${colours.get(names[0]).letter})` : '';
    SORTS.forEach(([value, label], i) => {
      setText(this.sort.options[i], /score|drift/.test(value) ? label + first : label);
    });
    setAttribute(this.query, 'aria-invalid', String(Boolean(complaint)));
    setText(this.shown, complaint || (shown === total ? `${total} targets` : `${shown} of ${total} targets`));
  }

  #legendEntry(name, colours) {
    const { letter, colour } = colours.get(name);
    const node = h('span', { class: 'run', title: name }, h('span', { class: 'letter' }, letter), h('span', {}, name));
    node.style.setProperty('--run', `var(--run-${colour})`);
    return node;
  }
}
