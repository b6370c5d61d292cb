// The app: it wires the runs, the view, the clock and the keys to the parts of the page.

import { debounce, h, setText } from './dom.js';
import { NameFilter } from './filter.js';
import { goBack, isOwnEntry, onAddressChange, onReload } from './host.js';
import { followKeys } from './keys.js';
import { Figure } from './figure.js';
import { damageIn, emptiness, Message, NO_ANSWER } from './message.js';
import { arrangeWall, countStatuses, groupByLayer, targetNames } from './model.js';
import { meanDrift } from './numbers.js';
import { Panes } from './panes.js';
import { Pictures } from './pictures.js';
import { Runs } from './runs.js';
import { Clock, Timeline } from './timeline.js';
import { Toolbar } from './toolbar.js';
import { isFiltered, readView, withoutFilters, writeView } from './view.js';
import { Viewer } from './viewer.js';
import { watch } from './watch.js';

// While the clock plays, the page fetches the pictures of so many steps in advance.
const AHEAD = 3;
// Milliseconds that the browser needs to go back in its history.
const TO_GO_BACK = 400;

export class App {
  closing = 0;

  frameTime = 0;

  constructor() {
    this.view = readView();
    this.runs = new Runs();
    this.filter = new NameFilter(() => this.update());
    this.clock = new Clock();
    this.pictures = new Pictures();
    const open = (name, part) => this.open(name, part);
    this.main = h('main', { tabindex: -1, id: 'pictures' });
    this.figure = new Figure();
    this.toolbar = new Toolbar((change) => this.change(change), () => this.figure.open(this.runs.shown, this.panes.order, this.runs.steps, this.clock.step));
    this.timeline = new Timeline(this.clock);
    this.viewer = new Viewer(this.clock, this.pictures, {
      close: () => this.#closed(), go: (by) => this.openNeighbour(by), open: (name) => this.change({ open: name }),
      change: (change) => this.change(change), pin: (name) => this.pin(name),
    });
    this.message = new Message(() => this.change(withoutFilters));
    this.damage = h('p', { class: 'notice damage', role: 'status', hidden: true });
    const skip = h('a', { class: 'skip', href: '#', onclick: (event) => { event.preventDefault(); this.panes.focusFirst(); } }, 'Skip to the pictures');
    this.main.append(h('h1', { class: 'unseen' }, 'Features'), this.message.node, this.damage);
    this.panes = new Panes(this.pictures, this.main, {
      open, pin: (name) => this.pin(name), changed: () => this.want(), change: (change) => this.change(change), goTo: (layer, step) => this.#goTo(layer, step),
    });
    this.root = h('div', { class: 'app' }, skip, this.toolbar.node, this.main, this.timeline.node, this.viewer.node, this.figure.node);
    this.saveView = debounce(250, () => writeView(this.#sharedView()));
    this.#listen();
  }

  // From a cell of the network to the units of its layer; the network knows which have some.
  #goTo(layer, step) {
    this.clock.go(this.clock.steps.findLastIndex((one) => one <= step));
    this.change({ page: 'pictures', layers: [layer] });
  }

  #listen() {
    this.clock.addEventListener('move', () => this.schedule());
    this.clock.addEventListener('rest', () => this.#rest());
    this.clock.addEventListener('play', () => requestAnimationFrame((now) => {
      this.frameTime = now;
      this.#play(now);
    }));
    followKeys(this.clock, {
      isOpen: () => this.viewer.node.open, openNeighbour: (by) => this.openNeighbour(by),
      moveFocus: (targets, rows) => this.panes.move(targets, rows),
      pin: (name) => this.pin(this.viewer.name ?? name),
    });
    // The server may be restarting, so the page asks again after a while.
    this.pictures.addEventListener('failure', debounce(2000, () => this.want()));
    onReload(() => this.refresh());
    onAddressChange(() => {
      // Closing the page of a unit goes back by itself, and keeps what was chosen there.
      if (performance.now() < this.closing) return this.saveView();
      const { open, pinned } = this.view;
      this.view = readView();
      // The entry before the page of a unit does not know what was pinned there.
      if (open !== null && this.view.open === null) this.view.pinned = pinned;
      this.clock.setSteps(this.runs.steps, this.view.epoch);
      this.update();
      this.refresh();
    });
  }

  watch() {
    return watch(this.runs, () => this.refresh());
  }

  async refresh() {
    try {
      const news = await this.runs.refresh(this.view.runs);
      if (!news) return;
      const { failed } = this;
      this.failed = false;
      if (news.areShownNew || failed || !this.loaded) this.#showRuns();
      else if (news.isListNew) this.update();
    } catch (error) {
      this.failed = true;
      console.warn(error);
      this.#say(NO_ANSWER);
    }
  }

  #showRuns() {
    this.loaded = true;
    const { clock, runs: { shown, steps } } = this;
    const kept = clock.following && !clock.playing ? null : clock.step;
    clock.setSteps(steps, clock.steps.length ? kept : this.view.epoch);
    const change = meanDrift(shown, steps);
    this.timeline.drawChange(change);
    this.viewer.timeline.drawChange(change);
    this.update();
  }

  change(change) {
    Object.assign(this.view, change);
    if ('runs' in change) this.refresh();
    this.update();
  }

  // A pinned target stays at the top, whatever the filters and the order.
  pin(name) {
    const { pinned } = this.view;
    this.change({ pinned: pinned.includes(name) ? pinned.filter((other) => other !== name) : [...pinned, name] });
  }

  // The page of a unit is an entry of the history, so that Back closes it.
  open(name, part = null) {
    writeView(this.#sharedView());
    this.view = { ...this.view, open: name, part: part ?? this.view.part };
    writeView(this.#sharedView(), true);
    this.update();
  }

  #closed() {
    const { name } = this.viewer;
    this.viewer.name = null;
    if (this.view.open !== null) {
      this.view.open = null;
      if (isOwnEntry()) {
        this.closing = performance.now() + TO_GO_BACK;
        goBack();
      }
    }
    this.update();
    if (name) this.panes.focus(name);
  }

  openNeighbour(by) {
    const names = this.panes.order;
    const at = names.indexOf(this.viewer.name);
    // Where the filters hide the open target, j leads to the first target and k to the last.
    const next = at < 0 && by < 0 ? -1 : at + by;
    if (names.length) this.change({ open: names[(next + names.length) % names.length] });
  }

  // Brings the whole page into the state that `view` describes.
  update() {
    const { view, runs, clock, filter } = this;
    filter.update(view.query, targetNames(runs.shown));
    const groups = arrangeWall(runs.shown, view, clock.step, filter.matches);
    const layers = groupByLayer(runs.shown);
    const [shown, found, total] = [groups, groups.filter(({ isPinned }) => !isPinned), layers].map((all) => all.reduce((sum, { names }) => sum + names.length, 0));
    const counted = view.statuses.length ? arrangeWall(runs.shown, { ...view, statuses: [] }, clock.step, filter.matches) : groups;
    const isNetwork = view.page === 'network';
    this.root.style.setProperty('--size', `${view.size}px`);
    this.root.style.setProperty('--runs', String(Math.max(1, runs.shown.length)));
    this.root.classList.toggle('bare', !runs.all.length);
    this.toolbar.update({
      view, allRuns: runs.all, chosen: runs.choose(view.runs), runs: runs.shown, colours: runs.colours, layers, shown, total,
      complaint: filter.complaint, counts: countStatuses(runs.shown, counted.flatMap(({ names }) => names), clock.step),
    });
    // What stands above the pictures moves them, so it comes first.
    if (this.loaded) this.#say(this.failed ? NO_ANSWER : emptiness(runs, view, isNetwork ? total : isFiltered(view) ? found : shown, total), shown > 0 || isNetwork);
    const damage = damageIn(runs.shown);
    this.damage.hidden = !damage;
    setText(this.damage, damage);
    this.panes.update(groups, runs, view, clock.step);
    this.#updateViewer(layers);
    this.schedule();
    this.saveView();
  }

  // A shared address shows the same runs later, though the default runs may then be others.
  #sharedView() {
    const { view, runs } = this;
    const chosen = runs.choose(view.runs);
    return { ...view, swipe: view.open === null ? null : view.swipe, runs: view.runs ?? (chosen.length < runs.all.length ? chosen : null) };
  }

  #updateViewer(layers) {
    const { runs, viewer, view: { open } } = this;
    if (layers.some(({ names }) => names.includes(open))) {
      viewer.open(open);
      viewer.setRuns(runs.shown, runs.colours, runs.steps, this.view);
    } else if (viewer.name) {
      viewer.close();
    }
  }

  #say(text, isAbove = this.panes.order.length > 0) {
    if (this.message.text === text) return;
    this.message.say(text, { isAbove, isFiltered: this.loaded && isFiltered(this.view) });
    this.viewer.say(this.failed ? text : '');
  }

  // However often the clock moves between two frames of the browser, the page draws once.
  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      const { step } = this.clock;
      this.panes.show(step);
      this.viewer.show(step);
      this.want();
    });
  }

  // The pictures on the screen come first, then their neighbours in time.
  want() {
    const wanted = this.clock.near(this.clock.playing ? AHEAD : 1);
    this.pictures.want(wanted.map((step) => this.#keysAt(step)));
  }

  #keysAt(step) {
    return [...this.viewer.keysAt(step), ...this.panes.keysAt(step)].filter(Boolean);
  }

  #rest() {
    this.view.epoch = this.clock.following ? null : this.clock.step;
    this.update();
  }

  #play(now) {
    if (!this.clock.playing) {
      this.schedule();
      return;
    }
    const ready = this.#keysAt(this.clock.step).every((key) => this.pictures.has(key));
    if (this.clock.tick(now - this.frameTime, ready)) this.frameTime = now;
    if (this.clock.playing) requestAnimationFrame((later) => this.#play(later));
  }
}
