"""Draw with Horama's Fourier, one class at a time, at the model's own size.

Its own default is a thousand steps at 1,280 pixels.
"""

import numpy as np
from shared import IDS, SIZE, arguments, finish, load_torch, timed
from torchvision_stand_in import stand_in

given = arguments(steps=64)
model = load_torch(given)
stand_in()

import torch  # noqa: E402
from horama import fourier  # noqa: E402


def draw(index):
    """Return one picture, `(height, width, channels)`."""
    torch.manual_seed(index)
    image, _ = fourier(
        lambda images: model(images)[:, index].mean(),
        total_steps=given.steps,
        image_size=SIZE,
        model_input_size=SIZE,
        values_range=(-1, 1),
        device="cpu",
    )
    return image.detach().numpy().transpose(1, 2, 0)


images, seconds = timed(lambda: np.stack([draw(index) for index in IDS]))
finish(given, images, seconds)
