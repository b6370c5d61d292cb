"""Watch what each neuron of a Keras 3 vision model is learning, while it learns."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featviz_callback.images import parameterizations, regularizers, transformations
    from featviz_callback.monitoring import FeatureVisCallback
    from featviz_callback.monitoring.atlas import atlas
    from featviz_callback.monitoring.replay import replay
    from featviz_callback.objectives import Objective, default_objectives
    from featviz_callback.optimization import optimize
    from featviz_callback.records import History, Result

__all__ = [
    "FeatureVisCallback",
    "History",
    "Objective",
    "Result",
    "atlas",
    "default_objectives",
    "optimize",
    "parameterizations",
    "regularizers",
    "replay",
    "transformations",
]
__version__ = "0.1.0"

# The subpackage that defines each public name.
_SUBPACKAGES = {
    "FeatureVisCallback": "monitoring",
    "History": "records",
    "Objective": "objectives",
    "Result": "records",
    "atlas": "monitoring",
    "default_objectives": "objectives",
    "optimize": "optimization",
    "parameterizations": "images",
    "regularizers": "images",
    "replay": "monitoring",
    "transformations": "images",
}


# A type checker would conclude from `__getattr__` that every name exists.
if not TYPE_CHECKING:

    def __getattr__(name):
        # Names are imported at their first use. TensorBoard imports this package for its
        # tab, in a process that may have no backend of Keras.
        if name not in _SUBPACKAGES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_SUBPACKAGES[name]}"), name)


def __dir__():
    return sorted({*globals(), *__all__})
