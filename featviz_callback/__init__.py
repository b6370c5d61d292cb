"""Watch what each neuron of a Keras 3 vision model is learning, while it learns."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featviz_callback import parameterizations, regularizers, transformations
    from featviz_callback.callback import FeatureVisCallback
    from featviz_callback.history import History
    from featviz_callback.objectives import Objective
    from featviz_callback.optimization import optimize
    from featviz_callback.result import Result

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

_HOMES = {
    "FeatureVisCallback": "callback",
    "History": "history",
    "Objective": "objectives",
    "Result": "result",
    "optimize": "optimization",
}


# Type checkers would take it for a promise that every name exists.
if not TYPE_CHECKING:

    def __getattr__(name):
        # At first use, since TensorBoard imports this package for its tab, in a process
        # that needs no Keras and may have no backend for it.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f"{__name__}.{_HOMES.get(name, name)}")
        return getattr(home, name) if name in _HOMES else home


def __dir__():
    return sorted({*globals(), *__all__})
