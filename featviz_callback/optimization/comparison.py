"""Compare pictures with real images: which is the best known score, and what that tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from featviz_callback.optimization.ranking import Ranking
from featviz_callback.records import Result

# Scores that differ by no more than this share of how much real images differ are equal but
# for rounding.
_EQUAL = 1e-4


def best_known(rankings: Sequence[Ranking]) -> np.ndarray:
    """Return the score of the best real image for each target, but for rounding."""
    best = np.concatenate([one.scores[:, 0] for one in rankings])
    spread = np.concatenate([one.spread for one in rankings])
    with np.errstate(invalid="ignore"):
        return best - _EQUAL * np.minimum(np.abs(best), spread)


def verdict(status: str, is_silent: bool, is_constant: bool, is_weak: bool) -> str:
    """Return the first status that holds, see `Result.status`."""
    if status == "nan":
        return status
    if is_silent:
        return "dead"
    if is_constant:
        return "constant"
    if status == "no_gradient":
        # At the highest value of a bounded unit, a gradient is zero too.
        return status if is_weak else "ok"
    return "weak" if is_weak else status


def score_ratio(scores: np.ndarray, best: np.ndarray, is_silent: np.ndarray) -> np.ndarray:
    """Return scores as multiples of the best real image's, NaN where that is not above 0."""
    with np.errstate(invalid="ignore"):
        ratio = scores / np.where((best > 0) & ~is_silent, best, np.nan)
    return ratio.astype("float32")


def compared(result: Result, ranking: Ranking, real_images: np.ndarray) -> Result:
    """Return a result with what real images tell of it.

    Args:
        result: The result.
        ranking: The top activating images of its targets.
        real_images: All images, in the axes of those of the result.
    """
    is_weak = result.scores < best_known([ranking])
    conditions = (ranking.is_silent, ranking.is_constant, is_weak)
    # The top images of a unit that tells no image from another would be any six. What indices
    # choose is a copy already.
    has_none = ranking.is_silent | ranking.is_constant
    top_images = real_images[ranking.indices].astype("float32", copy=False)
    top_images[has_none] = np.nan
    return replace(
        result,
        status=[verdict(*one) for one in zip(result.status, *conditions, strict=True)],
        score_ratio=score_ratio(result.scores, ranking.scores[:, 0], ranking.is_silent),
        real_images=top_images,
        real_scores=np.where(has_none[:, None], np.float32(np.nan), ranking.scores),
    )
