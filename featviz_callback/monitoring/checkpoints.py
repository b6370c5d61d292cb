"""Find the checkpoints of a training that is over, and load them into a model.

A checkpoint has the epoch of the callback, from 0; -1 is the untrained network. Keras'
`ModelCheckpoint` counts from 1, so its number 1 is epoch 0.
"""

from __future__ import annotations

import glob
import logging
import os
import re
import string
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral

import keras

from featviz_callback.monitoring import wire
from featviz_callback.objectives import is_known

logger = logging.getLogger("featviz_callback")

_ENDINGS = (".weights.h5", ".keras", ".h5")
_LISTED = 3
_ADVICE = "A pattern tells which number is the epoch"
_UNTRAINED = -1
# A training that saves every hundredth epoch has 99 in a row without a checkpoint.
_MOST_MISSING = 100


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one epoch.

    Attributes:
        epoch: The epoch that had just ended, from 0; -1 is the untrained network.
        weights: The path of a file, or a list of arrays as `model.get_weights` returns it.
    """

    epoch: int
    weights: str | Sequence

    @property
    def name(self) -> str:
        """What a message calls it."""
        is_path = isinstance(self.weights, str)
        return repr(self.weights) if is_path else f"the weights of epoch {self.epoch}"


@dataclass(frozen=True)
class Checkpoints:
    """All checkpoints of a training, in order, which can be read again and again.

    Attributes:
        known: The checkpoints, or a function `epoch -> path, list of arrays or None`.
    """

    known: Sequence[Checkpoint] | Callable

    def __iter__(self) -> Iterator[Checkpoint]:
        return _called(self.known, _UNTRAINED) if callable(self.known) else iter(self.known)

    def after(self, epoch: int) -> Iterator[Checkpoint]:
        """Yield the checkpoints of later epochs, the last one first unless a function has them."""
        if callable(self.known):
            yield from _called(self.known, epoch + 1)
        else:
            yield from (one for one in reversed(self.known) if one.epoch > epoch)

    @property
    def count(self) -> int | None:
        """How many there are, if that is known."""
        return None if callable(self.known) else len(self.known)


def find(checkpoints: object) -> Checkpoints:
    """Return the checkpoints that the argument of `replay` means, without reading them.

    Raises:
        ValueError: If there are none, one is missing, or two are of one epoch.
    """
    if isinstance(checkpoints, (str, os.PathLike)):
        return Checkpoints(_of_pattern(os.path.expanduser(os.fspath(checkpoints))))
    if isinstance(checkpoints, Mapping):
        return Checkpoints(_existing(checkpoints))
    if isinstance(checkpoints, (list, tuple)) and checkpoints:
        logger.warning("The list of %d checkpoints is taken as epochs 0, 1, ...", len(checkpoints))
        return Checkpoints(_existing(dict(enumerate(checkpoints))))
    if callable(checkpoints):
        return Checkpoints(checkpoints)
    raise refusal(f"checkpoints={checkpoints!r}")


def load(checkpoint: Checkpoint, model: keras.Model) -> None:
    """Set a model's weights to those of a checkpoint.

    Raises:
        ValueError: If it cannot be read, or does not match the model.
    """
    was_built = model.built
    # Keras loads no wrapper that was never called, though all of its parts are built.
    model.built = was_built or is_known(model)
    try:
        # An optimizer that is not built, or another one, is of no concern here.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Skipping variable loading")
            if isinstance(checkpoint.weights, str):
                model.load_weights(checkpoint.weights)
            else:
                model.set_weights(checkpoint.weights)
                wire.renew_constants([model])
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise ValueError(
            f"The checkpoint {checkpoint.name} cannot be loaded into the model '{model.name}'. "
            f"Expected weights of this architecture. Received: {type(error).__name__}: {said}"
        ) from error
    finally:
        model.built = was_built


def _called(function, epoch):
    """Yield the checkpoints that a function returns, from an epoch on."""
    missing = 0
    while missing < _MOST_MISSING:
        found = function(epoch)
        if found is not None:
            is_path = isinstance(found, (str, os.PathLike))
            yield Checkpoint(epoch, os.fspath(found) if is_path else found)
        missing = missing + (epoch > _UNTRAINED) if found is None else 0
        epoch += 1


def _existing(paths):
    """Return the checkpoints of a mapping from epochs to paths."""
    for epoch, path in paths.items():
        is_epoch = isinstance(epoch, Integral) and not isinstance(epoch, bool)
        if not is_epoch or epoch < _UNTRAINED or not isinstance(path, (str, os.PathLike)):
            raise refusal(f"{epoch!r}: {path!r}")
    found = {int(epoch): os.path.expanduser(os.fspath(paths[epoch])) for epoch in sorted(paths)}
    # An address such as "gs://bucket/1.keras" is Keras' own to read.
    missing = [path for path in found.values() if "://" not in path and not os.path.exists(path)]
    if missing:
        raise refusal(f"no file at {_some(missing)}")
    if not found:
        raise refusal("none")
    return [Checkpoint(epoch, path) for epoch, path in found.items()]


def _of_pattern(pattern):
    """Return the checkpoints of a pattern or a folder, whose numbers count from 1."""
    numbered = _numbered_in(pattern) if os.path.isdir(pattern) else _matching(pattern)
    epochs: dict[int, str] = {}
    for number, path in sorted(numbered):
        if number - 1 in epochs:
            raise refusal(
                f"two files of number {number}, {epochs[number - 1]!r} and {path!r}. A list of "
                "paths takes both"
            )
        epochs[number - 1] = path
    if not epochs and os.path.isdir(pattern):
        found = _some(sorted(os.listdir(pattern))) or "nothing"
        raise refusal(
            f"no file of {pattern!r} with a number and one of the endings {', '.join(_ENDINGS)}. "
            f"It has {found}"
        )
    if not epochs:
        raise refusal(f"no file of {pattern!r}")
    last = max(epochs)
    gaps = [epoch for epoch in range(last) if epoch not in epochs]
    logger.warning(
        "Numbers of checkpoints count from 1, as Keras' ModelCheckpoint does: %r is epoch %d of "
        "the callback%s.",
        epochs[last],
        last,
        f". Epochs without a checkpoint: {len(gaps)}" if gaps else "",
    )
    return _existing(epochs)


def _matching(pattern):
    """Yield `(number, path)` for each file of a pattern such as `"{epoch:02d}.weights.h5"`."""
    try:
        fields = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise refusal(f"{pattern!r} ({error})") from error
    if "epoch" not in [name for _, name, _, _ in fields]:
        raise refusal(f"{pattern!r}, which is no folder, and in which there is no {{epoch}}")
    shell, regular, seen = "", "", False
    for text, name, _, _ in fields:
        shell, regular = shell + glob.escape(text), regular + re.escape(text)
        if name is not None:
            shell += "*"
            number = r"\d+" if seen else r"(?P<epoch>\d+)"
            regular += number if name == "epoch" else r"[^/\\]*?"
            seen = seen or name == "epoch"
    for path in glob.glob(shell):
        if match := re.fullmatch(regular, path):
            yield int(match["epoch"]), path


def _numbered_in(folder):
    """Return `(number, path)` for each checkpoint in a folder, by the one number that varies."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(_ENDINGS))
    # The ending has a digit of its own.
    ending = {name: next(end for end in _ENDINGS if name.endswith(end)) for name in names}
    split = {name: re.split(r"(\d+)", name.removesuffix(ending[name])) for name in names}
    # A model beside its checkpoints has no number.
    split = {name: parts for name, parts in split.items() if len(parts) > 1}
    if len({(ending[name], *parts[::2]) for name, parts in split.items()}) > 1:
        raise refusal(f"names of several kinds in {folder!r}: {_some(split)}. {_ADVICE}")
    columns = list(zip(*(parts[1::2] for parts in split.values()), strict=True))
    varying = [i for i, column in enumerate(columns) if len(set(column)) > 1]
    varying = varying or list(range(len(columns)))
    if len(varying) > 1:
        # A number with a point, such as a loss, counts no epochs.
        [texts, *_] = (parts[::2] for parts in split.values())
        varying = [i for i in varying if "." not in (texts[i], texts[i + 1])]
    if split and len(varying) != 1:
        raise refusal(f"names with several numbers in {folder!r}: {_some(split)}. {_ADVICE}")
    return [
        (int(parts[1::2][varying[0]]), os.path.join(folder, name)) for name, parts in split.items()
    ]


def _some(names):
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(repr, list(names)[:_LISTED])) + more


def refusal(received: str) -> ValueError:
    """Return the error for checkpoints that cannot be replayed."""
    return ValueError(
        "Invalid value for argument `checkpoints`. Expected a pattern of files such as "
        "'checkpoints/{epoch:02d}.weights.h5', a folder with one number in each name, a list of "
        "paths, a mapping from epochs (-1, 0, 1, ...) to paths, or a function of the epoch. "
        f"Received: {received}"
    )
