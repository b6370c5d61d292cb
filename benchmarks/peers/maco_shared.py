"""Helpers of the scripts that draw by MACO with one library each."""

import argparse

import numpy as np

SIZE = 224


def arguments():
    """Return the model, where pictures go, the steps, real images if any, and the spectrum."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("output")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--crops", type=int, help="in each step")
    parser.add_argument("--real-images", help="a .npy file of images in [-1, 1]")
    parser.add_argument("--spectrum", help="a .npy file of magnitudes of ImageNet")
    given = parser.parse_args()
    given.real = None if given.real_images is None else np.load(given.real_images)
    return given


def finish(given, images, importance, seconds):
    """Write pictures in [-1, 1], channels last, their importance, and the seconds they took."""
    images = np.clip(np.asarray(images, "float32"), -1, 1)
    importance = np.asarray(importance, "float32")
    assert images.shape[1:] == (SIZE, SIZE, 3), images.shape
    assert importance.shape == images.shape[:3], importance.shape
    np.savez_compressed(
        given.output, images=images.astype("float16"), importance=importance, seconds=seconds
    )
