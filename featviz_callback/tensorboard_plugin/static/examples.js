// The examples: the real images that activate a unit most, beside its optimised picture.

import { pictureUrl } from './api.js';
import { h, setText } from './dom.js';
import { stepLabel } from './model.js';

export class Examples {
  #shown = null; // the key of the image

  constructor() {
    this.image = h('img', { alt: '' });
    this.caption = h('figcaption', {});
    this.node = h('figure', { class: 'examples', hidden: true }, this.image, this.caption);
  }

  forget() {
    this.#shown = null;
    this.node.hidden = true;
  }

  // Not every epoch has examples; between two that have, the earlier ones are shown.
  show(run, target, frame) {
    const keys = target.examples ?? [];
    let index = frame ? run.steps.indexOf(frame.step) : -1;
    while (index >= 0 && !keys[index]) index -= 1;
    const key = keys[index] ?? null;
    if (this.#shown === key) return;
    if (key === null) {
      this.forget();
      return;
    }
    this.#shown = key;
    const step = run.steps[index];
    const image = h('img', {
      src: pictureUrl(run.name, target.name, step, key, 'examples'),
      alt: `The optimised picture beside real images, ${stepLabel(step)}`,
    });
    // An image is shown once it is decoded, so that the page does not jump.
    image.decode().then(() => {
      if (this.#shown === key) this.#put(image, describe(target, index, step));
    }).catch(() => {
      if (this.#shown === key) this.forget();
    });
  }

  #put(image, caption) {
    this.image.replaceWith(image);
    this.image = image;
    setText(this.caption, caption);
    this.node.hidden = false;
  }
}

function describe(target, index, step) {
  // The ratio is to the best score of a real image; a best score of 0 or less has no ratio.
  const excites = (target.ratio?.[index] ?? null) !== null;
  return excites
    ? `The optimised picture, beside the real images that excite this unit most, ${stepLabel(step)}`
    : `The optimised picture, beside real images: none excites this unit, ${stepLabel(step)}`;
}
