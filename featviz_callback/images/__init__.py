"""Make, transform and penalise images.

This room holds the parameterizations (with the Fourier basis, its sampling and the
statistics of real images), the random transformations and the regularizers. They are
written in NumPy and `keras.ops`. The room imports no other room and knows no
models, objectives or training.
"""

from featviz_callback.images import (
    augmentation,
    parameterizations,
    regularizers,
    sampling,
    transformations,
)
from featviz_callback.images.accentuation import Accentuation, accentuated
from featviz_callback.images.coefficients import (
    Coefficients,
    apply_preconditioner,
    for_default_optimization,
    lowest_value,
)
from featviz_callback.images.fields import AUTO, hint_to_call

__all__ = [
    "AUTO",
    "Accentuation",
    "Coefficients",
    "accentuated",
    "apply_preconditioner",
    "augmentation",
    "for_default_optimization",
    "hint_to_call",
    "lowest_value",
    "parameterizations",
    "regularizers",
    "sampling",
    "transformations",
]
