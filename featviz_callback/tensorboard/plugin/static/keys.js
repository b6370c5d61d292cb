// The keyboard: arrows, home and end move the clock, space plays, j and k open a neighbour.

import { onHostKey } from './host.js';

const NEIGHBOURS = { j: 1, k: -1 };

export function followKeys(clock, viewer, openNeighbour) {
  const follow = (event) => {
    if (isTaken(event)) return;
    const { key, target } = event;
    const moves = { ArrowLeft: clock.index - 1, ArrowRight: clock.index + 1, Home: 0, End: clock.last };
    if (key in moves && !isSlider(target)) clock.go(moves[key]);
    else if (key === ' ' && !target.matches('button, summary, a')) clock.toggle();
    else if (key in NEIGHBOURS && viewer.node.open) openNeighbour(NEIGHBOURS[key]);
    else return;
    event.preventDefault();
  };
  document.addEventListener('keydown', follow);
  onHostKey(follow);
}

// The browser's shortcuts and the fields for text keep their keys.
function isTaken(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return true;
  return event.target.matches('input, select, textarea') && !isSlider(event.target);
}

// A slider of time handles arrows, home and end by itself; the page handles its other keys.
function isSlider(target) {
  return target.closest('.timeline') && target.matches('input');
}
