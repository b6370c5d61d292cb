// The matrix: runs down, targets across, for more runs than have room side by side. Only the
// cells near the screen exist.

import { columnsOf } from './columns.js';
import { arrange, h, setAttribute, setText } from './dom.js';
import { FONTS, fitMiddle } from './fit.js';
import { Thumb } from './thumb.js';
import { cutMiddle, describeFrame, formatNumber, shortName } from './words.js';

const MARGIN = 200;
const HEAD = 44;
const GAP = 6;
const LINE = 18;
const SIDE = { usual: 210, narrow: 96 };

export class Matrix {
  #cells = new Map();
  #rows = new Map();
  #heads = new Map();
  #focus = [0, 0];

  constructor(pictures, { open, changed, root }) {
    Object.assign(this, { pictures, open, changed, root, step: 0, number: 'score', names: [], runs: [] });
    this.head = h('div', { class: 'matrix-head', role: 'row' });
    this.body = h('div', { class: 'matrix-body', role: 'rowgroup' });
    this.node = h('div', { class: 'matrix', role: 'grid', 'aria-label': 'Runs down, targets across' }, h('div', { role: 'rowgroup', class: 'matrix-heads' }, this.head), this.body);
    root.addEventListener('scroll', () => this.#render(), { passive: true });
    new ResizeObserver(() => this.#render()).observe(root);
    this.node.addEventListener('keydown', ({ key, target }) => {
      if (key === 'Enter' && target.cell) this.open(target.cell.name, target.cell.run.name);
    });
    pictures.addEventListener('arrival', () => this.draw());
  }

  arrange(groups, runs, colours, steps, { sort, size }) {
    const layers = new Map(groups.flatMap(({ layer, names }) => names.map((name) => [name, layer])));
    const kind = sort.replace('-', '');
    Object.assign(this, {
      groups, runs, colours, layers, names: [...layers.keys()], size: Math.max(40, Math.min(size, 160)),
      number: ['drift', 'ratio', 'selectivity', 'functional', 'share', 'settled'].includes(kind) ? kind : 'score',
    });
    const { titles, values } = columnsOf(runs.map(({ label }) => label));
    this.labels = new Map(runs.map(({ name }, i) => [name, values[i].map((value, j) => (titles[j].startsWith('Run') ? value : `${titles[j]} ${value}`)).join(', ')]));
    this.node.hidden = this.node.hidden || !this.names.length || !runs.length;
    setAttribute(this.node, 'aria-rowcount', String(runs.length + 1));
    setAttribute(this.node, 'aria-colcount', String(this.names.length + 1));
    for (const cell of this.#cells.values()) cell.stale = true;
    this.#render();
  }

  get #geometry() {
    const side = this.root.clientWidth < 640 ? SIDE.narrow : SIDE.usual;
    return { side, across: this.size + GAP, down: this.size + LINE + GAP };
  }

  // How far below the top of what scrolls the matrix begins.
  get #offset() {
    return this.root.scrollTop + this.node.getBoundingClientRect().top - this.root.getBoundingClientRect().top;
  }

  #render() {
    if (this.node.hidden || !this.node.isConnected) return;
    const { side, across, down } = this.#geometry;
    this.node.style.width = `${side + this.names.length * across}px`;
    this.node.style.setProperty('--side', `${side}px`);
    this.node.style.setProperty('--cell', `${this.size}px`);
    this.body.style.height = `${this.runs.length * down}px`;
    const top = this.root.scrollTop - this.#offset - HEAD;
    const left = this.root.scrollLeft;
    const rows = range(Math.floor((top - MARGIN) / down), Math.ceil((top + this.root.clientHeight + MARGIN) / down), this.runs.length);
    const columns = range(Math.floor((left - MARGIN) / across), Math.ceil((left + this.root.clientWidth + MARGIN) / across), this.names.length);
    arrange(this.head, [this.#corner(), ...columns.map((column) => this.#headOf(column, side + column * across))]);
    const used = new Set();
    arrange(this.body, rows.map((row) => {
      const { node, title } = this.#rowOf(this.runs[row]);
      node.style.top = `${row * down}px`;
      setAttribute(node, 'aria-rowindex', String(row + 2));
      arrange(node, [title, ...columns.map((column) => {
        const cell = this.#cell(this.runs[row], this.names[column], used);
        cell.node.style.left = `${side + column * across}px`;
        setAttribute(cell.node, 'aria-colindex', String(column + 2));
        Object.assign(cell, { row, column });
        return cell.node;
      })]);
      return node;
    }));
    for (const key of this.#cells.keys()) if (!used.has(key)) this.#cells.delete(key);
    this.#setFocus();
    this.changed();
  }

  #corner() {
    this.corner ??= h('span', { class: 'corner', role: 'columnheader' }, 'Run');
    return this.corner;
  }

  #headOf(column, left) {
    const name = this.names[column];
    const layer = this.layers.get(name);
    if (!this.#heads.has(name)) this.#heads.set(name, h('span', { class: 'column-head', role: 'columnheader', title: name }, h('b', {}), h('span', {})));
    const node = this.#heads.get(name);
    node.style.left = `${left}px`;
    const isFirst = column === 0 || this.layers.get(this.names[column - 1]) !== layer;
    const fitted = `${this.size} ${isFirst} ${layer}`;
    if (node.fitted === fitted) return node;
    node.fitted = fitted;
    setText(node.firstChild, isFirst ? fitMiddle(layer, Math.max(84, this.size), FONTS.bold) : '');
    setText(node.lastChild, fitMiddle(shortName(name, layer), this.size, FONTS.small));
    return node;
  }

  #rowOf(run) {
    if (!this.#rows.has(run.name)) {
      const { letter, colour } = this.colours.get(run.name);
      const title = h('span', { class: 'row-head', role: 'rowheader', title: run.label }, h('span', { class: 'letter' }, letter), h('span', {}));
      const node = h('div', { class: 'matrix-row', role: 'row' });
      node.style.setProperty('--run', colour);
      this.#rows.set(run.name, { node, title });
    }
    const row = this.#rows.get(run.name);
    setText(row.title.lastChild, cutMiddle(this.labels.get(run.name), 56));
    return row;
  }

  #cell(run, name, used) {
    const key = `${run.name}\n${name}`;
    used.add(key);
    if (!this.#cells.has(key)) {
      const thumb = new Thumb();
      const number = h('span', { class: 'number', 'aria-hidden': 'true' });
      const said = h('span', { class: 'unseen described' });
      thumb.node.setAttribute('aria-hidden', 'true');
      const node = h('div', { class: 'card cell', role: 'gridcell', tabindex: -1, 'data-name': name, onclick: () => this.open(name, run.name) }, said, thumb.node, number);
      const cell = { run, name, thumb, number, said, node, stale: true };
      node.cell = cell;
      this.#cells.set(key, cell);
    }
    const cell = this.#cells.get(key);
    cell.run = run;
    if (cell.stale) this.#show(cell);
    cell.stale = false;
    return cell;
  }

  #show(cell) {
    const frame = cell.run.frameAt(cell.name, this.step);
    cell.thumb.show(frame, cell.node);
    setText(cell.number, frame ? formatNumber(frame[this.number]) : '–');
    cell.described = `${cell.name}, ${cell.run.label}: ${describeFrame(frame, this.step)}`;
    this.#draw(cell);
  }

  #draw(cell) {
    // As on the wall.
    cell.thumb.draw(this.pictures, 2 * this.size);
    const text = [cell.described, cell.thumb.trouble].filter(Boolean).join('. ');
    setText(cell.said, text);
    setAttribute(cell.node, 'title', text);
  }

  show(step) {
    this.step = step;
    for (const cell of this.#cells.values()) this.#show(cell);
  }

  draw() {
    for (const cell of this.#cells.values()) this.#draw(cell);
  }

  keysAt(step) {
    return [...this.#cells.values()].map(({ run, name }) => run.keyAt(name, step));
  }

  get order() {
    return this.names;
  }

  move(targets, rows) {
    const cell = document.activeElement?.cell;
    const [row, column] = cell ? [cell.row, cell.column] : this.#focus;
    this.#focus = [clamp(row + rows, this.runs.length), clamp(column + targets, this.names.length)];
    const { side, across, down } = this.#geometry;
    const { root } = this;
    const [y, x] = [this.#focus[0] * down + this.#offset + HEAD, this.#focus[1] * across];
    root.scrollTop = Math.min(y - HEAD, Math.max(root.scrollTop, y + down - root.clientHeight));
    root.scrollLeft = Math.min(x, Math.max(root.scrollLeft, x + side + across - root.clientWidth));
    this.#render();
    this.#focusedCell()?.node.focus({ preventScroll: true });
  }

  #focusedCell() {
    return [...this.#cells.values()].find(({ row, column }) => row === this.#focus[0] && column === this.#focus[1]);
  }

  #setFocus() {
    const current = this.#focusedCell() ?? [...this.#cells.values()][0];
    for (const cell of this.#cells.values()) setAttribute(cell.node, 'tabindex', cell === current ? '0' : '-1');
  }

  focus(name) {
    this.#focus = [this.#focus[0], Math.max(0, this.names.indexOf(name))];
    this.move(0, 0);
  }
}

function clamp(value, count) {
  return Math.max(0, Math.min(count - 1, value));
}

function range(first, last, count) {
  const from = Math.max(0, first);
  return Array.from({ length: Math.max(0, Math.min(count, last) - from) }, (_, i) => from + i);
}
