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

// As in `History.settled`: so many later snapshots tell that a unit has settled, and functional
// drift has to stay below this.
const LEAST_LATER = 3;
const MOST_FUNCTIONAL = 0.05;

const floors = new WeakMap();

// Returns the noise floor at each step, on a line between those that were measured, or null where
// none was.
export function floorsOf(target, steps) {
  if (!target.floor?.some((value) => value !== null)) return null;
  if (!floors.has(target)) floors.set(target, interpolate(target.floor, steps));
  return floors.get(target);
}

function interpolate(values, steps) {
  const known = values.flatMap((value, i) => (value === null ? [] : [i]));
  return values.map((_, i) => {
    const before = known.findLast((at) => at <= i) ?? known[0];
    const after = known.find((at) => at >= i) ?? known.at(-1);
    const share = after > before ? (steps[i] - steps[before]) / (steps[after] - steps[before]) : 0;
    return values[before] + share * (values[after] - values[before]);
  });
}

// Returns the step after which a unit did not move up to an index, as `History.settled` does: its
// drift is below the larger of the first and the last noise floor, and so little is its functional
// drift. Returns null where it moved, and undefined where the log does not tell.
export function settledAt(target, steps, index) {
  const measured = (target.floor ?? []).slice(0, index + 1).filter((value) => value !== null);
  if (!measured.length || !target.drift || !target.functional || index < 0) return undefined;
  const floor = Math.max(measured[0], measured.at(-1));
  let later = 0;
  let settled = null;
  for (let i = index; i >= 0; i -= 1) {
    if (!target.key[i]) continue;
    if (later >= LEAST_LATER) settled = steps[i];
    const [drift, functional] = [target.drift[i], target.functional[i]];
    if (drift === null || drift >= floor || functional >= MOST_FUNCTIONAL) break;
    later += Number(functional !== null);
  }
  return settled;
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
