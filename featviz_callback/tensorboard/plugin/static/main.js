// The tab "Features" of TensorBoard. What each module does is said in its first line;
// this one holds them together: what was fetched, how it is looked at, and the clock.

import { fetchFrames, fetchRuns } from './api.js';
import { debounce, h } from './dom.js';
import { followTheme, isShown, onAddressChange, onHostKey, onReload } from './host.js';
import {
  arrangeWall, compareNames, countStatuses, groupByLayer, isExpression, meanDrift, Run, unionSteps,
} from './model.js';
import { Pictures } from './pictures.js';
import { Clock, Timeline } from './timeline.js';
import { Toolbar } from './toolbar.js';
import { isFiltered, readView, withoutFilters, writeView } from './view.js';
import { Viewer } from './viewer.js';
import { Wall } from './wall.js';

const SECONDS_BETWEEN_LOOKS = 3;
const MILLISECONDS_FOR_A_FILTER = 1000;
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
  refreshes = 0;
  // Letters and colours stay with a run, whichever come later.
  colours = new Map();
  // The runs that are shown where none was chosen.
  unasked = null;
  matches = null;
  complaint = '';

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
    document.addEventListener('keydown', (event) => this.#key(event));
    onHostKey((event) => this.#key(event));
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
    this.refreshes += 1;
    const turn = this.refreshes;
    try {
      const allRuns = (await fetchRuns()).sort((a, b) => compareNames(a.name, b.name));
      if (turn !== this.refreshes) return;
      const sameRuns = String(namesOf(allRuns)) === String(namesOf(this.allRuns));
      this.#setAllRuns(allRuns);
      const known = new Map(this.runs.map((run) => [run.name, run]));
      const fetched = await Promise.all(this.chosen.map((name) => fetchRun(name, known.get(name))));
      if (turn !== this.refreshes) return;
      const runs = fetched.filter(Boolean);
      const isNew = runs.length !== this.runs.length || runs.some((run, i) => run !== this.runs[i]);
      const failed = this.failed;
      this.failed = false;
      if (isNew || failed || !this.loaded) this.#setRuns(runs);
      else if (!sameRuns) this.update();
    } catch (error) {
      if (turn !== this.refreshes) return;
      this.failed = true;
      console.warn(error);
      this.#say('TensorBoard does not answer. Trying again…');
    }
  }

  #setAllRuns(allRuns) {
    const added = namesOf(allRuns).filter((name) => !this.colours.has(name));
    for (const name of added) {
      const place = this.colours.size;
      this.colours.set(name, { letter: String.fromCharCode(65 + (place % 26)), colour: place % COLOURS });
    }
    this.allRuns = allRuns;
    if (!allRuns.length) return;
    if (this.unasked) {
      // Those on the screen stay there; a new one joins them while there is room.
      this.unasked.push(...added.slice(0, Math.max(0, MOST_RUNS_UNASKED - this.unasked.length)));
    } else if (allRuns.length <= MOST_RUNS_UNASKED) {
      this.unasked = added;
    } else {
      this.unasked = [allRuns.reduce((a, b) => (b.began > a.began ? b : a)).name];
    }
  }

  // The names of the runs to show, in order.
  get chosen() {
    const wanted = this.isLost ? this.unasked : this.view.runs ?? this.unasked ?? [];
    return namesOf(this.allRuns).filter((name) => wanted.includes(name));
  }

  // Whether the address names only runs that are not here.
  get isLost() {
    const { runs } = this.view;
    return Boolean(runs?.length && this.allRuns.length && !namesOf(this.allRuns).some((name) => runs.includes(name)));
  }

  #setRuns(runs) {
    this.loaded = true;
    this.runs = runs;
    this.steps = unionSteps(runs);
    const { clock } = this;
    const kept = clock.following && !clock.playing ? null : clock.step;
    clock.setSteps(this.steps, clock.steps.length ? kept : this.view.epoch);
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
    // From one that the filters have taken away, to the first or the last.
    const next = at < 0 && by < 0 ? -1 : at + by;
    if (names.length) this.change({ open: names[(next + names.length) % names.length] });
  }

  // Finds out which names the filter leaves, where the filter or the names have changed.
  #filter() {
    const { query } = this.view;
    const names = [...new Set(this.runs.flatMap((run) => [...run.targets.keys()]))];
    const asked = JSON.stringify([query, names]);
    if (this.asked === asked) return;
    this.asked = asked;
    this.complaint = '';
    this.matcher?.terminate();
    clearTimeout(this.patience);
    if (!query) {
      this.matches = null;
    } else if (isExpression(query)) {
      this.matcher = new Worker(new URL('./matcher.js', import.meta.url), { type: 'module' });
      this.patience = setTimeout(() => this.#match(this.matches, 'takes too long'), MILLISECONDS_FOR_A_FILTER);
      this.matcher.onmessage = ({ data }) => this.#match(new Set(data), '');
      this.matcher.postMessage({ query, names });
    } else {
      this.complaint = 'not a regular expression yet';
    }
  }

  #match(matches, complaint) {
    this.matcher.terminate();
    clearTimeout(this.patience);
    Object.assign(this, { matches, complaint });
    this.update();
  }

  // Brings everything into the state that `view` describes.
  update() {
    const { view, runs, steps, clock, colours } = this;
    this.#filter();
    const groups = arrangeWall(runs, view, clock.step, this.matches);
    const layers = groupByLayer(runs);
    const [shown, total] = [groups, layers].map((all) => all.reduce((sum, { names }) => sum + names.length, 0));
    this.root.style.setProperty('--size', `${view.size}px`);
    this.root.style.setProperty('--runs', String(Math.max(1, runs.length)));
    this.root.classList.toggle('dense', view.size < DENSE);
    this.root.classList.toggle('bare', !this.allRuns.length);
    this.toolbar.update({
      view, allRuns: this.allRuns, chosen: this.chosen, runs, colours, layers, shown, total, complaint: this.complaint,
      counts: countStatuses(runs, clock.step),
    });
    this.wall.step = clock.step;
    this.wall.arrange(groups, runs, colours, steps, view.sort);
    if (this.loaded) this.#say(this.#emptiness(shown, total));
    this.#updateViewer(layers);
    this.schedule();
    this.saveView();
  }

  // Of many runs those that are shown are named, though nobody chose them.
  #sharedView() {
    const runs = this.view.runs ?? (this.chosen.length < this.allRuns.length ? this.chosen : null);
    return { ...this.view, runs };
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
    if (this.isLost) return `This address is of runs that are not here: ${this.view.runs.join(', ')}`;
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

// The same object where nothing is new; null where the run has gone.
async function fetchRun(name, known) {
  try {
    const answer = await fetchFrames(name, known?.version);
    return answer ? new Run(name, answer) : known;
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

function namesOf(runs) {
  return runs.map(({ name }) => name);
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
