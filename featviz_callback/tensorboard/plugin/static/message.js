// The message: it says why no pictures are shown, or that the server does not answer.

import { h } from './dom.js';

export const NO_ANSWER = 'TensorBoard does not answer. Trying again…';

export class Message {
  text = null;

  constructor(showAll) {
    this.showAll = showAll;
    this.node = h('div', { class: 'message', role: 'status' }, 'Reading the log…');
  }

  // Above pictures the message is a line; without pictures it fills the page.
  say(text, { isAbove, isFiltered }) {
    this.text = text;
    this.node.hidden = !text;
    this.node.classList.toggle('above', isAbove);
    const button = h('button', { type: 'button', onclick: this.showAll }, 'Show all');
    this.node.replaceChildren(text, ...(text && isFiltered ? [button] : []));
  }
}

// Says why no target of the total is shown; an empty text where some are.
export function emptiness(runs, view, shown, total) {
  if (!runs.all.length) return 'No run has been logged here yet. Train with FeatureVisCallback, and the pictures appear.';
  if (runs.isLost(view.runs)) return `This address is of runs that are not here: ${view.runs.join(', ')}`;
  if (!runs.shown.length) return 'Choose a run above.';
  if (!total && runs.isReading) return 'Reading the log…';
  if (!total) return 'This run has no pictures yet.';
  return shown ? '' : 'No target matches.';
}

// Says which records of the shown runs are damaged, and where.
export function damageIn(runs) {
  const all = runs.flatMap(({ label, damaged }) => damaged.map((one) => ({ label, ...one })));
  if (!all.length) return '';
  const [{ label, file, offset, bytes }] = all;
  const more = all.length > 1 ? ` And ${all.length - 1} more.` : '';
  return `A record of ${label} is damaged, and lost: ${file}, ${bytes} bytes at ${offset}. What follows was read where it could be.${more}`;
}
