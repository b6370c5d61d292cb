"""Settings and weights are named by their values."""

import enum
import functools
import importlib
import statistics
import sys

import keras
import numpy as np
import pytest

from featviz_callback import Objective, transformations
from featviz_callback.optimization import (
    digest,
    digest_architecture,
    digest_task,
    digest_weights,
)
from tests.conftest import make_small_model, prepare, python


def power(exponent):
    return lambda images: images**exponent


class Plain:
    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize(
    "make",
    [
        lambda value: value,
        lambda value: np.full((2, 3), value),
        lambda value: np.float32(value),
        lambda value: {"b": 1, "a": [value]},
        lambda value: {value, 1},
        lambda value: power(value),
        lambda value: functools.partial(max, value),
        lambda value: transformations.Jitter(value),
        lambda value: Plain(value),
        lambda value: Plain(value).__init__,
        lambda value: keras.ops.convert_to_tensor([value]),
        lambda value: keras.optimizers.Adam(value).get_config()["learning_rate"],
    ],
)
def test_equal_values_have_one_name_and_others_another(make):
    assert digest(make(0.5)) == digest(make(0.5))
    assert digest(make(0.5)) != digest(make(0.25))


def test_what_looks_alike_is_told_apart():
    names = [1, True, 1.0, "1", b"1", None, [1], (1,), {1}, np.array(1), np.array([1]), [[1]]]
    assert len({digest(one) for one in names}) == len(names)
    assert digest([1, [2]]) != digest([[1], 2])
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_what_holds_itself_has_a_name():
    rows = [1]
    rows.append(rows)
    assert digest(rows) == digest(rows)


def penalty_of(source, value):
    """The function `penalty` of a script, in whose source a value stands."""
    names = {"__name__": "script"}
    exec(compile(source.replace("VALUE", str(value)), "script.py", "exec"), names)
    return names["penalty"]


READ = {
    "number": "W = VALUE\ndef penalty(x): return W * x",
    "tuple": "W = (1, (VALUE, 2))\ndef penalty(x): return W[0] * x",
    "array": "import numpy as np\nW = np.full(3, VALUE)\ndef penalty(x): return W * x",
    "tensor": "import keras\nW = keras.Variable([VALUE])\ndef penalty(x): return W * x",
    "dict": "W = {'w': [VALUE]}\ndef penalty(x): return W['w'][0] * x",
    "namespace": "from argparse import Namespace\nW = Namespace(w=VALUE)\n"
    "def penalty(x): return W.w * x",
    "helper": "def helped(x): return VALUE * x\ndef penalty(x): return helped(x)",
    "default": "def helped(x, w=VALUE): return w * x\ndef penalty(x): return helped(x)",
    "helper of a helper": "W = VALUE\ndef inner(x): return W * x\n"
    "def helped(x): return inner(x)\ndef penalty(x): return helped(x)",
    "each other": "W = VALUE\ndef helped(x): return penalty(x) if x else helped(W)\n"
    "def penalty(x): return helped(x) + penalty(x)",
    "inner": "W = VALUE\ndef penalty(x): return [(lambda one: one * W)(one) for one in x]",
    "partial": "from functools import partial\ndef scaled(w, x): return w * x\n"
    "helped = partial(scaled, VALUE)\ndef penalty(x): return helped(x)",
    "list": "def helped(x): return VALUE * x\nALL = [helped]\ndef penalty(x): return ALL[0](x)",
    "closure": "W = VALUE\ndef decorated(f): return lambda x: f(x)\n@decorated\n"
    "def penalty(x): return W * x",
}


@pytest.mark.parametrize("source", READ.values(), ids=READ)
def test_a_function_counts_by_what_it_reads_of_its_module(source):
    before = digest(penalty_of(source, 0.1))
    assert before == digest(penalty_of(source, 0.1))
    assert before != digest(penalty_of(source, 0.5))


@pytest.mark.parametrize(
    "source",
    [
        "other = VALUE\ndef penalty(x): return 2 * x",
        "mean = VALUE\ndef penalty(x): return x.mean()",
        "import logging\nlog = logging.getLogger('VALUE')\ndef penalty(x): log.info('a'); return x",
    ],
)
def test_what_a_function_does_not_compute_with_does_not_count(source):
    assert digest(penalty_of(source, 1)) == digest(penalty_of(source, 2))


def test_a_function_counts_by_what_it_reads_of_other_modules(tmp_path, monkeypatch):
    (tmp_path / "own_terms.py").write_text("W = 0.1\ndef helped(x): return W * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    penalties = [
        penalty_of("import own_terms\ndef penalty(x): return own_terms.W * x", None),
        penalty_of("import own_terms\ndef penalty(x): return own_terms.helped(x)", None),
        penalty_of("from own_terms import helped\ndef penalty(x): return helped(x)", None),
    ]
    before = [digest(one) for one in penalties]
    assert before == [digest(one) for one in penalties]
    monkeypatch.setattr(importlib.import_module("own_terms"), "W", 0.5)
    after = [digest(one) for one in penalties]
    assert all(one != other for one, other in zip(before, after, strict=True))
    monkeypatch.delitem(sys.modules, "own_terms")


def test_of_installed_functions_the_name_counts(monkeypatch):
    source = "from statistics import VALUE as helped\ndef penalty(x): return helped(x)"
    before = digest(penalty_of(source, "mean"))
    assert before != digest(penalty_of(source, "median"))
    # What it reads is not looked at.
    monkeypatch.setattr(statistics, "groupby", None)
    monkeypatch.setattr(statistics, "_sum", None)
    assert before == digest(penalty_of(source, "mean"))


def test_an_optimizer_counts_by_its_settings():
    objective = Objective.neuron(make_small_model(), "logits", [0, 1])
    tasks = [prepare(objective, optimizer=keras.optimizers.Adam(rate)) for rate in (0.1, 0.1, 0.2)]
    one, same, other = map(digest_task, tasks)
    assert one == same != other


@pytest.mark.parametrize(
    "change", [{"steps": 3}, {"seed": 1}, {"values_range": (0, 2)}, {"transformations": None}]
)
def test_a_task_counts_by_its_settings_and_targets(change):
    model = make_small_model()
    objective = Objective.neuron(model, "logits", [0, 1])
    before = digest_task(prepare(objective))
    assert before == digest_task(prepare(Objective.neuron(model, "logits", [0, 1])))
    assert before != digest_task(prepare(objective, **change))
    assert before != digest_task(prepare(Objective.neuron(model, "logits", [0, 2])))
    assert before != digest_task(prepare(2 * objective))


def test_weights_count_and_random_states_do_not():
    model = make_small_model()
    model.add(keras.layers.Dropout(0.5))
    before = digest_weights(model)
    model(np.zeros((1, 12, 10, 1)), training=True)
    assert digest_weights(model) == before
    weights = model.get_weights()
    weights[-1][0] += 1e-3
    model.set_weights(weights)
    assert digest_weights(model) != before


class Scaled(keras.layers.Layer):
    """A layer whose config does not have all."""

    def __init__(self, factor, function=keras.ops.tanh):
        super().__init__()
        self.factor, self.function = factor, function

    def call(self, inputs):
        return self.function(inputs * self.factor)

    def get_config(self):
        return {}


class Mode(enum.Enum):
    ONE, TWO = 1, 2


def of_class(**values):
    """Return a layer of a class of its own, with a constant and some kinds of methods."""

    class Own(keras.layers.Layer):
        constant = 1.0

        def call(self, inputs):
            return self.helper(inputs) * self.share + self.of_all() + self.of_it(inputs)

        def helper(self, inputs):
            return inputs

        @property
        def share(self):
            return 2.0

        @classmethod
        def of_all(cls):
            return 1.0

        @staticmethod
        def of_it(inputs):
            return inputs

        def train_step(self, inputs):
            return inputs

    for name, value in values.items():
        setattr(Own, name, value)
    return Own()


def holding(**values):
    layer = of_class()
    vars(layer).update(values)
    return layer


class Nested(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def call(self, inputs):
        return self.dense(inputs)


def chain(*layers):
    return keras.Sequential([keras.Input((4,)), *layers])


def branches(order):
    image = keras.Input((4,))
    first = keras.layers.Dense(2)(image)
    found = [first, keras.layers.Dense(2)(first)]
    return keras.Model(image, keras.layers.Subtract()([found[i] for i in order]))


def softmaxes():
    return chain(keras.layers.Dense(2, activation="softmax"), keras.layers.Softmax())


def operations(function=keras.ops.add):
    image = keras.Input((4,))
    return keras.Model(image, function(function(image, image), keras.layers.Dense(4)(image)))


def named_outputs(order=(0, 1)):
    image = keras.Input((4,))
    ways = [keras.layers.Dense(2), keras.layers.Dense(2)]
    found = [ways[0](image), ways[1](ways[0](image))]
    return keras.Model(image, {ways[i].name: found[j] for i, j in enumerate(order)})


@pytest.mark.parametrize(
    "variants",
    [
        [lambda: chain(keras.layers.Dense(2)), lambda: chain(keras.layers.Dense(2, "relu"))],
        [lambda: branches([0, 1]), lambda: branches([1, 0])],
        [lambda: chain(Scaled(2.0)), lambda: chain(Scaled(3.0))],
        [lambda: chain(Scaled(2.0)), lambda: chain(Scaled(2.0, lambda x: x))],
        [
            lambda: chain(keras.layers.Lambda(lambda x: x + 1)),
            lambda: chain(keras.layers.Lambda(lambda x: x + 2)),
        ],
        [lambda: Nested(2), lambda: Nested(3)],
        *(
            [lambda: chain(of_class()), lambda one=one: chain(of_class(**one))]
            for one in (
                {"helper": lambda self, x: x + 1},
                {"share": property(lambda self: 3.0)},
                {"of_all": classmethod(lambda cls: 3.0)},
                {"of_it": staticmethod(lambda x: x + 1)},
                {"constant": 2.0},
            )
        ),
        *(
            [lambda one=one: chain(holding(**one[0])), lambda one=one: chain(holding(**one[1]))]
            for one in (
                ({"mode": Mode.ONE}, {"mode": Mode.TWO}),
                ({"values": {"a": [1]}}, {"values": {"a": [2]}}),
                ({"_hidden": 1}, {"_hidden": 2}),
            )
        ),
        [lambda: chain(keras.layers.Activation("relu")), lambda: chain(keras.layers.ReLU(6.0))],
        [softmaxes, lambda: chain(keras.layers.Softmax(), keras.layers.Softmax())],
        [operations, lambda: operations(keras.ops.multiply)],
        [named_outputs, lambda: named_outputs([1, 0])],
    ],
    ids=[
        *("activation", "connections", "attribute", "function", "lambda", "inside"),
        *("helper", "property", "class method", "static method", "constant"),
        *("enum", "dict", "hidden", "named as a setting", "named as a value"),
        *("operations", "named outputs"),
    ],
)
def test_an_architecture_counts_by_what_it_computes(variants):
    one, other = (make() for make in variants)
    assert digest_architecture(one) != digest_architecture(other)
    # Keras gives other names to the layers of a second one.
    again = variants[0]()
    assert digest_architecture(one) == digest_architecture(again)
    if one.built and isinstance(again.output_shape, tuple):
        again.compile("adam", "mse")
        again.fit(np.ones((2, 4)), np.ones((2, *again.output_shape[1:])), verbose=0)
        again.evaluate(np.ones((2, 4)), np.ones((2, *again.output_shape[1:])), verbose=0)
        assert digest_architecture(one) == digest_architecture(again)


def test_functions_that_compute_no_picture_do_not_count():
    steps = [chain(of_class(train_step=lambda self, x, by=by: by * x)) for by in (1, 2)]
    assert digest_architecture(steps[0]) == digest_architecture(steps[1])


def test_a_loaded_model_has_the_architecture_of_the_saved_one(tmp_path):
    model = chain(keras.layers.Dense(4), operations(), softmaxes())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert digest_architecture(loaded) == digest_architecture(model)


CODE = """
import numpy as np
from featviz_callback import transformations
from featviz_callback.optimization import digest
WEIGHTS = {"b": {1.0, "c"}, "a": (abs, np.arange(3))}
print(digest({"b", "a"}, transformations.Blur(2.0), np.arange(3), lambda x: WEIGHTS["a"][0](x)))
"""


@pytest.mark.acceptance
def test_another_process_gives_the_same_name():
    """Where strings have other hashes, and sets another order."""
    names = {tuple(python(CODE, keras.backend.backend())) for _ in range(2)}
    assert len(names) == 1
