// The tallies: what is dead, weak and settled in runs that are not shown. Their frames are fetched
// a few runs at a time, counted, and not kept.

import { fetchNews } from './api.js';
import { countStatuses, Run } from './model.js';

const AT_ONCE = 4;
const PAUSE = 300;

export class Tallies {
  #known = new Map(); // by name: the counts, and the stamp of the files that were counted
  #isBusy = false;

  constructor(changed) {
    this.changed = changed;
  }

  // Returns the counts of a run at its last epoch, or undefined until they come.
  get(name) {
    return this.#known.get(name)?.counts;
  }

  // `wanted` are runs with their names and stamps. A later call replaces what was wanted.
  async fill(wanted) {
    this.wanted = wanted;
    if (this.#isBusy) return;
    this.#isBusy = true;
    try {
      for (let batch = this.#next(); batch.length; batch = this.#next()) {
        const news = await fetchNews(Object.fromEntries(batch.map(({ name }) => [name, null])));
        for (const { name, label, stamp } of batch) this.#count(name, label, stamp, news[name]);
        this.changed();
        await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
      }
    } catch (error) {
      console.warn(error);
    }
    this.#isBusy = false;
  }

  #next() {
    return this.wanted.filter(({ name, stamp }) => this.#known.get(name)?.stamp !== stamp).slice(0, AT_ONCE);
  }

  // Of a log that is not read to its end yet there are no counts, and it is asked for again.
  #count(name, label, stamp, news) {
    if (news && news.read === false) return;
    const run = news && new Run(name, label, news);
    const counts = run?.steps.length ? countStatuses([run], [...run.targets.keys()], run.steps.at(-1)).get(name) : undefined;
    this.#known.set(name, { stamp, counts });
  }
}
