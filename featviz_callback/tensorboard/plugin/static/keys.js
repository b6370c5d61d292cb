// The keyboard: arrows, home and end move the clock, space plays, j and k lead to a neighbour, p
// pins a target.

import { onHostKey } from './host.js';

const NEIGHBOURS = { j: 1, k: -1 };
const ROWS = { ArrowDown: 1, ArrowUp: -1 };

export function followKeys(clock, { isOpen, openNeighbour, moveFocus, pin }) {
  const follow = (event) => {
    if (isTaken(event)) return;
    const { key, target } = event;
    const moves = { ArrowLeft: clock.index - 1, ArrowRight: clock.index + 1, Home: 0, End: clock.last };
    if (key in moves && !isSlider(target)) clock.go(moves[key]);
    else if (key === ' ' && !isPressed(target)) clock.toggle();
    else if (key in NEIGHBOURS && isOpen()) openNeighbour(NEIGHBOURS[key]);
    else if (key in NEIGHBOURS) moveFocus(NEIGHBOURS[key], 0);
    else if (key === 'p' && !event.repeat && (isOpen() || target.dataset.name)) pin(target.dataset.name);
    else if (key in ROWS && !isOpen() && target.closest('main')) moveFocus(0, ROWS[key]);
    else return;
    event.preventDefault();
  };
  document.addEventListener('keydown', follow);
  // A button would be pressed as the key goes up.
  document.addEventListener('keyup', (event) => {
    if (event.key === ' ' && event.target.matches(PICTURES)) event.preventDefault();
  });
  onHostKey(follow);
}

const PICTURES = '.card, .still, .real-image, .neighbour';

// The browser's shortcuts, the fields for text, and the figure builder keep their keys.
function isTaken(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return true;
  if (event.target.closest('.figure')) return true;
  return event.target.matches('input:not([type=checkbox]), select, textarea') && !isSlider(event.target);
}

// Space presses a button and a checkbox; on a picture, which the enter key opens, it plays.
function isPressed(target) {
  return target.matches('button, summary, input[type=checkbox]') && !target.matches(PICTURES);
}

// A slider of time handles arrows, home and end by itself; the page handles its other keys.
function isSlider(target) {
  return target.closest('.timeline') && target.matches('input');
}
