"""Networks from image to image, trained by plain `compile` and `fit`."""

import keras
import numpy as np
from keras import layers, ops

from tests.real_code.family import EVERY_BACKEND, Family, pictures

# --- U-Net ------------------------------------------------------------------------------


def unet():
    """keras.io: Image segmentation with a U-Net-like architecture, 2019."""
    inputs = keras.Input(shape=(24, 24, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="entry")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    previous_block_activation = x
    for filters in [8, 12]:
        x = layers.Activation("relu")(x)
        x = layers.SeparableConv2D(filters, 3, padding="same", name=f"down_{filters}")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        residual = layers.Conv2D(
            filters, 1, strides=2, padding="same", name=f"down_residual_{filters}"
        )(previous_block_activation)
        x = layers.add([x, residual])
        previous_block_activation = x
    for filters in [12, 8, 6]:
        x = layers.Activation("relu")(x)
        x = layers.Conv2DTranspose(filters, 3, padding="same", name=f"up_{filters}")(x)
        x = layers.BatchNormalization()(x)
        x = layers.UpSampling2D(2)(x)
        residual = layers.UpSampling2D(2)(previous_block_activation)
        residual = layers.Conv2D(filters, 1, padding="same", name=f"up_residual_{filters}")(
            residual
        )
        x = layers.add([x, residual])
        previous_block_activation = x
    outputs = layers.Conv2D(3, 3, activation="softmax", padding="same", name="mask")(x)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="sparse_categorical_crossentropy")
    return model


def pets_and_trimaps():
    x, _ = pictures(16, (24, 24, 3))
    trimaps = (x.mean(-1, keepdims=True) * 3).astype("uint8").clip(0, 2)
    return {"x": x, "y": trimaps, "batch_size": 8}


# --- sub-pixel super-resolution ---------------------------------------------------------


class DepthToSpace(layers.Layer):
    """Turn each group of channels into a square of pixels."""

    def __init__(self, block_size, **kwargs):
        super().__init__(**kwargs)
        self.block_size = block_size

    def call(self, x):
        batch, height, width, depth = ops.shape(x)
        block, depth = self.block_size, depth // self.block_size**2
        x = ops.reshape(x, (batch, height, width, block, block, depth))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (batch, height * block, width * block, depth))


def super_resolution():
    """keras.io: Image super-resolution using an efficient sub-pixel CNN, 2020."""
    settings = {"activation": "relu", "kernel_initializer": "orthogonal", "padding": "same"}
    inputs = keras.Input(shape=(None, None, 1))
    x = layers.Conv2D(12, 5, **settings, name="conv_1")(inputs)
    x = layers.Conv2D(12, 3, **settings, name="conv_2")(x)
    x = layers.Conv2D(8, 3, **settings, name="conv_3")(x)
    x = layers.Conv2D(9, 3, **settings, name="conv_4")(x)
    model = keras.Model(inputs, DepthToSpace(3, name="pixels")(x))
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=0.001), loss=keras.losses.MeanSquaredError()
    )
    return model


def low_and_high_resolution():
    high, _ = pictures(8, (24, 24, 1))
    low = high.reshape(8, 8, 3, 8, 3, 1).mean((2, 4))
    return {"x": low, "y": high, "batch_size": 4}


# --- PixelCNN ---------------------------------------------------------------------------


class PixelConvLayer(layers.Layer):
    """A convolution that sees only the pixels before its own."""

    def __init__(self, mask_type, name=None, **kwargs):
        super().__init__(name=name)
        self.mask_type = mask_type
        self.conv = layers.Conv2D(**kwargs, name="conv")

    def build(self, input_shape):
        self.conv.build(input_shape)
        kernel_shape = tuple(self.conv.kernel.shape)
        self.mask = np.zeros(kernel_shape, "float32")
        rows, columns = kernel_shape[0] // 2, kernel_shape[1] // 2
        self.mask[:rows] = 1.0
        self.mask[rows, : columns + (self.mask_type == "B")] = 1.0
        super().build(input_shape)

    def call(self, inputs):
        self.conv.kernel.assign(self.conv.kernel * self.mask)
        return self.conv(inputs)


def pixel_cnn():
    """keras.io: PixelCNN, 2020."""
    inputs = keras.Input(shape=(12, 12, 1))
    x = PixelConvLayer(
        mask_type="A", filters=8, kernel_size=7, activation="relu", padding="same", name="first"
    )(inputs)
    y = layers.Conv2D(8, 1, activation="relu", name="reduce")(x)
    y = PixelConvLayer(
        mask_type="B", filters=4, kernel_size=3, activation="relu", padding="same", name="second"
    )(y)
    y = layers.Conv2D(8, 1, activation="relu", name="expand")(y)
    x = layers.add([x, y])
    out = layers.Conv2D(1, 1, activation="sigmoid", padding="valid", name="out")(x)
    model = keras.Model(inputs, out)
    model.compile(
        optimizer=keras.optimizers.RMSprop(learning_rate=0.0005), loss="binary_crossentropy"
    )
    return model


def black_or_white():
    x = (pictures(16, (12, 12, 1))[0] > 0.33).astype("float32")
    return {"x": x, "y": x, "batch_size": 8}


# --- convolutional autoencoder ----------------------------------------------------------


def convolutional_autoencoder():
    """keras.io: Convolutional autoencoder for image denoising, 2021."""
    inputs = layers.Input(shape=(16, 16, 1))
    x = layers.Conv2D(8, (3, 3), activation="relu", padding="same", name="encode_1")(inputs)
    x = layers.MaxPooling2D((2, 2), padding="same")(x)
    x = layers.Conv2D(8, (3, 3), activation="relu", padding="same", name="encode_2")(x)
    x = layers.MaxPooling2D((2, 2), padding="same")(x)
    x = layers.Conv2DTranspose(
        8, (3, 3), strides=2, activation="relu", padding="same", name="decode_1"
    )(x)
    x = layers.Conv2DTranspose(
        8, (3, 3), strides=2, activation="relu", padding="same", name="decode_2"
    )(x)
    x = layers.Conv2D(1, (3, 3), activation="sigmoid", padding="same", name="decoded")(x)
    autoencoder = keras.Model(inputs, x)
    autoencoder.compile(optimizer="adam", loss="binary_crossentropy")
    return autoencoder


def noisy_digits():
    clean, _ = pictures(16, (16, 16, 1))
    noise = np.random.default_rng(1).normal(size=clean.shape)
    noisy = np.clip(clean + 0.4 * noise, 0.0, 1.0).astype("float32")
    return {"x": noisy, "y": clean, "batch_size": 8, "validation_data": (noisy, clean)}


FAMILIES = [
    Family(
        name="U-Net",
        build=unet,
        data=pets_and_trimaps,
        backends=("tensorflow", "jax"),
        epochs=1,
        image_shape=(24, 24, 3),
        values_range=(0, 1),
        layers=(
            *("entry", "down_8", "down_residual_8", "down_12", "down_residual_12"),
            *("up_12", "up_residual_12", "up_8", "up_residual_8", "up_6", "up_residual_6"),
            "mask",
        ),
        heads=(),
        note="On torch 2.13, Keras 3.15's sparse cross-entropy of maps has no gradient: "
        "'grad_input must be contiguous'.",
    ),
    Family(
        name="sub-pixel super-resolution",
        has_rectified_units=True,
        build=super_resolution,
        data=low_and_high_resolution,
        backends=EVERY_BACKEND,
        image_shape=(8, 8, 1),
        values_range=(0, 1),
        layers=("conv_1", "conv_2", "conv_3", "conv_4"),
        heads=(),
        is_any_size=True,
        message="The model '{model}' takes images of any size, (None, None, 1). Expected "
        "`image_shape` as (height, width) or (height, width, channels), such as "
        "image_shape=(64, 64), or `probe_data` of one size. Received: neither.",
        note="Height and width of the input are `None`; it trains on 8 by 8 pixels.",
    ),
    Family(
        name="PixelCNN",
        has_rectified_units=True,
        like="convolutional autoencoder",
        build=pixel_cnn,
        data=black_or_white,
        backends=EVERY_BACKEND,
        image_shape=(12, 12, 1),
        values_range=(0, 1),
        layers=("first", "first/conv", "reduce", "second", "second/conv", "expand", "out"),
        heads=(),
        note="Its masked layer assigns to the kernel during the call.",
    ),
    Family(
        name="convolutional autoencoder",
        has_rectified_units=True,
        build=convolutional_autoencoder,
        data=noisy_digits,
        backends=EVERY_BACKEND,
        image_shape=(16, 16, 1),
        values_range=(0, 1),
        layers=("encode_1", "encode_2", "decode_1", "decode_2", "decoded"),
        heads=(),
    ),
]
