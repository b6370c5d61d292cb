"""Transformers with convolutions or windows."""

import keras
from keras import layers, ops

from tests.real_code.family import EVERY_BACKEND, Family, pictures
from tests.real_code.transformers import Patches, mlp

# --- compact convolutional transformer --------------------------------------------------


class CCTTokenizer(layers.Layer):
    """Convolutions, whose places become tokens."""

    def __init__(self, filters=(8, 12), **kwargs):
        super().__init__(**kwargs)
        self.conv_model = keras.Sequential(name="conv_model")
        for index, count in enumerate(filters):
            self.conv_model.add(
                layers.Conv2D(
                    *(count, 3, 1, "valid"),
                    use_bias=False,
                    activation="relu",
                    kernel_initializer="he_normal",
                    name=f"conv_{index}",
                )
            )
            self.conv_model.add(layers.ZeroPadding2D(1))
            self.conv_model.add(layers.MaxPooling2D(3, 2, "same"))

    def call(self, images):
        outputs = self.conv_model(images)
        _, height, width, channels = ops.shape(outputs)
        return ops.reshape(outputs, (-1, height * width, channels))


class StochasticDepth(layers.Layer):
    """Leave a branch out, at random, for whole images."""

    def __init__(self, drop_prob, **kwargs):
        super().__init__(**kwargs)
        self.drop_prob = drop_prob
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, x, training=None):
        if not training:
            return x
        keep_prob = 1 - self.drop_prob
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        drawn = keras.random.uniform(shape, 0, 1, seed=self.seed_generator)
        return (x / keep_prob) * ops.floor(keep_prob + drawn)


class SequencePooling(layers.Layer):
    """A weighted mean over tokens."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.Dense(1, name="attention")

    def call(self, x):
        attention_weights = ops.softmax(self.attention(x), axis=1)
        attention_weights = ops.transpose(attention_weights, axes=(0, 2, 1))
        return ops.squeeze(ops.matmul(attention_weights, x), -2)


def compact_convolutional_transformer():
    """keras.io: Compact Convolutional Transformers, 2021."""
    inputs = layers.Input((16, 16, 3))
    data_augmentation = keras.Sequential(
        [layers.Rescaling(scale=1.0 / 255), layers.RandomCrop(16, 16), layers.RandomFlip()],
        name="data_augmentation",
    )
    encoded = CCTTokenizer(name="tokenizer")(data_augmentation(inputs))
    for index, rate in enumerate((0.1,)):
        x1 = layers.LayerNormalization(epsilon=1e-5)(encoded)
        attended = layers.MultiHeadAttention(num_heads=2, key_dim=12, dropout=0.1)(x1, x1)
        attended = StochasticDepth(float(rate))(attended)
        x2 = layers.Add()([attended, encoded])
        x3 = layers.LayerNormalization(epsilon=1e-5)(x2)
        x3 = mlp(x3, [12, 12], 0.1, name=f"block_{index}_mlp")
        encoded = layers.Add()([StochasticDepth(float(rate))(x3), x2])
    representation = layers.LayerNormalization(epsilon=1e-5)(encoded)
    weighted = SequencePooling(name="pooling")(representation)
    model = keras.Model(inputs, layers.Dense(4, name="logits")(weighted))
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate=0.001, weight_decay=0.0001),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    return model


def one_hot_bytes():
    x, y = pictures(16, (16, 16, 3), high=255)
    return {"x": x, "y": keras.utils.to_categorical(y, 4), "batch_size": 8}


# --- Swin -------------------------------------------------------------------------------


def window_partition(x, size):
    _, height, width, channels = x.shape
    x = ops.reshape(x, (-1, height // size, size, width // size, size, channels))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, size * size, channels))


def window_reverse(windows, size, height, width, channels):
    x = ops.reshape(windows, (-1, height // size, width // size, size, size, channels))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, height, width, channels))


class SwinTransformer(layers.Layer):
    """Attention inside windows, which may be shifted."""

    def __init__(self, dim, num_patch, num_heads, window_size, shift_size, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.num_patch = dim, num_patch
        self.window_size, self.shift_size = window_size, shift_size
        self.norm1 = layers.LayerNormalization(epsilon=1e-5)
        self.attn = layers.MultiHeadAttention(num_heads, dim // num_heads, name="attention")
        self.norm2 = layers.LayerNormalization(epsilon=1e-5)
        self.mlp = keras.Sequential(
            [
                layers.Dense(2 * dim, activation="gelu", name="hidden"),
                layers.Dropout(0.03),
                layers.Dense(dim, name="out"),
            ],
            name="mlp",
        )

    def call(self, x):
        height, width = self.num_patch
        x_skip = x
        x = ops.reshape(self.norm1(x), (-1, height, width, self.dim))
        x = ops.roll(x, shift=(-self.shift_size, -self.shift_size), axis=(1, 2))
        windows = window_partition(x, self.window_size)
        windows = self.attn(windows, windows)
        x = window_reverse(windows, self.window_size, height, width, self.dim)
        x = ops.roll(x, shift=(self.shift_size, self.shift_size), axis=(1, 2))
        x = x_skip + ops.reshape(x, (-1, height * width, self.dim))
        return x + self.mlp(self.norm2(x))


class PatchMerging(layers.Layer):
    """Join two by two patches."""

    def __init__(self, num_patch, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.num_patch, self.embed_dim = num_patch, embed_dim
        self.linear_trans = layers.Dense(2 * embed_dim, use_bias=False, name="merge")

    def call(self, x):
        height, width = self.num_patch
        x = ops.reshape(x, (-1, height, width, self.embed_dim))
        parts = [x[:, row::2, column::2, :] for column in (0, 1) for row in (0, 1)]
        x = ops.reshape(
            ops.concatenate(parts, axis=-1), (-1, height * width // 4, 4 * self.embed_dim)
        )
        return self.linear_trans(x)


def swin():
    """keras.io: Image classification with Swin Transformers, 2021; windows without masks."""
    inputs = layers.Input((16, 16, 3))
    x = layers.RandomFlip("horizontal")(inputs)
    x = Patches(2, name="patch_extract")(x)
    x = layers.Dense(12, name="patch_embedding")(x)
    x = SwinTransformer(12, (8, 8), 2, window_size=4, shift_size=0, name="block_0")(x)
    x = SwinTransformer(12, (8, 8), 2, window_size=4, shift_size=2, name="block_1")(x)
    x = PatchMerging((8, 8), embed_dim=12, name="merging")(x)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", name="probabilities")(x))
    model.compile(
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        optimizer=keras.optimizers.AdamW(learning_rate=1e-3, weight_decay=0.0001),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    return model


def one_hot_unit():
    x, y = pictures(16, (16, 16, 3))
    return {"x": x, "y": keras.utils.to_categorical(y, 4), "batch_size": 8}


FAMILIES = [
    Family(
        name="CCT",
        statuses=("saturated",),
        has_rectified_units=True,
        build=compact_convolutional_transformer,
        data=one_hot_bytes,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(16, 16, 3),
        values_range=(0, 255),
        layers=(
            *("tokenizer/conv_model/conv_0", "tokenizer/conv_model/conv_1"),
            *("block_0_mlp_0", "block_0_mlp_1"),
        ),
        heads=("logits",),
        note="Stochastic depth draws from a seed generator of its own.",
    ),
    Family(
        name="Swin",
        statuses=("saturated",),
        is_long=True,
        build=swin,
        data=one_hot_unit,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(16, 16, 3),
        values_range=(0, 1),
        layers=("block_0/mlp/hidden", "block_1/mlp/hidden"),
        heads=("probabilities",),
    ),
]
