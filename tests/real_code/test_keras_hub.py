"""The callback on KerasHub's image models, with random weights and in small configurations.

What is expected was read from the code of KerasHub 0.32, before anything ran.
"""

import re

import keras
import numpy as np
import pytest

from featviz_callback import FeatureVisCallback, Objective, default_objectives, optimize
from tests.conftest import set_random_seed
from tests.real_code.checks import assert_same, layer_of
from tests.real_code.family import pictures

keras_hub = pytest.importorskip("keras_hub")
models = keras_hub.models

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend suffices"),
]

SHAPE = (32, 32, 3)


def resnet(**settings):
    return models.ResNetBackbone(
        [64], [7], [64, 96], [1, 1], [1, 2], "basic_block", image_shape=SHAPE, **settings
    )


def resnet_v2():
    return models.ResNetBackbone(
        [64], [7], [64, 96], [1, 1], [1, 2], "bottleneck_block", use_pre_activation=True,
        image_shape=SHAPE,
    )  # fmt: skip


def mobilenet():
    return models.MobileNetBackbone(
        stackwise_expansion=[[16, 24], [32]],
        stackwise_num_blocks=[2, 1],
        stackwise_num_filters=[[16, 16], [24]],
        stackwise_kernel_size=[[3, 3], [5]],
        stackwise_num_strides=[[2, 1], [2]],
        stackwise_se_ratio=[[None, None], [0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish"]],
        stackwise_padding=[[1, 1], [2]],
        output_num_filters=32,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=32,
        image_shape=SHAPE,
    )


def efficientnet():
    return models.EfficientNetBackbone(
        stackwise_width_coefficients=[1.0, 1.0],
        stackwise_depth_coefficients=[1.0, 1.0],
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 1],
        stackwise_input_filters=[16, 16],
        stackwise_output_filters=[16, 24],
        stackwise_expansion_ratios=[2, 4],
        stackwise_squeeze_and_excite_ratios=[0.0, 0.25],
        stackwise_strides=[1, 2],
        stackwise_block_types=["fused", "unfused"],
        num_features=32,
        input_shape=SHAPE,
    )


def densenet(**settings):
    return models.DenseNetBackbone([2, 2], image_shape=SHAPE, growth_rate=8, **settings)


def vgg():
    return models.VGGBackbone([2, 2], [8, 12], image_shape=SHAPE)


def xception():
    return models.XceptionBackbone(
        [[8, 12], [16, 16], [24, 24]], [False, True, False], image_shape=SHAPE
    )


def cspnet():
    return models.CSPNetBackbone(
        16, 3, 1, [1, 1], [1, 2], [16, 24], "dark_block", stage_type="csp", block_ratio=[0.5],
        image_shape=SHAPE,
    )  # fmt: skip


def vit(**settings):
    return models.ViTBackbone(SHAPE, (8, 8), 4, 2, 16, 32, **settings)


def mit():
    return models.MiTBackbone([1, 1], 2, [1, 2], [2, 1], 0.1, [7, 3], [4, 2], SHAPE, [8, 16])


def swin():
    return models.SwinTransformerBackbone(SHAPE, 12, (2, 2), (2, 3), 4, patch_size=2)


# Each backbone: what its first and last feature layer are called, and what all are. The
# layers without a name of their own are numbered by Keras.
BACKBONES = {
    "ResNet": (
        resnet,
        "conv1_conv",
        r"stack1_block0_[02]_conv",
        r"conv1_conv|stack\d_block0_\d_conv",
    ),
    "ResNet v2": (
        *(resnet_v2, "conv1_conv", "stack1_block0_3_conv"),
        r"conv1_conv|stack\d_block0_\d_conv",
    ),
    "MobileNet": (
        *(mobilenet, "input_conv", "block_3_0/block_3_0_conv"),
        r"input_conv|(block_[\d_]+)/(\1_conv\d?|\1_se\w*/.*conv_(reduce|expand))",
    ),
    "EfficientNet": (
        *(efficientnet, "stem_conv", "top_conv"),
        r"(stem|top)_conv|(block\d\w_)/\2(expand_conv|project_conv|se_reduce|se_expand)",
    ),
    "DenseNet": (
        *(densenet, "conv1_conv", "stack2_block2_2_conv"),
        r"conv1_conv|stack\d_block\d_\d_conv|transition1_conv",
    ),
    "VGG": (vgg, "block1_conv1", "block2_conv2", r"block\d_conv\d"),
    "Xception": (
        *(xception, "block1_conv1", "block3_sepconv2"),
        r"block1_conv\d|block\d_sepconv\d|block2_residual_conv",
    ),
    "CSPNet": (
        *(cspnet, "csp_stem_conv_0", "stage_1_csp_conv_transition"),
        r"csp_stem_conv_0|stage_\d_(csp_conv_\w+|block_0_dark_block_conv_\d)",
    ),
    # Of transformers the layer of each MLP that widens. MiT also has convolutions: each
    # embedding, and what shortens keys and values.
    "ViT": (
        *(vit, "vit_encoder/transformer_block_1/mlp/dense_1"),
        "vit_encoder/transformer_block_4/mlp/dense_1",
        r"vit_encoder/transformer_block_\d/mlp/dense_1",
    ),
    "MiT": (
        *(mit, r"patch_and_embed_0/conv2d\w*", r"hierarchical_encoder_1_0/mix_ffn\w*/dense\w*"),
        r"patch_and_embed_\d/conv2d\w*|hierarchical_encoder_\d_0/"
        r"(mix_ffn\w*/dense\w*|seg_former\w*/conv2d\w*)",
    ),
    "Swin": (
        *(swin, "stage_0/blocks_0/mlp/fc1", "stage_1/blocks_1/mlp/fc1"),
        r"stage_\d/blocks_\d/mlp/fc1",
    ),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_the_default_of_a_backbone_is_its_features(name):
    build, first, last, every = BACKBONES[name]
    set_random_seed(1)
    model = build()
    layers = [layer_of(one.names[0]) for one in default_objectives(model)]
    assert len(layers) == 4
    assert re.fullmatch(first, layers[0])
    assert re.fullmatch(last, layers[-1])
    assert all(re.fullmatch(every, layer) for layer in layers), layers
    result = optimize(Objective.channel(model, layers[1], 0), steps=2, values_range=(-1, 1))
    assert np.isfinite(result.scores).all()
    assert np.ptp(result.images) > 0
    assert result.status[0] != "nan"


def classifier(backbone, kind, **scaling):
    preprocessor = getattr(models, f"{kind}ImageClassifierPreprocessor")(
        image_converter=getattr(keras_hub.layers, f"{kind}ImageConverter")(
            image_size=SHAPE[:2], **scaling
        )
    )
    return getattr(models, f"{kind}ImageClassifier")(
        backbone=backbone, num_classes=3, preprocessor=preprocessor
    )


MEANS, DEVIATIONS = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

# Each classifier with the scaling of its own presets, and the range that bytes have behind it.
CLASSIFIERS = {
    "ViT": (lambda: vit(name="backbone"), {"scale": 1 / 127.5, "offset": -1.0}, (-1.0, 1.0)),
    "DenseNet": (
        lambda: densenet(name="backbone"),
        {
            "scale": (1 / 255 / DEVIATIONS).tolist(),
            "offset": (-MEANS / DEVIATIONS).tolist(),
        },
        (min(-MEANS / DEVIATIONS), max((1 - MEANS) / DEVIATIONS)),
    ),
    "ResNet": (lambda: resnet(name="backbone"), {"scale": 1 / 255}, (0.0, 1.0)),
}


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_classifier_trains_the_same_and_is_seen_behind_its_preprocessor(kind, tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    build, scaling, values_range = CLASSIFIERS[kind]
    x, y = pictures(16, (40, 40, 3), classes=3, high=255)

    def train(*callbacks):
        set_random_seed(2)
        model = classifier(build(), kind, **scaling)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
        fitted = model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=list(callbacks))
        return fitted.history, [keras.ops.convert_to_numpy(v.value) for v in model.variables], model

    callback = FeatureVisCallback(log_dir=tmp_path, steps=2, probe_data=x, on_error="raise")
    *watched, model = train(callback)
    assert_same(watched, train()[:2])
    history = callback.history
    assert history.images.shape[2:] == SHAPE
    np.testing.assert_allclose(history.values_range, values_range, atol=0.1 * np.ptp(values_range))
    shown = list(dict.fromkeys(layer_of(name) for name in history.names))
    every = BACKBONES[kind][3]
    assert all(re.fullmatch(f"backbone/({every})|predictions", layer) for layer in shown), shown
    assert shown[-1] == "predictions"
    assert len(shown) == 5
    # The best real score is that of the images as `fit` prepares them.
    logits = np.asarray(model(model.preprocessor(x))).max(0)
    is_above = logits > 0
    best = history.scores[-1, -3:] / history.score_ratio[-1, -3:]
    np.testing.assert_allclose(best[is_above], logits[is_above], rtol=0.01)
    assert np.isfinite(history.scores).all()
    assert "probe_data` are left out" not in caplog.text


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_preprocessor_tells_the_range_of_a_classifier_without_data(kind, tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    build, scaling, _ = CLASSIFIERS[kind]
    x, y = pictures(8, (40, 40, 3), classes=3, high=255)
    model = classifier(build(), kind, **scaling)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callback = FeatureVisCallback(log_dir=tmp_path, steps=2, on_error="raise")
    model.fit(x, y, verbose=0, callbacks=[callback])
    assert callback.history.images.shape[2:] == SHAPE
    ends = np.stack([np.zeros((40, 40, 3)), np.full((40, 40, 3), 255.0)])
    expected = np.asarray(model.preprocessor(ends))[:, 5, 5]
    found = np.broadcast_arrays(*callback.history.values_range, expected[0])[:2]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert "'preprocessor' makes" in caplog.text
