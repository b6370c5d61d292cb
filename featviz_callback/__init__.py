"""Watch what each neuron of a Keras 3 vision model is learning, while it learns."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featviz_callback.images import parameterizations, regularizers, transformations
    from featviz_callback.monitoring import FeatureVisCallback
    from featviz_callback.objectives import Objective
    from featviz_callback.optimization import optimize
    from featviz_callback.records import History, Result

__all__ = [
    "FeatureVisCallback",
    "History",
    "Objective",
    "Result",
    "optimize",
    "parameterizations",
    "regularizers",
    "transformations",
]
__version__ = "0.1.0"

# The room that hands on each public name.
_ROOMS = {
    "FeatureVisCallback": "monitoring",
    "History": "records",
    "Objective": "objectives",
    "Result": "records",
    "optimize": "optimization",
    "parameterizations": "images",
    "regularizers": "images",
    "transformations": "images",
}


# Type checkers would take it for a promise that every name exists.
if not TYPE_CHECKING:

    def __getattr__(name):
        # At first use, since TensorBoard imports this package for its tab, in a process
        # that needs no Keras and may have no backend for it.
        if name not in _ROOMS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__():
    return sorted({*globals(), *__all__})
