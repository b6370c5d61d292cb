"""What to maximise in which model: objectives, and all that is known of a Keras model.

Here live layers and their paths, the recording of activations, readouts (how outputs
become scores), inputs, and the care that leaves a model as it was. The room imports
`backend` and `records`, and knows nothing of optimisation, event files or training.
"""

from featviz_callback.objectives import inputs
from featviz_callback.objectives.anchors import find_anchor, last_features
from featviz_callback.objectives.defaults import (
    announce_parts,
    choose_by_default,
    default_objectives,
    every_channel,
)
from featviz_callback.objectives.inputs import ImageInput
from featviz_callback.objectives.joined import JoinedTargets, join_alike, require_units
from featviz_callback.objectives.layers import Ending, ending, operation_at
from featviz_callback.objectives.notices import (
    NothingToShow,
    each_once,
    forget_warnings,
    warn_once,
)
from featviz_callback.objectives.objective import Objective
from featviz_callback.objectives.outside import (
    calls_part,
    image_place,
    model_around,
    received_by_part,
    scaling_layers,
    scaling_on_the_way,
    scaling_outside,
    takes_whole_numbers,
)
from featviz_callback.objectives.parts import attributes
from featviz_callback.objectives.paths import walk
from featviz_callback.objectives.preserve import attributes_preserved, preserved
from featviz_callback.objectives.reachability import Reach, require_path
from featviz_callback.objectives.readouts import read_scores, read_scores_and
from featviz_callback.objectives.recording import Tap, record
from featviz_callback.objectives.relaxation import relaxed_activations
from featviz_callback.objectives.scaling import (
    Scaling,
    floats_of_bytes,
    measure_scaling,
    range_as_text,
    warn_if_flat,
)
from featviz_callback.objectives.scoring import as_taken, score_all
from featviz_callback.objectives.shapes import output_shapes, shared_calls
from featviz_callback.objectives.terms import SomeTargets, Targets
from featviz_callback.objectives.watching import Watch, feature_taps, weights_by_layer
from featviz_callback.objectives.wrappers import (
    has_own_step,
    is_known,
    is_wrapper,
    parts_to_name,
    require_images,
)

__all__ = [
    "attributes_preserved",
    "Ending",
    "ImageInput",
    "JoinedTargets",
    "NothingToShow",
    "Objective",
    "Reach",
    "Scaling",
    "SomeTargets",
    "Tap",
    "Targets",
    "Watch",
    "announce_parts",
    "as_taken",
    "attributes",
    "calls_part",
    "choose_by_default",
    "default_objectives",
    "each_once",
    "ending",
    "every_channel",
    "feature_taps",
    "find_anchor",
    "floats_of_bytes",
    "forget_warnings",
    "has_own_step",
    "image_place",
    "inputs",
    "is_known",
    "is_wrapper",
    "join_alike",
    "last_features",
    "measure_scaling",
    "model_around",
    "operation_at",
    "output_shapes",
    "parts_to_name",
    "preserved",
    "range_as_text",
    "read_scores",
    "read_scores_and",
    "received_by_part",
    "record",
    "relaxed_activations",
    "require_images",
    "require_path",
    "require_units",
    "scaling_layers",
    "scaling_on_the_way",
    "scaling_outside",
    "score_all",
    "shared_calls",
    "some",
    "takes_whole_numbers",
    "walk",
    "warn_if_flat",
    "warn_once",
    "weights_by_layer",
]
