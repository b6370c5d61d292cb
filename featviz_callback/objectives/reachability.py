"""Tell which layers can receive the optimised image at all.

A model of several inputs may have layers that only ever see the fixed ones. No image
changes their outputs, so they are no targets. The graphs of functional models tell this,
nested ones too. Nobody knows it of a model or layer with a `call` of its own.

This module reads the structure of a model. It never calls the model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import keras

from featviz_callback.objectives import inputs
from featviz_callback.objectives.inputs import ImageInput
from featviz_callback.objectives.layers import graph, graph_nodes, operation_at
from featviz_callback.objectives.paths import walk
from featviz_callback.objectives.recording import Tap
from featviz_callback.objectives.terms import Targets


class Reach:
    """Which calls of a model's layers depend on some of the model's inputs.

    Args:
        model: Any built Keras model.
        positions: Places of the inputs, in the order of `keras.tree.flatten`.
    """

    def __init__(self, model: keras.Model, positions: Collection[int]):
        self._model = model
        # For each layer whether each of its calls depends.
        self._calls: dict = defaultdict(list)
        # The same for a layer inside another one, whose calls nobody can count.
        self._inside: dict = defaultdict(list)
        count = len(keras.tree.flatten(inputs.specs(model)))
        self._follow(model, [position in positions for position in range(count)])

    def includes(self, tap: Tap) -> bool | None:
        """Whether a tensor depends on the inputs; `None` if that is not known."""
        try:
            layer = operation_at(self._model, tap.path)
        except ValueError:
            # The model was changed after the objective was made; `require_units` tells.
            return None
        calls, inside = self._calls.get(layer, []), self._inside.get(layer, [])
        if inside:
            return None if any(calls + inside) else False
        return calls[tap.call] if tap.call < len(calls) else None

    def _follow(self, model: keras.Layer, given: Sequence[bool]) -> list[bool]:
        """Note the calls inside a model or layer, and return which outputs depend."""
        found = graph(model)
        if found is None:
            for _, layer in walk(model):
                self._inside[layer].append(any(given))
            return [any(given)]
        pairs = zip(found.inputs, given, strict=True)
        reached = {id(tensor) for tensor, depends in pairs if depends}
        for node in graph_nodes(found):
            depends = self._call(node, [id(tensor) in reached for tensor in node.input_tensors])
            reached.update(id(tensor) for tensor, one in depends if one)
        return [id(tensor) in reached for tensor in found.outputs]

    def _call(self, node, given):
        """Note one call in a graph, and return its outputs with whether they depend."""
        operation = node.operation
        if isinstance(operation, keras.Layer):
            depends = self._follow(operation, _in_order(node, graph(operation), given))
        else:
            depends = [any(given)]
        if len(depends) != len(node.outputs):
            depends = [any(depends)] * len(node.outputs)
        self._calls[operation].append(any(depends))
        return list(zip(node.outputs, depends, strict=True))


def _in_order(node, found, given):
    """Whether each input of a nested model depends, given this of the tensors of its call."""
    if found is None:
        return given
    if len(set(given)) > 1 and len(given) == len(found.inputs):
        try:
            structure = getattr(node.operation, "_inputs_struct", None)
            keras.tree.assert_same_structure(structure, node.arguments.args[0])
            return given
        except (ValueError, TypeError, IndexError):
            # Keras finds the tensors by the names of the inputs.
            pass
    return [any(given)] * len(found.inputs)


def require_path(targets: Targets, image_input: ImageInput) -> None:
    """Refuse targets whose layers never receive the optimised image.

    A term that reads several layers needs a path to one of them.

    Args:
        targets: What is to be optimised.
        image_input: The input that takes the images, as `inputs.resolve` returns it.

    Raises:
        ValueError: If it is known that there is no path, naming the layer.
    """
    position = image_input.position or 0
    reach = Reach(targets.model, [position])
    for term in targets.terms:
        if all(reach.includes(tap) is False for tap in term.taps):
            raise ValueError(_no_path(targets.model, term.taps[0], position))


def _no_path(model, tap, position):
    name = inputs.names(model)[position]
    return (
        f"There is no path from the image to the layer {tap.name!r}: it never receives the input "
        f"{name!r} of the model '{model.name}', which is optimised. Expected a layer behind that "
        "input, or `fixed_inputs` that leave free the input that the layer receives."
    )
