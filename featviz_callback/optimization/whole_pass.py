"""Compile the pass of real images through a model, where all its layers are measured.

Keras calls one layer after the other, each of which passes over all its values several times.
A graph of them takes about two thirds of the time. Its outputs exist all at once, so it is
for models and numbers of images that have few.
"""

from __future__ import annotations

import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence

import keras

from featviz_callback import backend
from featviz_callback.objectives import ImageInput, Tap, record
from featviz_callback.optimization.fingerprints import fingerprint

# Of each model, by its fingerprint and what is read.
_passes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_KEPT_PER_MODEL = 4


class WholePass:
    """A compiled call of a model, which returns the outputs of some of its layers.

    Attributes:
        compile_seconds: About how long compiling took.
    """

    def __init__(self, model: keras.Model, taps: Sequence[Tap], image_input: ImageInput):
        # It is kept for as long as the model, and must not keep it alive.
        self._model = weakref.ref(model)
        self._taps, self._image_input = list(taps), image_input
        self._call: Callable | None = backend.load().compile_pass(self._read)
        self._is_new = True
        self.compile_seconds = 0.0

    def __call__(self, images, fixed_inputs) -> list | None:
        """Return one tensor a tap, images first and channels last; `None` if it cannot be told.

        Args:
            images: A tensor of images.
            fixed_inputs: The other inputs, as many.
        """
        if self._call is None:
            return None
        seconds = []
        try:
            # The first call compiles, and the second tells how long the rest of it took.
            for _ in range(1 + self._is_new):
                began = time.perf_counter()
                outputs = self._call(images, fixed_inputs)
                seconds.append(time.perf_counter() - began)
        except Exception:
            # A model may run eagerly alone, or memory may not suffice for all outputs at once.
            self._call = None
            return None
        self._is_new = False
        self.compile_seconds += max(0.0, seconds[0] - seconds[-1])
        return outputs

    def _read(self, images, fixed_inputs):
        model = self._model()
        with keras.StatelessScope():
            arguments = self._image_input.call_arguments(model, images, fixed_inputs)
            return record(model, arguments, self._taps)


def find_pass(
    model: keras.Model, taps: Sequence[Tap], image_input: ImageInput, shape: tuple[int, ...]
) -> WholePass:
    """Return the compiled pass of a model, the same one until the model changes.

    Args:
        model: The model.
        taps: What the pass returns.
        image_input: The model's input that takes the images.
        shape: The shape of all images of a call.
    """
    of_model = _passes.setdefault(model, OrderedDict())
    key = fingerprint(model), tuple(taps), image_input, shape
    if key not in of_model:
        of_model[key] = WholePass(model, taps, image_input)
        if len(of_model) > _KEPT_PER_MODEL:
            of_model.popitem(last=False)
    of_model.move_to_end(key)
    return of_model[key]


def pass_seconds(model: keras.Model) -> float:
    """Return about how long compiling the passes of a model has taken that are kept."""
    return sum(one.compile_seconds for one in _passes.get(model, {}).values())
