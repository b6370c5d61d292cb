// The runs: the server's list of all runs, the choice of the runs to show, and their frames.

import { fetchFrames, fetchRuns } from './api.js';
import { compareNames, Run, unionSteps } from './model.js';

// By default the page shows up to so many runs; of a longer list it shows the newest run.
const MOST_DEFAULT_RUNS = 3;
const COLOURS = 8;

export class Runs {
  all = [];
  shown = [];
  steps = [];
  // A run keeps its letter and its colour, whatever runs come later.
  colours = new Map();
  #defaults = null;
  #refreshes = 0;

  // Returns the names of the runs to show, in order. `wanted` are the address's names, or null.
  choose(wanted) {
    const names = this.isLost(wanted) ? this.#defaults : wanted ?? this.#defaults ?? [];
    return namesOf(this.all).filter((name) => names.includes(name));
  }

  // An address is lost where it names only runs that the server does not have.
  isLost(wanted) {
    return Boolean(wanted?.length && this.all.length && !namesOf(this.all).some((name) => wanted.includes(name)));
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

// Resolves to the known run where nothing is new, and to null where the run has gone.
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
