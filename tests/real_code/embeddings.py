"""Embeddings and students: supervised contrast, metric learning, distillation, sharpness."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.real_code.family import EVERY_BACKEND, Family, pictures

# --- supervised contrast ----------------------------------------------------------------


def small_bytes():
    x, y = pictures(16, (16, 16, 3), high=255)
    return {"x": x, "y": y, "batch_size": 8}


def create_encoder():
    data_augmentation = keras.Sequential(
        [layers.Normalization(), layers.RandomFlip("horizontal"), layers.RandomRotation(0.02)],
        name="data_augmentation",
    )
    data_augmentation.layers[0].adapt(small_bytes()["x"])
    convolutions = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 3, activation="relu", name="conv_1"),
            layers.MaxPooling2D(),
            layers.Conv2D(12, 3, activation="relu", name="conv_2"),
            layers.GlobalAveragePooling2D(),
        ],
        name="convolutions",
    )
    inputs = keras.Input(shape=(16, 16, 3))
    outputs = convolutions(data_augmentation(inputs))
    return keras.Model(inputs=inputs, outputs=outputs, name="encoder")


class SupervisedContrastiveLoss(keras.losses.Loss):
    """Draw together the vectors of one class, and apart those of others."""

    def __init__(self, temperature=1, name=None):
        super().__init__(name=name)
        self.temperature = temperature

    def call(self, labels, feature_vectors):
        vectors = ops.normalize(feature_vectors, axis=1)
        logits = ops.matmul(vectors, ops.transpose(vectors)) / self.temperature
        labels = ops.reshape(labels, (-1, 1))
        same = ops.cast(ops.equal(labels, ops.transpose(labels)), "float32")
        same = same / ops.sum(same, axis=1, keepdims=True)
        return ops.mean(ops.categorical_crossentropy(same, logits, from_logits=True))


def supervised_contrast():
    """keras.io: Supervised contrastive learning, 2020; the encoder's training."""
    inputs = keras.Input(shape=(16, 16, 3))
    features = create_encoder()(inputs)
    outputs = layers.Dense(16, activation="relu", name="projection")(features)
    model = keras.Model(inputs, outputs, name="encoder_with_projection_head")
    model.compile(
        optimizer=keras.optimizers.Adam(0.001), loss=SupervisedContrastiveLoss(temperature=0.05)
    )
    return model


def supervised_contrast_classifier():
    """keras.io: Supervised contrastive learning, 2020; the classifier upon the encoder."""
    encoder = create_encoder()
    for layer in encoder.layers:
        layer.trainable = False
    inputs = keras.Input(shape=(16, 16, 3))
    features = encoder(inputs)
    features = layers.Dropout(0.5)(features)
    features = layers.Dense(16, activation="relu", name="hidden")(features)
    features = layers.Dropout(0.5)(features)
    outputs = layers.Dense(4, activation="softmax", name="probabilities")(features)
    model = keras.Model(inputs=inputs, outputs=outputs, name="classifier")
    model.compile(
        optimizer=keras.optimizers.Adam(0.001),
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    return model


# --- metric learning --------------------------------------------------------------------


class AnchorPositivePairs(keras.utils.PyDataset):
    """One anchor and one like it for each class."""

    def __init__(self, num_batches, **kwargs):
        super().__init__(**kwargs)
        self.batches = num_batches
        self.images, self.labels = pictures(16, (16, 16, 3))

    def __len__(self):
        return self.batches

    def __getitem__(self, index):
        draws = np.random.default_rng(index)
        pairs = [
            draws.choice(np.flatnonzero(self.labels == label), 2, replace=False)
            for label in range(4)
        ]
        return np.stack([self.images[list(which)] for which in zip(*pairs, strict=True)])


class EmbeddingModel(keras.Model):
    """A functional model, trained by the similarities of anchors and of those like them."""

    def train_step(self, data):
        if isinstance(data, tuple):
            data = data[0]
        anchors, positives = data[0], data[1]
        with tf.GradientTape() as tape:
            anchor_embeddings = self(anchors, training=True)
            positive_embeddings = self(positives, training=True)
            similarities = tf.einsum("ae,pe->ap", anchor_embeddings, positive_embeddings) / 0.2
            sparse_labels = tf.range(4)
            loss = self.compute_loss(y=sparse_labels, y_pred=similarities)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(sparse_labels, similarities)
        return {m.name: m.result() for m in self.metrics}


def metric_learning():
    """keras.io: Metric learning for image similarity search, 2020."""
    inputs = layers.Input(shape=(16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_1")(inputs)
    x = layers.Conv2D(12, 3, strides=2, activation="relu", name="conv_2")(x)
    x = layers.GlobalAveragePooling2D()(x)
    embeddings = layers.Dense(units=8, activation=None, name="embedding")(x)
    embeddings = layers.UnitNormalization(name="normalized")(embeddings)
    model = EmbeddingModel(inputs, embeddings)
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    return model


def anchors_and_positives():
    return {"x": AnchorPositivePairs(num_batches=2)}


# --- distillation -----------------------------------------------------------------------


class Distiller(keras.Model):
    """A student that learns from classes and from its teacher."""

    def __init__(self, student, teacher):
        super().__init__()
        self.teacher = teacher
        self.student = student

    def compile(
        self, optimizer, metrics, student_loss_fn, distillation_loss_fn, alpha, temperature
    ):
        super().compile(optimizer=optimizer, metrics=metrics)
        self.student_loss_fn, self.distillation_loss_fn = student_loss_fn, distillation_loss_fn
        self.alpha, self.temperature = alpha, temperature

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, allow_empty=False):
        teacher_pred = self.teacher(x, training=False)
        student_loss = self.student_loss_fn(y, y_pred)
        distillation_loss = self.distillation_loss_fn(
            ops.softmax(teacher_pred / self.temperature, axis=1),
            ops.softmax(y_pred / self.temperature, axis=1),
        ) * (self.temperature**2)
        return self.alpha * student_loss + (1 - self.alpha) * distillation_loss

    def call(self, x):
        return self.student(x)


def classifier(filters, name):
    return keras.Sequential(
        [
            keras.Input(shape=(16, 16, 1)),
            layers.Conv2D(filters, 3, strides=2, padding="same", name="conv_1"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.MaxPooling2D(pool_size=2, strides=1, padding="same"),
            layers.Conv2D(filters, 3, strides=2, padding="same", name="conv_2"),
            layers.Flatten(),
            layers.Dense(4, name="logits"),
        ],
        name=name,
    )


def distillation():
    """keras.io: Knowledge distillation, 2020."""
    distiller = Distiller(student=classifier(6, "student"), teacher=classifier(12, "teacher"))
    distiller.compile(
        optimizer=keras.optimizers.Adam(),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
        student_loss_fn=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        distillation_loss_fn=keras.losses.KLDivergence(),
        alpha=0.1,
        temperature=10,
    )
    return distiller


def digits():
    x, y = pictures(16, (16, 16, 1))
    return {"x": x, "y": y, "batch_size": 8}


# --- sharpness-aware minimization -------------------------------------------------------


class SAMModel(keras.Model):
    """Take the gradient where the loss is worst nearby."""

    def __init__(self, model, rho=0.05):
        super().__init__()
        self.wrapped = model
        self.rho = rho

    def call(self, inputs):
        return self.wrapped(inputs)

    def train_step(self, data):
        images, labels = data
        weights = self.wrapped.trainable_variables
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=labels, y_pred=self.wrapped(images, training=True))
        gradients = tape.gradient(loss, weights)
        norm = tf.linalg.global_norm(gradients) + 1e-12
        steps = [gradient * self.rho / norm for gradient in gradients]
        for weight, step in zip(weights, steps, strict=True):
            weight.assign_add(step)
        with tf.GradientTape() as tape:
            predictions = self.wrapped(images, training=True)
            loss = self.compute_loss(y=labels, y_pred=predictions)
        gradients = tape.gradient(loss, weights)
        for weight, step in zip(weights, steps, strict=True):
            weight.assign_sub(step)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(labels, predictions)
        return {metric.name: metric.result() for metric in self.metrics}


def sharpness_aware():
    """keras.io: sharpness-aware minimization of a ResNet, 2021."""
    model = SAMModel(classifier(8, "resnet"))
    model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


FAMILIES = [
    Family(
        name="supervised contrast, encoder",
        has_rectified_units=True,
        build=supervised_contrast,
        data=small_bytes,
        backends=EVERY_BACKEND,
        image_shape=(16, 16, 3),
        values_range=(0, 255),
        layers=("encoder/convolutions/conv_1", "encoder/convolutions/conv_2"),
        heads=("projection",),
    ),
    Family(
        name="supervised contrast, classifier",
        has_rectified_units=True,
        like="supervised contrast, encoder",
        build=supervised_contrast_classifier,
        data=small_bytes,
        backends=EVERY_BACKEND,
        image_shape=(16, 16, 3),
        values_range=(0, 255),
        layers=("encoder/convolutions/conv_1", "encoder/convolutions/conv_2", "hidden"),
        heads=("probabilities",),
    ),
    Family(
        name="metric learning",
        has_rectified_units=True,
        build=metric_learning,
        data=anchors_and_positives,
        image_shape=(16, 16, 3),
        values_range=(0, 1),
        layers=("conv_1", "conv_2"),
        heads=("normalized",),
        probe_is_used=False,
        note="Functional, with a `train_step`, which takes a batch apart. A batch of its "
        "`PyDataset` is one array of two axes before the images': anchors and positives, and "
        "classes.",
    ),
    Family(
        name="distillation",
        build=distillation,
        data=digits,
        backends=EVERY_BACKEND,
        image_shape=(16, 16, 1),
        values_range=(0, 1),
        layers=("student/conv_1", "student/conv_2"),
        heads=("student",),
        note="The teacher is inside the model, and its `call` does not reach it.",
    ),
    Family(
        name="sharpness-aware minimization",
        like="MNIST convnet",
        build=sharpness_aware,
        data=digits,
        image_shape=(16, 16, 1),
        values_range=(0, 1),
        layers=("resnet/conv_1", "resnet/conv_2"),
        heads=("resnet/logits",),
        parts=("resnet",),
        note="It has a `call`, which `train_step` goes past. The weights are other ones in the "
        "middle of a step.",
    ),
]
