// The toolbar: it chooses the page, the runs, the targets, their order and their size.

import { h, setAttribute, setText } from './dom.js';
import { kindsIn, Limits } from './limits.js';
import { Menu, rove } from './menu.js';
import { SORTS } from './model.js';
import { RunTable } from './runtable.js';
import { SIZES } from './view.js';
import { STATUS_LABELS, STATUSES } from './words.js';

const MOST_COUNTS = 4;

function countOf(total) {
  return `${total} ${total === 1 ? 'target' : 'targets'}`;
}

export class Toolbar {
  constructor(change, openFigure) {
    this.page = h('select', { 'aria-label': 'Page', onchange: () => change({ page: this.page.value }) },
      h('option', { value: 'pictures' }, 'Pictures'), h('option', { value: 'network' }, 'Network'));
    this.runs = new RunTable((runs) => change({ runs }));
    this.limits = new Limits(change);
    this.layers = new Menu('Layers', (layers) => change({ layers }), this.limits.node);
    this.query = h('input', {
      type: 'search', placeholder: 'Filter by name', 'aria-label': 'Filter by name, a regular expression',
      spellcheck: 'false', autocomplete: 'off', oninput: () => change({ query: this.query.value }),
    });
    this.statuses = new Map(STATUSES.map((status) => [status, h('button', {
      type: 'button', class: 'chip', 'data-status': status, onclick: () => change({ statuses: this.#toggle(status) }),
    })]));
    this.chips = h('div', { class: 'chips', role: 'group', 'aria-label': 'Status' }, ...this.statuses.values());
    rove(this.chips, '.chip');
    this.sort = h('select', { 'aria-label': 'Order', onchange: () => change({ sort: this.sort.value }) },
      ...SORTS.map(([value, label]) => h('option', { value }, label)));
    this.size = h('input', {
      type: 'range', min: SIZES.least, max: SIZES.most, step: 8, 'aria-label': 'Size of the pictures',
      oninput: () => change({ size: Number(this.size.value) }),
    });
    this.figure = h('button', { type: 'button', class: 'figure-button', onclick: openFigure }, 'Figure…');
    this.shown = h('span', { class: 'shown', role: 'status' });
    this.ofPictures = [this.query, this.chips, this.sort, this.figure];
    this.node = h('div', { class: 'toolbar', role: 'search', 'aria-label': 'Pictures to show' },
      this.page, this.runs.node, this.layers.node, this.query, this.chips, this.sort,
      h('label', { class: 'size' }, h('span', {}, 'Size'), this.size), this.figure, this.shown);
  }

  #toggle(status) {
    const pressed = this.pressed.includes(status);
    return pressed ? this.pressed.filter((other) => other !== status) : [...this.pressed, status];
  }

  // `complaint` says what is wrong with the expression.
  update({ view, allRuns, chosen, runs, colours, layers, counts, shown, total, complaint }) {
    this.pressed = view.statuses;
    const isNetwork = view.page === 'network';
    this.page.value = view.page;
    for (const node of [...this.ofPictures, this.size.parentNode, this.shown]) node.hidden = isNetwork;
    this.runs.update(allRuns, chosen, colours, counts);
    this.#updateLayers(view, layers, runs, isNetwork);
    if (document.activeElement !== this.query) this.query.value = view.query;
    this.#updateChips(view, runs, colours, counts);
    this.sort.value = view.sort;
    this.size.value = String(view.size);
    const kinds = kindsIn(runs);
    SORTS.forEach(([value, label], i) => {
      const kind = value.replace('-', '');
      const isOfRun = !['network', 'name', 'difference'].includes(value.replace('-', ''));
      setText(this.sort.options[i], label + (isOfRun && runs.length > 1 ? ` (${colours.get(runs[0].name).letter})` : ''));
      this.sort.options[i].hidden = !['network', 'name'].includes(kind) && !kinds.has(kind) && view.sort !== value;
    });
    setAttribute(this.query, 'aria-invalid', String(Boolean(complaint)));
    setText(this.shown, complaint || (shown === total ? countOf(total) : `${shown} of ${countOf(total)}`));
  }

  #updateLayers(view, layers, runs, isNetwork) {
    const ticked = view.layers.filter((layer) => layers.some((group) => group.layer === layer));
    const limits = Object.keys(view.limits).length;
    const text = ticked.length ? `Layers: ${ticked.length} of ${layers.length}` : 'All layers';
    this.limits.update(view, kindsIn(runs));
    this.layers.update(layers.map(({ layer, names }) => ({ value: layer, label: layer, note: String(names.length) })),
      view.layers, limits ? `${text}, ${limits} limited` : text, layers.length > 0 && !isNetwork);
  }

  // Only the targets shown are counted, and each run by itself.
  #updateChips(view, runs, colours, counts) {
    for (const [status, chip] of this.statuses) {
      const each = runs.map((run) => [colours.get(run.name).letter, counts.get(run.name)[status]]);
      const isThere = each.some(([, count]) => count);
      const text = each.length === 1 ? String(each[0][1]) : each.map((pair) => pair.join(' ')).join(', ');
      setAttribute(chip, 'aria-pressed', String(view.statuses.includes(status)));
      setText(chip, `${STATUS_LABELS[status]} ${each.length > MOST_COUNTS ? '' : text}`.trim());
      chip.hidden = !isThere && !view.statuses.includes(status);
    }
  }
}
