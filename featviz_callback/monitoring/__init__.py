"""Watch a training: the callback, its snapshots, their costs and its messages.

This room imports all others, and only `featviz_callback/__init__.py` imports this one.
It never changes a weight, a random state or an optimizer of the training that it watches.
"""

from featviz_callback.monitoring.atlas import Atlas, atlas
from featviz_callback.monitoring.callback import FeatureVisCallback
from featviz_callback.monitoring.listeners import TakenSnapshot
from featviz_callback.monitoring.replay import replay

__all__ = ["Atlas", "FeatureVisCallback", "TakenSnapshot", "atlas", "replay"]
