// The view: the choices of the user. The address holds all of them, so that a view can be shared.

import { readAddress, writeAddress } from './host.js';
import { SORTS } from './model.js';
import { NUMBERS } from './numbers.js';
import { STATUSES } from './words.js';

export const SIZES = { least: 48, most: 320, usual: 144 };

const defaults = {
  runs: null, // null: the default runs
  epoch: null, // null: always the latest
  layers: [],
  query: '',
  statuses: [],
  sort: 'network',
  size: SIZES.usual,
  open: null, // the target that is shown large
  part: null, // its run, where there are many
  page: 'pictures', // or 'network'
  across: false, // whether the order is across layers
  limits: {}, // { ratio: [least or null, most or null] }
  measure: 'dead', // the number that colours the network
  importance: false,
  swipe: null, // or run and step on the left, run and step on the right, and the place of the cut
  pinned: [], // targets that stay at the top
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
  part: (text) => text,
  page: (text) => (text === 'network' ? text : defaults.page),
  across: (text) => text === 'true',
  limits: readLimits,
  measure: (text) => text,
  importance: (text) => text === 'true',
  swipe: readSwipe,
  pinned: readList,
};

// Commas separate the entries of a list, so an entry's own commas are escaped.
function readList(text) {
  return text.split(',').filter(Boolean).map((part) => part.replaceAll('%2C', ',').replaceAll('%25', '%'));
}

function writeList(list) {
  return list.map((part) => part.replaceAll('%', '%25').replaceAll(',', '%2C')).join(',');
}

function readSwipe(text) {
  const list = readList(text);
  return list.length === 5 && /^\d{1,3}$/.test(list[4]) ? list : null;
}

// "ratio:0.5..1;drift:..0.1"
function readLimits(text) {
  const number = (part) => (part === '' || Number.isNaN(Number(part)) ? null : Number(part));
  const found = text.split(';').map((part) => /^(\w+):([^.]*(?:\.\d+)?)\.\.(.*)$/.exec(part)).filter((match) => match && match[1] in NUMBERS);
  return Object.fromEntries(found.map(([, kind, least, most]) => [kind, [number(least), number(most)]]));
}

function writeLimits(limits) {
  return Object.entries(limits).map(([kind, [least, most]]) => `${kind}:${least ?? ''}..${most ?? ''}`).join(';');
}

function write(value) {
  if (Array.isArray(value)) return writeList(value);
  return value && typeof value === 'object' ? writeLimits(value) : String(value);
}

export function readView() {
  const address = readAddress();
  const read = Object.entries(readers)
    .filter(([name]) => address.has(name))
    .map(([name, reader]) => [name, reader(address.get(name))]);
  return { ...defaults, ...Object.fromEntries(read) };
}

// `isEntry` adds an entry to the history, so that Back leads to the view before.
export function writeView(view, isEntry = false) {
  const values = Object.keys(defaults)
    .filter((name) => JSON.stringify(view[name]) !== JSON.stringify(defaults[name]))
    .map((name) => [name, write(view[name])]);
  writeAddress(new Map(values), isEntry);
}

export const withoutFilters = { layers: [], query: '', statuses: [], limits: {} };

export function isFiltered(view) {
  return view.layers.length > 0 || view.query !== '' || view.statuses.length > 0
    || Object.keys(view.limits).length > 0;
}
