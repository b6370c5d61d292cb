// The wall: a card for each target, grouped by layer. Only the cards near the screen exist, so
// that ten thousand targets scroll as ten do.

import { Backdrop } from './backdrop.js';
import { Card } from './card.js';
import { arrange, h, setAttribute, setText } from './dom.js';
import { sparkKey } from './spark.js';

// Cards exist, and their pictures are fetched, up to this far outside the screen.
const MARGIN = 300;
const GAPS = { usual: [14, 18], dense: [8, 8] };
// Heights of the parts of a card beside its picture; wall.css sets the same.
const TEXT = 76;
const VERDICT_LINE = 15;
const VERDICT_LETTERS = { share: 33, ratio: 25, floor: 22 };
const BETWEEN_COLUMNS = 6;

export class Wall {
  #cards = new Map();
  #sections = new Map();
  #groups = [];
  #near = []; // of each group the first card that exists, and the one after the last
  #current = null; // the name of the card that the tab key leads to
  #stop = null; // its button, or that of another card while it is far away

  constructor(pictures, { open, pin, changed, root }) {
    Object.assign(this, { pictures, open, pin, changed, root, step: 0, number: 'score' });
    this.key = sparkKey();
    this.sections = h('div', {});
    this.node = h('div', { class: 'wall' }, this.key, this.sections);
    root.addEventListener('scroll', () => this.#render(false), { passive: true });
    new ResizeObserver(() => this.#layOut()).observe(root);
    new MutationObserver(() => this.#layOut()).observe(document.documentElement, { attributeFilter: ['data-theme'] });
    this.node.addEventListener('focusin', ({ target }) => this.#setCurrent(target.closest('li')?.card.name ?? this.#current));
    pictures.addEventListener('arrival', () => this.draw());
  }

  // The number under each picture is the one that orders the wall, else the score.
  arrange(groups, runs, colours, steps, { sort, size, isDense }) {
    this.setup = [runs, colours, steps];
    const kind = sort.replace('-', '');
    this.number = ['drift', 'ratio', 'selectivity', 'functional', 'share', 'settled'].includes(kind) ? kind : 'score';
    Object.assign(this, { size, isDense, count: Math.max(1, runs.length) });
    this.verdictLetters = Object.entries(VERDICT_LETTERS).filter(([kind]) => runs.some((run) => [...run.targets.values()].some((target) => target[kind])))
      .reduce((sum, [, letters]) => sum + letters, 0);
    const held = this.node.contains(document.activeElement) ? document.activeElement.closest('li')?.card.name : null;
    const later = held ? this.order.slice(this.order.indexOf(held) + 1) : [];
    this.#groups = groups;
    for (const card of this.#cards.values()) card.stale = true;
    if ([...this.#cards.values()].some((card) => card.isDense !== isDense)) this.#cards.clear();
    this.key.hidden = !groups.length || steps.length < 2;
    this.key.style.setProperty('--run', runs.length === 1 ? colours.get(runs[0].name).colour : 'var(--ink)');
    arrange(this.sections, groups.map((group) => this.#section(group)));
    if (!this.order.includes(this.#current)) this.#current = this.order[0] ?? null;
    this.#layOut();
    // A card that moves to another list, as pinned ones do, loses the focus.
    if (held && !this.node.contains(document.activeElement)) this.focus([held, ...later].find((name) => this.#cards.has(name)) ?? this.#current);
  }

  #section(group) {
    const { layer, names, total } = group;
    const key = keyOf(group);
    if (!this.#sections.has(key)) {
      const id = `layer-${this.#sections.size}`;
      const count = h('span', { class: 'count' });
      const list = h('ul', { class: 'cards', role: 'list' });
      const heading = h('h2', { id }, h('span', { class: 'layer' }, layer), count);
      const backdrop = new Backdrop();
      const node = h('section', { 'aria-labelledby': id }, heading, h('div', { class: 'stage' }, backdrop.node, list));
      this.#sections.set(key, { node, list, count, backdrop });
    }
    const { node, count } = this.#sections.get(key);
    setText(count, names.length === total ? String(total) : `${names.length} of ${total}`);
    return node;
  }

  // Finds the places of all cards from the width, without an element for each.
  #layOut() {
    const width = this.sections.clientWidth;
    if (!width || !this.setup) return;
    const [gap, rowGap] = GAPS[this.isDense ? 'dense' : 'usual'];
    const between = this.isDense ? 1 : BETWEEN_COLUMNS;
    const column = this.isDense ? this.size : Math.max(72, this.size);
    const least = Math.min(width, column * this.count + between * (this.count - 1));
    const across = Math.max(1, Math.floor((width + gap) / (least + gap)));
    const cardWidth = (width - gap * (across - 1)) / across;
    const picture = (cardWidth - between * (this.count - 1)) / this.count;
    const lines = Math.min(6, Math.ceil((this.verdictLetters * 6.4) / picture));
    const below = this.isDense ? 2 : TEXT + lines * VERDICT_LINE;
    this.node.style.setProperty('--verdict-lines', String(lines));
    this.geometry = { width, between, picture, gap, rowGap, across, cardWidth, rowHeight: picture + below + rowGap };
    this.look = { width, side: picture, rowHeight: this.geometry.rowHeight, ...lookOf(this.node) };
    for (const group of this.#groups) {
      const rows = Math.ceil(group.names.length / across);
      this.#sections.get(keyOf(group)).list.style.height = `${rows * this.geometry.rowHeight}px`;
    }
    this.#render();
  }

  // Where cards are the same, scrolling changes nothing.
  #render(isNew = true) {
    if (!this.geometry) return;
    const { across, rowHeight } = this.geometry;
    const view = this.root.getBoundingClientRect();
    const shown = new Set();
    // All places are read before the first change, since the browser lays out anew between the two.
    const tops = this.#groups.map((group) => this.#sections.get(keyOf(group)).list.getBoundingClientRect().top - view.top);
    const found = tops.map((top, i) => {
      const [first, last] = [Math.floor((-MARGIN - top) / rowHeight), Math.ceil((view.height + MARGIN - top) / rowHeight)];
      return [first, last].map((row) => Math.min(this.#groups[i].names.length, Math.max(0, row) * across));
    });
    if (!isNew && String(found) === String(this.#near)) return;
    this.#near = found;
    for (const [i, group] of this.#groups.entries()) {
      const { names } = group;
      const { list, backdrop } = this.#sections.get(keyOf(group));
      const [first, last] = found[i];
      if (this.isDense) backdrop.arrange(first / across, Math.ceil(last / across), this.look);
      else backdrop.arrange(0, 0);
      const cards = names.slice(first, last).map((name, j) => this.#place(name, group, first + j, backdrop));
      const focused = list.contains(document.activeElement) ? document.activeElement.closest('li')?.card.name : null;
      const at = focused === null ? -1 : names.indexOf(focused);
      if (at >= 0 && (at < first || at >= last)) cards.push(this.#place(focused, group, at, backdrop));
      for (const { name } of cards) shown.add(name);
      arrange(list, cards.map(({ node }) => node));
    }
    for (const name of this.#cards.keys()) if (!shown.has(name)) this.#cards.delete(name);
    this.#setCurrent(this.#current);
    this.changed();
  }

  // Where a card has its place already, nothing is done.
  #place(name, group, index, backdrop) {
    if (!this.#cards.has(name)) this.#cards.set(name, new Card(name, this.open, this.pin, this.isDense));
    const card = this.#cards.get(name);
    const { gap, rowGap, between, picture, across, cardWidth, rowHeight } = this.geometry;
    const [left, row] = [(index % across) * (cardWidth + gap), Math.floor(index / across)];
    const isPlaced = !card.stale && card.index === index && card.group === group && card.geometry === this.geometry;
    if (!isPlaced) {
      Object.assign(card, { index, group, geometry: this.geometry });
      Object.assign(card.node.style, { left: `${left}px`, top: `${row * rowHeight}px`, width: `${cardWidth}px`, height: `${rowHeight - rowGap}px` });
      setAttribute(card.node, 'aria-setsize', String(group.names.length));
      setAttribute(card.node, 'aria-posinset', String(index + 1));
      card.setLayer(group.layer, cardWidth);
      card.setPinned(Boolean(group.isPinned));
    }
    const isStale = card.stale;
    if (isStale) {
      card.setRuns(...this.setup);
      card.show(this.step, this.number);
    }
    const surface = backdrop.row(row);
    const isMoved = this.isDense && (!isPlaced || card.surface !== surface);
    if (isMoved) {
      card.surface = surface;
      card.put(surface, card.columns.map((_, k) => left + k * (picture + between)));
    }
    if (isStale || isMoved) this.#draw(card);
    return card;
  }

  #setCurrent(name) {
    this.#current = name;
    // The card that the tab key leads to may be far away; then the first one here takes its place.
    const { button } = this.#cards.get(name) ?? this.#cards.values().next().value ?? {};
    if (this.#stop === button) return;
    this.#stop?.setAttribute('tabindex', '-1');
    button?.setAttribute('tabindex', '0');
    this.#stop = button;
  }

  show(step) {
    this.step = step;
    for (const card of this.#cards.values()) {
      card.show(step, this.number);
      this.#draw(card);
    }
  }

  draw() {
    for (const card of this.#cards.values()) this.#draw(card);
  }

  // For screens of fine pixels, a canvas has twice the width of a card. Hundreds of larger ones
  // take a second.
  #draw(card) {
    card.draw(this.pictures, 2 * this.size);
  }

  // Returns the keys of the pictures that the cards on the screen would show at a step.
  keysAt(step) {
    return [...this.#cards.values()].flatMap((card) => card.keysAt(step));
  }

  get order() {
    return this.#groups.flatMap(({ names }) => names);
  }

  // Moves the focus by so many targets, or by so many rows.
  move(targets, rows) {
    const { order } = this;
    const at = order.indexOf(this.#current);
    const next = at + targets + rows * (this.geometry?.across ?? 1);
    if (order[next] !== undefined) this.focus(order[next]);
  }

  focus(name) {
    const group = this.#groups.find(({ names }) => names.includes(name));
    if (!group) return;
    if (!this.#cards.has(name)) {
      const { across, rowHeight } = this.geometry;
      const list = this.#sections.get(keyOf(group)).list;
      const row = Math.floor(group.names.indexOf(name) / across);
      this.root.scrollTop += list.getBoundingClientRect().top + row * rowHeight - this.root.getBoundingClientRect().top - 100;
      this.#render();
    }
    this.#setCurrent(name);
    this.#cards.get(name)?.button.focus();
  }
}

// A layer may have the name of the group of pinned targets.
function keyOf({ layer, isPinned }) {
  return isPinned ? null : layer;
}

// What the backdrop takes from the theme.
function lookOf(node) {
  return { sunken: getComputedStyle(node).getPropertyValue('--sunken'), isDark: document.documentElement.dataset.theme === 'dark' };
}
