"""CycleGAN: four networks that take images, in one model."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.real_code.family import Family, pictures


class ReflectionPadding2D(layers.Layer):
    """Continue an image by its mirror image."""

    def __init__(self, padding=(1, 1), **kwargs):
        super().__init__(**kwargs)
        self.padding = tuple(padding)

    def call(self, input_tensor, mask=None):
        width, height = self.padding
        pads = [[0, 0], [height, height], [width, width], [0, 0]]
        return ops.pad(input_tensor, pads, mode="reflect")


def get_generator(name):
    inputs = layers.Input(shape=(12, 12, 3))
    x = ReflectionPadding2D(padding=(1, 1))(inputs)
    x = layers.Conv2D(6, 3, use_bias=False, name="entry")(x)
    x = layers.Activation("relu")(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="down")(x)
    x = layers.Activation("relu")(x)
    y = ReflectionPadding2D()(x)
    y = layers.Conv2D(8, 3, padding="valid", use_bias=False, name="residual")(y)
    x = layers.add([x, layers.GroupNormalization(groups=1)(y)])
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same", use_bias=False, name="up")(x)
    x = layers.Activation("relu")(x)
    x = layers.Conv2D(3, 3, padding="same", name="pixels")(x)
    return keras.models.Model(inputs, layers.Activation("tanh")(x), name=name)


def get_discriminator(name):
    inputs = layers.Input(shape=(12, 12, 3))
    x = layers.Conv2D(6, 4, strides=2, padding="same", name="conv_1")(inputs)
    x = layers.LeakyReLU(0.2)(x)
    x = layers.Conv2D(8, 4, strides=2, padding="same", name="conv_2")(x)
    x = layers.LeakyReLU(0.2)(x)
    x = layers.Conv2D(1, 4, strides=1, padding="same", name="patches")(x)
    return keras.models.Model(inputs=inputs, outputs=x, name=name)


class CycleGan(keras.Model):
    """Two generators, from either kind of image to the other, and two discriminators."""

    def __init__(self, generator_G, generator_F, discriminator_X, discriminator_Y):
        super().__init__()
        self.gen_G, self.gen_F = generator_G, generator_F
        self.disc_X, self.disc_Y = discriminator_X, discriminator_Y
        self.lambda_cycle, self.lambda_identity = 10.0, 0.5

    def call(self, inputs):
        return self.disc_X(inputs), self.disc_Y(inputs), self.gen_G(inputs), self.gen_F(inputs)

    def compile(self, optimizers, gen_loss_fn, disc_loss_fn):
        super().compile()
        self.optimizers_by_name = optimizers
        self.generator_loss_fn, self.discriminator_loss_fn = gen_loss_fn, disc_loss_fn
        self.cycle_loss_fn = keras.losses.MeanAbsoluteError()
        self.identity_loss_fn = keras.losses.MeanAbsoluteError()

    def train_step(self, batch_data):
        real_x, real_y = batch_data
        with tf.GradientTape(persistent=True) as tape:
            fake_y = self.gen_G(real_x, training=True)
            fake_x = self.gen_F(real_y, training=True)
            cycled_x = self.gen_F(fake_y, training=True)
            cycled_y = self.gen_G(fake_x, training=True)
            same_x = self.gen_F(real_x, training=True)
            same_y = self.gen_G(real_y, training=True)
            disc_real_x = self.disc_X(real_x, training=True)
            disc_fake_x = self.disc_X(fake_x, training=True)
            disc_real_y = self.disc_Y(real_y, training=True)
            disc_fake_y = self.disc_Y(fake_y, training=True)
            total_loss_G = (
                self.generator_loss_fn(disc_fake_y)
                + self.cycle_loss_fn(real_y, cycled_y) * self.lambda_cycle
                + self.identity_loss_fn(real_y, same_y) * self.lambda_cycle * self.lambda_identity
            )
            total_loss_F = (
                self.generator_loss_fn(disc_fake_x)
                + self.cycle_loss_fn(real_x, cycled_x) * self.lambda_cycle
                + self.identity_loss_fn(real_x, same_x) * self.lambda_cycle * self.lambda_identity
            )
            disc_X_loss = self.discriminator_loss_fn(disc_real_x, disc_fake_x)
            disc_Y_loss = self.discriminator_loss_fn(disc_real_y, disc_fake_y)
        steps = {
            "gen_G": (self.gen_G, total_loss_G),
            "gen_F": (self.gen_F, total_loss_F),
            "disc_X": (self.disc_X, disc_X_loss),
            "disc_Y": (self.disc_Y, disc_Y_loss),
        }
        for name, (network, loss) in steps.items():
            grads = tape.gradient(loss, network.trainable_variables)
            self.optimizers_by_name[name].apply_gradients(
                zip(grads, network.trainable_variables, strict=True)
            )
        return {
            "G_loss": total_loss_G,
            "F_loss": total_loss_F,
            "D_X_loss": disc_X_loss,
            "D_Y_loss": disc_Y_loss,
        }


adv_loss_fn = keras.losses.MeanSquaredError()


def generator_loss_fn(fake):
    return adv_loss_fn(ops.ones_like(fake), fake)


def discriminator_loss_fn(real, fake):
    real_loss = adv_loss_fn(ops.ones_like(real), real)
    return (real_loss + adv_loss_fn(ops.zeros_like(fake), fake)) * 0.5


def cyclegan():
    """keras.io: CycleGAN, 2020."""
    model = CycleGan(
        generator_G=get_generator(name="generator_G"),
        generator_F=get_generator(name="generator_F"),
        discriminator_X=get_discriminator(name="discriminator_X"),
        discriminator_Y=get_discriminator(name="discriminator_Y"),
    )
    model.compile(
        optimizers={
            name: keras.optimizers.Adam(learning_rate=2e-4, beta_1=0.5)
            for name in ("gen_G", "gen_F", "disc_X", "disc_Y")
        },
        gen_loss_fn=generator_loss_fn,
        disc_loss_fn=discriminator_loss_fn,
    )
    return model


def horses():
    return pictures(8, (12, 12, 3), low=-1.0, high=1.0)[0]


def horses_and_zebras():
    zebras = np.tanh(2 * pictures(8, (12, 12, 3), low=-1.0, high=1.0, seed=1)[0])
    sets = (tf.data.Dataset.from_tensor_slices(x).batch(4) for x in (horses(), zebras))
    return {"x": tf.data.Dataset.zip(tuple(sets))}


FAMILIES = [
    Family(
        name="CycleGAN",
        build=cyclegan,
        data=horses_and_zebras,
        is_put_back=False,
        epochs=1,
        image_shape=(12, 12, 3),
        values_range=(-1, 1),
        layers=(
            *(
                f"generator_{letter}/{layer}"
                for letter in "GF"
                for layer in ("entry", "down", "residual", "up", "pixels")
            ),
            *(
                f"discriminator_{letter}/{layer}"
                for letter in "XY"
                for layer in ("conv_1", "conv_2", "patches")
            ),
        ),
        heads=(),
        parts=("generator_G", "generator_F", "discriminator_X", "discriminator_Y"),
        note="It has a `call`, which runs all four networks on one image and returns a tuple; "
        "`fit` never calls it. Batches are pairs of the two kinds of images.",
    ),
]
