"""Image captioning: a convnet and two blocks of a transformer, in a wrapper."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.real_code.family import Family, pictures

WORDS, LENGTH, CAPTIONS, WIDTH = 20, 6, 2, 12


def get_cnn_model():
    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_1")(x)
    x = layers.Conv2D(WIDTH, 3, strides=2, activation="relu", name="conv_2")(x)
    return keras.models.Model(inputs, layers.Reshape((-1, WIDTH))(x), name="cnn")


class TransformerEncoderBlock(layers.Layer):
    """Attention among the places of an image."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(num_heads=1, key_dim=WIDTH)
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()
        self.dense_1 = layers.Dense(WIDTH, activation="relu")

    def call(self, inputs, training, mask=None):
        inputs = self.dense_1(self.layernorm_1(inputs))
        attended = self.attention(inputs, inputs, attention_mask=None, training=training)
        return self.layernorm_2(inputs + attended)


class TransformerDecoderBlock(layers.Layer):
    """Words, which look back at words and at the image."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = layers.Embedding(WORDS, WIDTH)
        self.positions = layers.Embedding(LENGTH, WIDTH)
        self.attention_1 = layers.MultiHeadAttention(num_heads=2, key_dim=WIDTH, dropout=0.1)
        self.attention_2 = layers.MultiHeadAttention(num_heads=2, key_dim=WIDTH, dropout=0.1)
        self.norms = [layers.LayerNormalization() for _ in range(3)]
        self.ffn_1 = layers.Dense(16, activation="relu")
        self.ffn_2 = layers.Dense(WIDTH)
        self.dropout = layers.Dropout(0.3)
        self.out = layers.Dense(WORDS, activation="softmax")
        self.supports_masking = True

    def call(self, inputs, encoder_outputs, training, mask=None):
        x = self.embedding(inputs) + self.positions(tf.range(tf.shape(inputs)[1]))
        causal = tf.linalg.band_part(tf.ones((LENGTH - 1, LENGTH - 1), "int32"), -1, 0)[None]
        padding = tf.cast(mask[:, tf.newaxis, :], "int32")
        attended = self.attention_1(
            x, x, attention_mask=tf.minimum(padding, causal), training=training
        )
        out_1 = self.norms[0](x + attended)
        attended = self.attention_2(
            query=out_1, value=encoder_outputs, key=encoder_outputs, training=training
        )
        out_2 = self.norms[1](out_1 + attended)
        ffn_out = self.ffn_2(self.ffn_1(out_2))
        ffn_out = self.norms[2](ffn_out + out_2, training=training)
        return self.out(self.dropout(ffn_out, training=training))


class ImageCaptioningModel(keras.Model):
    """Train on each of an image's captions in turn."""

    def __init__(self, cnn_model, encoder, decoder, num_captions_per_image, image_aug=None):
        super().__init__()
        self.cnn_model, self.encoder, self.decoder = cnn_model, encoder, decoder
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.acc_tracker = keras.metrics.Mean(name="accuracy")
        self.num_captions_per_image = num_captions_per_image
        self.image_aug = image_aug

    def calculate_loss(self, y_true, y_pred, mask):
        loss = self.loss(y_true, y_pred)
        mask = tf.cast(mask, dtype=loss.dtype)
        return tf.reduce_sum(loss * mask) / tf.reduce_sum(mask)

    def calculate_accuracy(self, y_true, y_pred, mask):
        accuracy = tf.equal(y_true, tf.argmax(y_pred, axis=2, output_type=y_true.dtype))
        accuracy = tf.cast(tf.math.logical_and(mask, accuracy), dtype=tf.float32)
        return tf.reduce_sum(accuracy) / tf.reduce_sum(tf.cast(mask, dtype=tf.float32))

    def train_step(self, batch_data):
        batch_img, batch_seq = batch_data
        batch_loss = batch_acc = 0.0
        if self.image_aug:
            batch_img = self.image_aug(batch_img)
        img_embed = self.cnn_model(batch_img)
        for index in range(self.num_captions_per_image):
            with tf.GradientTape() as tape:
                encoder_out = self.encoder(img_embed, training=True)
                batch_seq_inp = batch_seq[:, index, :-1]
                batch_seq_true = batch_seq[:, index, 1:]
                mask = tf.math.not_equal(batch_seq_true, 0)
                pred = self.decoder(batch_seq_inp, encoder_out, training=True, mask=mask)
                loss = self.calculate_loss(batch_seq_true, pred, mask)
            batch_loss += loss
            batch_acc += self.calculate_accuracy(batch_seq_true, pred, mask)
            train_vars = self.encoder.trainable_variables + self.decoder.trainable_variables
            grads = tape.gradient(loss, train_vars)
            self.optimizer.apply_gradients(zip(grads, train_vars, strict=True))
        self.loss_tracker.update_state(batch_loss)
        self.acc_tracker.update_state(batch_acc / float(self.num_captions_per_image))
        return {"loss": self.loss_tracker.result(), "acc": self.acc_tracker.result()}

    @property
    def metrics(self):
        return [self.loss_tracker, self.acc_tracker]


def image_captioning():
    """keras.io: Image captioning, 2021."""
    cnn_model = get_cnn_model()
    cnn_model.trainable = False
    caption_model = ImageCaptioningModel(
        cnn_model=cnn_model,
        encoder=TransformerEncoderBlock(name="encoder"),
        decoder=TransformerDecoderBlock(name="decoder"),
        num_captions_per_image=CAPTIONS,
        image_aug=keras.Sequential(
            [layers.RandomFlip("horizontal"), layers.RandomContrast(0.3)], name="image_aug"
        ),
    )
    caption_model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=False, reduction=None),
    )
    return caption_model


def images_and_captions():
    x, _ = pictures(8, (16, 16, 3), high=255)
    captions = np.random.default_rng(0).integers(1, WORDS, (8, CAPTIONS, LENGTH))
    captions[:, :, -1] = 0
    found = tf.data.Dataset.from_tensor_slices((x, captions.astype("int32")))
    return {"x": found.batch(4)}


FAMILIES = [
    Family(
        name="image captioning",
        has_rectified_units=True,
        is_long=True,
        build=image_captioning,
        data=images_and_captions,
        epochs=1,
        image_shape=(16, 16, 3),
        values_range=(0, 255),
        layers=("cnn/conv_1", "cnn/conv_2"),
        heads=(),
        parts=("cnn",),
        note="The convnet is frozen. The encoder and decoder are layers, built by the first step.",
    ),
]
