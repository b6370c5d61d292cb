// The page of a unit: a dialog that shows one target large, in one part for each run, or for one
// of many runs.

import { arrange, breakable, h, setAttribute, setText } from './dom.js';
import { Part } from './part.js';
import { Swipe } from './swipe.js';
import { Timeline } from './timeline.js';

const MOST_PARTS = 4;

export class Viewer {
  #parts = new Map();

  constructor(clock, pictures, { close, go, open, change, pin }) {
    Object.assign(this, { clock, pictures, openTarget: open });
    this.name = null;
    this.title = h('h2', { id: 'viewer-title', tabindex: -1, autofocus: true });
    this.layer = h('span', { class: 'layer-name' });
    this.run = h('select', { 'aria-label': 'Run', onchange: () => change({ part: this.run.value }) });
    this.importance = h('input', { type: 'checkbox', onchange: () => change({ importance: this.importance.checked }) });
    this.switch = h('label', { class: 'switch', title: 'Dims what the score does not come from' }, this.importance, 'importance');
    this.pinned = h('input', { type: 'checkbox', onchange: () => pin(this.name) });
    const pinning = h('label', { class: 'switch', title: 'Keeps it at the top of the page (p)' }, this.pinned, 'pinned');
    this.swipe = new Swipe(pictures, (swipe) => change({ swipe }));
    this.body = h('div', { class: 'parts' });
    this.notice = h('p', { class: 'notice', hidden: true });
    this.timeline = new Timeline(clock);
    this.timeline.node.append(h('span', { class: 'keys', 'aria-hidden': 'true' }, '← → epoch · space play · j k target · p pin'));
    const button = (label, text, onclick) => (
      h('button', { type: 'button', 'aria-label': label, title: label, onclick }, text));
    this.node = h('dialog', { class: 'viewer', 'aria-labelledby': 'viewer-title', onclose: close },
      h('div', { class: 'bar' }, this.title, this.layer, this.run, this.switch, pinning,
        button('Previous target (k)', '‹', () => go(-1)), button('Next target (j)', '›', () => go(1)),
        button('Close (escape)', '×', () => this.node.close())),
      this.notice, h('div', { class: 'viewer-body', tabindex: -1 }, this.swipe.node, this.body), this.timeline.node);
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

  setRuns(all, colours, steps, { part: chosen, importance, pinned, swipe }) {
    if (!this.name) return;
    const having = all.filter((run) => run.targets.has(this.name));
    const one = having.find(({ name }) => name === chosen) ?? having[0];
    const runs = having.length > MOST_PARTS ? [one] : having;
    this.run.hidden = having.length <= MOST_PARTS;
    if (!this.run.hidden) {
      this.run.replaceChildren(...having.map(({ name, label }) => h('option', { value: name, selected: name === one.name }, `${colours.get(name).letter} ${label}`)));
    }
    this.importance.checked = importance;
    this.pinned.checked = pinned.includes(this.name);
    this.switch.hidden = !having.some((run) => run.targets.get(this.name).importance);
    if (this.title.textContent !== this.name) this.title.replaceChildren(...breakable(this.name));
    const layer = having.map((run) => run.targets.get(this.name).layer).find(Boolean);
    setText(this.layer, layer ?? '');
    this.body.classList.toggle('several', runs.length > 1);
    this.shown = runs.map((run) => {
      const { letter, colour } = colours.get(run.name);
      const id = `${run.name}\n${all.length > 1}`;
      if (!this.#parts.has(id)) this.#parts.set(id, new Part(run, all.length > 1 ? letter : '', colour, this.clock, this.openTarget));
      const part = this.#parts.get(id);
      part.setRun(run, this.name, steps);
      return part;
    });
    this.swipe.setRuns(having, this.name, steps, swipe);
    arrange(this.body, this.shown.map(({ node }) => node));
    setAttribute(this.body, 'data-parts', String(runs.length));
    this.withImportance = importance;
    this.show(this.clock.step);
  }

  show(step) {
    if (!this.name) return;
    for (const part of this.shown ?? []) part.show(step, this.pictures, this.withImportance);
  }

  draw() {
    if (!this.name) return;
    for (const part of this.shown ?? []) part.draw(this.pictures);
    this.swipe.draw();
  }

  // Returns the keys of the pictures that the dialog would show at a step.
  keysAt(step) {
    if (!this.name) return [];
    const frames = (this.shown ?? []).map((part) => part.run.frameAt(this.name, step)).filter(Boolean);
    return [...frames.flatMap(({ key, importance }) => [key, this.withImportance ? importance : null]),
      ...this.swipe.frames().map(({ key }) => key)];
  }
}
