// The matcher: a worker that tests names against an expression. Some expressions take longer
// than any user waits, and only a worker can be stopped.

onmessage = ({ data: { query, names } }) => {
  const expression = new RegExp(query, 'i');
  postMessage(names.filter((name) => expression.test(name)));
};
