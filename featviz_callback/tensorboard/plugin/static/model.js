// The model: runs, targets, steps, filters and orders as plain values, without elements.

// In the order of their numbers in the log.
export const STATUSES = ['ok', 'dead', 'saturated', 'nan', 'weak', 'no_gradient', 'constant'];
export const STATUS_LABELS = {
  ok: 'ok', dead: 'dead', saturated: 'saturated', nan: 'not a number', weak: 'weak',
  no_gradient: 'no gradient', constant: 'constant',
};

export const SORTS = [
  ['network', 'Network order'],
  ['name', 'Name'],
  ['score', 'Score, high to low'],
  ['-score', 'Score, low to high'],
  ['drift', 'Drift, high to low'],
  ['-drift', 'Drift, low to high'],
];

const UNKNOWN_LAYER = 'other targets';

const collator = new Intl.Collator('en', { numeric: true });

export function compareNames(a, b) {
  return collator.compare(a, b);
}

export function stepLabel(step) {
  return step < 0 ? 'untrained' : `epoch ${step}`;
}

// Beside its layer's name, "Channel#conv1_3" is "channel 3".
export function shortName(name, layer) {
  const [, kind, rest] = /^(Neuron|Channel|Direction)#([^&]+)$/.exec(name) ?? [];
  return rest?.startsWith(`${layer}_`) ? `${kind.toLowerCase()} ${rest.slice(layer.length + 1)}` : name;
}

export function formatNumber(value) {
  if (value === null || value === undefined) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replaceAll('-', '−').replace('+', '');
  return value.toPrecision(3).replace('-', '−');
}

// One run: the server's answer, with the targets by name.
export class Run {
  constructor(name, answer) {
    this.name = name;
    this.version = answer.version;
    this.steps = answer.steps;
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

  // Returns all that is known of a target at a step, or null before its first snapshot.
  frameAt(name, step) {
    const target = this.targets.get(name);
    const index = target ? this.indexAt(target, step) : -1;
    if (index < 0) return null;
    const status = STATUSES[target.status?.[index]] ?? null;
    return {
      run: this.name,
      name,
      step: this.steps[index],
      key: target.key[index],
      status,
      score: target.score?.[index] ?? null,
      drift: target.drift?.[index] ?? null,
      ratio: target.ratio?.[index] ?? null,
    };
  }
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

// Where runs differ, the first run that has a number for a name gives its place.
export function sortNames(names, sort, runs, step) {
  if (sort === 'network') return names;
  if (sort === 'name') return [...names].sort(compareNames);
  const kind = sort.replace('-', '');
  const sign = sort.startsWith('-') ? 1 : -1;
  const values = new Map(names.map((name) => {
    const frames = runs.map((run) => run.frameAt(name, step)).filter(Boolean);
    return [name, frames.map((frame) => frame[kind]).find((value) => value !== null)];
  }));
  const known = names.filter((name) => values.get(name) !== undefined);
  const unknown = names.filter((name) => values.get(name) === undefined);
  return [...known.sort((a, b) => sign * (values.get(a) - values.get(b))), ...unknown];
}

// Returns the layers and names to show, in order. `matches` are the names that the filter leaves,
// or null for all names.
export function arrangeWall(runs, view, step, matches) {
  const layers = new Set(view.layers);
  const statuses = new Set(view.statuses);
  const keep = (name) => (matches?.has(name) ?? true) && (!statuses.size
    || statusesOf(name, runs, step).some((status) => statuses.has(status)));
  return groupByLayer(runs)
    .filter(({ layer }) => !layers.size || layers.has(layer))
    .map(({ layer, names }) => (
      { layer, total: names.length, names: sortNames(names.filter(keep), view.sort, runs, step) }))
    .filter(({ names }) => names.length);
}

// A target is ok only where all runs find it ok; else each trouble of any run counts.
function statusesOf(name, runs, step) {
  const found = new Set(runs.map((run) => run.frameAt(name, step)?.status).filter(Boolean));
  if (found.size > 1) found.delete('ok');
  return [...found];
}

export function countStatuses(runs, step) {
  const counts = Object.fromEntries(STATUSES.map((status) => [status, 0]));
  for (const name of targetNames(runs)) {
    for (const status of statusesOf(name, runs, step)) counts[status] += 1;
  }
  return counts;
}

// Returns the mean drift of all targets and runs at each step, or null where none has one.
export function meanDrift(runs, steps) {
  const sums = new Map(steps.map((step) => [step, [0, 0]]));
  for (const run of runs) {
    for (const { drift } of run.targets.values()) {
      drift?.forEach((value, index) => {
        const sum = sums.get(run.steps[index]);
        if (value !== null && sum) {
          sum[0] += value;
          sum[1] += 1;
        }
      });
    }
  }
  return steps.map((step) => {
    const [sum, count] = sums.get(step);
    return count ? sum / count : null;
  });
}

// All runs share a range, so that their charts can be compared.
export function rangeOf(runs, name, kind) {
  let low = Infinity;
  let high = -Infinity;
  for (const run of runs) {
    for (const value of run.targets.get(name)?.[kind] ?? []) {
      if (value === null) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  return low <= high ? [low, high] : [0, 0];
}
