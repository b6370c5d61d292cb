// The server's answers: one function for each route that plugin.py describes.

// How often the page asks for an animation that others come before.
const MOST_ASKED = 60;

async function get(url, options) {
  const answer = await fetch(url, options);
  if (!answer.ok) {
    const seconds = Number(answer.headers.get('Retry-After')) || 1;
    throw Object.assign(new Error(await answer.text()), { status: answer.status, seconds });
  }
  return answer;
}

// Names may be longer than any address, so they go into the body.
function post(route, content) {
  return get(`./${route}`, { method: 'POST', body: JSON.stringify(content), headers: { 'Content-Type': 'application/json' } });
}

export async function fetchRuns() {
  return (await (await get('./index')).json()).runs;
}

// Resolves to an object: for each run its frames, or null where nothing is newer than a version.
export async function fetchNews(versions) {
  return (await post('news', { runs: versions })).json();
}

// Resolves to a list: for each key what `read` makes of its picture; decoder.js has two such
// functions. An answer has the first ones, as many as fit, so large pictures take several.
export async function fetchPictures(keys, read) {
  const found = [];
  while (found.length < keys.length) {
    const answer = await post('pictures', { keys: keys.slice(found.length) });
    const some = await read(await answer.arrayBuffer());
    if (!some.length) throw new Error('The answer has no picture.');
    found.push(...some);
  }
  return found;
}

export function pictureUrl(key) {
  return `./picture?${new URLSearchParams({ key })}`;
}

// While the server makes others it answers 503, and says when to ask again.
export async function fetchAnimation(run, name, most = MOST_ASKED) {
  try {
    return await (await post('animation', { run, name })).blob();
  } catch (error) {
    if (error.status !== 503 || most <= 1) throw error;
    await new Promise((resolve) => { setTimeout(resolve, 1000 * error.seconds); });
  }
  return fetchAnimation(run, name, most - 1);
}

export async function fetchReal(run, name, step) {
  return (await post('real', { run, name, step })).json();
}

// `by` is "picture" or "function".
export async function fetchNearest(run, name, step, by) {
  return (await post('nearest', { run, name, step, by })).json();
}

export async function fetchActivations(run, layer) {
  return (await post('activations', { run, layer })).json();
}
