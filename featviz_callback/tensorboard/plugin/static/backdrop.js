// The backdrop: one canvas behind the cards of a layer, with the pictures of all of them. A
// browser has no time to draw hundreds of canvases in each frame.

import { h } from './dom.js';

// How visible the picture of a status is; wall.css sets the same for single pictures.
const OPACITY = { dead: .35, no_gradient: .35, unseen: 0 };
const DARK_SIGNAL = 'invert(1) hue-rotate(180deg)';

export class Backdrop {
  constructor() {
    this.node = h('canvas', { class: 'backdrop', 'aria-hidden': 'true', width: 1, height: 1 });
  }

  hide() {
    this.node.hidden = true;
  }

  // Draws `pieces`, each a thumb and its place in the list, on the part of the list from `top` on.
  draw(pieces, side, { top, width, height }) {
    const { node } = this;
    const fine = window.devicePixelRatio || 1;
    node.hidden = false;
    Object.assign(node.style, { top: `${top}px`, width: `${width}px`, height: `${height}px` });
    // A new width, even the same, clears a canvas.
    [node.width, node.height] = [Math.round(width * fine), Math.round(height * fine)];
    const context = node.getContext('2d');
    context.scale(fine, fine);
    context.fillStyle = getComputedStyle(node).getPropertyValue('--sunken');
    const isDark = document.documentElement.dataset.theme === 'dark';
    for (const { thumb, left, above } of pieces) drawPicture(context, thumb, side, left, above - top, isDark);
  }
}

function drawPicture(context, { canvas, holder }, side, left, top, isDark) {
  context.globalAlpha = 1;
  context.fillRect(left, top, side, side);
  if (canvas.width < 2) return;
  const share = Math.min(side / canvas.width, side / canvas.height);
  const [width, height] = [canvas.width * share, canvas.height * share];
  context.globalAlpha = OPACITY[holder.dataset.status] ?? 1;
  const isSignal = isDark && canvas.classList.contains('signal');
  if (isSignal) context.filter = DARK_SIGNAL;
  context.drawImage(canvas, left + (side - width) / 2, top + (side - height) / 2, width, height);
  if (isSignal) context.filter = 'none';
}
