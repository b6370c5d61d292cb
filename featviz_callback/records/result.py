"""What `optimize` returns: NumPy arrays, and pictures of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from featviz_callback.records import pictures


def as_range(ends: np.ndarray) -> tuple:
    """Return the `values_range` that a file has as an array: two numbers, or two of channels."""
    low, high = ends.tolist()
    return (tuple(low), tuple(high)) if isinstance(low, list) else (low, high)


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The images that maximise an objective. Unpacks as `images, names`.

    Attributes:
        images: Float32 array `(targets, height, width, channels)` in `values_range`,
            channels last whatever the model's own order; for a model of signals
            `(targets, time, channels)`.
        names: One name a target.
        scores: Float32 array `(targets,)`: the score of each final image, without
            random transformation. An image of another size than the model's input is
            rendered in that size to be scored, which resampling the pixels only
            approximates.
        history: Float32 array `(steps, targets)`: the score of the augmented images at
            each step, before its update. It is that of the newest image, where `images` and
            `frames` are averages at full contrast.
        status: One word a target, the first of these that holds. `"nan"`: a score or a
            gradient was not a finite number. `"dead"`: no real image activates it.
            `"constant"`: it has one and the same score for every real image.
            `"no_gradient"`: no gradient reached an image in any of the tries: from two
            starts, and with relaxed activations; with `probe_data`, the image also scores
            below the best real one. A later snapshot tries again if real images activate
            the unit, and the last one does anyway. `"weak"`: its image
            scores below the best real image. `"saturated"`: half of the image's values are
            at an end of the range, and it scores, less penalties, no better than at half
            the contrast. Else `"ok"`. Only `probe_data` can tell what is dead, constant
            or weak.
        values_range: Lowest and highest value of an image, two floats, or two tuples of one
            float a channel where channels differ.
        frames: Float32 array `(frames, targets, height, width, channels)` of the
            images during the optimisation, if `save_every` was given, else `None`.
        frame_steps: Int array `(frames,)`: steps done at each frame, else `None`.
        starts: What the optimisation of each target began from, such as `"faint noise"`,
            `"noise 3 1.5 0"` (its contrast, the steepness of its spectrum as a multiple of
            `decay`, and which of several) or `"plain 7"` (which of several plain colours).
            With `", relaxed"`, activations were relaxed for most steps. With `", still"`, no
            transformation moved the image.
        importance: Float32 array `(targets, height, width)`, for signals `(targets, time)`,
            from 0 to 1: how much the score, less penalties, depends on each place of the
            final image. It is the mean absolute gradient by the values before the sigmoid,
            as a share of the largest, without random transformation. `None` for a
            parameterization of your own without a method `field_gradient`.
        score_ratio: Float32 array `(targets,)`, the score divided by that of the best real
            image; NaN if that is not above 0. `None` without `probe_data`.
        real_images: Float32 array `(targets, best, height, width, channels)`: each target's
            top activating images of `probe_data`, best first, or `None`. Of a target that is
            "dead" or "constant" no image is the top one: all its values are NaN.
        real_scores: Float32 array `(targets, best)`: their scores, NaN where the images are,
            or `None`.

    Example:
    >>> image, score = np.zeros((1, 8, 8, 1)), np.zeros(1)
    >>> result = Result(image, ["a"], score, score[None], ["ok"], (0.0, 1.0))
    >>> images, names = result
    >>> result.save(tmp_path / "sheet.png")
    """

    images: np.ndarray
    names: list[str]
    scores: np.ndarray
    history: np.ndarray
    status: list[str]
    values_range: tuple
    frames: np.ndarray | None = None
    frame_steps: np.ndarray | None = None
    starts: list[str] | None = None
    importance: np.ndarray | None = None
    score_ratio: np.ndarray | None = None
    real_images: np.ndarray | None = None
    real_scores: np.ndarray | None = None

    def __iter__(self) -> Iterator:
        return iter((self.images, self.names))

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        best = np.max(self.scores, initial=-np.inf, where=np.isfinite(self.scores))
        return f"<Result of {len(self)} images {shape}, best score {best:.3g}>"

    def save(self, path: str | os.PathLike, importance: bool = False) -> None:
        """Write a contact sheet, the arrays, or an animation.

        Args:
            path: A file name; `.npz` saves every attribute as an array, any other
                ending is a picture in the format that Pillow knows by it. A `.gif` is an
                animation of `frames`, if there are any.
            importance: Whether pictures fade where the score depends little on them.

        Raises:
            ValueError: If Pillow writes no format of that ending, or there is no
                importance to show.
        """
        ending = os.path.splitext(os.fspath(path))[1].lower()
        if ending == ".npz":
            arrays = {k: v for k, v in vars(self).items() if v is not None}
            with open(path, "wb") as file:
                np.savez_compressed(file, **arrays)
        elif ending == ".gif" and self.frames is not None:
            with open(path, "wb") as file:
                file.write(pictures.encode_gif(self._animation(importance)))
        else:
            pictures.save(self.sheet(importance), path)

    def sheet(self, importance: bool = False) -> np.ndarray:
        """Draw a contact sheet, uint8 `(height, width, 3)`, with names and status.

        Args:
            importance: As for `save`.
        """
        return self._sheet_of(self.images, importance)

    def _sheet_of(self, images, importance, title=""):
        shown = list(pictures.of_targets(images, self.values_range))
        if importance:
            shown = [pictures.faded(*pair) for pair in zip(shown, self._required(), strict=True)]
        return pictures.sheet(shown, pictures.captions(self.names, self.status), title)

    def _required(self):
        """Return the importance of images, or refuse where there is none to show."""
        if self.importance is None or self.importance.ndim != 3:
            raise ValueError(
                "Invalid value for argument `importance`. Expected a result of images whose "
                "`importance` is known. Received: importance=True"
            )
        return self.importance

    def _animation(self, importance):
        """Return one contact sheet a frame."""
        pairs = zip(self.frames, self.frame_steps, strict=True)  # type: ignore[arg-type]
        return [self._sheet_of(images, importance, f"step {step}") for images, step in pairs]

    def _repr_png_(self) -> bytes:
        return pictures.encode_png(self.sheet())
