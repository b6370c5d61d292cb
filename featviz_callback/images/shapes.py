"""Tell from the shape of an image whether it is a signal, in colour, or small.

A shape is `(height, width, channels)`. Defaults must depend on nothing else about an
image than the answers of these three functions.
"""


def is_signal(shape: tuple) -> bool:
    """Return whether an image is a signal `(time, channels)`, with a height of one."""
    return shape[0] == 1


def is_rgb(shape: tuple) -> bool:
    """Return whether the channels are colours; the channels of a signal never are."""
    return shape[2] == 3 and not is_signal(shape)


def is_small(shape: tuple) -> bool:
    """Return whether the content of an image is assumed to fill its frame.

    Images below 96 pixels are filled by their object, such as a digit, a shoe or a frog
    of CIFAR. Larger images are photographs, in which an object has a background. A
    signal fills its frame at any length.
    """
    return max(shape[:2]) < 96 or is_signal(shape)
