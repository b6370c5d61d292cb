// The runs: the server's list of all runs, the choice of the runs to show, and their frames.

import { fetchNews, fetchRuns } from './api.js';
import { Run, unionSteps } from './model.js';
import { compareNames } from './words.js';

// By default the page shows up to so many runs; of a longer list it shows the newest run.
const MOST_DEFAULT_RUNS = 3;
// Angles that follow each other by the golden angle never repeat, and neighbours differ most.
const FIRST_HUE = 255;
const GOLDEN_ANGLE = 137.508;
const RUNS_OF_ONE_CHROMA = 60;
const CHROMAS = [0.13, 0.06, 0.2];

export class Runs {
  all = [];
  shown = [];
  steps = [];
  // A run keeps its letter and its colour, whatever runs come later.
  colours = new Map();
  #known = new Map(); // runs by name, with the stamp at which each was fetched
  #defaults = null;
  #refreshes = 0;

  // Returns the names of the runs to show, in order. `wanted` are the address's names, or null.
  choose(wanted) {
    const names = new Set(this.isLost(wanted) ? this.#defaults : wanted ?? this.#defaults ?? []);
    return namesOf(this.all).filter((name) => names.has(name));
  }

  // An address is lost where it names only runs that the server does not have.
  isLost(wanted) {
    return Boolean(wanted?.length && this.all.length && !namesOf(this.all).some((name) => wanted.includes(name)));
  }

  // Whether the server is still reading the log of a shown run.
  get isReading() {
    return this.shown.some((run) => !run.isRead);
  }

  // Seconds since a run was written last.
  get idleSeconds() {
    const latest = Math.max(this.lastNews ?? 0, ...this.all.map(({ written }) => 1000 * written));
    return (Date.now() - latest) / 1000;
  }

  // Says whether the list and the shown runs are new, or null once a later refresh has begun.
  async refresh(wanted) {
    this.#refreshes += 1;
    const turn = this.#refreshes;
    const isOvertaken = () => turn !== this.#refreshes;
    try {
      const all = (await fetchRuns()).sort((a, b) => compareNames(a.name, b.name));
      if (isOvertaken()) return null;
      const isListNew = String(namesOf(all)) !== String(namesOf(this.all));
      this.#setAll(all);
      await this.#fetchNews(this.choose(wanted));
      if (isOvertaken()) return null;
      const shown = this.choose(wanted).map((name) => this.#known.get(name)?.run).filter(Boolean);
      return { isListNew, areShownNew: this.#setShown(shown) };
    } catch (error) {
      if (isOvertaken()) return null;
      throw error;
    }
  }

  // One request for all runs whose files have changed; a finished run is not asked for again.
  async #fetchNews(names) {
    const stamps = new Map(this.all.map(({ name, stamp }) => [name, stamp]));
    const isOld = (name) => {
      const known = this.#known.get(name);
      return !known || known.stamp !== stamps.get(name) || !known.run.isRead;
    };
    const old = names.filter(isOld);
    if (!old.length) return;
    const news = await fetchNews(Object.fromEntries(old.map((name) => [name, this.#known.get(name)?.run.version ?? null])));
    const labels = new Map(this.all.map(({ name, label }) => [name, label]));
    for (const name of old) {
      if (news[name]) {
        if (this.#known.has(name)) this.lastNews = Date.now();
        this.#known.set(name, { stamp: stamps.get(name), run: new Run(name, labels.get(name) ?? name, news[name]) });
      } else if (name in news && this.#known.has(name)) {
        this.#known.get(name).stamp = stamps.get(name);
      } else {
        this.#known.delete(name);
      }
    }
  }

  #setAll(all) {
    const added = namesOf(all).filter((name) => !this.colours.has(name));
    for (const name of added) {
      const place = this.colours.size;
      this.colours.set(name, { letter: letterOf(place), colour: colourOf(place) });
    }
    this.all = all;
    if (!all.length) return;
    if (this.#defaults) {
      // The runs on the screen stay, and a new run joins them while there is room.
      this.#defaults.push(...added.slice(0, Math.max(0, MOST_DEFAULT_RUNS - this.#defaults.length)));
    } else if (all.length <= MOST_DEFAULT_RUNS) {
      this.#defaults = added;
    } else {
      this.#defaults = [all.reduce((a, b) => (b.began > a.began ? b : a)).name];
    }
  }

  #setShown(shown) {
    const areNew = shown.length !== this.shown.length || shown.some((run, i) => run !== this.shown[i]);
    if (areNew) {
      this.shown = shown;
      this.steps = unionSteps(shown);
    }
    return areNew;
  }
}

// A to Z, then AA to ZZ.
function letterOf(place) {
  const last = String.fromCharCode(65 + (place % 26));
  return place < 26 ? last : letterOf(Math.floor(place / 26) - 1) + last;
}

// The theme sets the lightness, at which every hue has enough contrast. Many runs differ in their
// chroma too.
function colourOf(place) {
  const chroma = CHROMAS[Math.floor(place / RUNS_OF_ONE_CHROMA) % CHROMAS.length];
  return `oklch(var(--run-light) ${chroma} ${((FIRST_HUE + place * GOLDEN_ANGLE) % 360).toFixed(1)})`;
}

export function namesOf(runs) {
  return runs.map(({ name }) => name);
}
