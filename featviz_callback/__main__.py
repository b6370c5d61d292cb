"""The command line: `python -m featviz_callback replay MODEL.keras FOLDER`.

It is for a folder of checkpoints and no notebook. What can be wrong with the arguments is
said in one sentence, and the exit code is 2. If a snapshot fails, it is 1.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import os
import shlex
import sys
from collections.abc import Sequence

_LONGEST = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code.

    Args:
        arguments: The words after `python -m featviz_callback`. Default: those of the process.
    """
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        _replay(chosen)
    except (ValueError, OSError) as error:
        return _say(str(error), 2)
    except KeyboardInterrupt:
        return _say("interrupted. The same command goes on.", 130)
    except Exception as error:
        said = "a snapshot failed, and the same command tries it again."
        return _say(f"{said} {_short(f'{type(error).__name__}: {error}')}", 1)
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m featviz_callback", description="See what a trained model has learnt, when."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "replay",
        help="make the snapshots of a training that is over, from its checkpoints",
        description="Make the snapshots of a training that is over, from its checkpoints. "
        "An interrupted command goes on if it is given again.",
    )
    command.add_argument("model", metavar="MODEL", help="a file that `model.save` wrote")
    command.add_argument(
        "checkpoints",
        metavar="FOLDER",
        help="a folder of .weights.h5 or .keras files with one number in each name, which "
        "counts epochs from 1, 0 being the untrained network; or a pattern such as "
        "'folder/{epoch:02d}-{val_loss:.2f}.weights.h5'",
    )
    command.add_argument(
        "--probe-data",
        metavar="FILE",
        help="real images, a .npy file, or a .npz file of x and, if there are labels, y",
    )
    command.add_argument("--log-dir", default="logs", help="folder for TensorBoard (%(default)s)")
    command.add_argument("--steps", type=int, default=32, help="of a snapshot (%(default)s)")
    command.add_argument("--freq", type=int, default=1, help="epochs between two snapshots")
    command.add_argument(
        "--values-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="of the images"
    )
    command.add_argument(
        "--import",
        metavar="MODULE",
        dest="imported",
        action="append",
        default=[],
        help="a module or a .py file with your own layers or models; may be given again",
    )
    command.add_argument(
        "--unsafe",
        action="store_true",
        help="load a MODEL with lambdas, which run code of the file: for files that you trust",
    )
    return parser


def _replay(chosen):
    # Keras is imported once the arguments are known to be right: it takes seconds.
    import keras
    import numpy as np

    from featviz_callback import FeatureVisCallback, replay

    probe_data = None if chosen.probe_data is None else _read(np, chosen.probe_data)
    callback = FeatureVisCallback(
        log_dir=chosen.log_dir,
        steps=chosen.steps,
        freq=chosen.freq,
        values_range=chosen.values_range,
        probe_data=probe_data,
        on_error="raise",
        verbose=1,
    )
    replay(callback, _load(keras, chosen), chosen.checkpoints)
    print(f"tensorboard --logdir {shlex.quote(chosen.log_dir)} shows the tab Features.")


def _read(np, path):
    """Return real images, or a pair of images and labels."""
    try:
        found = np.load(path)
        arrays = dict(found) if isinstance(found, np.lib.npyio.NpzFile) else {"x": found}
    except Exception as error:
        expected = "--probe-data FILE, a .npy or .npz file of numbers,"
        raise _cannot(expected, "read", path, error) from error
    if "x" not in arrays and len(arrays) == 1:
        [arrays["x"]] = arrays.values()
    if "x" not in arrays:
        raise ValueError(
            "Invalid value for --probe-data. Expected a .npy file, or a .npz file with the array x "
            "and, if there are labels, y, as np.savez('data.npz', x=x, y=y) makes it. "
            f"Received: {path!r} with {', '.join(arrays) or 'no array'}"
        )
    return (arrays["x"], arrays["y"]) if "y" in arrays else arrays["x"]


def _load(keras, chosen):
    own = {}
    for name in chosen.imported:
        own |= _import(name)
    try:
        return keras.saving.load_model(
            chosen.model, custom_objects=own, compile=False, safe_mode=not chosen.unsafe
        )
    except Exception as error:
        advice = ""
        if "safe_mode" in str(error):
            advice = " On the command line it is --unsafe that does so."
        elif "custom" in str(error) and not own:
            advice = " On the command line --import MODULE imports your classes."
        expected = "MODEL, a file that `model.save` wrote,"
        raise _cannot(expected, "loaded", chosen.model, error, advice) from error


def _import(name):
    """Import a module or a file, and return the classes and functions that it defines."""
    try:
        if name.endswith(".py"):
            # It may import what is beside it.
            sys.path.append(os.path.dirname(os.path.abspath(name)))
            stem = os.path.basename(name).removesuffix(".py")
            spec = importlib.util.spec_from_file_location(stem, name)
            module = sys.modules[stem] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(name)
    except Exception as error:
        raise _cannot("--import MODULE", "imported", name, error) from error
    return {key: value for key, value in vars(module).items() if _is_of(value, module)}


def _is_of(value, module):
    is_known = inspect.isclass(value) or inspect.isfunction(value)
    return is_known and value.__module__ == module.__name__


def _cannot(argument, verb, path, error, advice=""):
    # Keras repeats the whole configuration before it says which class it has not found.
    reason = str(error).rpartition("Exception encountered: ")[2]
    said = _short(f"{argument} cannot be {verb}, {path!r}: {type(error).__name__}: {reason}")
    return ValueError(said + advice)


def _short(text):
    """Return text on one line, which an error of a framework is not."""
    line = " ".join(text.split())
    return f"{line[:_LONGEST]} ..." if len(line) > _LONGEST else line


def _say(text, code):
    print(f"featviz_callback: {' '.join(text.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
