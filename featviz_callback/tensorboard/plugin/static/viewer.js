// The viewer: a dialog that shows one target large, in one part for each run.

import { arrange, breakable, h, setText } from './dom.js';
import { rangeOf } from './model.js';
import { Part } from './part.js';
import { Timeline } from './timeline.js';

export class Viewer {
  #parts = new Map();

  constructor(clock, pictures, { close, go }) {
    this.clock = clock;
    this.pictures = pictures;
    this.name = null;
    this.title = h('h2', { id: 'viewer-title', tabindex: -1, autofocus: true });
    this.layer = h('span', { class: 'layer-name' });
    this.body = h('div', { class: 'parts' });
    this.notice = h('p', { class: 'notice', hidden: true });
    this.timeline = new Timeline(clock);
    this.timeline.node.append(h('span', { class: 'keys', 'aria-hidden': 'true' }, '← → epoch · space play · j k target'));
    const button = (label, text, onclick) => (
      h('button', { type: 'button', 'aria-label': label, title: label, onclick }, text));
    this.node = h('dialog', { class: 'viewer', 'aria-labelledby': 'viewer-title', onclose: close },
      h('div', { class: 'bar' }, this.title, this.layer,
        button('Previous target (k)', '‹', () => go(-1)), button('Next target (j)', '›', () => go(1)),
        button('Close (escape)', '×', () => this.node.close())),
      this.notice, this.body, this.timeline.node);
    this.node.addEventListener('pointerdown', (event) => {
      if (event.target === this.node) this.node.close();
    });
    pictures.addEventListener('arrival', () => this.draw());
  }

  // The dialog covers the message of the page, so it repeats what is amiss with the server.
  say(text) {
    this.notice.hidden = !text;
    setText(this.notice, text);
  }

  open(name) {
    this.name = name;
    if (!this.node.open) this.node.showModal();
  }

  close() {
    if (this.node.open) this.node.close();
  }

  setRuns(runs, colours, steps) {
    if (!this.name) return;
    const ranges = { score: rangeOf(runs, this.name, 'score'), drift: rangeOf(runs, this.name, 'drift') };
    if (this.title.textContent !== this.name) this.title.replaceChildren(...breakable(this.name));
    const layer = runs.map((run) => run.targets.get(this.name)?.layer).find(Boolean);
    setText(this.layer, layer ?? '');
    this.body.classList.toggle('several', runs.length > 1);
    const parts = runs.map((run) => {
      const { letter, colour } = colours.get(run.name);
      const id = `${run.name}\n${runs.length > 1}`;
      if (!this.#parts.has(id)) this.#parts.set(id, new Part(run, runs.length > 1 ? letter : '', colour, this.clock));
      const part = this.#parts.get(id);
      part.setRun(run, this.name, steps, ranges);
      return part;
    });
    this.shown = parts.filter((part) => part.target);
    arrange(this.body, this.shown.map(({ node }) => node));
    this.show(this.clock.step);
  }

  show(step) {
    if (!this.name) return;
    for (const part of this.shown ?? []) part.show(step, this.pictures);
  }

  draw() {
    for (const part of this.shown ?? []) part.draw(this.pictures);
  }

  framesAt(step) {
    if (!this.name) return [];
    return (this.shown ?? []).map((part) => part.run.frameAt(this.name, step)).filter(Boolean);
  }
}
