"""What the shape of an image tells about its content.

A shape is `(height, width, channels)`. Defaults depend on these three questions,
and on nothing else about an image.
"""


def is_signal(shape: tuple) -> bool:
    """Whether an image is a signal `(time, channels)`, which has a height of one."""
    return shape[0] == 1


def is_rgb(shape: tuple) -> bool:
    """Whether the channels are colours. Three channels of a signal are none."""
    return shape[2] == 3 and not is_signal(shape)


def is_small(shape: tuple) -> bool:
    """Whether the content of an image fills its frame.

    The content of an image below 96 pixels (a digit, a shoe, a frog of CIFAR) fills
    the frame. Larger images are photographs, in which an object has a background. A
    signal fills its frame at any length.
    """
    return max(shape[:2]) < 96 or is_signal(shape)
