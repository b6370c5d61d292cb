"""Convolutional networks with unusual layers."""

import keras
from keras import layers, ops

from tests.real_code.family import EVERY_BACKEND, Family, pictures

# --- learnable resizer ------------------------------------------------------------------


def conv_block(x, filters, kernel_size, strides, name, activation=None):
    x = layers.Conv2D(filters, kernel_size, strides, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization()(x)
    return activation(x) if activation else x


def learnable_resizer():
    """keras.io: Learning to resize in computer vision, 2021."""
    inputs = keras.Input(shape=[None, None, 3])
    naive_resize = layers.Resizing(16, 16, interpolation="bilinear")(inputs)
    x = layers.Conv2D(6, 7, strides=1, padding="same", name="conv_1")(inputs)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Conv2D(6, 1, strides=1, padding="same", name="conv_2")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.BatchNormalization()(x)
    bottleneck = layers.Resizing(16, 16, interpolation="bilinear")(x)
    x = conv_block(bottleneck, 6, 3, 1, "conv_3", layers.LeakyReLU(negative_slope=0.2))
    x = conv_block(x, 6, 3, 1, "conv_4")
    x = layers.Add()([bottleneck, x])
    x = layers.Conv2D(3, 7, strides=1, padding="same", name="conv_5")(x)
    final_resize = layers.Add()([naive_resize, x])
    resizer = keras.Model(inputs, final_resize, name="learnable_resizer")

    backbone = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 3, activation="relu", name="conv_1"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax", name="probabilities"),
        ],
        name="backbone",
    )
    inputs = keras.Input((24, 24, 3))
    x = layers.Rescaling(scale=1.0 / 255)(inputs)
    x = resizer(x)
    model = keras.Model(inputs, backbone(x))
    model.compile(
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        optimizer="sgd",
        metrics=["accuracy"],
    )
    return model


def larger_photographs():
    x, y = pictures(16, (24, 24, 3), high=255)
    return {"x": x, "y": keras.utils.to_categorical(y, 4), "batch_size": 8}


# --- involution -------------------------------------------------------------------------


class Involution(keras.layers.Layer):
    """A kernel for each place, made from the pixel there, shared by the channels."""

    def __init__(self, channel, kernel_size, reduction_ratio, **kwargs):
        super().__init__(**kwargs)
        self.channel, self.kernel_size = channel, kernel_size
        self.kernel_gen = keras.Sequential(
            [
                layers.Conv2D(channel // reduction_ratio, 1, name="reduce"),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Conv2D(kernel_size * kernel_size, 1, name="span"),
            ],
            name="kernel_gen",
        )

    def build(self, input_shape):
        self.kernel_gen.build(input_shape)
        super().build(input_shape)

    def call(self, x):
        height, width = x.shape[1:3]
        area = self.kernel_size * self.kernel_size
        kernel = ops.reshape(self.kernel_gen(x), (-1, height, width, area, 1))
        patches = ops.image.extract_patches(x, self.kernel_size, strides=1, padding="same")
        patches = ops.reshape(patches, (-1, height, width, area, self.channel))
        return ops.sum(kernel * patches, axis=3)


def involutional_network():
    """keras.io: Involutional neural networks, 2021."""
    inputs = keras.Input(shape=(16, 16, 3))
    x = Involution(3, kernel_size=3, reduction_ratio=1, name="involution_1")(inputs)
    x = layers.ReLU()(x)
    x = layers.MaxPooling2D((2, 2))(x)
    x = Involution(3, kernel_size=3, reduction_ratio=1, name="involution_2")(x)
    x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    outputs = layers.Dense(4, name="logits")(x)
    model = keras.Model(inputs, outputs, name="inv_model")
    model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


# --- ConvMixer --------------------------------------------------------------------------


def activation_block(x):
    x = layers.Activation("gelu")(x)
    return layers.BatchNormalization()(x)


def conv_mixer():
    """keras.io: Image classification with ConvMixer, 2021."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(scale=1.0 / 255)(inputs)
    x = layers.Conv2D(12, kernel_size=2, strides=2, name="stem")(x)
    x = activation_block(x)
    for index in range(2):
        x0 = x
        x = layers.DepthwiseConv2D(kernel_size=3, padding="same", name=f"depthwise_{index}")(x)
        x = layers.Add()([activation_block(x), x0])
        x = layers.Conv2D(12, kernel_size=1, name=f"pointwise_{index}")(x)
        x = activation_block(x)
    x = layers.GlobalAvgPool2D()(x)
    outputs = layers.Dense(4, activation="softmax", name="probabilities")(x)
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate=0.001, weight_decay=0.0001),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def small_bytes():
    x, y = pictures(16, (16, 16, 3), high=255)
    return {"x": x, "y": y, "batch_size": 8}


def small_colours():
    x, y = pictures(16, (16, 16, 3))
    return {"x": x, "y": y, "batch_size": 8}


FAMILIES = [
    Family(
        name="learnable resizer",
        has_rectified_units=True,
        build=learnable_resizer,
        data=larger_photographs,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(24, 24, 3),
        values_range=(0, 255),
        layers=(
            *(f"learnable_resizer/conv_{index}" for index in range(1, 6)),
            "backbone/conv_1",
        ),
        heads=("backbone/probabilities",),
        note="The resizer's own input has no fixed size.",
    ),
    Family(
        name="involution",
        build=involutional_network,
        data=small_colours,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(16, 16, 3),
        values_range=(0, 1),
        layers=(
            *("involution_1", "involution_1/kernel_gen/reduce", "involution_1/kernel_gen/span"),
            *("involution_2", "involution_2/kernel_gen/reduce", "involution_2/kernel_gen/span"),
        ),
        heads=("logits",),
        statuses=("no_gradient",),
        note="A unit of `span` with negative weights is highest where all ReLUs before it are off.",
    ),
    Family(
        name="ConvMixer",
        build=conv_mixer,
        data=small_bytes,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(16, 16, 3),
        values_range=(0, 255),
        layers=("stem", "depthwise_0", "pointwise_0", "depthwise_1", "pointwise_1"),
        heads=("probabilities",),
    ),
]
