"""Draw the real images that activate a target, beside the optimised one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from featviz_callback.monitoring.places import Place
from featviz_callback.records import Result, highlights, pictures
from featviz_callback.records.pictures import Png, as_png


@dataclass(frozen=True, eq=False)
class ShownImage:
    """A real image that activates a target, and where it does.

    Attributes:
        index: Its place among all real images.
        score: Its score.
        image: The image or signal, a float32 array.
        values_range: Values that are drawn as black and as white.
        place: Where it activates the target, or `None` if that cannot be told. An equal one
            for as long as the image is among the top ones.
        pngs: What `to_log` returns, where it is encoded already.
    """

    index: int
    score: float
    image: np.ndarray
    values_range: tuple[float, float]
    place: Place | None
    pngs: tuple[Png, Png | None] | None = None

    @cached_property
    def picture(self) -> np.ndarray:
        """The image, drawn."""
        return pictures.of_targets([self.image], self.values_range)[0]

    @cached_property
    def highlighted(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The image under its activation, and a crop, drawn; see `highlights.of_image`."""
        if self.place is None:
            return None, None
        shares = self.place.over_image(*(1, *self.image.shape)[-3:-1])
        given = self.image, self.values_range, shares, self.place.box
        return highlights.of_image(*given, self.picture)

    @cached_property
    def to_log(self) -> tuple[Png, Png | None]:
        """The image, and one of its place, drawn and encoded."""
        if self.pngs is not None:
            return self.pngs
        place = self.picture_of_place()
        return as_png(self.picture), None if place is None else as_png(place)

    def encoded(self) -> ShownImage:
        """Return the same with encoded pictures in place of the image."""
        return replace(self.without_image(), pngs=self.to_log)

    def with_score(self, score: float) -> ShownImage:
        """Return the same with another score, without drawing or encoding anything again."""
        other = replace(self, score=score)
        drawn = ("picture", "highlighted", "to_log")
        vars(other).update({name: vars(self)[name] for name in drawn if name in vars(self)})
        return other

    def without_image(self) -> ShownImage:
        """Return the same without the image, which whoever has all real images can add."""
        return replace(self, image=np.empty(0, "float32"))

    def picture_of_place(self) -> np.ndarray | None:
        """Draw both side by side; `None` without a place."""
        whole, part = self.highlighted
        return None if whole is None or part is None else highlights.beside(whole, part)


def drawn_before(shown: Sequence[ShownImage], before: Sequence[ShownImage]) -> list[ShownImage]:
    """Return images with what is drawn of them already, where their places are the same."""
    known = {(one.index, one.place): one for one in before}
    found = [known.get((one.index, one.place)) for one in shown]
    return [
        one if same is None else same.with_score(one.score)
        for one, same in zip(shown, found, strict=True)
    ]


def draw_beside(result: Result, target: int, shown: Sequence[ShownImage]) -> np.ndarray:
    """Draw a target's image beside real ones, and below these where they activate it.

    Args:
        result: The result with the optimised image.
        target: The target's index.
        shown: Its top activating real images, best first.

    Returns:
        A uint8 picture `(height, width, 3)`.
    """
    [optimised] = pictures.of_targets(result.images[[target]], result.values_range)
    # Real images may have another size.
    rows = [[optimised, *(one.picture for one in shown)]]
    if any(one.place for one in shown):
        highlighted = [one.highlighted for one in shown]
        rows += [[None, *row] for row in zip(*highlighted, strict=True)]
    scores = (result.scores[target], *(one.score for one in shown))
    return pictures.grid(
        rows,
        column_labels=["optimised"],
        captions=[[f"{score:.3g}" for score in scores], *[()] * (len(rows) - 1)],
        smallest=56,
        most_pixels=200_000,
    )
