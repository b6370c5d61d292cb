"""Models that take something beside an image, or several images, or answer twice."""

import keras
import numpy as np
from keras import layers, ops

from tests.real_code.family import EVERY_BACKEND, Family, pictures

# --- attention-based multiple instances -------------------------------------------------

BAG = 3


class MILAttentionLayer(layers.Layer):
    """One weight for each instance of a bag, which add up to one."""

    def __init__(self, weight_params_dim, use_gated=False, **kwargs):
        super().__init__(**kwargs)
        self.weight_params_dim, self.use_gated = weight_params_dim, use_gated

    def build(self, input_shape):
        input_dim = input_shape[0][1]
        shape = (input_dim, self.weight_params_dim)
        self.v_weight_params = self.add_weight(shape=shape, name="v")
        self.w_weight_params = self.add_weight(shape=(self.weight_params_dim, 1), name="w")
        self.u_weight_params = self.add_weight(shape=shape, name="u") if self.use_gated else None
        self.built = True

    def call(self, inputs):
        instances = ops.stack([self.compute_attention_scores(one) for one in inputs])
        instances = ops.softmax(instances, axis=0)
        return [instances[index] for index in range(len(inputs))]

    def compute_attention_scores(self, instance):
        original_instance = instance
        instance = ops.tanh(ops.matmul(instance, self.v_weight_params))
        if self.use_gated:
            instance = instance * ops.sigmoid(ops.matmul(original_instance, self.u_weight_params))
        return ops.matmul(instance, self.w_weight_params)


def attention_mil():
    """keras.io: Classification using attention-based deep multiple instance learning, 2021."""
    inputs, embeddings = [], []
    shared_dense_layer_1 = layers.Dense(16, activation="relu", name="shared_1")
    shared_dense_layer_2 = layers.Dense(12, activation="relu", name="shared_2")
    for _ in range(BAG):
        inp = layers.Input((12, 12))
        flatten = layers.Flatten()(inp)
        embeddings.append(shared_dense_layer_2(shared_dense_layer_1(flatten)))
        inputs.append(inp)
    alpha = MILAttentionLayer(8, use_gated=True, name="alpha")(embeddings)
    multiply_layers = [layers.multiply([alpha[i], embeddings[i]]) for i in range(len(alpha))]
    concat = layers.concatenate(multiply_layers, axis=1)
    output = layers.Dense(2, activation="softmax", name="probabilities")(concat)
    model = keras.Model(inputs, output)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def bags():
    x, y = pictures(16 * BAG, (12, 12, 1))
    x, y = x[..., 0].reshape(16, BAG, 12, 12), y.reshape(16, BAG)
    return {
        "x": [x[:, index] for index in range(BAG)],
        "y": (y == 3).any(1).astype("int32"),
        "batch_size": 4,
    }


# --- captcha ----------------------------------------------------------------------------


def reader(input_img):
    """Convolutions, whose columns a recurrent layer reads."""
    x = layers.Conv2D(
        *(6, (3, 3)),
        activation="relu",
        kernel_initializer="he_normal",
        padding="same",
        name="Conv1",
    )(input_img)
    x = layers.MaxPooling2D((2, 2), name="pool1")(x)
    x = layers.Conv2D(8, (3, 3), activation="relu", padding="same", name="Conv2")(x)
    x = layers.MaxPooling2D((2, 2), name="pool2")(x)
    x = layers.Reshape(target_shape=(8, 3 * 8), name="reshape")(x)
    x = layers.Dense(12, activation="relu", name="dense1")(x)
    x = layers.Dropout(0.2)(x)
    return layers.Bidirectional(layers.LSTM(8, return_sequences=True), name="lstm")(x)


class CTCLayer(layers.Layer):
    """Add the loss of a text, and return what was read."""

    def call(self, y_true, y_pred):
        lengths = ops.ones_like(y_true[:, 0])
        loss = ops.ctc_loss(
            *(y_true, y_pred, 3 * lengths, y_pred.shape[1] * lengths),
            mask_index=0,
        )
        self.add_loss(ops.mean(loss))
        return y_pred


def captcha_ocr():
    """keras.io: OCR model for reading captchas, 2020."""
    input_img = layers.Input(shape=(32, 12, 1), name="image", dtype="float32")
    labels = layers.Input(name="label", shape=(3,), dtype="int32")
    x = layers.Dense(6, name="dense2")(reader(input_img))
    output = CTCLayer(name="ctc_loss")(labels, x)
    model = keras.models.Model(inputs=[input_img, labels], outputs=output, name="ocr_model_v1")
    model.compile(optimizer=keras.optimizers.Adam())
    return model


def captchas():
    x, _ = pictures(8, (12, 32, 1))
    texts = np.random.default_rng(0).integers(1, 6, (8, 3)).astype("int32")
    return np.transpose(x, (0, 2, 1, 3)), texts


def captchas_and_texts():
    images, texts = captchas()
    return {"x": {"image": images, "label": texts}, "batch_size": 4}


def handwriting():
    """keras.io: Handwriting recognition, 2021; with the loss that Keras has since."""
    input_img = keras.Input(shape=(32, 12, 1), name="image")
    output = layers.Dense(6, name="letters")(reader(input_img))
    model = keras.Model(input_img, output)
    model.compile(optimizer=keras.optimizers.Adam(), loss=keras.losses.CTC())
    return model


def captchas_for_a_loss():
    images, texts = captchas()
    return {"x": images, "y": texts, "batch_size": 4}


# --- image and table --------------------------------------------------------------------


def image_and_table():
    """Keras guide: The functional API, 2019: several inputs and several outputs."""
    image_input = keras.Input(shape=(16, 16, 3), name="photo")
    table_input = keras.Input(shape=(5,), name="attributes")
    x = layers.Conv2D(8, 3, activation="relu", name="conv_1")(image_input)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(8, 3, activation="relu", name="conv_2")(x)
    x = layers.GlobalAveragePooling2D()(x)
    t = layers.Dense(8, activation="relu", name="table_hidden")(table_input)
    x = layers.concatenate([x, t])
    x = layers.Dense(12, activation="relu", name="hidden")(x)
    price = layers.Dense(1, name="price")(x)
    kind = layers.Dense(4, activation="softmax", name="kind")(x)
    model = keras.Model(
        inputs={"photo": image_input, "attributes": table_input},
        outputs={"price": price, "kind": kind},
    )
    model.compile(
        optimizer=keras.optimizers.RMSprop(1e-3),
        loss={"price": "mse", "kind": "sparse_categorical_crossentropy"},
        loss_weights={"price": 1.0, "kind": 0.2},
    )
    return model


def houses():
    x, y = pictures(16, (16, 16, 3))
    table = np.random.default_rng(0).normal(size=(16, 5)).astype("float32")
    return {
        "x": {"photo": x, "attributes": table},
        "y": {"price": table[:, :1], "kind": y},
        "batch_size": 8,
    }


# --- text and image ---------------------------------------------------------------------


def text_and_image():
    """keras.io: Multimodal entailment, 2021; with tokens and small encoders of its own."""
    image = keras.Input((16, 16, 3), name="image")
    tokens = keras.Input((6,), dtype="int32", name="text")
    vision = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_1"),
            layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_2"),
            layers.GlobalAveragePooling2D(),
        ],
        name="vision_encoder",
    )
    embedded = layers.Embedding(20, 8, mask_zero=True, name="token_embedding")(tokens)
    text = layers.GlobalAveragePooling1D()(embedded)
    projected = [layers.Dense(8, activation="gelu")(one) for one in (vision(image), text)]
    concatenated = layers.Concatenate()(projected)
    outputs = layers.Dense(3, activation="softmax", name="entailment")(concatenated)
    model = keras.Model([image, tokens], outputs)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def posts():
    x, y = pictures(16, (16, 16, 3), classes=3)
    tokens = np.random.default_rng(0).integers(1, 20, (16, 6)).astype("int32")
    return {"x": {"image": x, "text": tokens}, "y": y, "batch_size": 8}


# --- two images -------------------------------------------------------------------------


def euclidean_distance(vectors):
    x, y = vectors
    sum_square = ops.sum(ops.square(x - y), axis=1, keepdims=True)
    return ops.sqrt(ops.maximum(sum_square, keras.config.epsilon()))


def contrastive_loss(y_true, y_pred):
    near, far = ops.square(y_pred), ops.square(ops.maximum(1 - y_pred, 0))
    return ops.mean((1 - y_true) * near + y_true * far)


def siamese_pairs():
    """keras.io: Image similarity estimation using a Siamese network, 2021."""
    image = layers.Input((16, 16, 1))
    x = layers.BatchNormalization()(image)
    x = layers.Conv2D(4, (5, 5), activation="tanh", name="conv_1")(x)
    x = layers.AveragePooling2D(pool_size=(2, 2))(x)
    x = layers.Conv2D(8, (5, 5), activation="tanh", name="conv_2")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(10, activation="tanh", name="vector")(x)
    embedding_network = keras.Model(image, x, name="embedding_network")
    input_1, input_2 = layers.Input((16, 16, 1)), layers.Input((16, 16, 1))
    towers = [embedding_network(input_1), embedding_network(input_2)]
    merge_layer = layers.Lambda(euclidean_distance, output_shape=(1,))(towers)
    normal_layer = layers.BatchNormalization()(merge_layer)
    output_layer = layers.Dense(1, activation="sigmoid", name="apart")(normal_layer)
    siamese = keras.Model(inputs=[input_1, input_2], outputs=output_layer)
    siamese.compile(loss=contrastive_loss, optimizer="RMSprop", metrics=["accuracy"])
    return siamese


def pairs():
    x, labels = pictures(16, (16, 16, 1))
    order = np.random.default_rng(0).permutation(16)
    apart = (labels != labels[order]).astype("float32")[:, None]
    return {"x": [x, x[order]], "y": apart, "batch_size": 8}


FAMILIES = [
    Family(
        name="attention MIL",
        build=attention_mil,
        data=bags,
        backends=EVERY_BACKEND,
        image_shape=(12, 12, 1),
        values_range=(0, 1),
        layers=(),
        heads=("probabilities",),
        note="Three images a bag, each an input of `(12, 12)`: without `image_shape` they are "
        "read as signals. The dense layers are shared, and called once for each.",
    ),
    Family(
        name="captcha OCR",
        has_rectified_units=True,
        build=captcha_ocr,
        data=captchas_and_texts,
        backends=EVERY_BACKEND,
        epochs=1,
        image_shape=(32, 12, 1),
        values_range=(0, 1),
        layers=("Conv1", "Conv2", "dense1"),
        heads=(),
        note="The text is a second input of whole numbers; a layer adds the loss. Images lie on "
        "their side, the width first. The output is a vector for each of eight columns.",
    ),
    Family(
        name="handwriting with CTC",
        has_rectified_units=True,
        like="captcha OCR",
        build=handwriting,
        data=captchas_for_a_loss,
        backends=EVERY_BACKEND,
        image_shape=(32, 12, 1),
        values_range=(0, 1),
        layers=("Conv1", "Conv2", "dense1"),
        heads=(),
    ),
    Family(
        name="image and table",
        has_rectified_units=True,
        build=image_and_table,
        data=houses,
        backends=EVERY_BACKEND,
        image_shape=(16, 16, 3),
        values_range=(0, 1),
        layers=("conv_1", "conv_2"),
        heads=("price", "kind"),
        note="Two inputs and two outputs, in dicts.",
    ),
    Family(
        name="text and image",
        has_rectified_units=True,
        build=text_and_image,
        data=posts,
        backends=EVERY_BACKEND,
        image_shape=(16, 16, 3),
        values_range=(0, 1),
        layers=("vision_encoder/conv_1", "vision_encoder/conv_2"),
        heads=("entailment",),
        note="The inputs are a list, the data a dict with their names; tokens are whole numbers.",
    ),
    Family(
        name="siamese pairs",
        like="siamese triplets",
        build=siamese_pairs,
        data=pairs,
        backends=EVERY_BACKEND,
        image_shape=(16, 16, 1),
        values_range=(0, 1),
        layers=("embedding_network/conv_1", "embedding_network/conv_2"),
        heads=("apart",),
        note="Two inputs of the same shape, without names, through one network.",
    ),
]
