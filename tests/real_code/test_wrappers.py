"""The callback on wrappers and on models of several inputs, as people write them."""

from tests.real_code import (
    adversarial,
    captioning,
    contrastive,
    cyclegan,
    generative,
    masked_autoencoder,
    others,
    own_steps,
    several_inputs,
)
from tests.real_code.checks import check, parametrized

pytestmark = parametrized(
    [
        adversarial,
        captioning,
        contrastive,
        cyclegan,
        generative,
        masked_autoencoder,
        others,
        own_steps,
        several_inputs,
    ]
)


def test_training_stays_the_same_and_shows_what_the_code_has(family, tmp_path, caplog):
    check(family, tmp_path, caplog)
