// The view: the choices of the user. The address holds all of them, so that a view can be shared.

import { readAddress, writeAddress } from './host.js';
import { SORTS, STATUSES } from './model.js';

export const SIZES = { least: 48, most: 320, usual: 128 };

const defaults = {
  runs: null, // null: the default runs
  epoch: null, // null: always the latest
  layers: [],
  query: '',
  statuses: [],
  sort: 'network',
  size: SIZES.usual,
  open: null, // the target that is shown large
};

const readers = {
  runs: readList,
  epoch: (text) => (/^-?\d{1,15}$/.test(text) ? Number(text) : null),
  layers: readList,
  query: (text) => text.slice(0, 1000),
  statuses: (text) => readList(text).filter((status) => STATUSES.includes(status)),
  sort: (text) => (SORTS.some(([name]) => name === text) ? text : defaults.sort),
  size: (text) => Math.min(SIZES.most, Math.max(SIZES.least, Number.parseInt(text, 10) || SIZES.usual)),
  open: (text) => text,
};

// Commas separate the entries of a list, so an entry's own commas are escaped.
function readList(text) {
  return text.split(',').filter(Boolean).map((part) => part.replaceAll('%2C', ',').replaceAll('%25', '%'));
}

function writeList(list) {
  return list.map((part) => part.replaceAll('%', '%25').replaceAll(',', '%2C')).join(',');
}

export function readView() {
  const address = readAddress();
  const read = Object.entries(readers)
    .filter(([name]) => address.has(name))
    .map(([name, reader]) => [name, reader(address.get(name))]);
  return { ...defaults, ...Object.fromEntries(read) };
}

export function writeView(view) {
  const values = Object.keys(defaults)
    .filter((name) => JSON.stringify(view[name]) !== JSON.stringify(defaults[name]))
    .map((name) => [name, Array.isArray(view[name]) ? writeList(view[name]) : String(view[name])]);
  writeAddress(new Map(values));
}

export const withoutFilters = { layers: [], query: '', statuses: [] };

export function isFiltered(view) {
  return view.layers.length > 0 || view.query !== '' || view.statuses.length > 0;
}
