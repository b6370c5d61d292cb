"""Draw with DreamLens' defaults, one class at a time, at the model's own size."""

import numpy as np
from shared import IDS, SIZE, arguments, finish, load_torch, timed

given = arguments(steps=120)
model = load_torch(given)

import torch  # noqa: E402
from dreamlens import FeatureTarget, FeatureVisualizer, RenderConfig  # noqa: E402

# The model takes [-1, 1].
visualizer = FeatureVisualizer(
    model, quiet=True, device="cpu", preprocess=lambda images: 2 * images - 1
)
config = RenderConfig(width=SIZE, height=SIZE, steps=given.steps)


def draw(index):
    """Return one picture in [0, 1], `(height, width, channels)`."""
    torch.manual_seed(index)
    result = visualizer.maximize(FeatureTarget("logits", channel=index), config=config)
    return np.asarray(result.as_chw().detach()).transpose(1, 2, 0)


images, seconds = timed(lambda: np.stack([draw(index) for index in IDS]))
finish(given, 2 * images - 1, seconds)
