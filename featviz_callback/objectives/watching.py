"""Show the output of every layer to a function, in a call that is made anyway.

For the time of one call, each watched layer has a method in place of its own `call`, and
gets it back whatever happens. A tensor is shown while it exists, and no copy of it is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import keras

from featviz_callback.objectives.layers import named_activation, operation_at
from featviz_callback.objectives.outputs import pick
from featviz_callback.objectives.paths import lineage, walk
from featviz_callback.objectives.preserve import overridden
from featviz_callback.objectives.recording import CALLS, Tap, channels_last, origin
from featviz_callback.objectives.shapes import layer_calls

# Layers that are one to a user, whatever they are made of.
_WHOLE = (
    *(keras.layers.RNN, keras.layers.Bidirectional, keras.layers.TimeDistributed),
    *(keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention),
)
# Layers that apply an activation to what another one computed. A softmax has no units.
_ACTIVATIONS = (
    *(keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU),
    *(keras.layers.PReLU, keras.layers.ELU),
)
_NO_FEATURES = ("softmax", "log_softmax", "linear")


@dataclass(frozen=True)
class Watch:
    """What to show to whom.

    Attributes:
        taps: The outputs that are shown, each of one call of one layer, and their units.
        see: Called with a tap, its tensor, images first and channels last, and of how many
            images it is. If the images take several calls of the model, it is called in each.
    """

    taps: Mapping[Tap, int]
    see: Callable[[Tap, Any, int], None]


def weights_by_layer(model: keras.Layer) -> dict[str, list[keras.Variable]]:
    """Return the weights of each layer that has some of its own, by its path.

    Layers inside a recurrent layer or an attention are part of it. The moving averages of
    a normalisation are no weights, nor are the mean and variance of preprocessing.

    Example:
    >>> dense = keras.layers.Dense(2, name="dense")
    >>> model = keras.Sequential([keras.Input((3,)), dense, keras.layers.Dropout(0.5)])
    >>> {path: len(weights) for path, weights in weights_by_layer(model).items()}
    {'dense': 2}
    """
    found = {}
    for path, layer in _outermost(model):
        is_whole = isinstance(layer, _WHOLE)
        weights = layer.weights if is_whole else layer._trainable_variables
        weights = [one for one in weights if keras.backend.is_float_dtype(one.dtype)]
        if weights:
            found[path] = list(weights)
    return found


def _outermost(model):
    """Yield `(path, layer)` of all layers that are not inside one that counts as a whole."""
    whole: tuple[str, ...] = ()
    for path, layer in walk(model):
        if not path.startswith(whole):
            yield path, layer
            whole += (f"{path}/",) * isinstance(layer, _WHOLE)


def feature_taps(model: keras.Model, arguments, prefix: str = "") -> dict[Tap, int]:
    """Return a tap for each call of a layer that computes features, and the number of its units.

    These are layers with weights of their own, and layers that apply an activation, also
    activations that are operations in the graph of a functional model. Layers that draw random
    numbers, move values or scale images compute none. The taps are in the order of the call.

    Args:
        model: Any built Keras model.
        arguments: As for `output_shapes`.
        prefix: As `Tap.prefix`.

    Raises:
        ValueError: If the model's call fails, saying why.
    """
    known = {id(model), *(id(layer) for _, layer in _outermost(model))}
    weights = weights_by_layer(model)
    calls: Counter = Counter()
    taps = {}
    for call in layer_calls(model, arguments, with_activations=True):
        # Of several tensors, such as a recurrent layer and its states, the first one.
        if call.place or not call.shape:
            continue
        # What is no layer is measured where the one around it is no whole.
        owner = call.layer if isinstance(call.layer, keras.Layer) else _around(model, call.path)
        if id(owner) not in known:
            continue
        number, calls[call.path] = calls[call.path], calls[call.path] + 1
        if call.path in weights or owner is not call.layer or _is_activation(call.layer):
            tap = Tap(call.path, "output", number, call.channels_first, None, call.index, prefix)
            taps[tap] = call.shape[-1]
    return taps


def _around(model, path):
    inside = path.rpartition("/")[0]
    return lineage(model, inside)[-1] if inside else model


def _is_activation(layer):
    name = named_activation(getattr(layer, "activation", None))
    return isinstance(layer, _ACTIVATIONS) and name not in _NO_FEATURES


@contextmanager
def watching(model: keras.Model, watch: Watch | None, fresh: int, images: int) -> Iterator[None]:
    """Show the outputs of all taps of a watch in a call within this context.

    Args:
        model: The model.
        watch: What to show, if anything.
        fresh: How many images of the call, from the first on, have not been shown yet.
        images: How many images the call gets.
    """
    if watch is None:
        yield
        return
    taps: dict[str, list[Tap]] = {}
    for tap in watch.taps:
        taps.setdefault(tap.path, []).append(tap)
    with ExitStack() as stack:
        for path, its in taps.items():
            layer = operation_at(model, path)
            show = _Show(its, watch, fresh, images)
            methods = {name: show.around(getattr(layer, name)) for name in CALLS}
            stack.enter_context(overridden(layer, methods))
        yield


class _Show:
    """Shows the outputs of one layer, call by call."""

    def __init__(self, taps: Sequence[Tap], watch: Watch, fresh: int, images: int):
        self._taps = {tap.call: tap for tap in taps}
        self._watch, self._fresh, self._images = watch, fresh, images
        self._calls = 0
        self._origin = origin()

    def around(self, call):
        def shown_call(*args, **kwargs):
            returned = call(*args, **kwargs)
            # Another thread may call the same layer, and a tensor of another trace has no values.
            if origin() == self._origin:
                self._show(returned)
            return returned

        return shown_call

    def _show(self, returned):
        tap = self._taps.get(self._calls)
        self._calls += 1
        tensor = None if tap is None else pick(returned, tap.index)
        if tensor is not None:
            show(self._watch, tap, channels_last(tensor, tap), self._fresh, self._images)


def show(watch: Watch, tap: Tap, tensor, fresh: int, images: int) -> None:
    """Show one output.

    Args:
        watch: To whom.
        tap: Of what.
        tensor: The output, images first and channels last.
        fresh: How many images of the call, from the first on, have not been shown yet.
        images: How many images the call got.
    """
    if not keras.backend.is_float_dtype(_dtype(tensor)):
        return
    # A layer may fold the parts of an image into the batch.
    parts, rest = divmod(tensor.shape[0], images)
    if parts and not rest:
        watch.see(tap, tensor[: parts * fresh] if fresh < images else tensor, fresh)


def _dtype(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)
