"""What `optimize` returns: NumPy arrays, and pictures of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from featviz_callback.records import pictures


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
            the contrast. Else `"ok"`. Only a snapshot with `probe_data` can tell what is
            dead, constant or weak.
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

    def __iter__(self) -> Iterator:
        return iter((self.images, self.names))

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        best = np.max(self.scores, initial=-np.inf, where=np.isfinite(self.scores))
        return f"<Result of {len(self)} images {shape}, best score {best:.3g}>"

    def save(self, path: str | os.PathLike) -> None:
        """Write a contact sheet, or the arrays.

        Args:
            path: A file name; `.npz` saves every attribute as an array, any other
                ending is a picture in the format that Pillow knows by it.

        Raises:
            ValueError: If Pillow writes no format of that ending.
        """
        if os.fspath(path).lower().endswith(".npz"):
            arrays = {k: v for k, v in vars(self).items() if v is not None}
            with open(path, "wb") as file:
                np.savez_compressed(file, **arrays)
        else:
            pictures.save(self.sheet(), path)

    def sheet(self) -> np.ndarray:
        """Draw a contact sheet, uint8 `(height, width, 3)`, with names and status."""
        shown = pictures.of_targets(self.images, self.values_range)
        return pictures.sheet(list(shown), pictures.captions(self.names, self.status))

    def _repr_png_(self) -> bytes:
        return pictures.encode_png(self.sheet())
