// The network: layers down, epochs across, coloured by a number of each layer. Where the log has
// no such numbers, those of the targets stand for their layer.

import { Activations } from './activations.js';
import { h, setAttribute } from './dom.js';
import { groupByLayer } from './model.js';
import { cutMiddle, formatNumber, stepLabel } from './words.js';

export const MEASURES = {
  dead: 'Share of dead units',
  dormant: 'Share of dormant units',
  effective_rank: 'Effective rank',
  update_ratio: 'Size of an update ÷ size of the weights',
  duplicate: 'Share of duplicate units',
  saturated: 'Share of saturated units',
  nan: 'Share of activations that are no number',
  mean: 'Mean activation',
  deviation: 'Deviation of activations',
  drift: 'Mean drift of the targets',
  functional: 'Mean functional drift of the targets',
};
const OF_TARGETS = new Set(['drift', 'functional']);
const MOST_COLUMNS = 240;
// A table of more cells takes the browser seconds; it has fewer epochs, and then fewer layers.
const MOST_CELLS = 30_000;
const MOST_ROWS = 1000;

export class Network {
  constructor({ goTo, change }) {
    this.goTo = goTo;
    this.measure = h('select', { 'aria-label': 'Number that colours the network', onchange: () => change({ measure: this.measure.value }) });
    this.scale = h('span', { class: 'network-scale' });
    this.tables = h('div', { class: 'network-tables' });
    this.activations = new Activations();
    this.chosen = null; // the run and the layer whose activations are shown
    this.node = h('section', { class: 'network', 'aria-label': 'Network' },
      h('p', { class: 'network-bar' }, h('label', {}, 'Colour ', this.measure), this.scale), h('div', { class: 'network-body' }, this.tables, this.activations.node));
    this.node.addEventListener('click', ({ target }) => target.cell && this.#choose(target.cell));
    this.node.addEventListener('keydown', (event) => this.#move(event));
  }

  #choose({ layer, step, leads }) {
    if (leads) this.goTo(layer, step);
  }

  #open(run, layer) {
    const [name, same] = this.chosen ?? [];
    this.chosen = name === run.name && same === layer ? null : [run.name, layer];
    this.#showActivations();
  }

  #showActivations() {
    const [name, layer] = this.chosen ?? [];
    const run = this.runs.find((one) => one.name === name && one.layers.rows.some((row) => row.histograms && row.layer === layer));
    for (const button of this.tables.querySelectorAll('.of-layer')) setAttribute(button, 'aria-expanded', String(Boolean(run) && button.run === run.name && button.layer === layer));
    this.activations.show(run ?? null, layer);
  }

  #layer(run, layer, hasHistograms) {
    const text = cutMiddle(layer, 40);
    if (!hasHistograms) return h('th', { scope: 'row', title: layer }, text);
    const button = h('button', { type: 'button', class: 'of-layer', title: `Activations of ${layer}`, onclick: () => this.#open(run, layer) }, text);
    Object.assign(button, { run: run.name, layer });
    return h('th', { scope: 'row' }, button);
  }

  #move(event) {
    const { key, target } = event;
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
    if (!by || !target.cell) return;
    const { table, row, column } = target.cell;
    const next = table[row + by[0]]?.[column + by[1]];
    if (next) {
      target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
    event.preventDefault();
    event.stopPropagation();
  }

  mark(step) {
    this.activations.mark(step);
    for (const cell of this.tables.querySelectorAll('td[data-now]')) setAttribute(cell, 'data-now', String(cell.firstChild.cell.step === step));
  }

  show(runs, colours, { measure }, step) {
    this.runs = runs;
    const asked = JSON.stringify([runs.map(({ name, version }) => [name, version, colours.get(name)]), measure]);
    if (this.asked === asked) {
      this.mark(step);
      return;
    }
    this.asked = asked;
    const found = runs.map((run) => ({ run, rows: rowsOf(run) }));
    const kinds = Object.keys(MEASURES).filter((kind) => found.some(({ rows }) => rows.some((row) => row.values[kind])));
    const kind = kinds.includes(measure) ? measure : kinds[0];
    this.measure.replaceChildren(...kinds.map((one) => h('option', { value: one, selected: one === kind }, MEASURES[one])));
    if (!kind) {
      this.tables.replaceChildren(h('p', { class: 'message' }, 'The log has no numbers of layers, and no drift of targets.'));
      this.scale.replaceChildren();
      return;
    }
    const values = found.flatMap(({ rows }) => rows.flatMap((row) => row.values[kind] ?? [])).filter((value) => value !== null);
    const isShare = /^(dead|dormant|duplicate|saturated|nan)$/.test(kind);
    // A list of a long training has too many values for the arguments of one call.
    const ends = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
    const range = isShare ? [0, 1] : ends;
    this.scale.replaceChildren(formatNumber(range[0]), h('span', { class: 'ramp', 'aria-hidden': 'true' }), formatNumber(range[1]));
    this.tables.replaceChildren(...found.map(({ run, rows }) => this.#table(run, rows, kind, range, colours, step, runs.length > 1)));
    this.#showActivations();
  }

  #table(run, all, kind, range, colours, step, isTitled) {
    const rows = all.slice(0, MOST_ROWS);
    const steps = run.layers.rows.length && !OF_TARGETS.has(kind) ? run.layers.steps : run.steps;
    const every = Math.ceil(steps.length / Math.min(MOST_COLUMNS, Math.floor(MOST_CELLS / rows.length)));
    const indices = steps.map((_, i) => i).filter((i) => i % every === 0 || i === steps.length - 1);
    const { letter, colour } = colours.get(run.name);
    const cells = [];
    const body = rows.map(({ layer, values, histograms, leads }, row) => {
      cells.push([]);
      return h('tr', {}, this.#layer(run, layer, histograms), ...indices.map((index, column) => {
        const value = values[kind]?.[index] ?? null;
        const share = value === null ? 0 : (value - range[0]) / (range[1] - range[0] || 1);
        const text = `${layer}, ${stepLabel(steps[index])}: ${MEASURES[kind].toLowerCase()} ${formatNumber(value)}`;
        const said = leads ? text : `${text}. No unit of this layer is drawn`;
        const button = h('button', { type: 'button', class: value === null ? 'cell-none' : 'cell-heat', title: said, 'aria-label': said, 'aria-disabled': String(!leads), tabindex: row || column ? -1 : 0 });
        button.style.setProperty('--share', `${Math.round(100 * share)}%`);
        button.cell = { layer, leads, step: steps[index], table: cells, row, column };
        cells[row].push(button);
        return h('td', { 'data-now': String(steps[index] === step) }, button);
      }));
    });
    const head = h('tr', {}, h('td', {}), ...indices.map((index, i) => h('th', { scope: 'col' },
      i % Math.ceil(indices.length / 24) === 0 ? (steps[index] < 0 ? '–' : String(steps[index])) : h('span', { class: 'unseen' }, stepLabel(steps[index])))));
    const table = h('table', {}, h('caption', { class: isTitled || all.length > rows.length ? '' : 'unseen' }, h('span', { class: 'letter' }, letter), run.label, h('span', { class: 'unseen' }, `: ${MEASURES[kind]}, layers down, epochs across`),
      all.length > rows.length ? h('span', { class: 'said' }, ` The first ${rows.length} of ${all.length} layers`) : null),
      h('thead', {}, head), h('tbody', {}, ...body));
    table.style.setProperty('--run', colour);
    setAttribute(table, 'class', 'network-table');
    return table;
  }
}

// Returns `{ layer, leads, values: { dead: [...], ... } }` for each layer, in the network's order.
// `leads` says whether there are units of it to lead to.
function rowsOf(run) {
  const groups = groupByLayer([run]);
  const ofTargets = new Map(groups.map(({ layer, names }) => [layer, {
    drift: means(run, names, (frame) => frame.drift), functional: means(run, names, (frame) => frame.functional),
    ...(run.layers.rows.length ? {} : { dead: means(run, names, (frame) => (frame.status ? Number(frame.status === 'dead') : null)) }),
  }]));
  const logged = run.layers.rows.map((row, i) => ({
    layer: row.layer, leads: ofTargets.has(row.layer), order: i, histograms: row.histograms, values: { ...row, ...ofTargets.get(row.layer) },
  }));
  const known = new Set(run.layers.rows.map(({ layer }) => layer));
  const missing = groups.filter(({ layer }) => !known.has(layer))
    .map(({ layer }, i) => ({ layer, leads: true, order: logged.length ? Infinity : i, values: ofTargets.get(layer) }));
  return [...logged, ...missing].sort((a, b) => (a.order === b.order ? 0 : a.order - b.order));
}

function means(run, names, read) {
  const sums = run.steps.map(() => [0, 0]);
  for (const name of names) {
    run.targets.get(name).key.forEach((key, i) => {
      const value = key ? read(run.frameAt(name, run.steps[i])) : null;
      if (value !== null) sums[i] = [sums[i][0] + value, sums[i][1] + 1];
    });
  }
  const found = sums.map(([sum, count]) => (count ? sum / count : null));
  return found.some((value) => value !== null) ? found : undefined;
}
