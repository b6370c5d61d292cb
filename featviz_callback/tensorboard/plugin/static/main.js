// The tab "Features" of TensorBoard: it begins here. The first line of each module says what that
// module is about.

import { App } from './app.js';
import { h } from './dom.js';
import { followTheme } from './host.js';

// TensorBoard calls this function in the document of the tab's iframe.
export async function render() {
  const style = h('link', { rel: 'stylesheet', href: './static/style.css' });
  const styled = new Promise((resolve) => { style.onload = resolve; style.onerror = resolve; });
  document.documentElement.lang = 'en';
  document.title = 'Features';
  document.head.append(h('meta', { name: 'viewport', content: 'width=device-width, initial-scale=1' }), style);
  followTheme(document.documentElement);
  const app = new App();
  const refreshed = app.refresh();
  await styled;
  document.body.replaceChildren(app.root);
  await refreshed;
  app.watch();
}
