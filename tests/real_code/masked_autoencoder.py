"""The masked autoencoder, and the classifier that takes over its encoder."""

import keras
import tensorflow as tf
from keras import layers

from tests.real_code.family import Family, pictures
from tests.real_code.transformers import Patches, mlp

TOKENS, MASKED, WIDTH = 16, 12, 12


class MaskingEncoder(layers.Layer):
    """Project patches and, unless it goes downstream, hide most of them."""

    def __init__(self, downstream=False, **kwargs):
        super().__init__(**kwargs)
        self.downstream = downstream
        self.projection = layers.Dense(WIDTH, name="projection")
        self.position_embedding = layers.Embedding(TOKENS, WIDTH, name="position")

    def build(self, input_shape):
        self.mask_token = self.add_weight(shape=(1, input_shape[-1]), name="mask_token")
        self.projection.build(input_shape)
        self.position_embedding.build((1, TOKENS))
        self.built = True

    def call(self, patches):
        positions = self.position_embedding(tf.range(TOKENS)[None])
        embeddings = self.projection(patches) + positions
        if self.downstream:
            return embeddings
        batch_size = tf.shape(patches)[0]
        order = tf.argsort(tf.random.uniform((batch_size, TOKENS)), axis=-1)
        mask, unmask = order[:, :MASKED], order[:, MASKED:]
        unmasked = tf.gather(embeddings, unmask, axis=1, batch_dims=1)
        all_positions = tf.tile(positions, [batch_size, 1, 1])
        masked_positions = tf.gather(all_positions, mask, axis=1, batch_dims=1)
        tokens = tf.repeat(tf.repeat(self.mask_token, MASKED, 0)[None], batch_size, 0)
        masked = self.projection(tokens) + masked_positions
        return unmasked, masked, mask


def encoder_blocks(count, length, name):
    inputs = layers.Input((length, WIDTH))
    x = inputs
    for index in range(count):
        x1 = layers.LayerNormalization(epsilon=1e-6)(x)
        x1 = layers.MultiHeadAttention(num_heads=2, key_dim=WIDTH, dropout=0.1)(x1, x1)
        x2 = layers.Add()([x1, x])
        x3 = layers.LayerNormalization(epsilon=1e-6)(x2)
        x = layers.Add()([mlp(x3, [24, WIDTH], 0.1, name=f"block_{index}_mlp"), x2])
    outputs = layers.LayerNormalization(epsilon=1e-6)(x)
    if name == "mae_decoder":
        outputs = layers.Flatten()(outputs)
        outputs = layers.Dense(16 * 16 * 3, activation="sigmoid", name="pixels")(outputs)
        outputs = layers.Reshape((16, 16, 3))(outputs)
    return keras.Model(inputs, outputs, name=name)


class MaskedAutoencoder(keras.Model):
    """Learn to fill in hidden patches."""

    def __init__(self, augmentation_model, patch_layer, patch_encoder, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.augmentation_model = augmentation_model
        self.patch_layer, self.patch_encoder = patch_layer, patch_encoder
        self.encoder, self.decoder = encoder, decoder

    def calculate_loss(self, images):
        augmented = self.augmentation_model(images, training=True)
        patches = self.patch_layer(augmented)
        unmasked, masked, mask = self.patch_encoder(patches)
        inputs = tf.concat([self.encoder(unmasked), masked], axis=1)
        decoded = self.patch_layer(self.decoder(inputs))
        loss_patch = tf.gather(patches, mask, axis=1, batch_dims=1)
        loss_output = tf.gather(decoded, mask, axis=1, batch_dims=1)
        return self.compute_loss(y=loss_patch, y_pred=loss_output), loss_patch, loss_output

    def train_step(self, images):
        with tf.GradientTape() as tape:
            total_loss, loss_patch, loss_output = self.calculate_loss(images)
        variables = [
            *self.patch_encoder.trainable_variables,
            *self.encoder.trainable_variables,
            *self.decoder.trainable_variables,
        ]
        gradients = tape.gradient(total_loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        results = {}
        for metric in self.metrics:
            metric.update_state(loss_patch, loss_output)
            results[metric.name] = metric.result()
        return results


def masked_autoencoder():
    """keras.io: Masked image modeling with Autoencoders, 2021."""
    model = MaskedAutoencoder(
        augmentation_model=keras.Sequential(
            [layers.Rescaling(1 / 255.0), layers.RandomFlip("horizontal")], name="augmentation"
        ),
        patch_layer=Patches(4, name="patches"),
        patch_encoder=MaskingEncoder(name="patch_encoder"),
        encoder=encoder_blocks(1, None, "mae_encoder"),
        decoder=encoder_blocks(1, TOKENS, "mae_decoder"),
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate=5e-3, weight_decay=1e-4),
        loss=keras.losses.MeanSquaredError(),
        metrics=["mae"],
    )
    return model


def unlabelled():
    x, _ = pictures(16, (16, 16, 3), high=255)
    return {"x": tf.data.Dataset.from_tensor_slices(x).shuffle(16, seed=0).batch(8)}


def masked_autoencoder_downstream():
    """keras.io: Masked image modeling with Autoencoders, 2021; its linear evaluation."""
    model = keras.Sequential(
        [
            layers.Input((16, 16, 3)),
            layers.Rescaling(1 / 255.0),
            Patches(4, name="patches"),
            MaskingEncoder(downstream=True, name="patch_encoder"),
            encoder_blocks(1, TOKENS, "mae_encoder"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling1D(),
            layers.Dense(4, activation="softmax", name="probabilities"),
        ],
        name="linear_probe_model",
    )
    for layer in model.layers[:-1]:
        layer.trainable = False
    model.compile(
        optimizer=keras.optimizers.SGD(momentum=0.9),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def labelled():
    x, y = pictures(16, (16, 16, 3), high=255)
    return {"x": tf.data.Dataset.from_tensor_slices((x, y)).shuffle(16, seed=0).batch(8)}


FAMILIES = [
    Family(
        name="masked autoencoder",
        build=masked_autoencoder,
        data=unlabelled,
        epochs=1,
        image_shape=None,
        values_range=None,
        layers=(),
        heads=(),
        refused=True,
        message="No part of the model '{model}' takes images: the part 'mae_encoder' takes "
        "sequences (None, 12), of any length. To see it, give `objectives` of a model around it "
        "that takes images, keras.Model(images, part(...)), or, if it takes signals, "
        "`image_shape`, such as image_shape=(128,).",
        note="A wrapper without `call`. Only its augmentation and patches take images, and they "
        "learn nothing; its encoder takes the embedded patches that are not hidden. A sequence "
        "of vectors has two axes, so that the encoder could be taken for one of signals.",
    ),
    Family(
        name="masked autoencoder, linear evaluation",
        statuses=("saturated",),
        like="masked autoencoder",
        build=masked_autoencoder_downstream,
        data=labelled,
        image_shape=(16, 16, 3),
        values_range=(0, 255),
        layers=("mae_encoder/block_0_mlp_0",),
        heads=("probabilities",),
        note="All but the last layer is frozen. A layer of it calls `tf` functions.",
    ),
]
