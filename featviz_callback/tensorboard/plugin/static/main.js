// The tab "Features" of TensorBoard: the app wires the runs, the view, the clock and the keys to
// the parts of the page. The first line of each module says what that module is about.

import { debounce, h } from './dom.js';
import { NameFilter } from './filter.js';
import { followTheme, isShown, onAddressChange, onReload } from './host.js';
import { followKeys } from './keys.js';
import { emptiness, Message, NO_ANSWER } from './message.js';
import { arrangeWall, countStatuses, groupByLayer, meanDrift, targetNames } from './model.js';
import { Pictures } from './pictures.js';
import { Runs } from './runs.js';
import { Clock, Timeline } from './timeline.js';
import { Toolbar } from './toolbar.js';
import { isFiltered, readView, withoutFilters, writeView } from './view.js';
import { Viewer } from './viewer.js';
import { Wall } from './wall.js';

const SECONDS_BETWEEN_REFRESHES = 3;
// Below this size, in pixels, a card has no room for text, and shows its pictures alone.
const DENSE = 72;
// While the clock plays, the page fetches the pictures of so many steps in advance.
const AHEAD = 3;

class App {
  frameTime = 0;

  constructor() {
    this.view = readView();
    this.runs = new Runs();
    this.filter = new NameFilter(() => this.update());
    this.clock = new Clock();
    this.pictures = new Pictures();
    const open = (name) => this.change({ open: name });
    this.main = h('main', { tabindex: -1 });
    this.wall = new Wall(this.pictures, { open, changed: () => this.want(), root: this.main });
    this.toolbar = new Toolbar((change) => this.change(change));
    this.timeline = new Timeline(this.clock);
    this.viewer = new Viewer(this.clock, this.pictures, {
      close: () => this.change({ open: null }), go: (by) => this.openNeighbour(by),
    });
    this.message = new Message(() => this.change(withoutFilters));
    this.latest = h('button', { type: 'button', class: 'latest idle', onclick: () => this.clock.go(this.clock.last) }, 'Latest');
    this.timeline.node.append(this.latest);
    this.main.append(h('h1', { class: 'unseen' }, 'Features'), this.message.node, this.wall.node);
    this.root = h('div', { class: 'app' }, this.toolbar.node, this.main, this.timeline.node, this.viewer.node);
    this.saveView = debounce(250, () => writeView(this.#sharedView()));
    this.#listen();
  }

  #listen() {
    this.clock.addEventListener('move', () => this.schedule());
    this.clock.addEventListener('rest', () => this.#rest());
    this.clock.addEventListener('play', () => requestAnimationFrame((now) => {
      this.frameTime = now;
      this.#play(now);
    }));
    followKeys(this.clock, this.viewer, (by) => this.openNeighbour(by));
    // The server may be restarting, so the page asks again after a while.
    this.pictures.addEventListener('failure', debounce(2000, () => this.want()));
    onReload(() => this.refresh());
    onAddressChange(() => {
      this.view = readView();
      this.clock.setSteps(this.runs.steps, this.view.epoch);
      this.update();
      this.refresh();
    });
  }

  async watch() {
    for (;;) {
      if (isShown()) await this.refresh();
      await new Promise((resolve) => { setTimeout(resolve, SECONDS_BETWEEN_REFRESHES * 1000); });
    }
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
    if ('open' in change && change.open === null) this.#close();
    this.update();
  }

  #close() {
    const { name } = this.viewer;
    this.viewer.name = null;
    if (name) this.wall.focus(name);
  }

  openNeighbour(by) {
    const names = this.wall.order;
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
    const [shown, total] = [groups, layers].map((all) => all.reduce((sum, { names }) => sum + names.length, 0));
    this.root.style.setProperty('--size', `${view.size}px`);
    this.root.style.setProperty('--runs', String(Math.max(1, runs.shown.length)));
    this.root.classList.toggle('dense', view.size < DENSE);
    this.root.classList.toggle('bare', !runs.all.length);
    this.toolbar.update({
      view, allRuns: runs.all, chosen: runs.choose(view.runs), runs: runs.shown, colours: runs.colours,
      layers, shown, total, complaint: filter.complaint, counts: countStatuses(runs.shown, clock.step),
    });
    this.wall.step = clock.step;
    this.wall.arrange(groups, runs.shown, runs.colours, runs.steps, view.sort);
    if (this.loaded) this.#say(this.failed ? NO_ANSWER : emptiness(runs, view, shown, total));
    this.#updateViewer(layers);
    this.schedule();
    this.saveView();
  }

  // A shared address shows the same runs later, though the default runs may then be others.
  #sharedView() {
    const { view, runs } = this;
    const chosen = runs.choose(view.runs);
    return { ...view, runs: view.runs ?? (chosen.length < runs.all.length ? chosen : null) };
  }

  #updateViewer(layers) {
    const { runs, viewer, view: { open } } = this;
    if (layers.some(({ names }) => names.includes(open))) {
      viewer.open(open);
      viewer.setRuns(runs.shown, runs.colours, runs.steps);
    } else if (viewer.name) {
      viewer.close();
    }
  }

  #say(text) {
    if (this.message.text === text) return;
    this.message.say(text, { isAbove: this.wall.order.length > 0, isFiltered: this.loaded && isFiltered(this.view) });
    this.viewer.say(this.failed ? text : '');
  }

  // However often the clock moves between two frames of the browser, the page draws once.
  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      const { step, index, last } = this.clock;
      this.wall.show(step);
      this.viewer.show(step);
      this.want();
      this.#showLatest(last - index);
    });
  }

  #showLatest(behind) {
    // The idle button keeps its place, so that the slider keeps its length under the pointer.
    this.latest.classList.toggle('idle', !behind || this.clock.playing);
    this.latest.title = `${behind} later`;
  }

  // The pictures on the screen come first, then their neighbours in time.
  want() {
    const { clock, runs: { steps } } = this;
    const ahead = clock.playing ? AHEAD : 1;
    const indices = [clock.index, ...range(1, ahead).map((by) => clock.index + by)];
    if (!clock.playing) indices.push(clock.index - 1);
    const wanted = indices.filter((index) => index in steps);
    const frames = (index) => [...this.viewer.framesAt(steps[index]), ...this.wall.framesAt(steps[index])];
    this.pictures.want(wanted.flatMap(frames));
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
    const frames = this.viewer.name ? this.viewer.framesAt(this.clock.step) : this.wall.framesAt(this.clock.step);
    const ready = frames.every(({ key }) => this.pictures.has(key));
    if (this.clock.tick(now - this.frameTime, ready)) this.frameTime = now;
    if (this.clock.playing) requestAnimationFrame((later) => this.#play(later));
  }
}

function range(first, last) {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

// TensorBoard calls this function in the document of the tab's iframe.
export async function render() {
  const style = h('link', { rel: 'stylesheet', href: './static/style.css' });
  const styled = new Promise((resolve) => { style.onload = resolve; style.onerror = resolve; });
  document.documentElement.lang = 'en';
  document.title = 'Features';
  document.head.append(h('meta', { name: 'viewport', content: 'width=device-width, initial-scale=1' }), style);
  followTheme(document.documentElement);
  const app = new App();
  const refreshed = app.refresh();
  await styled;
  document.body.replaceChildren(app.root);
  await refreshed;
  app.watch();
}
