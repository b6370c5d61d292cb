// The figure builder: tick targets, epochs and runs, and save a labelled sheet or its numbers.

import { fetchPictures } from './api.js';
import { blobsIn } from './decoder.js';
import { debounce, h, setText } from './dom.js';
import { asXml, csvOf, save } from './download.js';
import { pickTicks } from './plot.js';
import { dataUrl, drawSheet, rasterise } from './sheet.js';
import { cutMiddle, stepLabel } from './words.js';

const USUAL = { targets: 6, epochs: 5, runs: 3 };
const MOST_LISTED = 400;
const MOST_PICTURES = 600;
const WIDTHS = [[85, 'One column, 85 mm'], [114, '114 mm'], [180, 'Two columns, 180 mm'], [297, 'Poster, 297 mm']];

export class Figure {
  #images = new Map();
  #turn = 0;

  constructor() {
    const draw = debounce(150, () => this.#draw());
    this.lists = Object.fromEntries(['targets', 'epochs', 'runs'].map((kind) => [kind, h('fieldset', { class: 'ticks', onchange: draw }, h('legend', {}, kind[0].toUpperCase() + kind.slice(1)))]));
    this.width = h('select', { 'aria-label': 'Width in print', onchange: draw }, ...WIDTHS.map(([value, label]) => h('option', { value, selected: value === 180 }, label)));
    this.caption = h('textarea', { rows: 3, 'aria-label': 'Caption', oninput: () => { this.isOwnCaption = true; draw(); } });
    this.preview = h('div', { class: 'preview', tabindex: 0, role: 'region', 'aria-label': 'Preview' });
    this.said = h('p', { class: 'said', role: 'status' });
    const button = (text, action) => h('button', { type: 'button', class: 'download', onclick: action }, text);
    this.node = h('dialog', { class: 'figure', 'aria-labelledby': 'figure-title' },
      h('div', { class: 'bar' }, h('h2', { id: 'figure-title' }, 'Figure'), h('span', { class: 'layer-name' }), h('button', { type: 'button', 'aria-label': 'Close (escape)', onclick: () => this.node.close() }, '×')),
      h('div', { class: 'figure-body' }, h('div', { class: 'figure-choices' }, ...Object.values(this.lists)),
        h('div', { class: 'figure-side' },
          h('p', { class: 'downloads' }, this.width, button('SVG', () => this.#saveSvg()), button('PNG', () => this.#savePng()), button('CSV', () => this.#saveCsv())),
          this.caption, this.said, this.preview)));
  }

  open(runs, names, steps, step) {
    Object.assign(this, { runs, steps, names: names.slice(0, MOST_LISTED) });
    this.isOwnCaption = false;
    const first = names.slice(0, USUAL.targets);
    const epochs = [...new Set([...pickTicks(steps, USUAL.epochs - 1), step])];
    this.#fill('targets', this.names.map((name) => [name, name, first.includes(name)]));
    this.#fill('epochs', steps.map((one) => [String(one), stepLabel(one), epochs.includes(one)]));
    this.#fill('runs', runs.map(({ name, label }, i) => [name, label, i < USUAL.runs]));
    this.node.showModal();
    this.#draw();
  }

  #fill(kind, choices) {
    const list = this.lists[kind];
    list.replaceChildren(list.firstChild, ...choices.map(([value, label, checked]) => (
      h('label', { title: label }, h('input', { type: 'checkbox', value, checked }), cutMiddle(label, 44)))));
  }

  #ticked(kind) {
    return [...this.lists[kind].querySelectorAll('input:checked')].map(({ value }) => value);
  }

  get choice() {
    const [targets, epochs, runs] = ['targets', 'epochs', 'runs'].map((kind) => new Set(this.#ticked(kind)));
    return {
      names: this.names.filter((name) => targets.has(name)), steps: this.steps.filter((step) => epochs.has(String(step))),
      runs: this.runs.filter(({ name }) => runs.has(name)),
    };
  }

  async #draw() {
    this.#turn += 1;
    const turn = this.#turn;
    const { names, steps, runs } = this.choice;
    if (!this.isOwnCaption) this.caption.value = captionOf(names, steps, runs);
    const count = names.length * steps.length * runs.length;
    setText(this.said, count > MOST_PICTURES ? `${count} pictures are too many; the most are ${MOST_PICTURES}.` : '');
    if (count > MOST_PICTURES) return;
    try {
      await this.#fetch(runs.flatMap((run) => names.flatMap((name) => steps.map((step) => run.frameAt(name, step)?.key))).filter(Boolean));
    } catch {
      setText(this.said, 'TensorBoard does not answer.');
      return;
    }
    if (turn !== this.#turn) return;
    const millimetres = Number(this.width.value);
    const layerOf = (name) => runs.map((run) => run.targets.get(name)?.layer).find(Boolean) ?? '';
    this.sheet = { ...drawSheet({ names, steps, runs, images: this.#images, caption: this.caption.value, millimetres, layerOf }), millimetres };
    this.preview.replaceChildren(this.sheet.node);
  }

  async #fetch(keys) {
    const missing = [...new Set(keys)].filter((key) => !this.#images.has(key));
    if (!missing.length) return;
    const answers = await fetchPictures(missing, blobsIn);
    await Promise.all(answers.map(async ({ blob }, i) => {
      if (blob) this.#images.set(missing[i], await dataUrl(blob));
    }));
  }

  #saveSvg() {
    if (this.sheet) save('features.svg', asXml(this.sheet.node), 'image/svg+xml');
  }

  async #savePng() {
    if (this.sheet) save('features.png', await rasterise(this.sheet, this.sheet.millimetres));
  }

  #saveCsv() {
    const { names, steps, runs } = this.choice;
    save('features.csv', csvOf(runs, names, steps), 'text/csv');
  }
}

function captionOf(names, steps, runs) {
  if (!names.length || !steps.length || !runs.length) return '';
  const epochs = steps.length > 1 ? `${stepLabel(steps[0])} to ${stepLabel(steps.at(-1))}` : stepLabel(steps[0]);
  const of = runs.length > 1 ? `, in ${runs.length} runs` : ` (run ${runs[0].label})`;
  return `Images that maximise ${names.length === 1 ? names[0] : `${names.length} units`}, ${epochs}${of}. Under each image: its score, and its status unless it is ok.`;
}
