"""Autoencoders and a diffusion model, each a wrapper with a `train_step` for TensorFlow."""

import keras
import tensorflow as tf
from keras import layers, ops

from tests.real_code.family import Family, pictures

# --- variational autoencoder ------------------------------------------------------------


class Sampling(layers.Layer):
    """Draw from the normal distribution that the encoder names."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        z_mean, z_log_var = inputs
        epsilon = keras.random.normal(shape=ops.shape(z_mean), seed=self.seed_generator)
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


class VAE(keras.Model):
    """An encoder and a decoder."""

    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")
        self.reconstruction_loss_tracker = keras.metrics.Mean(name="reconstruction_loss")
        self.kl_loss_tracker = keras.metrics.Mean(name="kl_loss")

    @property
    def metrics(self):
        return [self.total_loss_tracker, self.reconstruction_loss_tracker, self.kl_loss_tracker]

    def train_step(self, data):
        with tf.GradientTape() as tape:
            z_mean, z_log_var, z = self.encoder(data)
            reconstruction = self.decoder(z)
            reconstruction_loss = ops.mean(
                ops.sum(keras.losses.binary_crossentropy(data, reconstruction), axis=(1, 2))
            )
            kl_loss = -0.5 * (1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))
            kl_loss = ops.mean(ops.sum(kl_loss, axis=1))
            total_loss = reconstruction_loss + kl_loss
        grads = tape.gradient(total_loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(grads, self.trainable_weights, strict=True))
        self.total_loss_tracker.update_state(total_loss)
        self.reconstruction_loss_tracker.update_state(reconstruction_loss)
        self.kl_loss_tracker.update_state(kl_loss)
        return {
            "loss": self.total_loss_tracker.result(),
            "reconstruction_loss": self.reconstruction_loss_tracker.result(),
            "kl_loss": self.kl_loss_tracker.result(),
        }


def vae():
    """keras.io: Variational AutoEncoder, 2020."""
    encoder_inputs = keras.Input(shape=(12, 12, 1))
    x = layers.Conv2D(8, 3, activation="relu", strides=2, padding="same", name="conv_1")(
        encoder_inputs
    )
    x = layers.Conv2D(12, 3, activation="relu", strides=2, padding="same", name="conv_2")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    z_mean = layers.Dense(2, name="z_mean")(x)
    z_log_var = layers.Dense(2, name="z_log_var")(x)
    z = Sampling()([z_mean, z_log_var])
    encoder = keras.Model(encoder_inputs, [z_mean, z_log_var, z], name="encoder")

    latent_inputs = keras.Input(shape=(2,))
    x = layers.Dense(3 * 3 * 12, activation="relu")(latent_inputs)
    x = layers.Reshape((3, 3, 12))(x)
    x = layers.Conv2DTranspose(12, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(8, 3, activation="relu", strides=2, padding="same")(x)
    outputs = layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x)
    decoder = keras.Model(latent_inputs, outputs, name="decoder")
    model = VAE(encoder, decoder)
    model.compile(optimizer=keras.optimizers.Adam())
    return model


def mnist_digits():
    return {"x": pictures(16, (12, 12, 1))[0], "batch_size": 8}


# --- VQ-VAE -----------------------------------------------------------------------------


class VectorQuantizer(layers.Layer):
    """Replace each place's vector by the nearest of the code book."""

    def __init__(self, num_embeddings, embedding_dim, beta=0.25, **kwargs):
        super().__init__(**kwargs)
        self.embedding_dim, self.num_embeddings = embedding_dim, num_embeddings
        self.beta = beta
        self.embeddings = self.add_weight(
            shape=(embedding_dim, num_embeddings),
            initializer=keras.initializers.RandomUniform(),
            trainable=True,
            name="embeddings_vqvae",
        )

    def call(self, x):
        input_shape = tf.shape(x)
        flattened = tf.reshape(x, [-1, self.embedding_dim])
        encoding_indices = self.get_code_indices(flattened)
        encodings = tf.one_hot(encoding_indices, self.num_embeddings)
        quantized = tf.matmul(encodings, self.embeddings, transpose_b=True)
        quantized = tf.reshape(quantized, input_shape)
        commitment_loss = tf.reduce_mean((tf.stop_gradient(quantized) - x) ** 2)
        codebook_loss = tf.reduce_mean((quantized - tf.stop_gradient(x)) ** 2)
        self.add_loss(self.beta * commitment_loss + codebook_loss)
        return x + tf.stop_gradient(quantized - x)

    def get_code_indices(self, flattened_inputs):
        similarity = tf.matmul(flattened_inputs, self.embeddings)
        distances = (
            tf.reduce_sum(flattened_inputs**2, axis=1, keepdims=True)
            + tf.reduce_sum(self.embeddings**2, axis=0)
            - 2 * similarity
        )
        return tf.argmin(distances, axis=1)


def get_vqvae(latent_dim=6, num_embeddings=8):
    encoder_inputs = keras.Input(shape=(12, 12, 1))
    x = layers.Conv2D(8, 3, activation="relu", strides=2, padding="same", name="conv_1")(
        encoder_inputs
    )
    x = layers.Conv2D(12, 3, activation="relu", strides=2, padding="same", name="conv_2")(x)
    encoder_outputs = layers.Conv2D(latent_dim, 1, padding="same", name="conv_3")(x)
    encoder = keras.Model(encoder_inputs, encoder_outputs, name="encoder")

    latent_inputs = keras.Input(shape=encoder.output.shape[1:])
    x = layers.Conv2DTranspose(12, 3, activation="relu", strides=2, padding="same", name="up_1")(
        latent_inputs
    )
    x = layers.Conv2DTranspose(8, 3, activation="relu", strides=2, padding="same", name="up_2")(x)
    decoder_outputs = layers.Conv2DTranspose(1, 3, padding="same", name="up_3")(x)
    decoder = keras.Model(latent_inputs, decoder_outputs, name="decoder")

    inputs = keras.Input(shape=(12, 12, 1))
    quantized = VectorQuantizer(num_embeddings, latent_dim, name="vector_quantizer")(
        encoder(inputs)
    )
    return keras.Model(inputs, decoder(quantized), name="vq_vae")


class VQVAETrainer(keras.models.Model):
    """Train a VQ-VAE on data of a known variance."""

    def __init__(self, train_variance, **kwargs):
        super().__init__(**kwargs)
        self.train_variance = train_variance
        self.vqvae = get_vqvae()
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")
        self.reconstruction_loss_tracker = keras.metrics.Mean(name="reconstruction_loss")

    @property
    def metrics(self):
        return [self.total_loss_tracker, self.reconstruction_loss_tracker]

    def train_step(self, x):
        with tf.GradientTape() as tape:
            reconstructions = self.vqvae(x)
            reconstruction_loss = tf.reduce_mean((x - reconstructions) ** 2) / self.train_variance
            total_loss = reconstruction_loss + sum(self.vqvae.losses)
        grads = tape.gradient(total_loss, self.vqvae.trainable_variables)
        self.optimizer.apply_gradients(zip(grads, self.vqvae.trainable_variables, strict=True))
        self.total_loss_tracker.update_state(total_loss)
        self.reconstruction_loss_tracker.update_state(reconstruction_loss)
        return {
            "loss": self.total_loss_tracker.result(),
            "reconstruction_loss": self.reconstruction_loss_tracker.result(),
        }


def vq_vae():
    """keras.io: Vector-Quantized Variational Autoencoders, 2021."""
    model = VQVAETrainer(float(centred_digits()["x"].var()))
    model.compile(optimizer=keras.optimizers.Adam())
    return model


def centred_digits():
    return {"x": pictures(16, (12, 12, 1))[0] - 0.5, "batch_size": 8}


# --- diffusion --------------------------------------------------------------------------


@keras.saving.register_keras_serializable("real_code")
def sinusoidal_embedding(x):
    frequencies = ops.exp(ops.linspace(ops.log(1.0), ops.log(1000.0), 4))
    angular_speeds = ops.cast(2.0 * 3.14159265 * frequencies, "float32")
    return ops.concatenate([ops.sin(angular_speeds * x), ops.cos(angular_speeds * x)], axis=3)


def residual_block(x, width, name):
    residual = x
    if x.shape[3] != width:
        residual = layers.Conv2D(width, kernel_size=1, name=f"{name}_residual")(x)
    x = layers.BatchNormalization(center=False, scale=False)(x)
    x = layers.Conv2D(width, 3, padding="same", activation="swish", name=f"{name}_conv_1")(x)
    x = layers.Conv2D(width, 3, padding="same", name=f"{name}_conv_2")(x)
    return layers.Add()([x, residual])


def get_network():
    noisy_images = keras.Input(shape=(12, 12, 3))
    noise_variances = keras.Input(shape=(1, 1, 1))
    e = layers.Lambda(sinusoidal_embedding, output_shape=(1, 1, 8))(noise_variances)
    e = layers.UpSampling2D(size=12, interpolation="nearest")(e)
    x = layers.Conv2D(6, kernel_size=1, name="entry")(noisy_images)
    x = layers.Concatenate()([x, e])
    x = skip = residual_block(x, 8, "down")
    x = layers.AveragePooling2D(pool_size=2)(x)
    x = residual_block(x, 12, "middle")
    x = layers.UpSampling2D(size=2, interpolation="bilinear")(x)
    x = layers.Concatenate()([x, skip])
    x = residual_block(x, 8, "up")
    x = layers.Conv2D(3, kernel_size=1, kernel_initializer="zeros", name="noise")(x)
    return keras.Model([noisy_images, noise_variances], x, name="residual_unet")


class DiffusionModel(keras.Model):
    """A network that separates noise from images, and a slow copy of it."""

    def __init__(self):
        super().__init__()
        self.normalizer = layers.Normalization()
        self.network = get_network()
        self.ema_network = keras.models.clone_model(self.network)
        self.ema_network.name = "ema_network"

    def compile(self, **kwargs):
        super().compile(**kwargs)
        self.noise_loss_tracker = keras.metrics.Mean(name="n_loss")
        self.image_loss_tracker = keras.metrics.Mean(name="i_loss")

    @property
    def metrics(self):
        return [self.noise_loss_tracker, self.image_loss_tracker]

    def diffusion_schedule(self, diffusion_times):
        start_angle, end_angle = ops.arccos(0.95), ops.arccos(0.02)
        diffusion_angles = start_angle + diffusion_times * (end_angle - start_angle)
        return ops.sin(diffusion_angles), ops.cos(diffusion_angles)

    def denoise(self, noisy_images, noise_rates, signal_rates, training):
        network = self.network if training else self.ema_network
        pred_noises = network([noisy_images, noise_rates**2], training=training)
        return pred_noises, (noisy_images - noise_rates * pred_noises) / signal_rates

    def train_step(self, images):
        images = self.normalizer(images, training=True)
        noises = keras.random.normal(shape=(8, 12, 12, 3))
        times = keras.random.uniform(shape=(8, 1, 1, 1), minval=0.0, maxval=1.0)
        noise_rates, signal_rates = self.diffusion_schedule(times)
        noisy_images = signal_rates * images + noise_rates * noises
        with tf.GradientTape() as tape:
            pred_noises, pred_images = self.denoise(
                noisy_images, noise_rates, signal_rates, training=True
            )
            noise_loss = self.loss(noises, pred_noises)
            image_loss = self.loss(images, pred_images)
        gradients = tape.gradient(noise_loss, self.network.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.network.trainable_weights, strict=True))
        self.noise_loss_tracker.update_state(noise_loss)
        self.image_loss_tracker.update_state(image_loss)
        for weight, ema_weight in zip(self.network.weights, self.ema_network.weights, strict=True):
            ema_weight.assign(0.9 * ema_weight + 0.1 * weight)
        return {metric.name: metric.result() for metric in self.metrics}


def ddim():
    """keras.io: Denoising Diffusion Implicit Models, 2022."""
    model = DiffusionModel()
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate=1e-3, weight_decay=1e-4),
        loss=keras.losses.MeanAbsoluteError(),
    )
    model.normalizer.adapt(pictures(16, (12, 12, 3))[0])
    return model


def oxford_flowers():
    x, _ = pictures(16, (12, 12, 3))
    x = tf.data.Dataset.from_tensor_slices(x).shuffle(16, seed=0)
    return {"x": x.batch(8, drop_remainder=True)}


# --- variational autoencoder of two layers ----------------------------------------------


class Encoder(layers.Layer):
    """Maps digits to a mean, a logarithm of a variance and a draw."""

    def __init__(self, latent_dim=2, **kwargs):
        super().__init__(**kwargs)
        self.conv_1 = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_1")
        self.conv_2 = layers.Conv2D(12, 3, strides=2, activation="relu", name="conv_2")
        self.flatten = layers.Flatten()
        self.dense_mean = layers.Dense(latent_dim, name="z_mean")
        self.dense_log_var = layers.Dense(latent_dim, name="z_log_var")
        self.sampling = Sampling()

    def call(self, inputs):
        x = self.flatten(self.conv_2(self.conv_1(inputs)))
        z_mean = self.dense_mean(x)
        z_log_var = self.dense_log_var(x)
        return z_mean, z_log_var, self.sampling((z_mean, z_log_var))


class Decoder(layers.Layer):
    """Maps a draw back to a digit."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(6 * 6 * 4, activation="relu", name="dense")
        self.reshape = layers.Reshape((6, 6, 4))
        self.up = layers.Conv2DTranspose(
            1, 3, strides=2, padding="same", activation="sigmoid", name="up"
        )

    def call(self, inputs):
        return self.up(self.reshape(self.dense(inputs)))


def vae_of_layers():
    """keras.io guide: Making new layers and models via subclassing, 2019; with convolutions."""
    model = VAE(Encoder(name="encoder"), Decoder(name="decoder"))
    model.compile(optimizer=keras.optimizers.Adam())
    return model


FAMILIES = [
    Family(
        name="VAE",
        has_rectified_units=True,
        build=vae,
        data=mnist_digits,
        image_shape=(12, 12, 1),
        values_range=(0, 1),
        layers=("encoder/conv_1", "encoder/conv_2"),
        heads=("encoder/z_mean", "encoder/z_log_var"),
        parts=("encoder",),
    ),
    Family(
        name="VAE of layers",
        has_rectified_units=True,
        like="VAE",
        build=vae_of_layers,
        data=mnist_digits,
        image_shape=(12, 12, 1),
        values_range=(0, 1),
        layers=("encoder/conv_1", "encoder/conv_2"),
        heads=("encoder/z_mean", "encoder/z_log_var"),
        parts=("encoder",),
        repeats=False,
        note="Encoder and decoder are layers with layers inside, built by the first batch.",
    ),
    Family(
        name="VQ-VAE",
        has_rectified_units=True,
        build=vq_vae,
        data=centred_digits,
        epochs=1,
        image_shape=(12, 12, 1),
        values_range=(-0.5, 0.5),
        layers=tuple(
            f"vq_vae/{path}"
            for path in (
                *("encoder/conv_1", "encoder/conv_2", "encoder/conv_3"),
                *("decoder/up_1", "decoder/up_2", "decoder/up_3"),
            )
        ),
        heads=(),
        parts=("vq_vae",),
        note="`argmin` lies before the decoder; gradients pass it straight through.",
    ),
    Family(
        name="DDIM",
        is_long=True,
        build=ddim,
        data=oxford_flowers,
        is_put_back=False,
        epochs=1,
        image_shape=(12, 12, 3),
        values_range=(-3, 3),
        is_told=False,
        layers=tuple(
            f"{network}/{path}"
            for network in ("residual_unet", "ema_network")
            for path in (
                *("entry", "down_residual", "down_conv_1", "down_conv_2", "middle_residual"),
                *("middle_conv_1", "middle_conv_2", "up_residual", "up_conv_1", "up_conv_2"),
                "noise",
            )
        ),
        heads=(),
        parts=("residual_unet", "ema_network"),
        statuses=("no_gradient",),
        note="The last kernel is zero before training. The networks take normalized images with "
        "noise, of mean 0 and deviation 1, and the variance of the noise beside them. `x` holds "
        "images before that, in (0, 1).",
    ),
]
