"""Representations learned from pairs, each with a `train_step` for TensorFlow."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.real_code.family import Family, pictures

# --- SimSiam ----------------------------------------------------------------------------


def get_encoder():
    inputs = layers.Input((16, 16, 3))
    x = layers.Rescaling(scale=1.0 / 127.5, offset=-1)(inputs)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv_0")(x)
    x = layers.BatchNormalization()(x)
    for index, strides in enumerate((1, 2), start=1):
        y = layers.Activation("relu")(x)
        y = layers.Conv2D(8, 3, strides, padding="same", use_bias=False, name=f"conv_{index}")(y)
        y = layers.BatchNormalization()(y)
        x = layers.AveragePooling2D(strides)(x) if strides > 1 else x
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D(name="backbone_pool")(x)
    x = layers.Dense(16, use_bias=False, name="projection_1")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.Dense(16, use_bias=False, name="projection_2")(x)
    outputs = layers.BatchNormalization(name="projection_norm")(x)
    return keras.Model(inputs, outputs, name="encoder")


def get_predictor():
    return keras.Sequential(
        [
            layers.Input((16,)),
            layers.Dense(8, use_bias=False),
            layers.ReLU(),
            layers.BatchNormalization(),
            layers.Dense(16),
        ],
        name="predictor",
    )


def similarity_loss(p, z):
    z = tf.math.l2_normalize(tf.stop_gradient(z), axis=1)
    p = tf.math.l2_normalize(p, axis=1)
    return -tf.reduce_mean(tf.reduce_sum(p * z, axis=1))


class SimSiamModel(keras.Model):
    """Predict the projection of one view from the other's."""

    def __init__(self, encoder, predictor):
        super().__init__()
        self.encoder, self.predictor = encoder, predictor
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.loss_tracker]

    def train_step(self, data):
        ds_one, ds_two = data
        with tf.GradientTape() as tape:
            z1, z2 = self.encoder(ds_one), self.encoder(ds_two)
            p1, p2 = self.predictor(z1), self.predictor(z2)
            loss = similarity_loss(p1, z2) / 2 + similarity_loss(p2, z1) / 2
        learnable_params = [
            *self.encoder.trainable_variables,
            *self.predictor.trainable_variables,
        ]
        gradients = tape.gradient(loss, learnable_params)
        self.optimizer.apply_gradients(zip(gradients, learnable_params, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def simsiam():
    """keras.io: Self-supervised contrastive learning with SimSiam, 2021."""
    model = SimSiamModel(get_encoder(), get_predictor())
    decay = keras.optimizers.schedules.CosineDecay(0.03, decay_steps=100)
    model.compile(optimizer=keras.optimizers.SGD(decay, momentum=0.6))
    return model


def two_views():
    x, _ = pictures(16, (16, 16, 3), high=255)

    def view(salt):
        def augment(image, seed):
            seed = tf.stack([salt, seed])
            image = tf.image.stateless_random_flip_left_right(image, seed)
            return tf.image.stateless_random_brightness(image, 30.0, seed)

        return tf.data.Dataset.from_tensor_slices((x, np.arange(16, dtype="int32"))).map(augment)

    return {"x": tf.data.Dataset.zip((view(0).batch(8), view(1).batch(8)))}


# --- SimCLR -----------------------------------------------------------------------------


def get_augmenter(brightness, name):
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Rescaling(1 / 255),
            layers.RandomFlip("horizontal"),
            layers.RandomTranslation(0.1, 0.1),
            layers.RandomBrightness(brightness, value_range=(0, 1)),
        ],
        name=name,
    )


class ContrastiveModel(keras.Model):
    """Learn from images without classes, and probe by those that have them."""

    def __init__(self):
        super().__init__()
        self.temperature = 0.1
        self.contrastive_augmenter = get_augmenter(0.3, "contrastive_augmenter")
        self.classification_augmenter = get_augmenter(0.1, "classification_augmenter")
        self.encoder = keras.Sequential(
            [
                layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_1"),
                layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_2"),
                layers.Flatten(),
                layers.Dense(12, activation="relu", name="representation"),
            ],
            name="encoder",
        )
        self.projection_head = keras.Sequential(
            [keras.Input((12,)), layers.Dense(12, activation="relu"), layers.Dense(12)],
            name="projection_head",
        )
        self.linear_probe = keras.Sequential(
            [layers.Input((12,)), layers.Dense(4)], name="linear_probe"
        )
        self.encoder.build((None, 16, 16, 3))

    def compile(self, contrastive_optimizer, probe_optimizer, **kwargs):
        super().compile(**kwargs)
        self.contrastive_optimizer = contrastive_optimizer
        self.probe_optimizer = probe_optimizer
        self.probe_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.contrastive_loss_tracker = keras.metrics.Mean(name="c_loss")
        self.contrastive_accuracy = keras.metrics.SparseCategoricalAccuracy(name="c_acc")
        self.probe_loss_tracker = keras.metrics.Mean(name="p_loss")

    @property
    def metrics(self):
        return [
            self.contrastive_loss_tracker,
            self.contrastive_accuracy,
            self.probe_loss_tracker,
        ]

    def contrastive_loss(self, projections_1, projections_2):
        projections_1 = ops.normalize(projections_1, axis=1)
        projections_2 = ops.normalize(projections_2, axis=1)
        similarities = ops.matmul(projections_1, ops.transpose(projections_2)) / self.temperature
        labels = ops.arange(ops.shape(projections_1)[0])
        self.contrastive_accuracy.update_state(labels, similarities)
        self.contrastive_accuracy.update_state(labels, ops.transpose(similarities))
        losses = [
            keras.losses.sparse_categorical_crossentropy(labels, found, from_logits=True)
            for found in (similarities, ops.transpose(similarities))
        ]
        return ops.mean(losses[0] + losses[1]) / 2

    def train_step(self, data):
        (unlabeled_images, _), (labeled_images, labels) = data
        images = ops.concatenate((unlabeled_images, labeled_images), axis=0)
        augmented_1 = self.contrastive_augmenter(images, training=True)
        augmented_2 = self.contrastive_augmenter(images, training=True)
        with tf.GradientTape() as tape:
            projections_1 = self.projection_head(self.encoder(augmented_1, training=True))
            projections_2 = self.projection_head(self.encoder(augmented_2, training=True))
            contrastive_loss = self.contrastive_loss(projections_1, projections_2)
        weights = self.encoder.trainable_weights + self.projection_head.trainable_weights
        gradients = tape.gradient(contrastive_loss, weights)
        self.contrastive_optimizer.apply_gradients(zip(gradients, weights, strict=True))
        self.contrastive_loss_tracker.update_state(contrastive_loss)
        preprocessed = self.classification_augmenter(labeled_images, training=True)
        with tf.GradientTape() as tape:
            class_logits = self.linear_probe(self.encoder(preprocessed, training=False))
            probe_loss = self.probe_loss(labels, class_logits)
        weights = self.linear_probe.trainable_weights
        gradients = tape.gradient(probe_loss, weights)
        self.probe_optimizer.apply_gradients(zip(gradients, weights, strict=True))
        self.probe_loss_tracker.update_state(probe_loss)
        return {metric.name: metric.result() for metric in self.metrics}


def simclr():
    """keras.io: Semi-supervised image classification using contrastive pretraining, 2021."""
    model = ContrastiveModel()
    model.compile(
        contrastive_optimizer=keras.optimizers.Adam(),
        probe_optimizer=keras.optimizers.Adam(),
        jit_compile=False,
    )
    return model


def with_and_without_classes():
    sets = (
        tf.data.Dataset.from_tensor_slices(pictures(count, (16, 16, 3), high=255, seed=count))
        for count in (12, 4)
    )
    unlabeled, labeled = sets
    return {"x": tf.data.Dataset.zip((unlabeled.batch(6), labeled.batch(2)))}


# --- siamese triplets -------------------------------------------------------------------


class DistanceLayer(layers.Layer):
    """The distances from an anchor to its like and to its unlike."""

    def call(self, anchor, positive, negative):
        ap_distance = ops.sum(tf.square(anchor - positive), -1)
        an_distance = ops.sum(tf.square(anchor - negative), -1)
        return (ap_distance, an_distance)


class SiameseModel(keras.Model):
    """Bring like images together, by triplets."""

    def __init__(self, siamese_network, margin=0.5):
        super().__init__()
        self.siamese_network = siamese_network
        self.margin = margin
        self.loss_tracker = keras.metrics.Mean(name="loss")

    def call(self, inputs):
        return self.siamese_network(inputs)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            ap_distance, an_distance = self.siamese_network(data)
            loss = tf.maximum(ap_distance - an_distance + self.margin, 0.0)
        gradients = tape.gradient(loss, self.siamese_network.trainable_weights)
        self.optimizer.apply_gradients(
            zip(gradients, self.siamese_network.trainable_weights, strict=True)
        )
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}

    @property
    def metrics(self):
        return [self.loss_tracker]


def siamese_triplets():
    """keras.io: Image similarity estimation using a Siamese network with a triplet loss, 2021."""
    images = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_1")(images)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_2")(x)
    base = keras.Model(images, x, name="base")
    flatten = layers.Flatten()(base.output)
    dense = layers.Dense(16, activation="relu", name="hidden")(flatten)
    dense = layers.BatchNormalization()(dense)
    output = layers.Dense(8, name="vector")(dense)
    embedding = keras.Model(base.input, output, name="embedding")
    base.get_layer("conv_1").trainable = False

    names = ("anchor", "positive", "negative")
    inputs = [layers.Input(name=name, shape=(16, 16, 3)) for name in names]
    distances = DistanceLayer()(*(embedding(one) for one in inputs))
    siamese_network = keras.Model(inputs=inputs, outputs=distances, name="siamese_network")
    siamese_model = SiameseModel(siamese_network)
    siamese_model.compile(optimizer=keras.optimizers.Adam(0.0001))
    return siamese_model


def triplets():
    x, _ = pictures(16, (16, 16, 3))
    like, unlike = np.roll(x, 4, axis=0), np.roll(x, 1, axis=0)
    sets = (tf.data.Dataset.from_tensor_slices(images) for images in (x, like, unlike))
    return {"x": tf.data.Dataset.zip(tuple(sets)).shuffle(16, seed=0).batch(8)}


FAMILIES = [
    Family(
        name="SimSiam",
        build=simsiam,
        data=two_views,
        epochs=1,
        image_shape=(16, 16, 3),
        values_range=(0, 255),
        layers=("encoder/conv_0", "encoder/conv_1", "encoder/conv_2"),
        heads=("encoder/projection_norm",),
        parts=("encoder",),
        note="Batches are pairs of views of the same images.",
    ),
    Family(
        name="SimCLR",
        has_rectified_units=True,
        build=simclr,
        data=with_and_without_classes,
        image_shape=(16, 16, 3),
        values_range=(0, 1),
        is_told=False,
        layers=("encoder/conv_1", "encoder/conv_2"),
        heads=("encoder/representation",),
        parts=("encoder",),
        note="`x` holds pairs of pairs, in (0, 255); the augmenters, which also take images, "
        "scale them to (0, 1) for the encoder.",
    ),
    Family(
        name="siamese triplets",
        has_rectified_units=True,
        build=siamese_triplets,
        data=triplets,
        image_shape=(16, 16, 3),
        values_range=(0, 1),
        layers=(
            *("siamese_network/embedding/conv_1", "siamese_network/embedding/conv_2"),
            "siamese_network/embedding/hidden",
        ),
        heads=(),
        parts=("siamese_network",),
        note="Its `call` takes three images at once, and calls the embedding on each.",
    ),
]
