// The columns of the table of runs: what differs between the names of runs.

// A name is cut at its marks: "sweep/lr=0.1,seed=3" has the parts "sweep", "lr=0.1", "seed=3".
const MARKS = /[/,;\s]+|_(?=[a-zA-Z]+[=\d])|-(?=[a-zA-Z]+[=\d])/;

// Returns `{ titles, values }`: for each run, by its label, one value a column.
export function columnsOf(labels) {
  const parts = labels.map((label) => label.split(MARKS).filter(Boolean));
  const count = parts[0]?.length ?? 0;
  const differ = Array.from({ length: count }, (_, i) => i)
    .filter((i) => new Set(parts.map((part) => part[i])).size > 1);
  if (labels.length < 2 || !differ.length || parts.some((part) => part.length !== count)) {
    return { titles: ['Run'], values: labels.map((label) => [label]) };
  }
  const keys = differ.map((i) => keyOf(parts.map((part) => part[i])));
  return {
    titles: keys.map((key, i) => key.replace(/[=_:-]$/, '') || (differ.length > 1 ? `Run, part ${differ[i] + 1}` : 'Run')),
    values: parts.map((part) => differ.map((i, at) => part[i].slice(keys[at].length))),
  };
}

// Returns the letters with which all values begin, up to what looks like a number or follows "=".
function keyOf(values) {
  const [first] = values;
  const key = /^[^=]*=/.exec(first)?.[0] ?? /^[a-zA-Z_]+(?=[\d.])/.exec(first)?.[0] ?? '';
  return values.every((value) => value.startsWith(key) && value.length > key.length) ? key : '';
}
