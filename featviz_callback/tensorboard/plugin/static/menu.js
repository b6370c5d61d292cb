// The menu: a button that opens a list of boxes to tick. The arrow keys move within the list.

import { arrange, h, setText } from './dom.js';
import { cutMiddle } from './words.js';

export class Menu {
  #boxes = new Map();

  constructor(title, changed, ...more) {
    this.changed = changed;
    this.summary = h('summary', {});
    this.list = h('div', { class: 'choice-list', role: 'group', 'aria-label': title });
    this.panel = h('div', { class: 'choices' }, this.list, ...more);
    this.node = h('details', { class: 'menu' }, this.summary, this.panel);
    closeAtEscape(this.node, this.summary);
    document.addEventListener('pointerdown', (event) => {
      if (!this.node.contains(event.target)) this.node.open = false;
    });
    rove(this.list, 'input');
  }

  // Choices are `{ value, label, note }`.
  update(choices, ticked, text, isNeeded) {
    setText(this.summary, text);
    this.node.hidden = !isNeeded;
    arrange(this.list, choices.map((choice) => this.#box(choice, ticked)));
  }

  #box({ value, label, note }, ticked) {
    if (!this.#boxes.has(value)) {
      const input = h('input', { type: 'checkbox', onchange: () => this.#collect() });
      const small = h('span', { class: 'note' });
      const only = h('button', {
        type: 'button', class: 'only', 'aria-label': `Only ${label}`, onclick: () => this.changed([value]),
      }, 'only');
      const node = h('div', { class: 'choice' }, h('label', { title: label }, input, h('span', {}, cutMiddle(label, 60)), small), only);
      this.#boxes.set(value, { node, input, small });
    }
    const { node, input, small } = this.#boxes.get(value);
    input.checked = ticked.includes(value);
    setText(small, note ?? '');
    return node;
  }

  #collect() {
    const all = [...this.#boxes].filter(([, { node }]) => node.parentNode);
    this.changed(all.filter(([, { input }]) => input.checked).map(([value]) => value));
  }
}

export function closeAtEscape(details, summary) {
  details.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !details.open) return;
    details.open = false;
    summary.focus();
    event.stopPropagation();
    event.preventDefault();
  });
}

const MOVES = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };

// One element of a list is a stop of the tab key; the arrow keys lead to the others.
export function rove(list, selector) {
  const all = () => [...list.querySelectorAll(selector)].filter((node) => node.checkVisibility());
  const stop = (current) => {
    for (const node of list.querySelectorAll(selector)) node.tabIndex = node === current ? 0 : -1;
  };
  list.addEventListener('focusin', ({ target }) => target.matches(selector) && stop(target));
  list.addEventListener('keydown', (event) => {
    const nodes = all();
    const at = nodes.indexOf(event.target);
    const isInText = event.target.type === 'search' && ['ArrowLeft', 'ArrowRight'].includes(event.key);
    if (at < 0 || isInText || !(event.key in MOVES) || event.ctrlKey || event.metaKey || event.altKey) return;
    nodes[(at + MOVES[event.key] + nodes.length) % nodes.length].focus();
    event.preventDefault();
    event.stopPropagation();
  });
  let isDue = false;
  const choose = () => {
    isDue = false;
    // A closed list has no size, and gets its stop once it opens.
    if (list.closest('details:not([open])')) return;
    const nodes = all();
    if (!nodes.some((node) => node.tabIndex === 0)) stop(nodes[0]);
    else stop(nodes.find((node) => node === document.activeElement) ?? nodes.find((node) => node.tabIndex === 0));
  };
  // Once a frame, since whether a node can be seen takes the browser a layout of the page.
  new MutationObserver(() => {
    if (!isDue) requestAnimationFrame(choose);
    isDue = true;
  }).observe(list, { childList: true, subtree: true, attributeFilter: ['hidden'] });
  // A list that was closed has a size once it opens.
  new ResizeObserver(choose).observe(list);
}
