"""Check the arguments of the callback that need no model, and what `fit` hands to it."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any

import keras


def check_arguments(freq: Any, max_overhead: Any, on_error: Any) -> None:
    """Refuse arguments that are wrong for every model.

    Raises:
        ValueError: If an argument is invalid.
    """
    if not isinstance(freq, Integral) or isinstance(freq, bool) or freq < 1:
        raise ValueError(
            "Invalid value for argument `freq`. Expected a whole number of epochs, 1 or "
            f"more. Received: freq={freq!r}"
        )
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
