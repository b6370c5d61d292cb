// The runs: the server's list of all of them, the choice of those to show, and their frames.

import { fetchFrames, fetchRuns } from './api.js';
import { compareNames, Run, unionSteps } from './model.js';

// Up to this many runs are all shown by default; of more runs, only the newest is.
const MOST_DEFAULT_RUNS = 3;
const COLOURS = 8;

export class Runs {
  all = [];
  shown = [];
  steps = [];
  // A run keeps its letter and its colour, whichever runs come later.
  colours = new Map();
  #defaults = null;
  #refreshes = 0;

  // The names of the runs to show, in order. `wanted` are the names in the address, or null.
  choose(wanted) {
    const names = this.isLost(wanted) ? this.#defaults : wanted ?? this.#defaults ?? [];
    return namesOf(this.all).filter((name) => names.includes(name));
  }

  // Whether the address names only runs that are not here.
  isLost(wanted) {
    return Boolean(wanted?.length && this.all.length && !namesOf(this.all).some((name) => wanted.includes(name)));
  }

  // Says whether the list and the shown runs are new; null where a later refresh has begun.
  async refresh(wanted) {
    this.#refreshes += 1;
    const turn = this.#refreshes;
    const isOvertaken = () => turn !== this.#refreshes;
    try {
      const all = (await fetchRuns()).sort((a, b) => compareNames(a.name, b.name));
      if (isOvertaken()) return null;
      const isListNew = String(namesOf(all)) !== String(namesOf(this.all));
      this.#setAll(all);
      const known = new Map(this.shown.map((run) => [run.name, run]));
      const fetched = await Promise.all(this.choose(wanted).map((name) => fetchRun(name, known.get(name))));
      if (isOvertaken()) return null;
      return { isListNew, areShownNew: this.#setShown(fetched.filter(Boolean)) };
    } catch (error) {
      if (isOvertaken()) return null;
      throw error;
    }
  }

  #setAll(all) {
    const added = namesOf(all).filter((name) => !this.colours.has(name));
    for (const name of added) {
      const place = this.colours.size;
      this.colours.set(name, { letter: String.fromCharCode(65 + (place % 26)), colour: place % COLOURS });
    }
    this.all = all;
    if (!all.length) return;
    if (this.#defaults) {
      // Runs on the screen stay there; a new run joins them while there is room.
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
