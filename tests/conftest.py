"""What the tests share: small real models, and TensorBoard's own reader."""

import io
import logging
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

logging.getLogger("featviz_callback").setLevel(logging.ERROR)


@pytest.fixture
def small_model():
    """Grey 12x10 images, two convolutions, ten logits, smooth activations."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((12, 10, 1)),
            layers.Conv2D(4, 3, activation="tanh", name="conv1"),
            layers.Conv2D(6, 3, activation="tanh", name="conv2"),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        ]
    )


def read_events(folder):
    """Every image and scalar under a folder, as TensorBoard reads them.

    Returns:
        `(images, scalars)`: tag to `[(step, array)]` and tag to `[(step, value)]`.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    images, scalars = {}, {}
    for tag in accumulator.Tags()["tensors"]:
        plugin = accumulator.SummaryMetadata(tag).plugin_data.plugin_name
        for event in accumulator.Tensors(tag):
            value = make_ndarray(event.tensor_proto)
            if plugin == "images":
                width, height, *pngs = value.tolist()
                decoded = [np.asarray(Image.open(io.BytesIO(png))) for png in pngs]
                assert all(d.shape[:2] == (int(height), int(width)) for d in decoded)
                images.setdefault(tag, []).append((event.step, decoded[0]))
            else:
                scalars.setdefault(tag, []).append((event.step, float(value)))
    return images, scalars
