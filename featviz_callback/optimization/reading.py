"""Read real examples from whatever a model can be trained on.

A data set is recognised by its methods, not by its class, so that neither TensorFlow nor
torch is imported for a data set of the other. Examples are read once, and never changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from featviz_callback.objectives import attributes_preserved, inputs
from featviz_callback.records import spread

MOST_BYTES = 2**28

# Enough images of ten classes to find those that activate a unit most.
MOST_EXAMPLES = 1000


def is_in_memory(data: object) -> bool:
    """Whether data can be read again and again: arrays, and lists, tuples and dicts."""
    return isinstance(data, (tuple, list, Mapping)) or hasattr(data, "shape")


def read(data: object, shapes: Sequence[tuple] = (), most: int = MOST_EXAMPLES):
    """Read some examples of the inputs of a model, once.

    Examples of an array, or of anything else that can be indexed, are spread evenly over
    the whole of it, since data are often sorted by class. Data that can only be iterated
    give their first examples. No batch is read once there are enough.

    Attributes of the data are restored, such as counters and NumPy's generators, and the
    `generator` of a torch `DataLoader`. Global generators are restored
    by `backend.random_states_preserved` around the call. A `tf.data.Dataset` that
    shuffles counts its iterations, and nobody can reset that count. If `fit` trains on
    the same data set, reading uses up the first epoch's order, and training gets the
    second's. Give another data set, or one that does not shuffle.

    Args:
        data: What `fit` takes: an array `(examples, ...)` of any framework, or a list,
            tuple or dict of them for several inputs; a tuple `(x, y)` or `(x, y,
            weights)`; a `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch
            `DataLoader` or any other iterable of batches, each of them such a structure.
        shapes: The shape of each input of the model, without the axis of the batch.
            They tell a list of inputs from a list of batches.
        most: Most examples to read, 1 or more. They never take more than 256 MiB.

    Returns:
        The `x` of `fit`, an array or a structure of arrays, with one to `most` examples.
        Floats are float32; other values keep their dtype.

    Raises:
        ValueError: If there is nothing to read.

    Example:
    >>> batches = [(np.zeros((4, 8, 8, 3)), np.zeros(4))] * 100
    >>> read(batches, most=10).shape
    (10, 8, 8, 3)
    """
    return read_labelled(data, shapes, most)[0]


def read_labelled(
    data: object, shapes: Sequence[tuple] = (), most: int = MOST_EXAMPLES
) -> tuple[Any, np.ndarray | None]:
    """Return what `read` does, and the label of each example, where the data have some.

    Labels are what stands behind the inputs in a tuple `(x, y)`, of the whole data or of each
    batch, if it is one array with one entry an example.

    Example:
    >>> read_labelled((np.zeros((4, 8, 8, 3)), np.arange(4)), most=2)[1]
    array([0, 3])
    """
    with _left_as_it_was(data):
        try:
            return _read(data, shapes, most)
        except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
            raise refusal(f"{type(data).__name__} ({error})") from error


def refusal(received: str) -> ValueError:
    """Return the error for data in which no images are found."""
    return ValueError(
        "Invalid value for argument `probe_data`. Expected what `fit` takes: a finite array "
        "(images, height, width, channels), a list or dict of arrays for several inputs, or an "
        f"iterable of batches of them or of (inputs, labels), such as `data.batch(32)`. "
        f"Received: {received}"
    )


def _read(data, shapes, most):
    if isinstance(data, Mapping) or hasattr(data, "shape") or _are_inputs(data, shapes):
        return _some(data, most), None
    if isinstance(data, tuple):
        found = _some(data[0], most)
        chosen = spread(_count(data[0]), _count(found))
        return found, _chosen_labels(data, _count(data[0]), chosen)
    batches: list = []
    labels: list = []
    for whole in _batches(data, most):
        batch = _inputs(whole)
        missing = _bounded(most, batch) - sum(map(_count, batches))
        batches.append(keras.tree.map_structure(lambda one, n=missing: _array(one)[:n], batch))
        labels.append(_chosen_labels(whole, _count(batch), slice(missing)))
        if _count(batches[-1]) >= missing:
            break
    if not batches:
        raise ValueError("nothing in it")
    found = keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)
    return found, None if any(one is None for one in labels) else _joined(labels)


def _chosen_labels(data, count, chosen):
    """Return the labels of some examples, or `None` if there is not one array of them."""
    labels = data[1] if isinstance(data, (tuple, list)) and len(data) > 1 else None
    # Images and the like are no labels.
    if labels is None or isinstance(labels, Mapping) or len(getattr(labels, "shape", ())) > 2:
        return None
    try:
        labels = np.asarray(_on_cpu(labels))
    except (TypeError, ValueError):
        return None
    return labels[chosen] if labels.ndim and len(labels) == count else None


def _joined(labels):
    try:
        return np.concatenate(labels)
    except ValueError:
        return None


def _are_inputs(data, shapes):
    """Whether a list or tuple has one array for each input of a model."""
    if not isinstance(data, (list, tuple)) or not 1 < len(data) == len(shapes):
        return False
    return all(
        hasattr(one, "shape") and inputs.fits(tuple(one.shape)[1:], shape)
        for one, shape in zip(data, shapes, strict=True)
    )


def _some(structure, most):
    """Return examples spread evenly over a structure of arrays."""
    count = _count(structure)
    chosen = spread(count, _bounded(most, structure))
    return keras.tree.map_structure(lambda one: _array(_on_cpu(one)[chosen]), structure)


def _count(structure):
    counts = {len(one) for one in keras.tree.flatten(structure)}
    if len(counts) != 1:
        raise ValueError(
            f"arrays of {sorted(counts)} examples, as of a data set without `.batch(32)`"
        )
    return counts.pop()


def _bounded(most, structure):
    flat = keras.tree.flatten(structure)
    values = sum(math.prod(tuple(one.shape)[1:]) for one in flat)
    return max(1, min(most, MOST_BYTES // (4 * max(1, values))))


def _batches(data, most) -> Iterator:
    """Return batches spread evenly over a sequence, or in order from other data."""
    count = getattr(data, "num_batches", None) if hasattr(data, "__getitem__") else None
    count = len(data) if isinstance(data, list) else count
    if not isinstance(count, int) or not count:
        return iter(data)
    each = max(1, _count(_inputs(data[0])))
    return (data[int(i)] for i in spread(count, -(-most // each)))


def _inputs(batch):
    """Return the inputs in a batch, without labels and weights."""
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def _on_cpu(values):
    # Torch's tensors may be on a device, or carry gradients.
    values = values.detach().cpu() if hasattr(values, "detach") else values
    # TensorFlow's tensors cannot be indexed by an array. Arrays on disk have no method
    # `numpy`, so that only the chosen images are read from the disk.
    return values.numpy() if hasattr(values, "numpy") else values


def _array(values):
    array = np.asarray(_on_cpu(values))
    # TensorFlow's strings are objects, of which Keras knows no dtype.
    is_float = array.dtype.kind not in "OSU" and keras.backend.is_float_dtype(array.dtype.name)
    return array.astype("float32") if is_float or array.dtype == bool else array


@contextmanager
def _left_as_it_was(data):
    """Restore counters and random generators that are attributes of data."""
    generator = getattr(data, "generator", None)
    state = generator.get_state() if hasattr(generator, "get_state") else None
    try:
        with attributes_preserved([data], is_deep=False):
            yield
    finally:
        if state is not None:
            generator.set_state(state)
