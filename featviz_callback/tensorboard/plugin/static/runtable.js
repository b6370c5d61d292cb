// The table of runs: it tells the runs apart by what differs between their names, counts what is
// dead, weak and settled in each, and chooses the runs to show.

import { columnsOf } from './columns.js';
import { arrange, h, setAttribute, setText } from './dom.js';
import { NameFilter } from './filter.js';
import { closeAtEscape, rove } from './menu.js';
import { Tallies } from './tallies.js';
import { cutMiddle } from './words.js';

const COUNTS = ['dead', 'weak', 'settled'];
// The table of so many runs is open from the beginning, and needs no filter.
const FEW = 4;

export class RunTable {
  #rows = new Map();
  #isSet = false;

  constructor(changed) {
    this.changed = changed;
    this.filter = new NameFilter(() => this.#showMatches());
    this.tallies = new Tallies(() => this.#showCounts());
    this.summary = h('summary', {});
    this.query = h('input', {
      type: 'search', placeholder: 'Filter runs', 'aria-label': 'Filter runs, a regular expression; arrow down leads to the runs', spellcheck: 'false',
      autocomplete: 'off', oninput: () => this.#filter(),
    });
    const button = (text, choose) => h('button', { type: 'button', onclick: choose }, text);
    this.tools = h('div', { class: 'run-tools' }, this.query,
      button('Select all', () => this.#chooseMatches((name, isSeen, wasChosen) => isSeen || wasChosen)),
      button('None', () => this.#chooseMatches((name, isSeen, wasChosen) => !isSeen && wasChosen)));
    this.head = h('tr', {});
    this.body = h('tbody', {});
    this.panel = h('div', { class: 'run-panel' }, this.tools,
      h('div', { class: 'run-scroll', tabindex: -1 }, h('table', { class: 'run-table' }, h('caption', { class: 'unseen' }, 'Runs'), h('thead', {}, this.head), this.body)));
    this.node = h('details', { class: 'runs', ontoggle: () => this.#tally() }, this.summary, this.panel);
    closeAtEscape(this.node, this.summary);
    rove(this.panel, '.run-tools > *, .run-table input');
  }

  // `chosen` are the names of the ticked runs, some of which may not have been fetched yet.
  update(all, chosen, colours, counts) {
    Object.assign(this, { all, chosen, counts });
    const [only] = all.filter(({ name }) => name === chosen[0]);
    setText(this.summary, chosen.length === 1 && only ? `Run: ${cutMiddle(only.label, 40)}` : `Runs: ${chosen.length} of ${all.length}`);
    this.node.hidden = all.length < 2;
    if (!this.#isSet && all.length) {
      this.#isSet = true;
      this.node.open = all.length <= FEW && all.length > 1 && document.documentElement.clientWidth > 700 && document.documentElement.clientHeight > 600;
    }
    this.tools.hidden = all.length <= FEW;
    const { titles, values } = columnsOf(all.map(({ label }) => label));
    const heads = ['', ...titles, ...COUNTS];
    if (JSON.stringify(this.heads) !== JSON.stringify(heads)) {
      this.heads = heads;
      this.head.replaceChildren(...heads.map((text) => h('th', { scope: 'col' }, text || h('span', { class: 'unseen' }, 'Shown'))), h('td', {}));
    }
    arrange(this.body, all.map((run, i) => this.#row(run, values[i], chosen.includes(run.name), colours)));
    this.#filter();
    this.#showCounts();
    this.#tally();
  }

  // Runs that are not shown are counted only while the user can see their counts.
  #tally() {
    if (this.node.open && this.all) this.tallies.fill(this.all.filter(({ name }) => !this.counts.has(name)));
  }

  #showCounts() {
    for (const { name } of this.all) {
      const shown = this.counts.get(name);
      const found = shown ?? this.tallies.get(name);
      const { numbers } = this.#rows.get(name);
      COUNTS.forEach((kind, i) => {
        const count = found ? String(found[kind] ?? '–') : '';
        setText(numbers[i], count && !shown ? `(${count})` : count);
        setAttribute(numbers[i], 'title', shown ? 'of the targets shown, at this epoch' : 'of all its targets, at its last epoch');
      });
    }
  }

  #row({ name, label }, values, isChosen, colours) {
    const { letter, colour } = colours.get(name);
    const id = JSON.stringify([name, ...values]);
    if (this.#rows.get(name)?.id !== id) {
      const input = h('input', { type: 'checkbox', tabindex: -1, 'aria-label': `${letter} ${label}`, onchange: () => this.#choose((one, _, was) => (one === name ? input.checked : was)) });
      const numbers = COUNTS.map(() => h('td', { class: 'number' }));
      const only = h('button', { type: 'button', class: 'only', tabindex: -1, 'aria-label': `Only ${label}`, onclick: () => this.changed([name]) }, 'only');
      const node = h('tr', { title: label },
        h('td', {}, h('label', { class: 'tick' }, input, h('span', { class: 'letter', 'aria-hidden': 'true' }, letter))),
        ...values.map((value, i) => h(i ? 'td' : 'th', i ? {} : { scope: 'row' }, cutMiddle(value, 48))), ...numbers, h('td', {}, only));
      node.style.setProperty('--run', colour);
      node.run = { name, label };
      this.#rows.set(name, { id, node, input, numbers });
    }
    const { node, input } = this.#rows.get(name);
    input.checked = isChosen;
    return node;
  }

  #filter() {
    this.filter.update(this.query.value, this.all.map(({ label }) => label));
    this.#showMatches();
  }

  #showMatches() {
    const { complaint, matches } = this.filter;
    setAttribute(this.query, 'aria-invalid', String(Boolean(complaint)));
    setAttribute(this.query, 'title', complaint);
    if (!complaint) for (const node of this.body.children) node.hidden = Boolean(matches) && !matches.has(node.run.label);
  }

  // Of the rows that the filter leaves, once it has searched.
  #chooseMatches(isWanted) {
    this.filter.whenFound(() => this.#choose(isWanted));
  }

  #choose(isWanted) {
    const seen = new Set([...this.body.children].filter((node) => !node.hidden).map(({ run }) => run.name));
    this.changed(this.all.map(({ name }) => name).filter((name) => isWanted(name, seen.has(name), this.chosen.includes(name))));
  }
}
