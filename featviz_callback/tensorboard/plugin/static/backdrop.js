// The backdrop: behind the cards of a layer, one canvas for each row of small pictures. A browser
// has no time for hundreds of canvases in each frame; a row is drawn once, and then only moves.

import { h } from './dom.js';
import { paint } from './pictures.js';

// How visible the picture of a status is; wall.css sets the same for single pictures.
const OPACITY = { dead: .35, no_gradient: .35, unseen: 0 };
const DARK_SIGNAL = 'invert(1) hue-rotate(180deg)';

// Small bitmaps are enlarged here before they are drawn, so that their pixels stay squares.
const lens = document.createElement('canvas');

export class Backdrop {
  #rows = new Map();

  constructor() {
    this.node = h('div', { class: 'backdrop', 'aria-hidden': 'true' });
  }

  // Keeps the rows from `first` to before `last`. Rows of another look are drawn anew.
  arrange(first, last, look) {
    const text = JSON.stringify([look, window.devicePixelRatio]);
    const isSame = this.text === text;
    this.text = text;
    for (const [index, row] of this.#rows) {
      if (isSame && index >= first && index < last) continue;
      row.node.remove();
      this.#rows.delete(index);
    }
    for (let index = first; index < last; index += 1) {
      if (this.#rows.has(index)) continue;
      const row = new Row(index, look);
      this.#rows.set(index, row);
      this.node.append(row.node);
    }
  }

  // Returns the row of that index, or undefined where it is far from the screen.
  row(index) {
    return this.#rows.get(index);
  }
}

class Row {
  constructor(index, { width, side, rowHeight, sunken, isDark }) {
    const fine = window.devicePixelRatio || 1;
    this.node = h('canvas', { width: Math.round(width * fine), height: Math.ceil(side * fine) });
    Object.assign(this.node.style, { top: `${index * rowHeight}px`, width: `${width}px`, height: `${Math.ceil(side * fine) / fine}px` });
    Object.assign(this, { side, isDark });
    this.context = this.node.getContext('2d');
    this.context.scale(fine, fine);
    this.context.fillStyle = sunken;
  }

  clear(left) {
    this.context.clearRect(left, 0, this.side, this.side);
  }

  // Draws a bitmap, or the place of one that there is not.
  draw(left, bitmap, status, isSignal) {
    const { context, side } = this;
    context.globalAlpha = 1;
    this.clear(left);
    context.fillRect(left, 0, side, side);
    if (!bitmap?.width) return;
    let picture = bitmap;
    if (Math.max(bitmap.width, bitmap.height) < side) {
      paint(lens, bitmap, 2 * side);
      picture = lens;
    }
    const share = Math.min(side / picture.width, side / picture.height);
    const [width, height] = [picture.width * share, picture.height * share];
    context.globalAlpha = OPACITY[status] ?? 1;
    if (isSignal && this.isDark) context.filter = DARK_SIGNAL;
    context.drawImage(picture, left + (side - width) / 2, (side - height) / 2, width, height);
    context.filter = 'none';
  }
}
