// The watch: it asks for news often while a run is young, and less often the longer nothing came.

import { isShown } from './host.js';

const SECONDS = { least: 3, most: 30 };
const PATIENCE = 40;

export async function watch(runs, refresh) {
  for (;;) {
    if (isShown()) await refresh();
    const idle = Math.min(SECONDS.most, Math.max(SECONDS.least, runs.idleSeconds / PATIENCE));
    const seconds = runs.isReading ? 0.1 : idle;
    await new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
  }
}
