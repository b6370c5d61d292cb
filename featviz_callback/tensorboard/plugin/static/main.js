// The tab "Features" of TensorBoard: it begins here. The first line of each module says what that
// module is about.

// All of them, since a browser would find those that others import one level after the other.
import './activations.js';
import './api.js';
import './backdrop.js';
import './card.js';
import './chart.js';
import './columns.js';
import './decoder.js';
import './difference.js';
import './download.js';
import './figure.js';
import './filmstrip.js';
import './filter.js';
import './fit.js';
import './importance.js';
import './keys.js';
import './limits.js';
import './matcher.js';
import './matrix.js';
import './menu.js';
import './message.js';
import './mini.js';
import './model.js';
import './neighbours.js';
import './network.js';
import './numbers.js';
import './panes.js';
import './part.js';
import './pictures.js';
import './plot.js';
import './real.js';
import './runs.js';
import './runtable.js';
import './sheet.js';
import './signal.js';
import './spark.js';
import './swipe.js';
import './tallies.js';
import './thumb.js';
import './timeline.js';
import './toolbar.js';
import './view.js';
import './viewer.js';
import './wall.js';
import './watch.js';
import './words.js';
import { App } from './app.js';
import { h } from './dom.js';
import { followTheme } from './host.js';

// In this order, since the last one changes what the others set.
const STYLES = ['base', 'toolbar', 'wall', 'unit', 'charts', 'screens'];

// TensorBoard calls this function in the document of the tab's iframe.
export async function render() {
  const styles = STYLES.map((name) => h('link', { rel: 'stylesheet', href: `./static/${name}.css` }));
  const styled = styles.map((style) => new Promise((resolve) => { style.onload = resolve; style.onerror = resolve; }));
  document.documentElement.lang = 'en';
  document.title = 'Features';
  document.head.append(h('meta', { name: 'viewport', content: 'width=device-width, initial-scale=1' }), ...styles);
  followTheme(document.documentElement);
  const app = new App();
  const refreshed = app.refresh();
  await Promise.all(styled);
  document.body.replaceChildren(app.root);
  await refreshed;
  app.watch();
}
