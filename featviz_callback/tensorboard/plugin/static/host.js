// The host: TensorBoard's window around this page, with its address, theme, reloads and keys.

const PREFIX = 'p.feature_vis.';
const TAB = 'feature_vis';
const OURS = 'featureVisUnit';

const host = (() => {
  try {
    return parent.document ? parent : window;
  } catch {
    return window; // A page of another origin embeds ours, and the browser hides that page.
  }
})();
const embedded = host !== window;

function readHash() {
  return host.location.hash.slice(1).split('&').filter(Boolean).map((part) => {
    const [name, ...value] = part.split('=');
    try {
      return [decodeURIComponent(name), value.length ? decodeURIComponent(value.join('=')) : null];
    } catch {
      return [name, null];
    }
  });
}

// Returns the values that the address holds for this tab, by name.
export function readAddress() {
  const ours = readHash().filter(([name, value]) => name.startsWith(PREFIX) && value !== null);
  return new Map(ours.map(([name, value]) => [name.slice(PREFIX.length), value]));
}

// The values of other tabs stay in the address.
export function writeAddress(values, isEntry = false) {
  const others = readHash().filter(([name]) => !name.startsWith(PREFIX));
  const [tab] = others.find(([, value]) => value === null) ?? [embedded ? TAB : ''];
  if (embedded && tab !== TAB) return; // The address belongs to another tab.
  const parts = [...others.filter(([, value]) => value !== null),
    ...[...values].map(([name, value]) => [PREFIX + name, value])]
    .map((pair) => pair.map(encodeURIComponent).join('='));
  const hash = `#${[tab, ...parts].filter(Boolean).join('&')}`;
  if (hash === host.location.hash) return;
  // A hash alone would be resolved against the page's base, which is another address.
  const { pathname, search } = host.location;
  const url = pathname + search + hash;
  if (isEntry) host.history.pushState({ ...host.history.state, [OURS]: true }, '', url);
  else host.history.replaceState(host.history.state, '', url);
}

// Whether the address is an entry of the history that this page has added.
export function isOwnEntry() {
  return Boolean(host.history.state?.[OURS]);
}

export function goBack() {
  host.history.back();
}

export function onAddressChange(action) {
  host.addEventListener('hashchange', action);
  host.addEventListener('popstate', action);
}

export function followTheme(root) {
  const preferred = matchMedia('(prefers-color-scheme: dark)');
  const apply = () => {
    const dark = embedded ? host.document.body.classList.contains('dark-mode') : preferred.matches;
    root.dataset.theme = dark ? 'dark' : 'light';
  };
  apply();
  preferred.addEventListener('change', apply);
  if (embedded) new MutationObserver(apply).observe(host.document.body, { attributeFilter: ['class'] });
}

// TensorBoard sends the same message at its reload button and at its reloads by time.
export function onReload(action) {
  if (!embedded) return;
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = (event) => {
    const { type, id, isReply } = JSON.parse(event.data);
    if (isReply) return;
    port1.postMessage(JSON.stringify({ type, id, payload: null, error: null, isReply: true }));
    if (type === 'experimental.DataReloaded') action();
  };
  host.postMessage('experimental.bootstrap', location.origin, [port2]);
}

// A key goes to TensorBoard's page while no element has the focus.
export function onHostKey(action) {
  if (!embedded) return;
  host.document.addEventListener('keydown', (event) => {
    if (isShown() && event.target === host.document.body) action(event);
  });
}

// TensorBoard keeps the page of a tab that the user has left, and hides it.
export function isShown() {
  return !document.hidden && document.documentElement.clientWidth > 0;
}
