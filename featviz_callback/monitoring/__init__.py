"""Watch a training: the callback, its snapshots, their costs and what is said of them.

The room imports all others and is imported by the front door alone. It never changes a
weight, a random state or an optimizer of the training that it watches.
"""

from featviz_callback.monitoring.callback import FeatureVisCallback

__all__ = ["FeatureVisCallback"]
