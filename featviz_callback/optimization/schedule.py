"""The default schedule: how fast steps are, and on which spectrum, from step to step.

The rate and the spectrum of a step depend on the number of steps and the shape of the
image. Only the contrast, which lengthens steps, follows from a model's scores. The
measurements behind each number are in `benchmarks/`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from featviz_callback.images import transformations

# After n steps, the image of an earlier step i has a weight of about (i / n) to this power.
_RECENCY = 3


@dataclass(frozen=True)
class Schedule:
    """How many steps there are, which ones relax ReLUs, and after which ones images are kept.

    Attributes:
        steps: Steps of the whole optimisation.
        warmup_steps: How many first steps let a gradient through ReLUs that are off.
        save_every: Keep the images every so many steps, or after these steps; `None` keeps
            the last ones only.
    """

    steps: int
    warmup_steps: int
    save_every: int | tuple[int, ...] | None

    @property
    def frame_steps(self) -> list[int]:
        """The steps after which images are kept, the last one among them."""
        every = self.save_every or self.steps
        if isinstance(every, tuple):
            return sorted({*every, self.steps})
        return sorted({*range(every, self.steps + 1, every), self.steps})


@dataclass(frozen=True)
class StepSettings:
    """The numbers of one step of the default optimisation.

    Attributes:
        rate: Length of a step. How far it moves the field depends on the momentum, on the
            steepness of the spectrum and on the contrast of the image.
        steepness: How steeply the spectrum that the step follows falls, as a multiple of
            the parameterization's own.
        lowest: Frequency in cycles per image below which that spectrum is flat.
        chroma: Strength of colours other than lightness in that spectrum, as a multiple
            of their strength in real images.
        due: The share of the way to its aim that a score should have gone. The contrast of
            an image rises while its score is behind, and falls while it is ahead.
        growth: The most by which the logarithm of a contrast changes.
        fade: The share of the noise of the start that is taken out of an image.
        newest: The weight of the newest image in the running average, which is the result.
    """

    rate: float
    steepness: float
    lowest: float
    chroma: float
    due: float
    growth: float
    fade: float
    newest: float


def settings_at(number: int, steps: int, shape: tuple) -> StepSettings:
    """Return the numbers of one step, which follow from the number of steps.

    The optimisation goes from coarse to fine. It begins with a steep spectrum of weak
    chroma, which finds shapes. After a quarter of the steps it has a flatter one of strong
    chroma, which adds detail and colour. Steps are the shorter, the more there are, but for
    photographs as told below.

    The result is a running average of the images, in which the marks of single random
    transformations cancel out. So steps can be long, and need not become shorter.
    Steps of small images are shorter, since pictures after longer ones change more with
    the weights.

    Optimisations of photographs differ if they have more than 32 steps, in full from 128
    steps on. They begin with smaller shapes, for up to a third of the steps. Their random
    transformations then zoom in and add noise (`transformations.standard`), and against the
    noise they take longer steps. They end on a steeper spectrum.

    Args:
        number: The step, from 0.
        steps: Steps of the whole optimisation.
        shape: `(height, width, channels)` of the image.

    References:
        The average: Polyak and Juditsky, "Acceleration of stochastic approximation by
        averaging", 1992; with weights that grow, Shamir and Zhang, ICML 2013, section 4.
    """
    patience = transformations.patience(shape, steps)
    fine = min(1.0, (4 - patience) * number / steps)
    rate = 0.045 if transformations.is_small(shape) else 0.12 * (1 + 1.25 * patience)
    return StepSettings(
        rate=rate * math.sqrt(16 / max(steps, 8)),
        steepness=1.4 - (0.8 - 0.15 * patience) * fine,
        lowest=1.5 + 6.5 * patience * (1 - fine),
        chroma=0.5 + 0.75 * fine,
        due=min(1.0, 2 * number / steps),
        growth=5.0 / steps,
        fade=1 - math.exp(-3 / steps),
        newest=(_RECENCY + 1) / (_RECENCY + 1 + number),
    )
