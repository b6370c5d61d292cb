"""Convolutional classifiers, trained by plain `compile` and `fit`."""

import keras
from keras import layers, ops

from tests.real_code.family import EVERY_BACKEND, Family, pictures

# --- small Xception ---------------------------------------------------------------------


def small_xception():
    """keras.io: Image classification from scratch, 2020."""
    inputs = keras.Input(shape=(24, 24, 3))
    x = layers.RandomFlip("horizontal")(inputs)
    x = layers.RandomRotation(0.1)(x)
    x = layers.Rescaling(1.0 / 255)(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="entry")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    previous_block_activation = x
    for size in [8, 12]:
        x = layers.Activation("relu")(x)
        x = layers.SeparableConv2D(size, 3, padding="same", name=f"separable_{size}_a")(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.SeparableConv2D(size, 3, padding="same", name=f"separable_{size}_b")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        residual = layers.Conv2D(size, 1, strides=2, padding="same", name=f"residual_{size}")(
            previous_block_activation
        )
        x = layers.add([x, residual])
        previous_block_activation = x
    x = layers.SeparableConv2D(16, 3, padding="same", name="exit")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.25)(x)
    outputs = layers.Dense(1, activation=None, name="logit")(x)
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer=keras.optimizers.Adam(3e-4),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(name="acc")],
    )
    return model


def cats_and_dogs():
    x, y = pictures(16, (24, 24, 3), classes=2, high=255)
    return {"x": x, "y": y.astype("float32"), "batch_size": 8}


# --- MNIST convnet ----------------------------------------------------------------------


def mnist_convnet():
    """keras.io: Simple MNIST convnet, 2015."""
    model = keras.Sequential(
        [
            keras.Input(shape=(16, 16, 1)),
            layers.Conv2D(8, kernel_size=(3, 3), activation="relu", name="conv_1"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(12, kernel_size=(3, 3), activation="relu", name="conv_2"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(4, activation="softmax", name="probabilities"),
        ]
    )
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    return model


def digits():
    x, y = pictures(16, (16, 16, 1))
    return {
        "x": x,
        "y": keras.utils.to_categorical(y, 4),
        "batch_size": 8,
        "validation_split": 0.25,
    }


# --- mixed precision --------------------------------------------------------------------


def mixed_precision():
    """tensorflow.org: Mixed precision, 2019; with Keras 3's names."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input(shape=(16, 16, 3), name="pixels")
        x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv_1")(inputs)
        x = layers.Conv2D(8, 3, strides=2, padding="same", name="conv_2")(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.GlobalAveragePooling2D()(x)
        x = layers.Dense(4, name="logits")(x)
        outputs = layers.Activation("softmax", dtype="float32", name="predictions")(x)
        model = keras.Model(inputs, outputs)
    finally:
        keras.config.set_dtype_policy(policy)
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer=keras.optimizers.RMSprop(),
        metrics=["accuracy"],
    )
    return model


def small_colours():
    x, y = pictures(16, (16, 16, 3))
    return {"x": x, "y": y, "batch_size": 8}


# --- transfer learning ------------------------------------------------------------------


def transfer_learning():
    """keras.io guide: Transfer learning and fine-tuning, 2020."""
    base_input = keras.Input(shape=(24, 24, 3))
    x = base_input
    for index, filters in enumerate((6, 8, 12)):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", name=f"conv_{index}")(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    base_model = keras.Model(base_input, x, name="backbone")
    base_model.trainable = False

    inputs = keras.Input(shape=(24, 24, 3))
    x = layers.RandomFlip("horizontal")(inputs)
    scale_layer = layers.Rescaling(scale=1 / 127.5, offset=-1)
    x = scale_layer(x)
    x = base_model(x, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    outputs = layers.Dense(1, name="logit")(x)
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer=keras.optimizers.Adam(),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy()],
    )
    return model


def mobilenet():
    """tensorflow.org: Transfer learning with a pretrained ConvNet, 2019; here from scratch."""
    whole = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None
    )
    # Cut as for a segmentation, where time matters.
    features = whole.get_layer("block_2_add").output
    base_model = keras.Model(whole.inputs, features, name=whole.name)
    base_model.trainable = False
    inputs = keras.Input(shape=(32, 32, 3))
    x = keras.applications.mobilenet_v2.preprocess_input(inputs)
    x = base_model(x, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    outputs = layers.Dense(4, name="logits")(x)
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def flowers():
    x, y = pictures(8, (32, 32, 3), high=255)
    return {"x": x, "y": y, "batch_size": 4}


# --- gradient centralisation ------------------------------------------------------------


class GCRMSprop(keras.optimizers.RMSprop):
    """Take the mean off each kernel's gradient, over all axes but the last."""

    def apply(self, grads, trainable_variables=None):
        centred = []
        for grad in grads:
            if len(grad.shape) > 1:
                axes = list(range(len(grad.shape) - 1))
                grad = grad - ops.mean(grad, axis=axes, keepdims=True)
            centred.append(grad)
        return super().apply(centred, trainable_variables)


def gradient_centralization():
    """keras.io: Gradient centralization for better training performance, 2021."""
    model = keras.Sequential(
        [
            layers.Input(shape=(20, 20, 3)),
            layers.Conv2D(6, (3, 3), activation="relu", name="conv_1"),
            layers.MaxPooling2D(2, 2),
            layers.Conv2D(8, (3, 3), activation="relu", name="conv_2"),
            layers.Dropout(0.5),
            layers.MaxPooling2D(2, 2),
            layers.Conv2D(8, (3, 3), activation="relu", name="conv_3"),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(16, activation="relu", name="hidden"),
            layers.Dense(1, activation="sigmoid", name="probability"),
        ]
    )
    model.compile(
        loss="binary_crossentropy",
        optimizer=GCRMSprop(learning_rate=1e-4),
        metrics=["accuracy"],
    )
    return model


def horses_or_humans():
    x, y = pictures(16, (20, 20, 3), classes=2)
    return {"x": x, "y": y.astype("float32")[:, None], "batch_size": 8}


FAMILIES = [
    Family(
        name="small Xception",
        build=small_xception,
        data=cats_and_dogs,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(24, 24, 3),
        values_range=(0, 255),
        layers=(
            *("entry", "separable_8_a", "separable_8_b", "residual_8"),
            *("separable_12_a", "separable_12_b", "residual_12", "exit"),
        ),
        heads=("logit",),
        note="Flips and turns its images inside the model.",
    ),
    Family(
        name="MNIST convnet",
        has_rectified_units=True,
        build=mnist_convnet,
        data=digits,
        backends=EVERY_BACKEND,
        image_shape=(16, 16, 1),
        values_range=(0, 1),
        layers=("conv_1", "conv_2"),
        heads=("probabilities",),
    ),
    Family(
        name="mixed precision",
        has_rectified_units=True,
        like="MNIST convnet",
        build=mixed_precision,
        data=small_colours,
        backends=EVERY_BACKEND,
        image_shape=(16, 16, 3),
        values_range=(0, 1),
        layers=("conv_1", "conv_2"),
        heads=("logits", "predictions"),
        note="mixed_float16; the last activation is in float32.",
    ),
    Family(
        name="transfer learning",
        build=transfer_learning,
        data=cats_and_dogs,
        backends=EVERY_BACKEND,
        image_shape=(24, 24, 3),
        values_range=(0, 255),
        layers=("backbone/conv_0", "backbone/conv_1", "backbone/conv_2"),
        heads=("logit",),
        note="The nested backbone is frozen, and called with `training=False`.",
    ),
    Family(
        name="MobileNetV2 transfer",
        like="transfer learning",
        build=mobilenet,
        data=flowers,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(32, 32, 3),
        values_range=(0, 255),
        layers=(
            "mobilenetv2_0.35_32/Conv1",
            *(
                f"mobilenetv2_0.35_32/block_{i}_{kind}"
                for i in (1, 2)
                for kind in ("expand", "project")
            ),
            "mobilenetv2_0.35_32/expanded_conv_project",
        ),
        heads=("logits",),
        note="`preprocess_input` is part of the graph. Depthwise convolutions are not listed.",
    ),
    Family(
        name="gradient centralization",
        has_rectified_units=True,
        like="small Xception",
        build=gradient_centralization,
        data=horses_or_humans,
        backends=EVERY_BACKEND,
        image_shape=(20, 20, 3),
        values_range=(0, 1),
        layers=("conv_1", "conv_2", "conv_3"),
        heads=("probability",),
        note="An optimizer of its own.",
    ),
]
