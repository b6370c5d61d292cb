"""Adversarial networks, each a wrapper with a `train_step` for TensorFlow."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.real_code.family import Family, pictures


def dataset(count=16, shape=(12, 12, 1), low=0.0, high=1.0, labels=None):
    """Return a shuffled `tf.data.Dataset` of images, or of images and one-hot classes."""
    x, y = pictures(count, shape, low=low, high=high)
    arrays = x if labels is None else (x, np.eye(labels, dtype="float32")[y])
    found = tf.data.Dataset.from_tensor_slices(arrays)
    return found.shuffle(buffer_size=count, seed=0).batch(8, drop_remainder=True)


# --- DCGAN ------------------------------------------------------------------------------


def get_discriminator(channels=1, head="logit", activation=None):
    return keras.Sequential(
        [
            keras.Input(shape=(12, 12, channels)),
            layers.Conv2D(8, kernel_size=4, strides=2, padding="same", name="conv_1"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(12, kernel_size=4, strides=2, padding="same", name="conv_2"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(1, activation=activation, name=head),
        ],
        name="discriminator",
    )


def get_generator(inputs=8, channels=1, activation="sigmoid"):
    return keras.Sequential(
        [
            keras.Input(shape=(inputs,)),
            layers.Dense(3 * 3 * 8),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Reshape((3, 3, 8)),
            layers.Conv2DTranspose(12, kernel_size=4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2DTranspose(8, kernel_size=4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(channels, kernel_size=5, padding="same", activation=activation),
        ],
        name="generator",
    )


class GAN(keras.Model):
    """A discriminator and a generator, each with an optimizer."""

    def __init__(self, discriminator, generator, latent_dim):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.latent_dim = latent_dim
        self.seed_generator = keras.random.SeedGenerator(1337)

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer
        self.loss_fn = loss_fn
        self.d_loss_metric = keras.metrics.Mean(name="d_loss")
        self.g_loss_metric = keras.metrics.Mean(name="g_loss")

    @property
    def metrics(self):
        return [self.d_loss_metric, self.g_loss_metric]

    def train_step(self, real_images):
        batch_size = ops.shape(real_images)[0]
        latent_shape = (batch_size, self.latent_dim)
        random_latent_vectors = keras.random.normal(latent_shape, seed=self.seed_generator)
        generated_images = self.generator(random_latent_vectors)
        combined_images = ops.concatenate([generated_images, real_images], axis=0)
        labels = ops.concatenate([ops.ones((batch_size, 1)), ops.zeros((batch_size, 1))], axis=0)
        labels += 0.05 * tf.random.uniform(tf.shape(labels))
        with tf.GradientTape() as tape:
            predictions = self.discriminator(combined_images)
            d_loss = self.loss_fn(labels, predictions)
        grads = tape.gradient(d_loss, self.discriminator.trainable_weights)
        self.d_optimizer.apply_gradients(
            zip(grads, self.discriminator.trainable_weights, strict=True)
        )
        random_latent_vectors = keras.random.normal(latent_shape, seed=self.seed_generator)
        misleading_labels = ops.zeros((batch_size, 1))
        with tf.GradientTape() as tape:
            predictions = self.discriminator(self.generator(random_latent_vectors))
            g_loss = self.loss_fn(misleading_labels, predictions)
        grads = tape.gradient(g_loss, self.generator.trainable_weights)
        self.g_optimizer.apply_gradients(zip(grads, self.generator.trainable_weights, strict=True))
        self.d_loss_metric.update_state(d_loss)
        self.g_loss_metric.update_state(g_loss)
        return {"d_loss": self.d_loss_metric.result(), "g_loss": self.g_loss_metric.result()}


def dcgan():
    """keras.io: DCGAN to generate face images, 2019."""
    gan = GAN(get_discriminator(3, "probability", "sigmoid"), get_generator(8, 3), latent_dim=8)
    gan.compile(
        d_optimizer=keras.optimizers.Adam(learning_rate=0.0001),
        g_optimizer=keras.optimizers.Adam(learning_rate=0.0001),
        loss_fn=keras.losses.BinaryCrossentropy(),
    )
    return gan


def faces():
    return {"x": dataset(shape=(12, 12, 3))}


# --- WGAN-GP ----------------------------------------------------------------------------


class WGAN(keras.Model):
    """A critic whose gradient is held near one."""

    def __init__(self, discriminator, generator, latent_dim, discriminator_extra_steps=2):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.latent_dim, self.d_steps, self.gp_weight = latent_dim, discriminator_extra_steps, 10.0

    def compile(self, d_optimizer, g_optimizer, d_loss_fn, g_loss_fn):
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer
        self.d_loss_fn, self.g_loss_fn = d_loss_fn, g_loss_fn

    def gradient_penalty(self, batch_size, real_images, fake_images):
        alpha = tf.random.uniform([batch_size, 1, 1, 1], 0.0, 1.0)
        interpolated = real_images + alpha * (fake_images - real_images)
        with tf.GradientTape() as gp_tape:
            gp_tape.watch(interpolated)
            pred = self.discriminator(interpolated, training=True)
        grads = gp_tape.gradient(pred, [interpolated])[0]
        norm = tf.sqrt(tf.reduce_sum(tf.square(grads), axis=[1, 2, 3]))
        return tf.reduce_mean((norm - 1.0) ** 2)

    def train_step(self, real_images):
        if isinstance(real_images, tuple):
            real_images = real_images[0]
        batch_size = tf.shape(real_images)[0]
        for _ in range(self.d_steps):
            latent = tf.random.normal(shape=(batch_size, self.latent_dim))
            with tf.GradientTape() as tape:
                fake_images = self.generator(latent, training=True)
                fake_logits = self.discriminator(fake_images, training=True)
                real_logits = self.discriminator(real_images, training=True)
                d_cost = self.d_loss_fn(real_img=real_logits, fake_img=fake_logits)
                gp = self.gradient_penalty(batch_size, real_images, fake_images)
                d_loss = d_cost + gp * self.gp_weight
            d_gradient = tape.gradient(d_loss, self.discriminator.trainable_variables)
            self.d_optimizer.apply_gradients(
                zip(d_gradient, self.discriminator.trainable_variables, strict=True)
            )
        latent = tf.random.normal(shape=(batch_size, self.latent_dim))
        with tf.GradientTape() as tape:
            generated_images = self.generator(latent, training=True)
            g_loss = self.g_loss_fn(self.discriminator(generated_images, training=True))
        gen_gradient = tape.gradient(g_loss, self.generator.trainable_variables)
        self.g_optimizer.apply_gradients(
            zip(gen_gradient, self.generator.trainable_variables, strict=True)
        )
        return {"d_loss": d_loss, "g_loss": g_loss}


def wgan_gp():
    """keras.io: WGAN-GP overriding `Model.train_step`, 2020."""
    wgan = WGAN(get_discriminator(), get_generator(activation="tanh"), latent_dim=8)
    wgan.compile(
        d_optimizer=keras.optimizers.Adam(learning_rate=0.0002, beta_1=0.5, beta_2=0.9),
        g_optimizer=keras.optimizers.Adam(learning_rate=0.0002, beta_1=0.5, beta_2=0.9),
        d_loss_fn=lambda real_img, fake_img: tf.reduce_mean(fake_img) - tf.reduce_mean(real_img),
        g_loss_fn=lambda fake_img: -tf.reduce_mean(fake_img),
    )
    return wgan


def fashion():
    return {"x": pictures(16, (12, 12, 1), low=-1.0, high=1.0)[0], "batch_size": 8}


# --- conditional GAN --------------------------------------------------------------------


class ConditionalGAN(GAN):
    """The class goes into the discriminator as planes, and into the generator as numbers."""

    def train_step(self, data):
        real_images, one_hot_labels = data
        planes = tf.repeat(one_hot_labels[:, None, None, :], repeats=12 * 12, axis=1)
        planes = tf.reshape(planes, (-1, 12, 12, 4))
        batch_size = tf.shape(real_images)[0]
        latent = keras.random.normal((batch_size, self.latent_dim), seed=self.seed_generator)
        latent = tf.concat([latent, one_hot_labels], axis=1)
        fake_image_and_labels = tf.concat([self.generator(latent), planes], -1)
        real_image_and_labels = tf.concat([real_images, planes], -1)
        combined_images = tf.concat([fake_image_and_labels, real_image_and_labels], axis=0)
        labels = tf.concat([tf.ones((batch_size, 1)), tf.zeros((batch_size, 1))], axis=0)
        with tf.GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.discriminator(combined_images))
        grads = tape.gradient(d_loss, self.discriminator.trainable_weights)
        self.d_optimizer.apply_gradients(
            zip(grads, self.discriminator.trainable_weights, strict=True)
        )
        with tf.GradientTape() as tape:
            fake_image_and_labels = tf.concat([self.generator(latent), planes], -1)
            predictions = self.discriminator(fake_image_and_labels)
            g_loss = self.loss_fn(tf.zeros((batch_size, 1)), predictions)
        grads = tape.gradient(g_loss, self.generator.trainable_weights)
        self.g_optimizer.apply_gradients(zip(grads, self.generator.trainable_weights, strict=True))
        self.g_loss_metric.update_state(g_loss)
        self.d_loss_metric.update_state(d_loss)
        return {"g_loss": self.g_loss_metric.result(), "d_loss": self.d_loss_metric.result()}


def conditional_gan():
    """keras.io: Conditional GAN, 2021."""
    gan = ConditionalGAN(get_discriminator(1 + 4), get_generator(8 + 4), latent_dim=8)
    gan.compile(
        d_optimizer=keras.optimizers.Adam(learning_rate=0.0003),
        g_optimizer=keras.optimizers.Adam(learning_rate=0.0003),
        loss_fn=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return gan


def digits_and_classes():
    return {"x": dataset(labels=4)}


FAMILIES = [
    Family(
        name="DCGAN",
        build=dcgan,
        data=faces,
        image_shape=(12, 12, 3),
        values_range=(0, 1),
        layers=("discriminator/conv_1", "discriminator/conv_2"),
        heads=("discriminator/probability",),
        parts=("discriminator",),
    ),
    Family(
        name="WGAN-GP",
        build=wgan_gp,
        data=fashion,
        image_shape=(12, 12, 1),
        values_range=(-1, 1),
        layers=("discriminator/conv_1", "discriminator/conv_2"),
        heads=("discriminator/logit",),
        parts=("discriminator",),
    ),
    Family(
        name="conditional GAN",
        build=conditional_gan,
        data=digits_and_classes,
        image_shape=(12, 12, 5),
        values_range=(0, 1),
        layers=("discriminator/conv_1", "discriminator/conv_2"),
        heads=("discriminator/logit",),
        parts=("discriminator",),
        probe_is_used=False,
        note="The discriminator takes one channel of image and four planes that name the class; "
        "`x` holds images of one channel with the classes, and `train_step` adds the planes.",
    ),
]
