"""Draw with Lucent's defaults, at the model's own size, all classes in one batch."""

import sys
import types

from shared import IDS, SIZE, arguments, finish, load_torch, timed

given = arguments(steps=256)
model = load_torch(given)

import kornia  # noqa: E402
import torch  # noqa: E402


class Normalize(torch.nn.Module):
    """What is imported of torchvision, which has no build for every build of torch."""

    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = (torch.tensor(one).reshape(-1, 1, 1) for one in (mean, std))

    def forward(self, images):
        """Normalise."""
        return (images - self.mean) / self.std


vision, transforms, models = (
    types.ModuleType(name)
    for name in ("torchvision", "torchvision.transforms", "torchvision.models")
)
transforms.Normalize = Normalize
sys.modules |= {one.__name__: one for one in (vision, transforms, models)}
# Lucent is written for a Kornia that had these names.
for name in ("get_rotation_matrix2d", "warp_affine"):
    if not hasattr(kornia, name):
        setattr(kornia, name, getattr(kornia.geometry.transform, name))

from lucent.optvis import objectives, param, render, transform  # noqa: E402


def draw():
    """Return all pictures in [0, 1], channels last."""
    torch.manual_seed(0)
    objective = objectives.Objective.sum(
        [objectives.channel("logits", index, batch=i) for i, index in enumerate(IDS)]
    )
    # The model takes [-1, 1].
    scaled = [*transform.standard_transforms, lambda images: 2 * images - 1]
    return render.render_vis(
        model,
        objective,
        lambda: param.image(SIZE, batch=len(IDS)),
        transforms=scaled,
        thresholds=(given.steps,),
        preprocess=False,
        fixed_image_size=SIZE,
        show_image=False,
        progress=False,
    )[-1]


images, seconds = timed(draw)
finish(given, 2 * images - 1, seconds)
