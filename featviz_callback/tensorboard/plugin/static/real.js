// The real images that activate a unit most: single, large at a click, with what the log says of
// each, and where in it the unit is active. Older logs have one sheet of them instead.

import { fetchReal, pictureUrl } from './api.js';
import { h, setText } from './dom.js';
import { formatNumber, stepLabel } from './words.js';

// No real image activates such a unit more than another.
const SILENT = ['dead', 'constant'];

export class RealImages {
  #asked = null;

  constructor() {
    this.scores = h('ol', { class: 'private-scores' });
    this.places = h('input', { type: 'checkbox', onchange: () => this.node.classList.toggle('with-places', this.places.checked) });
    this.switch = h('label', { class: 'switch' }, this.places, 'where it fires');
    this.list = h('ul', { class: 'real-images' });
    this.caption = h('figcaption', {});
    this.node = h('figure', { class: 'examples', hidden: true }, this.list, this.scores, this.caption, this.switch);
  }

  forget() {
    this.#asked = null;
    this.node.hidden = true;
  }

  // An epoch without examples shows those of the latest epoch before it. Single images are written
  // when they change, and so are those of the epochs after it too.
  async show(run, target, frame) {
    const keys = target.real ?? target.examples ?? target.private ?? [];
    let index = frame ? frame.index : -1;
    while (index >= 0 && !keys[index]) index -= 1;
    const key = keys[index] ?? null;
    if (key === null) {
      this.forget();
      return;
    }
    const isSilent = Boolean(target.real) && SILENT.includes(frame.status);
    const asked = isSilent ? 'none' : key;
    const step = run.steps[target.real ? frame.index : index];
    this.words = describe(run.frameAt(target.name, step), !target.examples || Boolean(target.real), step);
    if (this.#asked === asked) {
      setText(this.caption, this.words);
      return;
    }
    this.#asked = asked;
    try {
      const { images, listed } = isSilent ? { images: [], listed: [] } : await this.#images(run, target, key, run.steps[index]);
      const items = images.map((image, rank) => this.#item(image, rank, step));
      // The page would jump if it showed an image before the browser has decoded it.
      await Promise.all(items.map(({ image }) => image.decode().catch(() => {})));
      if (this.#asked === asked) this.#put(items, images, listed, this.words);
    } catch {
      if (this.#asked === asked) this.forget();
    }
  }

  async #images(run, target, key, step) {
    if (!target.real && target.examples) return { images: [{ key, place: null, description: '', isSheet: true }], listed: [] };
    const found = await fetchReal(run.name, target.name, step);
    return { images: found.images, listed: found.private };
  }

  #item({ key, place, description, isSheet }, rank, step) {
    const alt = isSheet ? `The optimised picture beside real images, ${stepLabel(step)}` : `Real image ${rank + 1}: ${description}`;
    const image = h('img', { src: pictureUrl(key), alt, class: isSheet ? 'sheet-image' : place ? 'place-known' : '' });
    const over = place ? h('img', { src: pictureUrl(place), alt: `${alt}, where it activates the unit, and a crop`, class: 'place' }) : null;
    const enlarge = () => button.setAttribute('aria-expanded', String(item.classList.toggle('large')));
    const button = h('button', { type: 'button', class: 'real-image', 'aria-expanded': 'false', title: 'Larger or smaller', onclick: enlarge }, image, over);
    const text = description ? h('span', { class: 'said' }, description) : null;
    const item = h('li', { class: isSheet ? 'whole' : place ? 'has-place' : '' }, button, text);
    return { image, item };
  }

  // Private images are told by their position in the data and their score.
  #put(items, images, listed, caption) {
    this.scores.replaceChildren(...listed.map(({ index, score }) => h('li', {}, `image ${index}, score ${formatNumber(score)}`)));
    this.scores.hidden = !listed.length;
    this.list.replaceChildren(...items.map(({ item }) => item));
    this.switch.hidden = !images.some(({ place }) => place);
    setText(this.caption, caption);
    this.node.hidden = false;
  }
}

function describe(frame, areSingle, step) {
  // The ratio divides by the best score of a real image, and is null where that score is 0 or less.
  const activates = (frame?.ratio ?? null) !== null || frame?.share > 0;
  let text = 'none activates this unit';
  if (frame?.status === 'constant') text = 'all score the same, so these are no better than others';
  else if (activates) text = 'those that activate this unit most';
  return `Real images${areSingle ? '' : ', behind the optimised picture'}: ${text}, ${stepLabel(step)}`;
}
