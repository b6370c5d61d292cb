// Downloads: files that the page makes itself, and their names.

import { h } from './dom.js';

export function save(name, content, type) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const url = URL.createObjectURL(blob);
  h('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

export function fileName(...parts) {
  return parts.join('_').replace(/[^\p{L}\p{N}._-]+/gu, '_').slice(0, 120);
}

const NUMBERS = ['score', 'ratio', 'share', 'selectivity', 'drift', 'functional', 'settled'];

// Returns the numbers of some runs, targets and steps as CSV, one row each.
export function csvOf(runs, names, steps) {
  const rows = [['run', 'target', 'layer', 'epoch', 'status', ...NUMBERS]];
  for (const run of runs) {
    for (const name of names) {
      for (const step of steps) {
        const frame = run.frameAt(name, step);
        if (frame?.step !== step) continue;
        rows.push([run.label, name, run.targets.get(name).layer, step, frame.status ?? '', ...NUMBERS.map((kind) => frame[kind] ?? '')]);
      }
    }
  }
  return rows.map((row) => row.map(quote).join(',')).join('\r\n');
}

// A spreadsheet would run a text that begins like a formula.
function quote(value) {
  let text = String(value);
  if (typeof value === 'string' && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// Returns a figure as XML, which has no place for control characters; the names of targets may have.
export function asXml(node) {
  return new XMLSerializer().serializeToString(node).replace(/[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/g, '\ufffd');
}
