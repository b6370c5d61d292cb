// The mini: one run's picture of a target on a dense wall. It is drawn on the backdrop.

import { h, setAttribute, setText } from './dom.js';
import { isSignal } from './signal.js';
import { reasonOf, STATUS_LABELS } from './words.js';

export class Mini {
  trouble = '';

  constructor() {
    this.node = h('span', { class: 'picture' });
  }

  show(frame, holder) {
    Object.assign(this, { frame, holder });
    const status = frame ? frame.status ?? 'unknown' : 'unseen';
    setAttribute(holder, 'data-status', status);
    const label = frame?.status && status !== 'ok' ? STATUS_LABELS[status] : '';
    if (!label && !this.badge) return;
    if (!this.badge) {
      this.badge = h('span', { class: 'badge' });
      this.node.append(this.badge);
    }
    setText(this.badge, label);
    setAttribute(this.badge, 'title', reasonOf(frame ?? {}));
    setAttribute(this.badge, 'data-reason', reasonOf(frame ?? {}));
  }

  // Takes a row of the backdrop, and how far from its left end the picture is.
  put(row, left) {
    if (this.row === row && this.left === left) return;
    Object.assign(this, { row, left, drawn: undefined });
    row?.clear(left);
  }

  // The old picture stays until the new one comes, so that nothing flickers.
  draw(pictures) {
    const { frame, holder, row } = this;
    const key = frame?.key ?? null;
    const bitmap = key === null ? null : pictures.get(key);
    const look = `${holder.dataset.status} ${key}`;
    const isThere = this.drawn === look;
    holder.classList.toggle('waiting', bitmap === undefined && !isThere);
    if (bitmap === undefined || isThere || !row) return;
    this.drawn = look;
    holder.classList.toggle('missing', bitmap === null);
    const reason = bitmap === null && key !== null ? pictures.reasonOf(key) : '';
    this.trouble = reason ? `Not shown. ${reason}` : '';
    row.draw(this.left, bitmap, holder.dataset.status, bitmap !== null && isSignal(bitmap));
  }
}
