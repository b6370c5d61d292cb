"""Transformers and mixers that classify images, trained by plain `compile` and `fit`."""

import keras
from keras import layers, ops

from tests.real_code.family import EVERY_BACKEND, Family, pictures

CLASSES = 4


def cifar():
    """Bytes as `keras.datasets.cifar10.load_data` has them, as floats."""
    x, y = pictures(16, (16, 16, 3), high=255)
    return {"x": x, "y": y[:, None], "batch_size": 8}


def augmentation():
    """What most of these begin with on keras.io: `Normalization` that has seen the data."""
    found = keras.Sequential(
        [
            layers.Normalization(),
            layers.Resizing(16, 16),
            layers.RandomFlip("horizontal"),
            layers.RandomZoom(height_factor=0.2, width_factor=0.2),
        ],
        name="data_augmentation",
    )
    found.layers[0].adapt(cifar()["x"])
    return found


def compiled(model, logits=False):
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate=0.001, weight_decay=0.0001),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=logits),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model


class Patches(layers.Layer):
    """Cut images into a sequence of flat patches."""

    def __init__(self, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def call(self, images):
        batch_size, height, width, channels = ops.shape(images)
        count = (height // self.patch_size) * (width // self.patch_size)
        patches = ops.image.extract_patches(images, size=self.patch_size)
        return ops.reshape(patches, (batch_size, count, self.patch_size**2 * channels))


class PatchEncoder(layers.Layer):
    """Project patches, and add what stands for their position."""

    def __init__(self, num_patches, projection_dim, **kwargs):
        super().__init__(**kwargs)
        self.num_patches = num_patches
        self.projection = layers.Dense(projection_dim, name="projection")
        self.position_embedding = layers.Embedding(num_patches, projection_dim, name="position")

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(0, self.num_patches, step=1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)


def mlp(x, hidden_units, dropout_rate, name):
    for index, units in enumerate(hidden_units):
        x = layers.Dense(units, activation=keras.activations.gelu, name=f"{name}_{index}")(x)
        x = layers.Dropout(dropout_rate)(x)
    return x


def vision_transformer():
    """keras.io: Image classification with Vision Transformer, 2021."""
    inputs = keras.Input(shape=(16, 16, 3))
    augmented = augmentation()(inputs)
    patches = Patches(4, name="patches")(augmented)
    encoded_patches = PatchEncoder(16, 12, name="patch_encoder")(patches)
    for index in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(encoded_patches)
        attention_output = layers.MultiHeadAttention(num_heads=2, key_dim=12, dropout=0.1)(x1, x1)
        x2 = layers.Add()([attention_output, encoded_patches])
        x3 = layers.LayerNormalization(epsilon=1e-6)(x2)
        x3 = mlp(x3, hidden_units=[24, 12], dropout_rate=0.1, name=f"block_{index}_mlp")
        encoded_patches = layers.Add()([x3, x2])
    representation = layers.LayerNormalization(epsilon=1e-6)(encoded_patches)
    representation = layers.Flatten()(representation)
    representation = layers.Dropout(0.5)(representation)
    features = mlp(representation, hidden_units=[16], dropout_rate=0.5, name="head_mlp")
    logits = layers.Dense(CLASSES, name="logits")(features)
    return compiled(keras.Model(inputs=inputs, outputs=logits), logits=True)


class MLPMixerLayer(layers.Layer):
    """Mix over patches, then over channels."""

    def __init__(self, num_patches, hidden_units, dropout_rate, **kwargs):
        super().__init__(**kwargs)
        self.mlp1 = keras.Sequential(
            [
                layers.Dense(num_patches, activation="gelu", name="hidden"),
                layers.Dense(num_patches, name="out"),
                layers.Dropout(dropout_rate),
            ],
            name="over_patches",
        )
        self.mlp2 = keras.Sequential(
            [
                layers.Dense(num_patches, activation="gelu", name="hidden"),
                layers.Dense(hidden_units, name="out"),
                layers.Dropout(dropout_rate),
            ],
            name="over_channels",
        )
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def build(self, input_shape):
        super().build(input_shape)

    def call(self, inputs):
        x = self.normalize(inputs)
        x_channels = ops.transpose(x, axes=(0, 2, 1))
        mlp1_outputs = ops.transpose(self.mlp1(x_channels), axes=(0, 2, 1))
        x = mlp1_outputs + inputs
        x_patches = self.normalize(x)
        return x + self.mlp2(x_patches)


def mlp_mixer():
    """keras.io: Image classification with modern MLP models, 2021."""
    inputs = layers.Input(shape=(16, 16, 3))
    augmented = augmentation()(inputs)
    patches = Patches(4, name="patches")(augmented)
    x = layers.Dense(units=12, name="embedding")(patches)
    blocks = keras.Sequential(
        [MLPMixerLayer(16, 12, 0.2, name=f"mixer_{index}") for index in range(2)], name="blocks"
    )
    x = blocks(x)
    representation = layers.GlobalAveragePooling1D()(x)
    representation = layers.Dropout(rate=0.2)(representation)
    logits = layers.Dense(CLASSES, name="logits")(representation)
    return compiled(keras.Model(inputs=inputs, outputs=logits), logits=True)


class ExternalAttention(layers.Layer):
    """Attention to a memory that is two linear layers."""

    def __init__(self, dim, num_heads, dim_coefficient=2, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.heads = dim, num_heads * dim_coefficient
        self.expand = layers.Dense(dim * dim_coefficient, name="expand")
        self.key_memory = layers.Dense(dim // dim_coefficient, name="key_memory")
        self.value_memory = layers.Dense(dim * dim_coefficient // self.heads, name="value_memory")
        self.project = layers.Dense(dim, name="project")

    def call(self, inputs):
        _, num_patch, _ = inputs.shape
        x = ops.reshape(self.expand(inputs), (-1, num_patch, self.heads, self.dim // 2))
        attention = self.key_memory(ops.transpose(x, axes=[0, 2, 1, 3]))
        attention = ops.softmax(attention, axis=2)
        attention = attention / (1e-9 + ops.sum(attention, axis=-1, keepdims=True))
        x = ops.transpose(self.value_memory(attention), axes=[0, 2, 1, 3])
        return self.project(ops.reshape(x, [-1, num_patch, self.dim * 2]))


def external_attention_network():
    """keras.io: Image classification with EANet, 2021."""
    inputs = layers.Input(shape=(16, 16, 3))
    x = augmentation()(inputs)
    x = Patches(4, name="patch_extract")(x)
    x = PatchEncoder(16, 12, name="patch_embedding")(x)
    for index in range(1):
        residual = x
        x = layers.LayerNormalization(epsilon=1e-5)(x)
        x = ExternalAttention(12, 2, name=f"attention_{index}")(x)
        x = residual = layers.add([x, residual])
        x = layers.LayerNormalization(epsilon=1e-5)(x)
        x = mlp(x, [12, 12], 0.2, name=f"block_{index}_mlp")
        x = layers.add([x, residual])
    x = layers.GlobalAveragePooling1D()(x)
    outputs = layers.Dense(CLASSES, activation="softmax", name="probabilities")(x)
    model = keras.Model(inputs=inputs, outputs=outputs)
    model.compile(
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        optimizer=keras.optimizers.AdamW(learning_rate=0.001, weight_decay=0.0001),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    return model


def one_hot_cifar():
    x, y = pictures(16, (16, 16, 3), high=255)
    return {"x": x, "y": keras.utils.to_categorical(y, CLASSES), "batch_size": 8}


class Perceiver(keras.Model):
    """A small latent array looks at the patches, and then at itself."""

    def __init__(self, data_augmentation, latent_dim=6, projection_dim=12, num_iterations=2):
        super().__init__()
        self.data_augmentation = data_augmentation
        self.latent_dim, self.projection_dim = latent_dim, projection_dim
        self.num_iterations = num_iterations

    def build(self, input_shape):
        self.latent_array = self.add_weight(
            shape=(self.latent_dim, self.projection_dim),
            initializer="random_normal",
            trainable=True,
        )
        self.patcher = Patches(4, name="patches")
        self.patch_encoder = PatchEncoder(16, self.projection_dim, name="patch_encoder")
        self.cross_attention = self.create_cross_attention_module()
        self.transformer = self.create_transformer_module()
        self.global_average_pooling = layers.GlobalAveragePooling1D()
        self.classification_head = layers.Dense(CLASSES, name="logits")
        super().build(input_shape)

    def create_cross_attention_module(self):
        latent = layers.Input(shape=(self.latent_dim, self.projection_dim), name="latent_array")
        data = layers.Input(shape=(16, self.projection_dim), name="data_array")
        query = layers.LayerNormalization(epsilon=1e-6)(latent)
        key = layers.LayerNormalization(epsilon=1e-6)(data)
        attended = layers.Attention(use_scale=True, dropout=0.1)([query, key, key])
        attended = layers.Add()([attended, query])
        outputs = layers.LayerNormalization(epsilon=1e-6)(attended)
        outputs = mlp(outputs, [12, 12], 0.2, name="mlp")
        outputs = layers.Add()([outputs, attended])
        return keras.Model([latent, data], outputs, name="cross_attention")

    def create_transformer_module(self):
        inputs = layers.Input(shape=(self.latent_dim, self.projection_dim))
        x1 = layers.LayerNormalization(epsilon=1e-6)(inputs)
        x1 = layers.MultiHeadAttention(num_heads=2, key_dim=12, dropout=0.1)(x1, x1)
        x2 = layers.Add()([x1, inputs])
        x3 = mlp(layers.LayerNormalization(epsilon=1e-6)(x2), [24, 12], 0.2, name="mlp")
        return keras.Model(inputs, layers.Add()([x3, x2]), name="transformer")

    def call(self, inputs):
        augmented = self.data_augmentation(inputs)
        encoded_patches = self.patch_encoder(self.patcher(augmented))
        latent_array = ops.expand_dims(self.latent_array, 0)
        latent_array = ops.repeat(latent_array, ops.shape(inputs)[0], axis=0)
        for _ in range(self.num_iterations):
            latent_array = self.cross_attention(
                {"latent_array": latent_array, "data_array": encoded_patches}
            )
            latent_array = self.transformer(latent_array)
        return self.classification_head(self.global_average_pooling(latent_array))


def perceiver():
    """keras.io: Image classification with Perceiver, 2021."""
    return compiled(Perceiver(augmentation()), logits=True)


FAMILIES = [
    Family(
        name="ViT",
        statuses=("saturated",),
        build=vision_transformer,
        data=cifar,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(16, 16, 3),
        values_range=(0, 255),
        layers=("block_0_mlp_0", "block_1_mlp_0"),
        heads=("logits",),
    ),
    Family(
        name="MLP-Mixer",
        statuses=("saturated",),
        build=mlp_mixer,
        data=cifar,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(16, 16, 3),
        values_range=(0, 255),
        layers=(
            *("blocks/mixer_0/over_patches/hidden", "blocks/mixer_0/over_channels/hidden"),
            *("blocks/mixer_1/over_patches/hidden", "blocks/mixer_1/over_channels/hidden"),
        ),
        heads=("logits",),
        note="In `over_patches` the last axis are patches, and the one before it channels.",
    ),
    Family(
        name="EANet",
        statuses=("saturated",),
        build=external_attention_network,
        data=one_hot_cifar,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(16, 16, 3),
        values_range=(0, 255),
        layers=("block_0_mlp_0", "block_0_mlp_1"),
        heads=("probabilities",),
    ),
    Family(
        name="Perceiver",
        statuses=("saturated",),
        is_long=True,
        build=perceiver,
        data=cifar,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(16, 16, 3),
        values_range=(0, 255),
        layers=(
            *("cross_attention/mlp_0", "cross_attention/mlp_1"),
            *("transformer/mlp_0", "transformer/mlp_1"),
        ),
        heads=("logits",),
        note="Subclassed, and not built before `fit`. Two iterations call the same layers.",
    ),
]
