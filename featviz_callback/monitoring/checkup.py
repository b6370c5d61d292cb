"""Check the health of a network at each snapshot: its layers and its weights.

Layers are measured on real images, in the pass that scores them, and weights without any.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from featviz_callback import backend
from featviz_callback.monitoring.health import LayerMeter, places_within
from featviz_callback.objectives import (
    ImageInput,
    Reach,
    Tap,
    Watch,
    ending,
    feature_taps,
    operation_at,
    walk,
    warn_once,
    weights_by_layer,
)
from featviz_callback.records import Checkup

_WEIGHTS_KEPT = 2**16


def prefixes(models: Sequence[keras.Model], trained: keras.Model | None) -> list[str]:
    """Return what stands before the paths of each model's layers, so that no two are the same.

    Example:
    >>> inner = keras.Sequential([keras.layers.Dense(1, name="dense")], name="inner")
    >>> prefixes([inner], keras.Sequential([inner]))
    ['inner/']
    """
    paths = {} if trained is None else {id(layer): f"{path}/" for path, layer in walk(trained)}
    found = [paths.get(id(one), "") for one in models]
    different: list[str] = []
    for model, prefix in zip(models, found, strict=True):
        name = f"{model.name}/" if found.count(prefix) > 1 else prefix
        repeated = (f"{name[:-1]} {number}/" for number in itertools.count(2))
        different.append(
            name if name not in different else next(one for one in repeated if one not in different)
        )
    return different


class HealthMeter:
    """Checks the health of a network.

    Args:
        models: The models whose layers are measured, by the prefix of their layers' paths.
        trained: The model that is trained, whose other layers' weights are measured too.
    """

    def __init__(self, models: Mapping[str, keras.Model], trained: keras.Model | None = None):
        self._models = dict(models)
        self._trained = trained
        self._taps: dict[str, dict[Tap, int]] = {}
        self._meters: dict[str, LayerMeter] = {}
        self._weights = WeightMeter()
        # The other layers of the trained model, where a process has been told them.
        self._told_others: list[str] | None = None

    def __getstate__(self) -> dict:
        # In another process, models that share layers here may have a copy each.
        return {**vars(self), "_told_others": list(self._others(self._owners_of_models()))}

    @property
    def kept(self) -> dict[str, np.ndarray]:
        """The weights of the last checkup, with which the next ones are compared."""
        return self._weights.kept

    def go_on_from(self, kept: dict[str, np.ndarray]) -> None:
        """Compare weights with those that another meter kept."""
        self._weights.kept = kept

    def watch(self, prefix: str, images: np.ndarray, image_input: ImageInput) -> Watch | None:
        """Return what to show in the pass of real images through a model.

        Args:
            prefix: The prefix of the model's layers.
            images: All images that will pass.
            image_input: The model's input that takes them.
        """
        units = self.taps(prefix, images.shape[1:], image_input)
        if not units:
            return None
        model = self._models[prefix]
        endings = {tap: ending(operation_at(model, tap.path)) for tap in units}
        self._meters[prefix] = LayerMeter(endings, units, len(images))
        return Watch(units, self._meters[prefix].see)

    def taps(self, prefix: str, shape: tuple[int, ...], image_input: ImageInput) -> dict[Tap, int]:
        """Return the outputs of a model's layers that are measured, and how many units each has.

        Args:
            prefix: The prefix of the model's layers.
            shape: The shape of one image.
            image_input: The model's input that takes it.
        """
        if prefix not in self._taps:
            found = self._find_taps(prefix, self._models[prefix], image_input, shape)
            self._taps[prefix] = found
        return self._taps[prefix]

    def _find_taps(self, prefix, model, image_input, shape):
        try:
            found = feature_taps(model, image_input.specs(model, shape), prefix)
            # Images say nothing of layers that see another input alone, such as a time step.
            reach = Reach(model, [image_input.position or 0])
            seen = {tap for tap in found if reach.includes(tap) is not False}
            return {tap: units for tap, units in found.items() if units and tap in seen}
        except Exception as error:
            # Pictures can do without.
            warn_once(model, "The layers of the model '%s' are not measured. %s", model.name, error)
            return {}

    def units(self, model: keras.Model, tap: Tap) -> dict[str, np.ndarray]:
        """Return which units of a layer are dead, dormant and duplicate, see `LayerMeter`.

        It is known of the layers of the images that passed since the last checkup.
        """
        found: dict[str, np.ndarray] = {}
        for prefix, meter in self._meters.items():
            if self._models[prefix] is model:
                names = {(one.path, one.call, one.index): one.name for one in self._taps[prefix]}
                name = names.get((tap.path, tap.call, tap.index), "")
                found = meter.units.get(name, found)
        return found

    def checkup(self) -> tuple[Checkup, dict[str, np.ndarray]]:
        """Return the numbers of every layer, and histograms of the activations of each.

        Layers were measured if real images have passed since the last time.
        """
        numbers: dict[str, dict[str, float]] = {}
        histograms: dict[str, np.ndarray] = {}
        ratios = self._weights.ratios(self._owners())
        rest = dict(ratios)
        for prefix, meter in self._meters.items():
            self._warn(prefix, meter.error)
            for tap in self._taps[prefix]:
                if tap.name in meter.numbers:
                    ratio = ratios.get(prefix + tap.path, math.nan)
                    numbers[tap.name] = {**meter.numbers[tap.name], "update_ratio": ratio}
                    rest.pop(prefix + tap.path, None)
            histograms |= meter.histograms
        self._meters = {}
        numbers |= {path: {"update_ratio": ratio} for path, ratio in rest.items()}
        return Checkup.of(numbers), histograms

    def has_moved(self) -> bool:
        """Whether any weight that is compared is another one than at the last checkup."""
        return self._weights.have_moved(self._owners())

    def _warn(self, prefix, error):
        if error is not None:
            model = self._models[prefix]
            warn_once(
                model,
                "Some layers of the model '%s' could not be measured. %s: %s",
                *(model.name, type(error).__name__, error),
            )

    def _owners(self):
        """Return the weights of each layer, by its path."""
        found = self._owners_of_models()
        return found | self._others(found)

    def _owners_of_models(self):
        return {
            prefix + path: weights
            for prefix, model in self._models.items()
            for path, weights in weights_by_layer(model).items()
        }

    def _others(self, found):
        """Return the weights of the layers of the trained model that `found` has not."""
        if self._trained is None:
            return {}
        known = {id(one) for weights in found.values() for one in weights}
        told = self._told_others
        return {
            path: weights
            for path, weights in weights_by_layer(self._trained).items()
            if (id(weights[0]) not in known if told is None else path in told)
        }


class WeightMeter:
    """Measures by how much the weights of layers have moved since it was last asked.

    Of a layer with more than 65,536 weights, so many are compared, spread evenly. So at most
    256 KiB a layer are kept between snapshots.
    """

    def __init__(self) -> None:
        self.kept: dict[str, np.ndarray] = {}

    def ratios(self, weights: Mapping[str, Sequence[keras.Variable]]) -> dict[str, float]:
        """Return `||dW|| / ||W||` of each layer, where W are the weights of the last time.

        Args:
            weights: The weights of each layer, by its name.

        Returns:
            By the name of the layer; NaN at the first time, and for a frozen layer.
        """
        before, self.kept = self.kept, {}
        found = {}
        for name, own in weights.items():
            now = self.kept[name] = _sampled(own)
            is_trained = any(one.trainable for one in own)
            found[name] = _ratio(before.get(name), now) if is_trained else math.nan
        return found

    def have_moved(self, weights: Mapping[str, Sequence[keras.Variable]]) -> bool:
        """Whether some weights are others than the last time."""
        return any(
            not np.array_equal(_sampled(own), self.kept.get(name, []))
            for name, own in weights.items()
        )


def _sampled(own):
    return np.concatenate([_some(one, own) for one in own])


def _some(variable, beside):
    values = backend.load().to_numpy(variable.value).reshape(-1)
    total = sum(math.prod(one.shape) for one in beside)
    most = math.ceil(_WEIGHTS_KEPT * values.size / max(1, total))
    if values.size > most:
        values = values[places_within(values.size, most)]
    return values.astype("float32")


def _ratio(before, now):
    if before is None or before.shape != now.shape:
        return math.nan
    # A network that diverges may have weights that are infinite.
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.linalg.norm(before)
        return float(np.linalg.norm(now - before) / size) if size else math.nan
