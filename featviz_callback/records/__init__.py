"""Store results, snapshots and the history of a training, and draw them as pictures.

Everything here is NumPy arrays, plain dataclasses and Pillow. This room imports no
other room of `featviz_callback`. It never imports Keras or a framework, so you can open
an archive of a training on a machine that has neither.
"""

from featviz_callback.records import highlights, pictures
from featviz_callback.records.behaviour import Behaviour
from featviz_callback.records.drift import drift
from featviz_callback.records.health import NUMBERS, Checkup, Health
from featviz_callback.records.history import History
from featviz_callback.records.result import Result, as_range
from featviz_callback.records.snapshot import Snapshot
from featviz_callback.records.spread import spread

__all__ = [
    "NUMBERS",
    "Behaviour",
    "Checkup",
    "Health",
    "History",
    "Result",
    "Snapshot",
    "as_range",
    "drift",
    "highlights",
    "pictures",
    "spread",
]
