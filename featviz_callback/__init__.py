"""Watch what each neuron of a Keras 3 vision model is learning, while it learns."""

from featviz_callback import parameterizations, regularizers, transformations
from featviz_callback.callback import FeatureVisCallback
from featviz_callback.objectives import Objective
from featviz_callback.optimization import optimize

__all__ = [
    "FeatureVisCallback",
    "Objective",
    "optimize",
    "parameterizations",
    "regularizers",
    "transformations",
]
__version__ = "0.1.0"
