"""All families."""

from tests.real_code import (
    adversarial,
    captioning,
    classifiers,
    contrastive,
    convolutions,
    cyclegan,
    embeddings,
    generative,
    hybrids,
    image_to_image,
    masked_autoencoder,
    others,
    several_inputs,
    transformers,
)

_MODULES = (
    *(classifiers, convolutions, image_to_image, transformers, hybrids, masked_autoencoder),
    *(generative, adversarial, cyclegan, contrastive, embeddings),
    *(several_inputs, captioning, others),
)
FAMILIES = [family for module in _MODULES for family in module.FAMILIES]
