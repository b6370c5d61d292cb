"""Draw with Horama's `maco`, one class at a time, at the model's own size.

It takes the spectrum from a file of the folder that it runs in, or downloads it.
"""

import os
import shutil
import tempfile

import numpy as np
from maco_shared import SIZE, arguments, finish
from shared import IDS, load_torch, timed
from torchvision_stand_in import stand_in

given = arguments()
model = load_torch(given)
stand_in()

import torch  # noqa: E402
from horama import maco  # noqa: E402


def draw(index):
    """Return one picture and its transparency."""
    torch.manual_seed(index)
    image, transparency = maco(
        lambda images: model(images)[:, index].mean(),
        total_steps=given.steps,
        crops_per_iteration=given.crops,
        image_size=SIZE,
        model_input_size=SIZE,
        values_range=(-1, 1),
        device="cpu",
    )
    return image.detach().numpy().transpose(1, 2, 0), transparency.mean(0).numpy()


given.output = os.path.abspath(given.output)
with tempfile.TemporaryDirectory() as folder:
    shutil.copy(given.spectrum, os.path.join(folder, "spectrum_decorrelated.npy"))
    os.chdir(folder)
    found, seconds = timed(lambda: [draw(index) for index in IDS])
    os.chdir(os.path.dirname(given.output))
finish(given, *map(np.stack, zip(*found, strict=True)), seconds)
