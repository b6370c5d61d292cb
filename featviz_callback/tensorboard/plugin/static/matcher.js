// A worker: which names an expression matches. Some expressions take longer than anybody
// waits, and only a worker can be stopped.

onmessage = ({ data: { query, names } }) => {
  const expression = new RegExp(query, 'i');
  postMessage(names.filter((name) => expression.test(name)));
};
