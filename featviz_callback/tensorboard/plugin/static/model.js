// The model: runs, targets, steps, filters and orders as plain values, without elements.

import { isWithin, NUMBERS, numberOf, settledAt } from './numbers.js';
import { compareNames, STATUSES } from './words.js';

export const SORTS = [
  ['network', 'Network order'],
  ['name', 'Name'],
  ...Object.entries(NUMBERS).flatMap(([kind, label]) => [
    [kind, `${label}, high to low`], [`-${kind}`, `${label}, low to high`]]),
];

const UNKNOWN_LAYER = 'other targets';
const ALL_LAYERS = 'All layers';
const PINNED = 'Pinned';
// A picture whose score is nearly that of the best real image is not called weak.
const NEARLY = 0.95;

// One run: the server's answer, with the targets by name.
export class Run {
  constructor(name, label, answer) {
    this.name = name;
    this.label = label;
    this.version = answer.version;
    this.isRead = answer.read !== false;
    this.steps = answer.steps;
    this.layers = answer.layers ?? { steps: [], rows: [] };
    for (const row of this.layers.rows) unpack(row, this.layers.steps.length);
    for (const target of answer.targets) unpack(target, this.steps.length);
    this.damaged = answer.damaged ?? [];
    this.targets = new Map(answer.targets.map((target) => [target.name, target]));
  }

  // Returns the index of a target's last frame up to a step, or -1.
  indexAt(target, step) {
    let low = 0;
    let high = this.steps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.steps[middle] <= step) low = middle + 1;
      else high = middle;
    }
    let index = low - 1;
    while (index >= 0 && !target.key[index]) index -= 1;
    return index;
  }

  // Returns the key of a target's picture at a step, or null before its first snapshot.
  keyAt(name, step) {
    const target = this.targets.get(name);
    return target?.key[this.indexAt(target, step)] ?? null;
  }

  // Returns all that is known of a target at a step, or null before its first snapshot.
  frameAt(name, step) {
    const target = this.targets.get(name);
    const index = target ? this.indexAt(target, step) : -1;
    if (index < 0) return null;
    const number = (kind) => target[kind]?.[index] ?? null;
    const logged = STATUSES[target.status?.[index]] ?? null;
    const frame = {
      run: this.name, name, index, logged, step: this.steps[index], key: target.key[index],
      importance: number('importance'), score: number('score'), drift: number('drift'),
      ratio: number('ratio'), share: number('share'), selectivity: number('selectivity'),
      functional: number('functional'), overlap: number('overlap'), settled: settledAt(target, this.steps, index),
    };
    return { ...frame, status: judge(logged, frame) };
  }
}

// Series of few steps come without the others, and get these once they are looked at.
function unpack(row, count) {
  const { at } = row;
  for (const [kind, few] of Object.entries(row)) {
    if (!at || few === at || !Array.isArray(few)) continue;
    const get = () => {
      const all = new Array(count).fill(null);
      at.forEach((place, i) => { all[place] = few[i]; });
      Object.defineProperty(row, kind, { value: all });
      return all;
    };
    Object.defineProperty(row, kind, { get, configurable: true });
  }
}

// The first logs call a unit dead that real images activate, and a picture ok that scores below
// them. Their own numbers tell.
function judge(logged, { ratio, share }) {
  if (logged === 'dead' && (ratio !== null || share > 0)) return 'no_gradient';
  return logged === 'ok' && ratio !== null && ratio < NEARLY ? 'weak' : logged;
}

export function targetNames(runs) {
  return [...new Set(runs.flatMap((run) => [...run.targets.keys()]))];
}

export function unionSteps(runs) {
  return [...new Set(runs.flatMap((run) => run.steps))].sort((a, b) => a - b);
}

// Layers come in the network's order; those of unknown order come last.
export function groupByLayer(runs) {
  const groups = new Map();
  const seen = new Set();
  for (const run of runs) {
    for (const target of run.targets.values()) {
      if (seen.has(target.name)) continue;
      seen.add(target.name);
      const { order } = target;
      const layer = target.layer || UNKNOWN_LAYER;
      if (!groups.has(layer)) groups.set(layer, { layer, order: order ?? Infinity, names: [] });
      groups.get(layer).names.push(target.name);
    }
  }
  return [...groups.values()].sort((a, b) => (a.order === b.order ? 0 : a.order - b.order));
}

export function isExpression(text) {
  try {
    return Boolean(new RegExp(text, 'i'));
  } catch {
    return false;
  }
}

export function sortNames(names, sort, runs, step) {
  if (sort === 'network') return names;
  if (sort === 'name') return [...names].sort(compareNames);
  const kind = sort.replace('-', '');
  const sign = sort.startsWith('-') ? 1 : -1;
  const values = new Map(names.map((name) => [name, numberOf(runs, name, step, kind)]));
  const known = names.filter((name) => values.get(name) !== null);
  const unknown = names.filter((name) => values.get(name) === null);
  return [...known.sort((a, b) => sign * (values.get(a) - values.get(b))), ...unknown];
}

// Returns the layers and names to show, in order, the pinned ones first. `matches` are the names that the filter leaves,
// or null for all names.
export function arrangeWall(runs, view, step, matches) {
  const layers = new Set(view.layers);
  const statuses = new Set(view.statuses);
  const keep = (name) => (matches?.has(name) ?? true)
    && (!statuses.size || statusesOf(name, runs, step).some((status) => statuses.has(status)))
    && isWithin(view.limits, runs, name, step);
  const all = groupByLayer(runs);
  const pinned = new Set(view.pinned.filter((name) => runs.some((run) => run.targets.has(name))));
  const groups = all
    .filter(({ layer }) => !layers.size || layers.has(layer))
    .map(({ layer, names }) => ({ layer, names: names.filter((name) => !pinned.has(name)) }))
    .map(({ layer, names }) => ({ layer, total: names.length, names: names.filter(keep) }));
  const joined = view.across && groups.length > 1 ? [{
    layer: ALL_LAYERS, total: groups.reduce((sum, { total }) => sum + total, 0), names: groups.flatMap(({ names }) => names),
  }] : groups;
  const first = { layer: PINNED, isPinned: true, total: pinned.size, names: [...pinned] };
  return [first, ...joined]
    .map((group) => ({ ...group, names: sortNames(group.names, view.sort, runs, step) }))
    .filter(({ names }) => names.length);
}

function statusesOf(name, runs, step) {
  return [...new Set(runs.map((run) => run.frameAt(name, step)?.status).filter(Boolean))];
}

// Returns how often each run finds each status among some names: counts by run and status.
export function countStatuses(runs, names, step) {
  return new Map(runs.map((run) => {
    const counts = Object.fromEntries(STATUSES.map((status) => [status, 0]));
    let settled = null; // where the log does not tell
    for (const name of names) {
      const frame = run.frameAt(name, step);
      if (frame?.status) counts[frame.status] += 1;
      if (frame && frame.settled !== undefined) settled = (settled ?? 0) + Number(frame.settled !== null);
    }
    return [run.name, { ...counts, settled }];
  }));
}
