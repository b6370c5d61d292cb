// The thumb: one run's picture of a target, with its badge, on a canvas.

import { h, setAttribute, setText } from './dom.js';
import { paint } from './pictures.js';
import { reasonOf, STATUS_LABELS } from './words.js';
import { isSignal } from './signal.js';

export class Thumb {
  constructor() {
    this.canvas = h('canvas', { width: 1, height: 1 });
    this.badge = h('span', { class: 'badge' });
    this.reason = h('span', { class: 'reason' });
    this.node = h('span', { class: 'picture' }, this.canvas, this.badge, this.reason);
  }

  // `holder` is the element whose state the picture's look follows.
  show(frame, holder) {
    this.frame = frame;
    this.holder = holder;
    setAttribute(holder, 'data-status', frame ? frame.status ?? 'unknown' : 'unseen');
    setText(this.badge, frame?.status && frame.status !== 'ok' ? STATUS_LABELS[frame.status] : '');
    setAttribute(this.badge, 'title', frame ? reasonOf(frame) : '');
    setAttribute(this.badge, 'data-reason', frame ? reasonOf(frame) : '');
  }

  // Returns why the picture is not shown, or nothing where it is.
  get trouble() {
    return this.reason.textContent;
  }

  // The old picture stays until the new one comes, so that nothing flickers. `most` is how wide
  // its canvas need be.
  draw(pictures, most) {
    const { frame, canvas, holder } = this;
    const key = frame?.key ?? null;
    const bitmap = key === null ? null : pictures.get(key);
    const isThere = this.drawn === key && this.most === most;
    holder.classList.toggle('waiting', bitmap === undefined && !isThere);
    if (bitmap === undefined || isThere) return;
    Object.assign(this, { drawn: key, most });
    holder.classList.toggle('missing', bitmap === null);
    const reason = bitmap === null && key !== null ? pictures.reasonOf(key) : '';
    setText(this.reason, reason ? `Not shown. ${reason}` : '');
    setAttribute(this.reason, 'title', reason);
    if (bitmap === null) canvas.width = 1;
    else paint(canvas, bitmap, most);
    canvas.classList.toggle('signal', bitmap !== null && isSignal(bitmap));
  }
}
