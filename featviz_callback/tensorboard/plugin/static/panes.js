// The panes: the wall of few runs, the matrix of many, and the network; one of them is shown.

import { Matrix } from './matrix.js';
import { Network } from './network.js';
import { Wall } from './wall.js';

// Below this size, in pixels, a card has no room for text, and shows its pictures alone.
const DENSE = 72;
// More runs than these have no room side by side, and become the rows of a matrix.
const MOST_COLUMNS = 4;

export class Panes {
  constructor(pictures, root, { open, pin, changed, change, goTo }) {
    this.root = root;
    this.wall = new Wall(pictures, { open, pin, changed, root });
    this.matrix = new Matrix(pictures, { open, changed, root });
    this.network = new Network({ change, goTo });
    this.current = this.wall;
    this.isNetwork = false;
    root.append(this.wall.node, this.matrix.node, this.network.node);
  }

  update(groups, runs, view, step) {
    const { shown, colours, steps } = runs;
    this.isNetwork = view.page === 'network';
    this.current = shown.length > MOST_COLUMNS ? this.matrix : this.wall;
    for (const pane of [this.wall, this.matrix]) {
      pane.node.hidden = this.isNetwork || pane !== this.current;
      pane.step = step;
    }
    this.network.node.hidden = !this.isNetwork;
    const look = { sort: view.sort, size: view.size, isDense: view.size < DENSE };
    this.root.parentNode?.classList.toggle('dense', look.isDense);
    if (this.isNetwork) this.network.show(shown, colours, view, step);
    else this.current.arrange(groups, shown, colours, steps, look);
  }

  show(step) {
    if (this.isNetwork) this.network.mark(step);
    else this.current.show(step);
  }

  keysAt(step) {
    return this.isNetwork ? [] : this.current.keysAt(step);
  }

  get order() {
    return this.current.order;
  }

  move(targets, rows) {
    if (!this.isNetwork) this.current.move(targets, rows);
  }

  focus(name) {
    if (!this.isNetwork) this.current.focus(name);
  }

  focusFirst() {
    (this.root.querySelector('[tabindex="0"]') ?? this.root).focus();
  }
}
