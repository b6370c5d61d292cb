"""The one place that names frameworks: gradients, weights, and optimizers."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from featviz_callback import backend
from tests.conftest import python, sequential, tensor, to_numpy


@pytest.fixture
def model():
    """A dense layer of known weights."""
    return sequential(layers.Flatten(), layers.Dense(1), shape=(2, 2, 1))


def compiled(model, score):
    """A step that returns the gradient in place of the parameters."""
    return backend.load().compile_step(
        score,
        lambda params, gradient, state, data, target: (gradient, state, params),
        lambda: model,
    )


def run(step, params, data=1.0):
    """The gradient, the state, the third result and the scores of one step."""
    gradient, [state], extra, scores = step(tensor(params), [tensor([7.0])], tensor(data))
    return [to_numpy(one) for one in (gradient, state, extra, scores)]


def test_the_backend_is_that_of_keras():
    assert backend.load().__name__ == f"featviz_callback.backend.{keras.backend.backend()}"


def test_a_step_differentiates_what_is_maximised_and_reports_the_scores(model):
    def score(params, data):
        squares = ops.sum(ops.square(params), axis=1)
        return data * squares, squares + 1

    params = np.array([[1.0, -2.0], [0.5, 3.0]])
    gradient, state, extra, scores = run(compiled(model, score), params, 5.0)
    np.testing.assert_allclose(gradient, 10 * params, rtol=1e-6)
    np.testing.assert_allclose(extra, params)
    np.testing.assert_allclose(scores, (params**2).sum(1) + 1, rtol=1e-6)
    assert state.tolist() == [7.0]


def test_a_step_reads_the_weights_of_the_moment(model):
    step = compiled(model, lambda params, data: (model(params)[:, 0],) * 2)
    images = np.ones((2, 2, 2, 1))
    for factor in (1.0, -3.0):
        kernel = factor * np.arange(1.0, 5.0)[:, None]
        model.set_weights([kernel, np.array([0.5])])
        gradient, *_, scores = run(step, images)
        np.testing.assert_allclose(gradient.reshape(2, 4), np.tile(kernel[:, 0], (2, 1)), rtol=1e-5)
        np.testing.assert_allclose(scores, kernel.sum() + 0.5, rtol=1e-5)


def test_arguments_and_results_keep_their_places_whatever_their_structure(model):
    """Dicts keep the order of the user, and lists and tuples their kind."""

    def score(params, data):
        scores = data["nested"]["rows"] * ops.sum(params, axis=1) + data["terms"][0][1]
        return scores, scores

    def update(params, gradient, state, data, target):
        return gradient, [state[1], state[0]], data["numbers"]

    step = backend.load().compile_step(score, update, lambda: model)
    for rows in ([2.0], [3.0]):
        data = {
            "nested": {"values": (), "rows": tensor(rows)},
            "terms": [(tensor([9]), tensor([5.0]))],
            "numbers": tensor([1.0, 4.0]),
        }
        state = [tensor([7.0]), tensor([8.0, 8.0])]
        results = step(tensor([[1.0, 1.0]]), state, data)
        gradient, (second, first), numbers, scores = keras.tree.map_structure(to_numpy, results)
        np.testing.assert_array_equal(gradient, [rows * 2])
        np.testing.assert_array_equal(first, [7.0])
        np.testing.assert_array_equal(second, [8.0, 8.0])
        np.testing.assert_array_equal(numbers, [1.0, 4.0])
        np.testing.assert_array_equal(scores, [2 * rows[0] + 5])


def test_an_update_knows_what_was_maximised_and_not_what_is_reported(model):
    def score(params, data):
        total = ops.sum(params, axis=1)
        return total + data, -9.0 * total

    def update(params, gradient, state, data, target):
        return params + target[:, None], [state[0] * target[1]], gradient

    step = backend.load().compile_step(score, update, lambda: model)
    params = np.array([[1.0, 2.0], [0.5, -3.0]])
    moved, [state], gradient, _ = step(tensor(params), [tensor([7.0])], tensor(4.0))
    expected = params.sum(1) + 4.0
    np.testing.assert_allclose(to_numpy(moved), params + expected[:, None], rtol=1e-6)
    np.testing.assert_allclose(to_numpy(state), [7.0 * expected[1]], rtol=1e-6)
    np.testing.assert_array_equal(to_numpy(gradient), np.ones((2, 2)))


def test_a_score_that_no_parameter_reaches_has_a_gradient_of_zero(model):
    def score(params, data):
        constant = ops.zeros((params.shape[0],)) + data
        return constant, constant

    gradient, *_, scores = run(compiled(model, score), np.ones((2, 3)), 4.0)
    assert gradient.tolist() == [[0.0] * 3] * 2
    assert scores.tolist() == [4.0, 4.0]


def test_layers_that_update_themselves_are_left_alone():
    model = sequential(layers.BatchNormalization(), layers.Dropout(0.5), shape=(2, 2, 1))
    model.set_weights([np.ones(1), np.zeros(1), np.full(1, 0.2), np.full(1, 2.0)])
    before = [to_numpy(v).tolist() for v in model.variables]

    def score(params, data):
        total = ops.sum(model(params, training=False), axis=(1, 2, 3))
        return total, total

    gradient, *_ = run(compiled(model, score), np.ones((1, 2, 2, 1)))
    np.testing.assert_allclose(gradient, (2.0 + 1e-3) ** -0.5, rtol=1e-5)
    assert [to_numpy(v).tolist() for v in model.variables] == before


def adam_in_numpy(params, gradients, rate=0.1, one=0.9, two=0.999, epsilon=1e-7):
    """Kingma and Ba 2015, with the epsilon inside the correction as Keras has it."""
    first = second = np.zeros_like(params)
    for t, gradient in enumerate(gradients, 1):
        first = one * first + (1 - one) * gradient
        second = two * second + (1 - two) * gradient**2
        corrected = rate * np.sqrt(1 - two**t) / (1 - one**t)
        params = params - corrected * first / (np.sqrt(second) + epsilon)
    return params


@pytest.mark.parametrize("value", [2.0, -np.inf, np.nan])
def test_a_product_with_zero_is_zero_whatever_is_multiplied(value):
    array = tensor([[value, 3.0], [value, 3.0]])
    product = to_numpy(backend.load().product_or_zero(array, tensor([[0.0], [0.5]])))
    np.testing.assert_array_equal(product, [[0.0, 0.0], [0.5 * value, 1.5]])


def test_the_hosts_memory_is_read_without_a_copy():
    values = np.arange(12, dtype="float32").reshape(3, 4)
    held = ops.multiply(tensor(values), 2.0)
    first, second = backend.load().shared(held), backend.load().shared(held)
    np.testing.assert_array_equal(first, 2 * values)
    assert np.shares_memory(first, second)


def line(images):
    """Six convolutions, each of what the one before it made, and of a shortcut."""
    for _ in range(6):
        images = images + layers.Conv2D(3, 3, padding="same", activation="relu")(images)
    return images


def branches(images):
    """Six convolutions side by side."""
    convolved = [layers.Conv2D(4, 3, padding="same", activation="relu")(images) for _ in range(6)]
    return layers.Concatenate()(convolved)


def looped(images):
    """A recurrent layer along the rows."""
    rows = layers.Reshape((8, 24))(images)
    return layers.Reshape((8, 4, 1))(layers.LSTM(4, return_sequences=True)(rows))


def graph_of(make):
    """A network of one of these, and the graph of a step of an optimisation on it."""
    import tensorflow as tf

    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, make(inputs))

    @tf.function(autograph=False)
    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            score = tf.reduce_sum(network(images) ** 2)
        return tape.gradient(score, images)

    return gradient.get_concrete_function(tf.TensorSpec((2, 8, 8, 3))).graph


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="how TensorFlow schedules")
@pytest.mark.parametrize(("make", "expected"), [(line, True), (branches, False), (looped, True)])
def test_only_what_can_run_side_by_side_is_scheduled(make, expected):
    # What loops is refused where nothing is scheduled: the next test does it all the same.
    assert backend.load()._is_one_path(graph_of(make)) is expected


TWO_DEVICES = """
import keras
import numpy as np
import tensorflow as tf

from featviz_callback import Objective, optimize

two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)


class Placed(keras.layers.Layer):
    def __init__(self, device):
        super().__init__()
        self.device = device

    def call(self, images):
        with tf.device(self.device):
            return tf.tanh(images)


devices = ("CPU:0", "CPU:1", "CPU:0")
layers = [Placed(device) for device in devices]
model = keras.Sequential([keras.Input((8, 8, 1)), *layers, keras.layers.Flatten()])
objective = Objective.neuron(model, -1, 9)
result = optimize(objective, steps=2)
print(result.status, np.allclose(result.scores, objective.score(result.images), atol=1e-5))
"""


@pytest.mark.acceptance
@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="devices of TensorFlow's")
def test_a_network_may_be_spread_over_devices():
    assert python(TWO_DEVICES, "tensorflow")[-1] == "['ok'] True"


@pytest.mark.parametrize("make", [line, branches, looped])
def test_a_step_is_the_gradient_however_it_is_scheduled(make):
    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, make(inputs))

    def score(images, data):
        total = ops.sum(network(images) ** 2, axis=(1, 2, 3))
        return total, total

    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    step = compiled(network, score)
    found, *_, scores = run(step, images)
    again, *_ = run(step, images)
    np.testing.assert_array_equal(found, again)
    outputs = to_numpy(network(tensor(images)))
    np.testing.assert_allclose(scores, (outputs**2).sum((1, 2, 3)), rtol=1e-5)
    # Along itself the gradient is the slope.
    direction = found / np.sqrt((found**2).sum())
    ahead, behind = (
        float(ops.sum(network(tensor(images + e * direction)) ** 2)) for e in (1e-2, -1e-2)
    )
    slope = (ahead - behind) / 2e-2
    np.testing.assert_allclose((found * direction).sum(), slope, rtol=1e-2)


def test_an_optimizer_becomes_a_pure_update():
    start = np.array([[1.0, -2.0, 0.5]])
    gradients = [np.array([[0.3, -0.1, 2.0]]), np.array([[-0.2, 0.4, 1.0]])]
    variable = keras.Variable(np.zeros((1, 3)), dtype="float32")
    adam = keras.optimizers.Adam(0.1)
    adam.build([variable])
    fresh = [tensor(to_numpy(v)) if v.dtype == "float32" else v.value + 0 for v in adam.variables]
    results = []
    for _ in range(2):
        params, state = tensor(start), list(fresh)
        for gradient in gradients:
            params, state = backend.load().apply_optimizer(
                adam, variable, params, tensor(gradient), state
            )
        results.append(to_numpy(params))
    np.testing.assert_allclose(results[0], adam_in_numpy(start, gradients), rtol=1e-5)
    np.testing.assert_array_equal(*results)


def test_a_process_of_its_own_writes_and_decides(model):
    """Several processes are in `test_distribution`."""
    assert backend.load().writes(model)
    assert [backend.load().agreed(decision) for decision in (True, False)] == [True, False]
