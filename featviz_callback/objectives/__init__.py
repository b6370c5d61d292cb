"""What to maximise in which model: objectives, and all that is known of a Keras model.

Here live layers and their paths, the recording of activations, readouts (how outputs
become scores), inputs, and the care that leaves a model as it was. The room imports
`backend` and `records`, and knows nothing of optimisation, event files or training.
"""

from featviz_callback.objectives import inputs
from featviz_callback.objectives.defaults import default_objectives
from featviz_callback.objectives.inputs import ImageInput
from featviz_callback.objectives.joined import JoinedTargets, join_alike, require_units
from featviz_callback.objectives.notices import NothingToShow, warn_once
from featviz_callback.objectives.objective import Objective
from featviz_callback.objectives.paths import walk
from featviz_callback.objectives.preserve import preserved
from featviz_callback.objectives.reachability import require_path
from featviz_callback.objectives.readouts import read_scores
from featviz_callback.objectives.recording import record
from featviz_callback.objectives.relaxation import relaxed_activations
from featviz_callback.objectives.scaling import (
    Scaling,
    measure_scaling,
    range_as_text,
    warn_if_flat,
)
from featviz_callback.objectives.scoring import as_taken, score_all
from featviz_callback.objectives.shapes import output_shapes
from featviz_callback.objectives.terms import Targets
from featviz_callback.objectives.wrappers import has_own_step, is_known, is_wrapper

__all__ = [
    "ImageInput",
    "JoinedTargets",
    "NothingToShow",
    "Objective",
    "Scaling",
    "Targets",
    "as_taken",
    "default_objectives",
    "has_own_step",
    "inputs",
    "is_known",
    "is_wrapper",
    "join_alike",
    "measure_scaling",
    "output_shapes",
    "preserved",
    "range_as_text",
    "read_scores",
    "record",
    "relaxed_activations",
    "require_path",
    "require_units",
    "score_all",
    "walk",
    "warn_if_flat",
    "warn_once",
]
