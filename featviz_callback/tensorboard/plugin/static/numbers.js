// The numbers of targets: which there are, and how they are found, filtered and compared.

export const NUMBERS = {
  score: 'Score',
  ratio: 'Ratio to best real',
  selectivity: 'Selectivity',
  share: 'Share of images that fire',
  drift: 'Drift',
  functional: 'Functional drift',
  settled: 'Settled epoch',
  difference: 'Difference between runs',
};

// Drift has to stay below its noise floor for so many snapshots.
const LEAST_SETTLED = 2;

const floors = new WeakMap();

// Returns the noise floor at each step, on a line between those that were measured, or null.
export function floorsOf(target) {
  if (!target.floor) return null;
  if (!floors.has(target)) floors.set(target, interpolate(target.floor));
  return floors.get(target);
}

function interpolate(values) {
  const known = values.flatMap((value, i) => (value === null ? [] : [i]));
  return values.map((_, i) => {
    const before = known.findLast((at) => at <= i) ?? known[0];
    const after = known.find((at) => at >= i) ?? known.at(-1);
    if (before === undefined) return null;
    const share = after > before ? (i - before) / (after - before) : 0;
    return values[before] + share * (values[after] - values[before]);
  });
}

// Returns the step from which on drift stayed below its floor up to an index; null where it did
// not, and undefined where the log does not tell.
export function settledAt(target, steps, index) {
  const floor = floorsOf(target);
  if (!floor || !target.drift || index < 0) return undefined;
  let first = index + 1;
  let count = 0;
  for (let i = index; i >= 0; i -= 1) {
    const drift = target.drift[i];
    if (drift === null) continue;
    if (drift > floor[i]) break;
    first = i;
    count += 1;
  }
  return count >= LEAST_SETTLED ? steps[first] : null;
}

// Where runs differ, the first run that has a number for a name counts.
export function numberOf(runs, name, step, kind) {
  const frames = runs.map((run) => run.frameAt(name, step)).filter(Boolean);
  if (kind === 'difference') return differenceOf(frames);
  const values = frames.map((frame) => frame[kind]);
  return values.find((value) => value !== null && value !== undefined) ?? null;
}

// The spread of the ratios between runs, or else of the scores, relative to their size.
function differenceOf(frames) {
  if (frames.length < 2) return null;
  const ratios = frames.map(({ ratio }) => ratio).filter((value) => value !== null);
  const values = ratios.length === frames.length ? ratios : frames.map(({ score }) => score).filter((value) => value !== null);
  if (values.length < 2) return null;
  const size = values === ratios ? 1 : Math.max(...values.map(Math.abs)) || 1;
  return (Math.max(...values) - Math.min(...values)) / size;
}

// Limits are `{ ratio: [least or null, most or null] }`.
export function isWithin(limits, runs, name, step) {
  return Object.entries(limits).every(([kind, [least, most]]) => {
    const value = numberOf(runs, name, step, kind);
    return value !== null && (least === null || value >= least) && (most === null || value <= most);
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
