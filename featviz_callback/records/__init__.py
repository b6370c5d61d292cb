"""What was found, and how it is shown: results, snapshots, the history, pictures.

Everything here is NumPy arrays, plain dataclasses and Pillow. The room imports no other
room and never imports Keras or a framework, so that an archive of a training can be
opened where neither is installed.
"""

from featviz_callback.records import pictures
from featviz_callback.records.drift import drift
from featviz_callback.records.history import History
from featviz_callback.records.result import Result
from featviz_callback.records.snapshot import Snapshot
from featviz_callback.records.spread import spread

__all__ = ["History", "Result", "Snapshot", "drift", "pictures", "spread"]
