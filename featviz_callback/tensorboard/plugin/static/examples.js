// The examples: the real images that activate a unit most, beside its optimised picture.

import { pictureUrl } from './api.js';
import { h, setText } from './dom.js';
import { stepLabel, STATUSES } from './model.js';

export class Examples {
  #shown = null; // the key of an image

  constructor() {
    this.image = h('img', { alt: '' });
    this.caption = h('figcaption', {});
    this.node = h('figure', { class: 'examples', hidden: true }, this.image, this.caption);
  }

  forget() {
    this.#shown = null;
    this.node.hidden = true;
  }

  // An epoch without examples shows the examples of the latest epoch before it.
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
    // The page would jump if it showed an image before the browser has decoded it.
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
  const status = STATUSES[target.status?.[index]];
  // The ratio divides by the best score of a real image, and is null where that score is 0 or less.
  const activates = (target.ratio?.[index] ?? null) !== null;
  let text = ', beside real images: none activates this unit';
  if (status === 'constant') text = '; all real images score the same';
  else if (activates) text = ', beside the real images that activate this unit most';
  else if (status === 'dead') text = '; of the real images none activates this unit';
  return `The optimised picture${text}, ${stepLabel(step)}`;
}
