"""All families."""

from tests.real_code import classifiers, convolutions, image_to_image

FAMILIES = [
    *classifiers.FAMILIES,
    *convolutions.FAMILIES,
    *image_to_image.FAMILIES,
]
