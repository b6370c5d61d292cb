"""Helpers of the scripts that draw with one library each, in an environment of its own."""

import argparse
import os
import time

import numpy as np

IDS = (9, 130, 207, 340, 817, 948, 954, 985)
SIZE = 224


def arguments(steps):
    """Return where the model is, where pictures go, and how many steps to take."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("output")
    parser.add_argument("--steps", type=int, default=steps)
    return parser.parse_args()


def load(given):
    """Return the Keras model, on the backend that the environment names."""
    import keras

    return keras.saving.load_model(given.model, compile=False)


def load_torch(given):
    """Return the same model as a module of torch, for images with channels first."""
    os.environ["KERAS_BACKEND"] = "torch"
    import torch

    model = load(given)
    # Else torch would also find the gradient of every weight.
    model.trainable = False

    class ChannelsFirst(torch.nn.Module):
        """The Keras model, for images as torch has them, in [-1, 1]."""

        def __init__(self):
            super().__init__()
            # In a list, its layers are no parts that Lucent would listen to.
            self.inner = [model]
            self.logits = torch.nn.Identity()

        def forward(self, images):
            """Return the logits."""
            return self.logits(self.inner[0](images.permute(0, 2, 3, 1), training=False))

    return ChannelsFirst().eval()


def timed(function):
    """Return the result and the seconds of a call: on the clock, and of all cores together.

    The latter hardly depend on what else the machine does.
    """
    began = time.perf_counter(), time.process_time()
    found = function()
    return found, (time.perf_counter() - began[0], time.process_time() - began[1])


def finish(given, images, seconds):
    """Write pictures in [-1, 1], channels last, and both seconds that they took."""
    images = np.clip(np.asarray(images, "float32"), -1, 1)
    assert images.shape == (len(IDS), SIZE, SIZE, 3), images.shape
    np.savez_compressed(given.output, images=images.astype("float16"), seconds=seconds,
                        steps=given.steps)  # fmt: skip
