// The words: numbers, steps, names, statuses and verdicts as text.

// In the order of their numbers in the log.
export const STATUSES = ['ok', 'dead', 'saturated', 'nan', 'weak', 'no_gradient', 'constant'];
export const STATUS_LABELS = {
  ok: 'ok', dead: 'dead', saturated: 'saturated', nan: 'not a number', weak: 'weak',
  no_gradient: 'no gradient', constant: 'constant',
};

const REASONS = {
  ok: 'nothing is wrong with it, as far as the log tells',
  dead: 'no real image activates it',
  saturated: 'half the contrast scores as high',
  nan: 'its score or picture is not a number',
  weak: 'the best real image scores higher than the picture',
  no_gradient: 'no gradient reached the picture; only real images tell whether it is dead',
  constant: 'every real image has one and the same score',
};

// A space at which no line ends.
const JOINED = '\u00a0';

const collator = new Intl.Collator('en', { numeric: true });

export function compareNames(a, b) {
  return collator.compare(a, b);
}

// Where the word "epoch" stands beside it already.
export function shortStep(step) {
  return step === -1 ? 'untrained' : String(step).replace('-', '−');
}

export function stepLabel(step) {
  return `${step === -1 ? '' : 'epoch '}${shortStep(step)}`;
}

// Beside its layer's name, "Channel#conv1_3" is "channel 3".
export function shortName(name, layer) {
  const [, kind, rest] = /^(Neuron|Channel|Direction)#([^&]+)$/.exec(name) ?? [];
  if (!name.trim()) return `“${name}”`;
  return rest?.startsWith(`${layer}_`) ? `${kind.toLowerCase()} ${rest.slice(layer.length + 1)}` : name;
}

// Cut in the middle, because the names of one layer's targets differ at their ends.
export function cutMiddle(text, most) {
  const letters = [...text];
  if (letters.length <= most) return text;
  const kept = Math.max(2, most - 1);
  return `${letters.slice(0, Math.ceil(kept / 2)).join('')}…${letters.slice(letters.length - Math.floor(kept / 2)).join('')}`;
}

export function formatNumber(value) {
  if (value === null || value === undefined) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replaceAll('-', '−').replace('+', '');
  if (size >= 999.5) return String(Math.round(value)).replace('-', '−');
  return value.toPrecision(3).replace('-', '−');
}

export function formatPercent(share) {
  if (share === 0) return 'none';
  return share < 0.005 ? 'under 1 %' : `${Math.round(100 * share)} %`;
}

// A picture that is below the best real image, by however little, is not shown as equal to it.
export function shownRatio({ ratio, status }, digits = 3) {
  const isBelow = ratio !== null && (status === 'weak' || status === 'no_gradient');
  return isBelow ? Math.min(ratio, 1 - 10 ** -digits) : ratio;
}

// Returns one line, from what is logged: how many images activate it, how good its picture is, and
// since when the picture has stayed the same.
export function verdictOf(frame) {
  const parts = [];
  if (frame.share !== null) parts.push(`fires on ${formatPercent(frame.share).replace(' ', JOINED)} of your images`);
  if (frame.ratio !== null) parts.push(`${Number(shownRatio(frame, 2).toPrecision(2))}${JOINED}× the best real one`);
  if (frame.settled !== undefined) parts.push(frame.settled === null ? 'not settled' : `settled at ${stepLabel(frame.settled).replace(' ', JOINED)}`);
  return parts.join(' · ');
}

export function reasonOf(frame) {
  if (!frame.status) return '';
  const said = frame.logged === frame.status ? '' : ` (the log says ${STATUS_LABELS[frame.logged]}, and its own numbers refute that)`;
  return `${REASONS[frame.status]}${said}`;
}

// Says all that is known of a frame, for titles and for screen readers.
export function describeFrame(frame, step) {
  if (!frame) return 'not seen yet';
  const parts = [`score ${formatNumber(frame.score)}`, `drift ${formatNumber(frame.drift)}`, verdictOf(frame)];
  if (frame.status) parts.push(`${STATUS_LABELS[frame.status]}: ${reasonOf(frame)}`);
  if (frame.step !== step) parts.push(`at ${stepLabel(frame.step)}`);
  return parts.filter(Boolean).join(', ');
}
