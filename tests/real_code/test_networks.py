"""The callback on networks that `fit` trains, as people write them."""

from tests.real_code import (
    classifiers,
    convolutions,
    embeddings,
    hybrids,
    image_to_image,
    transformers,
)
from tests.real_code.checks import check, parametrized

pytestmark = parametrized(
    [classifiers, convolutions, embeddings, hybrids, image_to_image, transformers]
)


def test_training_stays_the_same_and_shows_what_the_code_has(family, tmp_path, caplog):
    check(family, tmp_path, caplog)
