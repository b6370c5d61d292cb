"""Signals, points, volumes, videos and boxes, trained by plain `compile` and `fit`."""

import keras
import numpy as np
from keras import layers, ops

from tests.real_code.family import EVERY_BACKEND, Family, pictures

# --- time series ------------------------------------------------------------------------


def time_series():
    """keras.io: Timeseries classification from scratch, 2020."""
    input_layer = keras.layers.Input((32, 1))
    x = input_layer
    for index in range(1, 4):
        x = layers.Conv1D(filters=8, kernel_size=3, padding="same", name=f"conv{index}")(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    gap = layers.GlobalAveragePooling1D()(x)
    output_layer = layers.Dense(2, activation="softmax", name="probabilities")(gap)
    model = keras.models.Model(inputs=input_layer, outputs=output_layer)
    model.compile(
        optimizer="adam",
        loss="sparse_categorical_crossentropy",
        metrics=["sparse_categorical_accuracy"],
    )
    return model


def waves(count, length, classes=2):
    draws = np.random.default_rng(0)
    labels = np.arange(count) % classes
    times = np.linspace(0, 2 * np.pi, length)
    phases = draws.uniform(0, 2 * np.pi, (count, 1))
    signals = np.sin(3 * (labels[:, None] + 1) * times + phases)
    signals += draws.normal(0, 0.1, signals.shape)
    return signals[..., None].astype("float32"), labels.astype("int32")


def engines():
    x, y = waves(16, 32)
    return {"x": (x - x.mean()) / x.std(), "y": y, "batch_size": 8, "validation_split": 0.25}


# --- audio ------------------------------------------------------------------------------


def audio_with_layer():
    """keras.io: Audio classification with the STFTSpectrogram layer, 2024."""
    model = keras.Sequential(
        [
            layers.Input((256, 1), name="signal"),
            layers.STFTSpectrogram(
                mode="log", frame_length=32, frame_step=16, fft_length=32, name="spectrogram"
            ),
            layers.Reshape((-1, 17, 1)),
            layers.Conv2D(8, 3, activation="relu", name="conv_1"),
            layers.MaxPooling2D(2),
            layers.Conv2D(8, 3, activation="relu", name="conv_2"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax", name="probabilities"),
        ]
    )
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Spectrogram(layers.Layer):
    """The magnitudes of a short-time Fourier transform."""

    def call(self, signals):
        real, imaginary = ops.stft(
            ops.squeeze(signals, -1), sequence_length=32, sequence_stride=16, fft_length=32
        )
        return ops.sqrt(ops.square(real) + ops.square(imaginary) + 1e-6)[..., None]


def audio_with_ops():
    """tensorflow.org: Simple audio recognition, 2020; with the transform inside the model."""
    inputs = layers.Input(shape=(256, 1))
    x = Spectrogram(name="spectrogram")(inputs)
    x = layers.Resizing(12, 12)(x)
    x = layers.Conv2D(8, 3, activation="relu", name="conv_1")(x)
    x = layers.Conv2D(8, 3, activation="relu", name="conv_2")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.25)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(2, name="logits")(x))
    model.compile(
        optimizer=keras.optimizers.Adam(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def words():
    x, y = waves(16, 256)
    return {"x": x / np.abs(x).max(), "y": y, "batch_size": 8}


# --- PointNet ---------------------------------------------------------------------------


class OrthogonalRegularizer(keras.regularizers.Regularizer):
    """Hold a layer's output near an orthogonal matrix."""

    def __init__(self, num_features, l2reg=0.001):
        self.num_features, self.l2reg = num_features, l2reg
        self.eye = ops.eye(num_features)

    def __call__(self, x):
        x = ops.reshape(x, (-1, self.num_features, self.num_features))
        products = ops.matmul(x, ops.transpose(x, (0, 2, 1)))
        return ops.sum(self.l2reg * ops.square(products - self.eye))


def conv_bn(x, filters, name):
    x = layers.Conv1D(filters, kernel_size=1, padding="valid", name=name)(x)
    x = layers.BatchNormalization(momentum=0.0)(x)
    return layers.Activation("relu")(x)


def tnet(inputs, num_features, name):
    x = conv_bn(inputs, 8, f"{name}_conv_1")
    x = layers.GlobalMaxPooling1D()(conv_bn(x, 12, f"{name}_conv_2"))
    x = layers.Dense(
        num_features * num_features,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(np.eye(num_features).flatten()),
        activity_regularizer=OrthogonalRegularizer(num_features),
    )(x)
    feat_T = layers.Reshape((num_features, num_features))(x)
    return layers.Dot(axes=(2, 1))([inputs, feat_T])


def pointnet():
    """keras.io: Point cloud classification with PointNet, 2020."""
    inputs = keras.Input(shape=(32, 3))
    x = tnet(inputs, 3, "tnet_1")
    x = conv_bn(x, 8, "conv_1")
    x = tnet(x, 8, "tnet_2")
    x = conv_bn(x, 12, "conv_2")
    x = layers.GlobalMaxPooling1D()(x)
    x = layers.Dropout(0.3)(x)
    outputs = layers.Dense(4, activation="softmax", name="probabilities")(x)
    model = keras.Model(inputs=inputs, outputs=outputs, name="pointnet")
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer=keras.optimizers.Adam(learning_rate=0.001),
        metrics=["sparse_categorical_accuracy"],
    )
    return model


def points():
    draws = np.random.default_rng(0)
    y = np.arange(16) % 4
    x = draws.normal(size=(16, 32, 3)) * (1 + y[:, None, None] * [0, 0.3, 0.6])
    return {"x": x.astype("float32"), "y": y, "batch_size": 8}


# --- volumes ----------------------------------------------------------------------------


def volumes():
    """keras.io: 3D image classification from CT scans, 2020."""
    inputs = keras.Input((12, 12, 8, 1))
    x = layers.Conv3D(filters=4, kernel_size=3, activation="relu", name="conv_1")(inputs)
    x = layers.MaxPool3D(pool_size=2)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv3D(filters=6, kernel_size=3, activation="relu", name="conv_2")(x)
    x = layers.GlobalAveragePooling3D()(x)
    x = layers.Dense(units=8, activation="relu")(x)
    outputs = layers.Dense(units=1, activation="sigmoid", name="probability")(x)
    model = keras.Model(inputs, outputs, name="3dcnn")
    schedule = keras.optimizers.schedules.ExponentialDecay(
        0.0001, decay_steps=100000, decay_rate=0.96, staircase=True
    )
    model.compile(
        loss="binary_crossentropy",
        optimizer=keras.optimizers.Adam(learning_rate=schedule),
        metrics=["acc"],
    )
    return model


def scans():
    x, y = pictures(8, (12, 12, 8), classes=2)
    return {"x": x[..., None], "y": y.astype("float32"), "batch_size": 4}


# --- video ------------------------------------------------------------------------------


def conv_lstm():
    """keras.io: Next-frame video prediction with convolutional LSTMs, 2021."""
    inp = layers.Input(shape=(None, 12, 12, 1))
    x = layers.ConvLSTM2D(
        *(4, (3, 3)), padding="same", return_sequences=True, activation="relu", name="lstm_1"
    )(inp)
    x = layers.BatchNormalization()(x)
    x = layers.ConvLSTM2D(
        *(4, (1, 1)), padding="same", return_sequences=True, activation="relu", name="lstm_2"
    )(x)
    x = layers.Conv3D(1, (3, 3, 3), activation="sigmoid", padding="same", name="frames")(x)
    model = keras.models.Model(inp, x)
    model.compile(loss=keras.losses.BinaryCrossentropy(), optimizer=keras.optimizers.Adam())
    return model


def moving_digits():
    frames, _ = pictures(8, (12, 12, 1))
    films = np.stack([np.roll(frames, step, axis=2) for step in range(5)], axis=1)
    return {"x": films[:, :-1], "y": films[:, 1:], "batch_size": 4}


# --- boxes ------------------------------------------------------------------------------


def detector():
    """keras.io: Object detection, in its plainest form: one object, its class and its box."""
    inputs = keras.Input((24, 24, 3), name="image")
    x = layers.Rescaling(1.0 / 127.5, offset=-1)(inputs)
    for index, filters in enumerate((6, 8, 12)):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{index}")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    label = layers.Dense(16, activation="relu", name="class_hidden")(x)
    label = layers.Dense(4, activation="softmax", name="class_label")(label)
    box = layers.Dense(16, activation="relu", name="box_hidden")(x)
    box = layers.Dense(4, activation="sigmoid", name="bounding_box")(box)
    model = keras.Model(inputs, [box, label])
    model.compile(
        optimizer="adam",
        loss=[keras.losses.MeanSquaredError(), "sparse_categorical_crossentropy"],
        loss_weights=[1.0, 0.5],
    )
    return model


def boxed():
    x, y = pictures(16, (24, 24, 3), high=255)
    corners = np.random.default_rng(0).uniform(0, 0.5, (16, 2))
    boxes = np.concatenate([corners, corners + 0.5], axis=1).astype("float32")
    return {"x": x, "y": (boxes, y), "batch_size": 8}


FAMILIES = [
    Family(
        name="time series",
        build=time_series,
        data=engines,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(32, 1),
        values_range=(-3, 3),
        layers=("conv1", "conv2", "conv3"),
        heads=("probabilities",),
        note="Signals of mean 0 and deviation 1.",
    ),
    Family(
        name="audio, STFT layer",
        has_rectified_units=True,
        build=audio_with_layer,
        data=words,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(256, 1),
        values_range=(-1, 1),
        layers=("conv_1", "conv_2"),
        heads=("probabilities",),
    ),
    Family(
        name="audio, keras.ops.stft",
        has_rectified_units=True,
        like="audio, STFT layer",
        build=audio_with_ops,
        data=words,
        backends=EVERY_BACKEND,
        image_shape=(256, 1),
        values_range=(-1, 1),
        layers=("conv_1", "conv_2"),
        heads=("logits",),
    ),
    Family(
        name="PointNet",
        build=pointnet,
        data=points,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(32, 3),
        values_range=(0, 1),
        layers=(
            *("conv_1", "conv_2", "conv_3", "tnet_1_conv_1", "tnet_1_conv_2", "tnet_1_conv_3"),
            *("tnet_2_conv_1", "tnet_2_conv_2", "tnet_2_conv_3"),
        ),
        heads=("probabilities",),
        is_told=False,
        note="It takes sets of points in space. They have two axes, as signals `(time, channels)` "
        "do, and are drawn as such.",
    ),
    Family(
        name="3-D convnet",
        build=volumes,
        data=scans,
        backends=EVERY_BACKEND,
        image_shape=None,
        values_range=None,
        layers=(),
        heads=(),
        refused=True,
        message="Expected a model with one input of images (height, width, channels) or signals "
        "(time, channels). Received: model '{model}' with an input of shape (12, 12, 8, 1). To see "
        "it, give slices as channels: `objectives` of keras.Sequential([keras.Input((12, 12, 8)), "
        "keras.layers.Reshape((12, 12, 8, 1)), model])",
        note="It takes volumes, which have three axes and channels.",
    ),
    Family(
        name="ConvLSTM",
        build=conv_lstm,
        data=moving_digits,
        backends=EVERY_BACKEND,
        image_shape=None,
        values_range=None,
        layers=(),
        heads=(),
        refused=True,
        message="Expected a model with one input of images (height, width, channels) or signals "
        "(time, channels). Received: model '{model}' with an input of shape (None, 12, 12, 1)",
        note="It takes films, whose first axis, time, has no fixed length.",
    ),
    Family(
        name="multi-output detector",
        has_rectified_units=True,
        build=detector,
        data=boxed,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(24, 24, 3),
        values_range=(0, 255),
        layers=("conv_0", "conv_1", "conv_2"),
        heads=("bounding_box", "class_label"),
        note="Its outputs, losses and labels are lists in one order.",
    ),
]
