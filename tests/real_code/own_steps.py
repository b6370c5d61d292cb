"""Models with a `train_step` of their own on JAX and on torch, as Keras' guides write them.

On JAX a step gets all state and returns it anew. On torch it lets the loss go backward. Those
of TensorFlow are in other files, each beside models of its kind.
"""

import keras
from keras import layers, ops

from tests.real_code.family import Family, pictures
from tests.real_code.generative import Sampling

if keras.backend.backend() == "jax":
    import jax
if keras.backend.backend() == "torch":
    import torch


def digits():
    x, y = pictures(16, (12, 12, 1))
    return {"x": x, "y": y, "batch_size": 8}


def unlabelled_digits():
    return {"x": pictures(16, (12, 12, 1))[0], "batch_size": 8}


# --- a functional model, and the whole step by hand -----------------------------------------


class StatelessStep(keras.Model):
    """The gradient of a pure function, on JAX."""

    def compute_loss_and_updates(self, trainable, non_trainable, x, y):
        y_pred, non_trainable = self.stateless_call(trainable, non_trainable, x, training=True)
        return self.compute_loss(x, y, y_pred), (y_pred, non_trainable)

    def train_step(self, state, data):
        trainable, non_trainable, optimizer_state, metrics_state = state
        x, y = data
        grad_fn = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (loss, (y_pred, non_trainable)), grads = grad_fn(trainable, non_trainable, x, y)
        trainable, optimizer_state = self.optimizer.stateless_apply(
            optimizer_state, grads, trainable
        )
        logs, kept, place = {}, [], 0
        for metric in self.metrics:
            own = metrics_state[place : place + len(metric.variables)]
            place += len(own)
            new = (loss,) if metric.name == "loss" else (y, y_pred)
            own = metric.stateless_update_state(own, *new)
            logs[metric.name] = metric.stateless_result(own)
            kept += own
        return logs, (trainable, non_trainable, optimizer_state, kept)


class BackwardStep(keras.Model):
    """The loss goes backward, on torch."""

    def train_step(self, data):
        x, y = data
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(y=y, y_pred=y_pred)
        loss.backward()
        weights = list(self.trainable_weights)
        gradients = [weight.value.grad for weight in weights]
        with torch.no_grad():
            self.optimizer.apply(gradients, weights)
        for metric in self.metrics:
            metric.update_state(*((loss,) if metric.name == "loss" else (y, y_pred)))
        return {metric.name: metric.result() for metric in self.metrics}


def by_hand():
    """keras.io guides: Customizing what happens in `fit()` with JAX, and with PyTorch, 2023."""
    kind = StatelessStep if keras.backend.backend() == "jax" else BackwardStep
    inputs = keras.Input((12, 12, 1))
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_1")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(12, 3, activation="relu", name="conv_2")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = kind(inputs, layers.Dense(4, name="logits")(x))
    model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    return model


# --- wrappers without a `call` --------------------------------------------------------------


class StatelessVAE(keras.Model):
    """An encoder and a decoder, each called with a part of the state."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.built = True

    @property
    def metrics(self):
        return [self.loss_tracker]

    def compute_loss_and_updates(self, trainable, non_trainable, x):
        count = len(self.encoder.trainable_variables)
        seeds = len(self.encoder.non_trainable_variables)
        (z_mean, z_log_var, z), kept = self.encoder.stateless_call(
            trainable[:count], non_trainable[:seeds], x, training=True
        )
        reconstruction, others = self.decoder.stateless_call(
            trainable[count:], non_trainable[seeds:], z, training=True
        )
        errors = keras.losses.binary_crossentropy(x, reconstruction)
        kl_loss = -0.5 * (1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))
        loss = ops.mean(ops.sum(errors, axis=(1, 2))) + ops.mean(ops.sum(kl_loss, axis=1))
        return loss, [*kept, *others]

    def train_step(self, state, data):
        trainable, non_trainable, optimizer_state, metrics_state = state
        x = data[0] if isinstance(data, tuple) else data
        grad_fn = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (loss, non_trainable), grads = grad_fn(trainable, non_trainable, x)
        trainable, optimizer_state = self.optimizer.stateless_apply(
            optimizer_state, grads, trainable
        )
        metrics_state = self.loss_tracker.stateless_update_state(metrics_state, loss)
        logs = {"loss": self.loss_tracker.stateless_result(metrics_state)}
        return logs, (trainable, non_trainable, optimizer_state, metrics_state)


def vae_on_jax():
    """keras.io: Variational AutoEncoder, 2020; with a step as the guide for JAX writes them."""
    inputs = keras.Input((12, 12, 1))
    x = layers.Conv2D(8, 3, activation="relu", strides=2, padding="same", name="conv_1")(inputs)
    x = layers.Conv2D(12, 3, activation="relu", strides=2, padding="same", name="conv_2")(x)
    x = layers.Flatten()(x)
    z_mean = layers.Dense(2, name="z_mean")(x)
    z_log_var = layers.Dense(2, name="z_log_var")(x)
    z = Sampling()([z_mean, z_log_var])
    encoder = keras.Model(inputs, [z_mean, z_log_var, z], name="encoder")
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(6 * 6 * 4, activation="relu"),
            layers.Reshape((6, 6, 4)),
            layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid"),
        ],
        name="decoder",
    )
    vae = StatelessVAE(encoder, decoder)
    vae.compile(optimizer=keras.optimizers.Adam())
    return vae


class BackwardGAN(keras.Model):
    """A discriminator and a generator, each with an optimizer."""

    def __init__(self, discriminator, generator, latent_dim):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.latent_dim = latent_dim
        self.seed_generator = keras.random.SeedGenerator(1337)
        self.d_loss_tracker = keras.metrics.Mean(name="d_loss")
        self.g_loss_tracker = keras.metrics.Mean(name="g_loss")
        self.built = True

    @property
    def metrics(self):
        return [self.d_loss_tracker, self.g_loss_tracker]

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer
        self.loss_fn = loss_fn

    def _descend(self, part, optimizer, loss):
        self.zero_grad()
        loss.backward()
        weights = list(part.trainable_weights)
        gradients = [weight.value.grad for weight in weights]
        with torch.no_grad():
            optimizer.apply(gradients, weights)

    def train_step(self, data):
        real_images = data[0] if isinstance(data, tuple) else data
        count = real_images.shape[0]
        latent = keras.random.normal((count, self.latent_dim), seed=self.seed_generator)
        combined = ops.concatenate([self.generator(latent).detach(), real_images], axis=0)
        labels = ops.concatenate([ops.ones((count, 1)), ops.zeros((count, 1))], axis=0)
        d_loss = self.loss_fn(labels, self.discriminator(combined))
        self._descend(self.discriminator, self.d_optimizer, d_loss)
        latent = keras.random.normal((count, self.latent_dim), seed=self.seed_generator)
        predictions = self.discriminator(self.generator(latent))
        g_loss = self.loss_fn(ops.zeros((count, 1)), predictions)
        self._descend(self.generator, self.g_optimizer, g_loss)
        self.d_loss_tracker.update_state(d_loss)
        self.g_loss_tracker.update_state(g_loss)
        return {"d_loss": self.d_loss_tracker.result(), "g_loss": self.g_loss_tracker.result()}


def gan_on_torch():
    """keras.io guide: Customizing what happens in `fit()` with PyTorch, 2023; its GAN."""
    discriminator = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(8, 3, strides=2, padding="same", name="conv_1"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(12, 3, strides=2, padding="same", name="conv_2"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.GlobalMaxPooling2D(),
            layers.Dense(1, name="logit"),
        ],
        name="discriminator",
    )
    generator = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6 * 6 * 8),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Reshape((6, 6, 8)),
            layers.Conv2DTranspose(8, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(1, 7, padding="same", activation="sigmoid"),
        ],
        name="generator",
    )
    gan = BackwardGAN(discriminator, generator, latent_dim=8)
    gan.compile(
        d_optimizer=keras.optimizers.Adam(learning_rate=0.0003),
        g_optimizer=keras.optimizers.Adam(learning_rate=0.0003),
        loss_fn=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return gan


FAMILIES = [
    Family(
        name="a step by hand",
        has_rectified_units=True,
        build=by_hand,
        data=digits,
        backends=("jax", "torch"),
        image_shape=(12, 12, 1),
        values_range=(0, 1),
        layers=("conv_1", "conv_2"),
        heads=("logits",),
        note="Functional, with a `train_step`.",
    ),
    Family(
        name="VAE on JAX",
        has_rectified_units=True,
        build=vae_on_jax,
        data=unlabelled_digits,
        backends=("jax",),
        image_shape=(12, 12, 1),
        values_range=(0, 1),
        layers=("encoder/conv_1", "encoder/conv_2"),
        heads=("encoder/z_mean", "encoder/z_log_var"),
        parts=("encoder",),
        note="A wrapper without `call`, which says that it is built.",
    ),
    Family(
        name="GAN on torch",
        build=gan_on_torch,
        data=unlabelled_digits,
        backends=("torch",),
        image_shape=(12, 12, 1),
        values_range=(0, 1),
        layers=("discriminator/conv_1", "discriminator/conv_2"),
        heads=("discriminator/logit",),
        parts=("discriminator",),
        note="A wrapper without `call`, which says that it is built.",
    ),
]
