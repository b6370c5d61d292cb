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

  constructor(pictures, { open, pin, changed, root }) {
    Object.assign(this, { pictures, open, pin, changed, root, step: 0, number: 'score' });
    this.key = sparkKey();
    this.sections = h('div', {});
    this.node = h('div', { class: 'wall' }, this.key, this.sections);
    root.addEventListener('scroll', () => this.#render(false), { passive: true });
    new ResizeObserver(() => this.#layOut()).observe(root);
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
      const { list } = this.#sections.get(keyOf(group));
      const [first, last] = found[i];
      const near = names.slice(first, last);
      const focused = list.contains(document.activeElement) ? document.activeElement.closest('li')?.card.name : null;
      if (focused && names.includes(focused) && !near.includes(focused)) near.push(focused);
      const cards = near.map((name) => this.#place(name, group, names.indexOf(name, focused === name ? 0 : first)));
      for (const { name } of cards) shown.add(name);
      arrange(list, cards.map(({ node }) => node));
    }
    for (const name of this.#cards.keys()) if (!shown.has(name)) this.#cards.delete(name);
    this.#setCurrent(this.#current);
    this.#paint();
    this.changed();
  }

  // Small pictures are drawn together.
  #paint() {
    if (!this.geometry) return;
    const { width, between, picture, gap, across, cardWidth, rowHeight } = this.geometry;
    for (const [i, group] of this.#groups.entries()) {
      const { backdrop } = this.#sections.get(keyOf(group));
      const [first, last] = this.#near[i] ?? [0, 0];
      if (!this.isDense || first === last) {
        backdrop.hide();
        continue;
      }
      const pieces = group.names.slice(first, last).flatMap((name, j) => this.#cards.get(name).columns.map(({ thumb }, k) => ({
        thumb,
        left: ((first + j) % across) * (cardWidth + gap) + k * (picture + between),
        above: Math.floor((first + j) / across) * rowHeight,
      })));
      const top = Math.floor(first / across) * rowHeight;
      backdrop.draw(pieces, picture, { top, width, height: Math.ceil(last / across) * rowHeight - top });
    }
  }

  #place(name, { layer, names, isPinned }, index) {
    const { gap, rowGap, across, cardWidth, rowHeight } = this.geometry;
    if (!this.#cards.has(name)) this.#cards.set(name, new Card(name, this.open, this.pin));
    const card = this.#cards.get(name);
    const { style } = card.node;
    style.left = `${(index % across) * (cardWidth + gap)}px`;
    style.top = `${Math.floor(index / across) * rowHeight}px`;
    style.width = `${cardWidth}px`;
    style.height = `${rowHeight - rowGap}px`;
    setAttribute(card.node, 'aria-setsize', String(names.length));
    setAttribute(card.node, 'aria-posinset', String(index + 1));
    card.setLayer(layer, cardWidth);
    card.setPinned(Boolean(isPinned));
    if (card.stale) {
      card.setRuns(...this.setup, this.isDense);
      card.show(this.step, this.number);
      this.#draw(card);
    }
    return card;
  }

  #setCurrent(name) {
    this.#current = name;
    for (const card of this.#cards.values()) {
      setAttribute(card.button, 'tabindex', card.name === name ? '0' : '-1');
    }
    // The card that the tab key leads to may be far away; then the first one here takes its place.
    if (!this.#cards.has(name)) [...this.#cards.values()][0]?.button.setAttribute('tabindex', '0');
  }

  show(step) {
    this.step = step;
    for (const card of this.#cards.values()) {
      card.show(step, this.number);
      this.#draw(card);
    }
    this.#paint();
  }

  draw() {
    for (const card of this.#cards.values()) this.#draw(card);
    this.#paint();
  }

  // For screens of fine pixels, a canvas has twice the width of a card. Hundreds of larger ones
  // take a second.
  #draw(card) {
    card.draw(this.pictures, 2 * this.size);
  }

  // Returns the frames that the cards on the screen would show at a step.
  framesAt(step) {
    return [...this.#cards.values()].flatMap((card) => card.framesAt(step));
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
