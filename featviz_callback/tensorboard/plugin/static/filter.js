// The filter by name: a worker finds the names that an expression matches, within a time limit.

import { isExpression } from './model.js';

const MILLISECONDS_FOR_A_SEARCH = 1000;

export class NameFilter {
  // The set of names that the filter leaves, or null where the filter leaves all.
  matches = null;
  complaint = '';
  #asked;
  #worker;
  #timer;
  #waiting;

  constructor(changed) {
    this.changed = changed;
  }

  // Calls a function once the matches are those of what was asked for last.
  whenFound(act) {
    if (this.#worker) this.#waiting = act;
    else act();
  }

  // The last matches stay until the new search ends, so that the wall does not flicker.
  update(query, names) {
    const asked = JSON.stringify([query, names]);
    if (this.#asked === asked) return;
    this.#asked = asked;
    this.complaint = '';
    this.#stop();
    if (!query) this.matches = null;
    else if (isExpression(query)) this.#search(query, names);
    else this.complaint = 'not a regular expression yet';
    if (!this.#worker) this.#act();
  }

  #search(query, names) {
    this.#worker = new Worker(new URL('./matcher.js', import.meta.url), { type: 'module' });
    this.#timer = setTimeout(() => this.#end(this.matches, 'takes too long'), MILLISECONDS_FOR_A_SEARCH);
    this.#worker.onmessage = ({ data }) => this.#end(new Set(data), '');
    this.#worker.postMessage({ query, names });
  }

  #end(matches, complaint) {
    this.#stop();
    this.matches = matches;
    this.complaint = complaint;
    this.changed();
    this.#act();
  }

  // An expression that is wrong, or takes too long, finds nothing to act on.
  #act() {
    const act = this.#waiting;
    this.#waiting = undefined;
    if (!this.complaint) act?.();
  }

  #stop() {
    this.#worker?.terminate();
    this.#worker = undefined;
    clearTimeout(this.#timer);
  }
}
