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
    own_steps,
    several_inputs,
    transformers,
)

# What the README calls them.
KINDS = {
    "convnets": (classifiers, convolutions, image_to_image),
    "transformers, mixers": (transformers, hybrids),
    "autoencoders, GANs, diffusion": (masked_autoencoder, generative, adversarial, cyclegan),
    "contrast, embeddings": (contrastive, embeddings),
    "several inputs, captions": (several_inputs, captioning),
    "signals, points, volumes, boxes": (others,),
    "steps by hand": (own_steps,),
}
FAMILIES = [
    family for modules in KINDS.values() for module in modules for family in module.FAMILIES
]
