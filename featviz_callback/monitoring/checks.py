"""Check the arguments of the callback that need no model, and what `fit` hands to it."""

from __future__ import annotations

import os
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import keras


def as_freq(freq: Any) -> int | frozenset[int]:
    """Return the argument `freq` as a whole number, or as a set of epochs.

    Raises:
        ValueError: If it is neither.
    """
    if _is_whole(freq) and freq >= 1:
        return int(freq)
    is_single = not isinstance(freq, Collection) or getattr(freq, "shape", None) == ()
    epochs = [] if is_single else list(freq)
    # The history has the untrained network at -1, and may be given as it is.
    if epochs and all(_is_whole(epoch) and epoch >= -1 for epoch in epochs):
        return frozenset(map(int, epochs))
    raise ValueError(
        "Invalid value for argument `freq`. Expected a whole number of epochs, 1 or more, or "
        f"the epochs themselves, at least one whole number from 0 on. Received: freq={freq!r}"
    )


def _is_whole(value):
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_arguments(max_overhead: Any, on_error: Any) -> None:
    """Refuse arguments that are wrong for every model.

    Raises:
        ValueError: If an argument is invalid.
    """
    is_share = isinstance(max_overhead, Real) and 0 < float(max_overhead) < 1
    if max_overhead is not None and not is_share:
        raise ValueError(
            "Invalid value for argument `max_overhead`. Expected None, or a share between "
            f"0 and 1. Received: max_overhead={max_overhead!r}"
        )
    if on_error not in ("warn", "raise"):
        raise ValueError(
            "Invalid value for argument `on_error`. Expected 'warn' or 'raise'. "
            f"Received: on_error={on_error!r}"
        )


def check_listening(on_snapshot: Any, log_real_images: Any, accentuate: Any, probe: Any) -> None:
    """Refuse what cannot be called, or accentuated.

    Raises:
        ValueError: If an argument is invalid.
    """
    if on_snapshot is not None and not callable(on_snapshot):
        raise ValueError(
            "Invalid value for argument `on_snapshot`. Expected None, or a function of a "
            f"snapshot. Received: on_snapshot={on_snapshot!r}"
        )
    check_flag("log_real_images", log_real_images)
    is_whole = isinstance(accentuate, Integral) and not isinstance(accentuate, bool)
    if not is_whole or accentuate < 0 or (accentuate and (probe is None or not log_real_images)):
        raise ValueError(
            "Invalid value for argument `accentuate`. Expected 0, or how many images of "
            "`probe_data` to accentuate, with log_real_images=True since it shows them. Received: "
            f"accentuate={accentuate!r}, probe_data={'None' if probe is None else 'given'}, "
            f"log_real_images={log_real_images!r}"
        )


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False.

    Raises:
        ValueError: If it is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected True or False. "
            f"Received: {name}={value!r}"
        )


def check_log_dir(log_dir: object) -> None:
    """Refuse what is no path.

    Raises:
        ValueError: If it is none.
    """
    _require_path("log_dir", log_dir)


def check_folder(folder: object) -> None:
    """Refuse what is no path of a local folder.

    Raises:
        ValueError: If it is none.
    """
    _require_path("folder", folder)
    if "://" in os.fspath(folder):  # type: ignore[call-overload]
        raise ValueError(
            "Invalid value for argument `folder`. Expected a local folder. "
            f"Received: folder={folder!r}"
        )


def _require_path(name, value):
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a path. Received: {name}={value!r}"
        )


def check_model(model: object) -> None:
    """Refuse a model of another library, above all of the older Keras.

    Raises:
        ValueError: If it is not a model of Keras 3.
    """
    if not isinstance(model, keras.Model):
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        raise ValueError(
            "Invalid value for argument `model`. Expected a model of Keras 3, a `keras.Model`. "
            f"Received: a {kind}. Build and train the model with `keras`, not with `tf_keras`, "
            "and do not set TF_USE_LEGACY_KERAS."
        )
