"""The command line: `python -m featviz_callback replay MODEL.keras FOLDER`.

It is for a folder of checkpoints and no notebook. What can be wrong with the arguments is
said in one sentence, and the exit code is 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


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
        print(f"featviz_callback: {_sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("featviz_callback: interrupted. The same command goes on.", file=sys.stderr)
        return 130
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
    command.add_argument("--probe-data", metavar="FILE", help="real images, a .npy or .npz file")
    command.add_argument("--log-dir", default="logs", help="folder for TensorBoard (%(default)s)")
    command.add_argument("--steps", type=int, default=32, help="of a snapshot (%(default)s)")
    command.add_argument("--freq", type=int, default=1, help="epochs between two snapshots")
    command.add_argument(
        "--values-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="of the images"
    )
    return parser


def _replay(chosen):
    # Keras is imported once the arguments are known to be right: it takes seconds.
    import keras
    import numpy as np

    from featviz_callback import FeatureVisCallback, replay

    probe_data = None if chosen.probe_data is None else np.load(chosen.probe_data)
    if isinstance(probe_data, np.lib.npyio.NpzFile):
        probe_data = probe_data[probe_data.files[0]]
    callback = FeatureVisCallback(
        log_dir=chosen.log_dir,
        steps=chosen.steps,
        freq=chosen.freq,
        values_range=chosen.values_range,
        probe_data=probe_data,
        verbose=1,
    )
    model = _load(keras, chosen.model)
    replay(callback, model, chosen.checkpoints)
    print(f"tensorboard --logdir {chosen.log_dir} shows the tab Features.")


def _load(keras, path):
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(f"MODEL cannot be loaded, {path!r}: {error}") from error


def _sentence(error):
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
