"""Draw with Horama's Fourier, one class at a time, at the model's own size.

Its own default is a thousand steps at 1,280 pixels.
"""

import sys
import types

import numpy as np
from shared import IDS, SIZE, arguments, finish, load_torch, timed

given = arguments(steps=64)
model = load_torch(given)

import torch  # noqa: E402


def read_boxes(images, boxes, output_size):
    """Read boxes `(n, 5)` of one image by bilinear interpolation, as `roi_align` does."""
    height, width = images.shape[2:]
    shares = [(torch.arange(size) + 0.5) / size for size in output_size]
    x = boxes[:, 1:2] + shares[1] * (boxes[:, 3:4] - boxes[:, 1:2])
    y = boxes[:, 2:3] + shares[0] * (boxes[:, 4:5] - boxes[:, 2:3])
    x, y = 2 * x / width - 1, 2 * y / height - 1
    grid = torch.stack(
        [
            x[:, None, :].expand(-1, output_size[0], -1),
            y[:, :, None].expand(-1, -1, output_size[1]),
        ],
        dim=-1,
    )
    repeated = images.expand(len(boxes), -1, -1, -1)
    return torch.nn.functional.grid_sample(
        repeated, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


# torchvision has no build for every build of torch, and this is all that is needed of it.
vision, operations, datasets, utilities = (
    types.ModuleType(name)
    for name in ("torchvision", "torchvision.ops", "torchvision.datasets",
                 "torchvision.datasets.utils")
)  # fmt: skip
operations.roi_align, utilities.download_url = read_boxes, None
sys.modules |= {one.__name__: one for one in (vision, operations, datasets, utilities)}

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
