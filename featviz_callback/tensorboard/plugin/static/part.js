// A part of the page of a unit: one run's picture, numbers, film strip, real images, chart and
// downloads.

import { fetchAnimation, pictureUrl } from './api.js';
import { drawChart, MILLIMETRES } from './chart.js';
import { asXml, csvOf, fileName, save } from './download.js';
import { h, setAttribute, setText } from './dom.js';
import { FilmStrip } from './filmstrip.js';
import { isMask } from './importance.js';
import { Neighbours } from './neighbours.js';
import { paint } from './pictures.js';
import { Plot } from './plot.js';
import { RealImages } from './real.js';
import { rasterise } from './sheet.js';
import { channelsIn, isSignal, legendOf } from './signal.js';
import { formatNumber, formatPercent, reasonOf, shownRatio, STATUS_LABELS, stepLabel, verdictOf } from './words.js';

const COLUMNS = ['Epoch', 'Score', 'Ratio', 'Drift', 'Functional drift', 'Status'];

export class Part {
  constructor(run, letter, colour, clock, open) {
    this.clock = clock;
    this.title = h('h3', {}, letter ? h('span', { class: 'letter' }, letter) : null, run.label);
    this.canvas = h('canvas', { width: 1, height: 1, role: 'img' });
    this.over = h('canvas', { width: 1, height: 1, class: 'importance', 'aria-hidden': 'true' });
    this.badge = h('span', { class: 'badge' });
    this.verdict = h('p', { class: 'verdict' });
    this.legend = h('div', {});
    this.reason = h('p', { class: 'trouble', role: 'status', hidden: true });
    this.numbers = h('dl', {});
    this.png = h('a', { class: 'download' }, 'PNG');
    this.gif = h('button', { type: 'button', class: 'download', onclick: () => this.#saveAnimation() }, 'GIF');
    this.csv = h('button', { type: 'button', class: 'download', onclick: () => save(`${fileName(this.run.name, this.name)}.csv`, csvOf([this.run], [this.name], this.run.steps), 'text/csv') }, 'CSV');
    this.strip = new FilmStrip(clock);
    this.plot = new Plot(clock);
    this.real = new RealImages();
    this.neighbours = new Neighbours(clock, open);
    this.more = h('img', { alt: 'Real images, accentuated' });
    this.accentuated = h('div', { class: 'accentuated', hidden: true }, this.more,
      h('p', { class: 'said' }, 'Above, real images; below, what would activate this unit more in them.'));
    this.rows = h('tbody', {});
    this.table = h('details', { class: 'all-numbers', ontoggle: () => this.#fillTable() },
      h('summary', {}, 'All numbers'),
      h('table', {}, h('thead', {}, h('tr', {}, ...COLUMNS.map((text) => h('th', { scope: 'col' }, text)))), this.rows));
    const chart = (text, ending) => h('button', { type: 'button', class: 'download', onclick: () => this.#saveChart(ending) }, text);
    this.charts = h('span', { class: 'downloads' }, chart('Chart SVG', 'svg'), chart('Chart PNG', 'png'));
    const downloads = h('p', { class: 'downloads' }, h('span', {}, 'Download'), this.png, this.gif, this.csv, this.charts);
    this.node = h('section', { class: 'part' }, this.title, h('div', { class: 'sheet' },
      h('div', { class: 'large-side' }, h('span', { class: 'picture large' }, this.canvas, this.over, this.badge), this.reason, this.legend),
      h('div', { class: 'facts' }, this.verdict, this.numbers, downloads),
      this.strip.node, this.real.node, this.plot.node, this.accentuated, this.neighbours.node, this.table));
    this.node.style.setProperty('--run', colour);
  }

  setRun(run, name, steps) {
    const target = run.targets.get(name);
    const same = this.run?.version === run.version && this.name === name && this.steps === steps;
    this.steps = steps;
    if (this.name !== name) this.#forget();
    [this.run, this.name, this.target] = [run, name, target];
    if (same) return;
    this.node.hidden = !target;
    if (!target) return;
    this.plot.draw(run, target, steps);
    this.charts.hidden = this.plot.node.hidden;
    this.strip.setTarget(run, target);
    this.neighbours.setTarget(run, target);
    this.#fillTable();
  }

  // Until the new target's pictures come, the old target's pictures would pass for them.
  #forget() {
    this.strip.forget();
    this.real.forget();
    this.drawn = this.drawnOver = undefined;
    this.canvas.width = this.over.width = 1;
    this.legend.replaceChildren();
  }

  async #saveChart(ending) {
    const chart = drawChart(this);
    const name = `${fileName(this.run.name, this.name)}_chart.${ending}`;
    if (ending === 'svg') save(name, asXml(chart.node), 'image/svg+xml');
    else save(name, await rasterise(chart, MILLIMETRES));
  }

  // The server takes a while to make a long animation, and a plain link would not say so.
  async #saveAnimation() {
    const { gif, run, name } = this;
    if (gif.getAttribute('aria-busy') === 'true') return;
    setAttribute(gif, 'aria-busy', 'true');
    setText(gif, 'GIF, being made…');
    try {
      save(`${fileName(run.name, name)}.gif`, await fetchAnimation(run.name, name));
      setText(gif, 'GIF');
    } catch (error) {
      setText(gif, error.status === 413 ? 'GIF: too large' : 'GIF: failed, try again');
    }
    setAttribute(gif, 'aria-busy', 'false');
  }

  show(step, pictures, withImportance) {
    const frame = this.run.frameAt(this.name, step);
    Object.assign(this, { frame, withImportance });
    this.plot.showStep(step);
    setText(this.badge, frame?.status && frame.status !== 'ok' ? STATUS_LABELS[frame.status] : '');
    setAttribute(this.badge, 'title', frame ? reasonOf(frame) : '');
    setAttribute(this.node, 'data-status', frame?.status ?? 'unknown');
    const label = frame ? stepLabel(frame.step) : 'not seen yet';
    setAttribute(this.canvas, 'aria-label', `${this.name}, ${this.run.label}, ${label}`);
    setText(this.verdict, frame ? verdictOf(frame) : '');
    this.#showNumbers(frame, label);
    this.strip.show(frame);
    this.real.show(this.run, this.target, frame);
    this.neighbours.update();
    const more = frame && this.target.accentuated?.[frame.index];
    this.accentuated.hidden = !more;
    if (more) setAttribute(this.more, 'src', pictureUrl(more));
    this.png.hidden = !frame;
    if (frame) {
      this.png.href = pictureUrl(frame.key);
      this.png.download = `${fileName(this.run.name, this.name)}_${stepLabel(frame.step).replace(' ', '_')}.png`;
    }
    this.draw(pictures);
  }

  draw(pictures) {
    const key = this.frame?.key ?? null;
    const bitmap = key === null ? null : pictures.get(key);
    this.#drawImportance(pictures);
    if (this.drawn === key || bitmap === undefined) return;
    this.drawn = key;
    this.node.classList.toggle('missing', bitmap === null);
    const reason = bitmap === null && key !== null ? pictures.reasonOf(key) : '';
    this.reason.hidden = !reason;
    setText(this.reason, reason ? `This picture cannot be shown. ${reason}` : '');
    this.legend.replaceChildren();
    if (bitmap === null) {
      this.canvas.width = 1;
      return;
    }
    paint(this.canvas, bitmap);
    const signal = isSignal(bitmap);
    this.canvas.classList.toggle('signal', signal);
    if (signal) this.legend.replaceChildren(legendOf(channelsIn(bitmap)));
  }

  #drawImportance(pictures) {
    const key = this.withImportance ? this.frame?.importance ?? null : null;
    const bitmap = key === null ? null : pictures.get(key);
    const picture = pictures.get(this.frame?.key ?? null);
    this.over.hidden = !bitmap || !picture;
    if (bitmap && picture && this.drawnOver !== key) {
      this.drawnOver = key;
      paint(this.over, bitmap);
      this.over.classList.toggle('mask', isMask(bitmap, picture));
    }
  }

  #showNumbers(frame, label) {
    const facts = [
      ['Epoch', label.replace('epoch ', '')],
      ['Score', formatNumber(frame?.score)],
      ['Drift', formatNumber(frame?.drift)],
    ];
    if (this.target.ratio) facts.push(['Score ÷ best real', formatNumber(frame && shownRatio(frame))]);
    if (this.target.functional) facts.push(['Functional drift', formatNumber(frame?.functional)]);
    if (this.target.selectivity) facts.push(['Selectivity', formatNumber(frame?.selectivity)]);
    if (this.target.overlap) facts.push(['Top images kept', (frame?.overlap ?? null) === null ? '–' : formatPercent(frame.overlap)]);
    if (this.target.share) facts.push(['Fires on', (frame?.share ?? null) === null ? '–' : formatPercent(frame.share)]);
    if (frame?.status) facts.push(['Status', this.#since(frame), reasonOf(frame)]);
    const text = JSON.stringify(facts);
    if (this.facts === text) return;
    this.facts = text;
    this.numbers.replaceChildren(...facts.map(([term, value, why]) => h('div', { class: why ? 'with-why' : null }, h('dt', {}, term),
      h('dd', {}, value, why ? h('span', { class: 'why' }, why) : null))));
  }

  // A trouble is shown with the epoch at which it began.
  #since({ status, index }) {
    const label = STATUS_LABELS[status];
    if (status === 'ok') return label;
    let first = index;
    while (first > 0 && this.run.frameAt(this.name, this.run.steps[first - 1])?.status === status) first -= 1;
    return `${label} since ${stepLabel(this.run.steps[first])}`;
  }

  #fillTable() {
    if (!this.table.open) return;
    const { run, name, target } = this;
    this.rows.replaceChildren(...run.steps.map((step, i) => {
      if (!target.key[i]) return '';
      const frame = run.frameAt(name, step);
      const numbers = [frame.score, shownRatio(frame), frame.drift, frame.functional].map(formatNumber);
      return h('tr', {}, h('th', { scope: 'row' }, stepLabel(step)), ...[...numbers, STATUS_LABELS[frame.status] ?? '–'].map((text) => h('td', {}, text)));
    }));
  }
}
