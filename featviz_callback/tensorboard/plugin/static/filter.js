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

  constructor(changed) {
    this.changed = changed;
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
  }

  #stop() {
    this.#worker?.terminate();
    clearTimeout(this.#timer);
  }
}
