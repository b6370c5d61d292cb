// The tab "Features" of TensorBoard. What each module does is said in its first line;
// this one holds them together: what was fetched, how it is looked at, and the clock.

import { fetchFrames, fetchRuns } from './api.js';
import { debounce, h } from './dom.js';
import { followTheme, isShown, onAddressChange, onReload } from './host.js';
import { arrangeWall, compareNames, countStatuses, groupByLayer, meanDrift, Run, unionSteps } from './model.js';
import { Pictures } from './pictures.js';
import { Clock, Timeline } from './timeline.js';
import { Toolbar } from './toolbar.js';
import { isFiltered, readView, withoutFilters, writeView } from './view.js';
import { Viewer } from './viewer.js';
import { Wall } from './wall.js';

const SECONDS_BETWEEN_LOOKS = 3;
// So many runs are all shown where none was chosen; of more, the newest.
const MOST_RUNS_UNASKED = 3;
const COLOURS = 8;
// Below this size a wall is an overview: pictures alone.
const DENSE = 72;
// Frames fetched ahead while playing, and on either side while not.
const AHEAD = 3;

class App {
  allRuns = [];
  runs = [];
  steps = [];
  frameTime = 0;

  constructor() {
    this.view = readView();
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
    this.message = h('div', { class: 'message', role: 'status' }, 'Reading the log…');
    this.latest = h('button', { type: 'button', class: 'latest idle', onclick: () => this.clock.go(this.clock.last) }, 'Latest');
    this.timeline.node.append(this.latest);
    this.main.append(h('h1', { class: 'unseen' }, 'Features'), this.message, this.wall.node);
    this.root = h('div', { class: 'app' }, this.toolbar.node, this.main, this.timeline.node, this.viewer.node);
    this.saveView = debounce(250, () => writeView(this.view));
    this.#listen();
  }

  #listen() {
    this.clock.addEventListener('move', () => this.schedule());
    this.clock.addEventListener('rest', () => this.#rest());
    this.clock.addEventListener('play', () => requestAnimationFrame((now) => this.#play(now)));
    document.addEventListener('keydown', (event) => this.#key(event));
    // The server may only be restarting.
    this.pictures.addEventListener('failure', debounce(2000, () => this.want()));
    onReload(() => this.refresh());
    onAddressChange(() => {
      this.view = readView();
      this.clock.setSteps(this.steps, this.view.epoch);
      this.update();
      this.refresh();
    });
  }

  // Fetches what is new, shows it, and does so again after a while.
  async watch() {
    for (;;) {
      if (isShown()) await this.refresh();
      await new Promise((resolve) => { setTimeout(resolve, SECONDS_BETWEEN_LOOKS * 1000); });
    }
  }

  async refresh() {
    try {
      this.allRuns = (await fetchRuns()).sort((a, b) => compareNames(a.name, b.name));
      const known = new Map(this.runs.map((run) => [run.name, run]));
      const runs = await Promise.all(this.#chosen().map((name) => fetchRun(name, known.get(name))));
      const isNew = runs.length !== this.runs.length || runs.some((run, i) => run !== this.runs[i]);
      const failed = this.failed;
      this.failed = false;
      if (isNew || failed || !this.loaded) this.#setRuns(runs);
    } catch (error) {
      this.failed = true;
      console.warn(error);
      this.#say('TensorBoard does not answer. Trying again…');
    }
  }

  #chosen() {
    const names = this.allRuns.map(({ name }) => name);
    if (this.view.runs) return names.filter((name) => this.view.runs.includes(name));
    if (names.length <= MOST_RUNS_UNASKED) return names;
    return [this.allRuns.reduce((a, b) => (b.began > a.began ? b : a)).name];
  }

  #setRuns(runs) {
    this.loaded = true;
    this.runs = runs;
    this.steps = unionSteps(runs);
    const { clock } = this;
    const wanted = clock.steps.length && !clock.following ? clock.step : this.view.epoch;
    clock.setSteps(this.steps, clock.playing ? clock.step : wanted);
    const change = meanDrift(runs, this.steps);
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
    this.change({ open: names[(at + by + names.length) % names.length] });
  }

  get colours() {
    return new Map(this.allRuns.map(({ name }, i) => (
      [name, { letter: String.fromCharCode(65 + (i % 26)), colour: i % COLOURS }])));
  }

  // Brings everything into the state that `view` describes.
  update() {
    const { view, runs, steps, clock, colours } = this;
    const groups = arrangeWall(runs, view, clock.step);
    const layers = groupByLayer(runs);
    const [shown, total] = [groups, layers].map((all) => all.reduce((sum, { names }) => sum + names.length, 0));
    this.root.style.setProperty('--size', `${view.size}px`);
    this.root.style.setProperty('--runs', String(Math.max(1, runs.length)));
    this.root.classList.toggle('dense', view.size < DENSE);
    this.root.classList.toggle('bare', !this.allRuns.length);
    this.toolbar.update({
      view, allRuns: this.allRuns, runs, colours, layers, shown, total, counts: countStatuses(runs, clock.step),
    });
    this.wall.step = clock.step;
    this.wall.arrange(groups, runs, colours, steps, view.sort);
    if (this.loaded) this.#say(this.#emptiness(shown, total));
    this.#updateViewer(layers);
    this.schedule();
    this.saveView();
  }

  #updateViewer(layers) {
    const { open } = this.view;
    const exists = layers.some(({ names }) => names.includes(open));
    if (exists) {
      this.viewer.open(open);
      this.viewer.setRuns(this.runs, this.colours, this.steps);
    } else if (this.viewer.name) {
      this.viewer.close();
    }
  }

  #emptiness(shown, total) {
    if (this.failed) return 'TensorBoard does not answer. Trying again…';
    if (!this.allRuns.length) return 'No run has been logged here yet. Train with FeatureVisCallback, and the pictures appear.';
    if (!this.runs.length) return 'Choose a run above.';
    if (!total) return 'This run has no pictures yet.';
    return shown ? '' : 'No target matches.';
  }

  #say(text) {
    if (this.said === text) return;
    this.said = text;
    this.message.hidden = !text;
    // Above pictures it is a line, below nothing it fills the page.
    this.message.classList.toggle('above', this.wall.order.length > 0);
    this.viewer.say(this.failed ? text : '');
    const again = h('button', { type: 'button', onclick: () => this.change(withoutFilters) }, 'Show all');
    this.message.replaceChildren(text, ...(text && isFiltered(this.view) && this.loaded ? [again] : []));
  }

  // Shows the clock's step once before the next frame is painted.
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
    // It keeps its place, so that the slider does not change its length under the pointer.
    this.latest.classList.toggle('idle', !behind || this.clock.playing);
    this.latest.title = `${behind} later`;
  }

  // Asks for the pictures on the screen, then for their neighbours in time.
  want() {
    const { clock, steps } = this;
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

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { target } = event;
    const isTimeline = target.closest('.timeline') && target.matches('input');
    if (target.matches('input, select, textarea') && !isTimeline) return;
    const { clock, viewer } = this;
    const neighbours = { j: 1, k: -1 };
    const moves = { ArrowLeft: clock.index - 1, ArrowRight: clock.index + 1, Home: 0, End: clock.last };
    if (event.key in moves && !isTimeline) clock.go(moves[event.key]);
    else if (event.key === ' ' && !target.matches('button, summary, a')) clock.toggle();
    else if (event.key in neighbours && viewer.node.open) this.openNeighbour(neighbours[event.key]);
    else return;
    event.preventDefault();
  }
}

// The same object where nothing is new.
async function fetchRun(name, known) {
  const answer = await fetchFrames(name, known?.version);
  return answer ? new Run(name, answer) : known;
}

function range(first, last) {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

// TensorBoard calls this in a page of its own.
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
