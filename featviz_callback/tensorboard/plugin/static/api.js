// The server's answers: one function for each route that plugin.py describes.

function address(route, parameters) {
  return `./${route}?${new URLSearchParams(parameters)}`;
}

async function get(url, options) {
  const answer = await fetch(url, options);
  if (!answer.ok) throw Object.assign(new Error(await answer.text()), { status: answer.status });
  return answer;
}

export async function fetchRuns() {
  return (await (await get('./index')).json()).runs;
}

// Resolves to null where the server has nothing newer than that version.
export async function fetchFrames(run, version) {
  const parameters = version === undefined ? { run } : { run, version };
  const answer = await get(address('frames', parameters));
  return answer.status === 204 ? null : answer.json();
}

// Resolves to a list: for each name a blob, or null where there is no picture.
export async function fetchPictures(run, step, names) {
  const parameters = [['run', run], ['step', step], ...names.map((name) => ['name', name])];
  const buffer = await (await get(address('pictures', parameters))).arrayBuffer();
  const view = new DataView(buffer);
  let at = 0;
  return names.map(() => {
    const length = view.getUint32(at, true);
    const start = at + 4;
    at = start + length;
    return length ? new Blob([buffer.slice(start, at)], { type: 'image/png' }) : null;
  });
}

export function pictureUrl(run, name, step, key, kind = 'pictures') {
  return address('picture', { run, name, step, kind, key });
}

export async function fetchAnimation(run, name) {
  return (await get(address('animation', { run, name }))).blob();
}
