"""List what the callback shows of fifty model families, as people write them.

Each family of `tests/real_code` trains with one line, `FeatureVisCallback(log_dir=...)`,
and nothing else. Without `probe_data`, only a scaling inside the model tells its range; the
column "in its code" has the range of the images that its published code feeds it. Where
nothing is shown, the last column says why. A short form goes into the README.

    python benchmarks/real_code.py [--only "VAE" "DCGAN"]
"""

import argparse
import logging
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import keras
import numpy as np
from common import write_table

from featviz_callback import FeatureVisCallback

sys.path.append(str(Path(__file__).parents[1]))
from tests.real_code.checks import layer_of, train
from tests.real_code.families import FAMILIES, KINDS

README = Path(__file__).parents[1] / "README.md"
NOTHING = "none"

COLUMNS = ("family", "layers shown", "images", "values", "in its code", "statuses at the end")


def row_of(family):
    """Train a family; return its row of the table."""
    callback = FeatureVisCallback(log_dir=tempfile.mkdtemp())
    train(family, callback)
    history = callback.history
    if not len(history):
        return family.name, NOTHING, "", "", _as_text(family.values_range), family.note
    layers = dict.fromkeys(layer_of(name) for name in history.names)
    counts = Counter(np.asarray(history.status[-1]).tolist())
    shape = " x ".join(map(str, history.images.shape[2:]))
    statuses = ", ".join(f"{count} {status}" for status, count in counts.items())
    ranges = _as_text(history.values_range), _as_text(family.values_range)
    return family.name, ", ".join(layers), shape, *ranges, statuses


def _as_text(values_range):
    if values_range is None:
        return ""
    low, high = (", ".join(f"{one:.3g}" for one in np.atleast_1d(end)) for end in values_range)
    return f"{low} to {high}"


def short_form(rows):
    """Return a table of how many families of each kind are shown."""
    shown = {name: layers != NOTHING for name, layers, *_ in rows}
    lines = ["| models | families | shown |", "| --- | --- | --- |"]
    for kind, modules in KINDS.items():
        own = [one.name for module in modules for one in module.FAMILIES if one.name in shown]
        if own:
            lines.append(f"| {kind} | {len(own)} | {sum(shown[name] for name in own)} |")
    return "\n".join(lines)


def write_readme(rows):
    """Put the short form between the marks in the README."""
    text = re.sub(
        "(<!-- families -->\n).*?(<!-- end -->)",
        lambda found: found[1] + short_form(rows) + "\n" + found[2],
        README.read_text(),
        flags=re.DOTALL,
    )
    README.write_text(text)


def main():
    """Write one row a family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*")
    only = parser.parse_args().only
    logging.getLogger("featviz_callback").setLevel(logging.ERROR)
    rows = []
    for family in FAMILIES:
        is_asked = only is None or family.name in only
        if is_asked and keras.backend.backend() in family.backends:
            rows.append(row_of(family))
            print(rows[-1], flush=True)
    if only is None:
        write_table("real_code", "What one line shows of fifty model families", COLUMNS, rows)
        write_readme(rows)


if __name__ == "__main__":
    main()
