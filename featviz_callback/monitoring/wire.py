"""Send models and what reads them to another process: the architecture once, weights apart.

An object that reads a model is pickled with a name in place of each layer and variable of the
model. So a network of ten million weights crosses in a few kilobytes, and is made again by
Keras' own configuration. Its weights are arrays in a fixed order.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import keras
import numpy as np
from keras.src.saving.serialization_lib import ObjectSharingScope

from featviz_callback import backend
from featviz_callback.objectives import attributes, is_wrapper

# What is never copied within a process.
_CODE = (type, FunctionType, ModuleType)
# By these names cloudpickle makes a class again that cannot be imported.
_CLASS_MAKERS = ("_make_skeleton_class", "_make_skeleton_enum")


def variables_of(models: Sequence[keras.Model]) -> list[keras.Variable]:
    """Return the variables of some models, random states among them, model by model."""
    return [variable for model in models for variable in model.variables]


def renew_constants(models: Sequence[keras.Model]) -> None:
    """Tell models that their variables were assigned, as loading a file does.

    `Normalization` computes with constants, which Keras makes of its variables once.
    """
    for layer in _normalizations(models):
        layer.finalize_state()


def _normalizations(models):
    layers = [layer for model in models for layer in model._flatten_layers()]
    return [layer for layer in layers if isinstance(layer, keras.layers.Normalization)]


def dump(value: object, names: Mapping[int, object], code: list | None = None) -> bytes:
    """Pickle a value, with a name in place of each object whose identity has one.

    Functions of scripts and notebooks cross too where cloudpickle is installed.

    Args:
        value: The value.
        names: A name of each object that is left out, by its identity.
        code: Where classes, functions and modules go, if they are to be left out too. The name
            of each is its index there.

    Raises:
        ValueError: If it cannot be pickled.
    """
    try:
        from cloudpickle import Pickler as Base
    except ImportError:
        Base = pickle.Pickler

    class Pickler(Base):
        def persistent_id(self, found):
            if code is not None and isinstance(found, _CODE):
                code.append(found)
                return len(code) - 1
            return names.get(id(found))

    file = io.BytesIO()
    try:
        Pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
    except Exception as error:
        raise ValueError(
            "The objectives or settings cannot be pickled for another process. Expected functions "
            "of an importable module, or that cloudpickle is installed. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
    return file.getvalue()


def load(
    content: bytes, find: Callable[[Any], object], classes: dict[object, type] | None = None
) -> Any:
    """Unpickle a value; `find` returns the object of a name.

    Args:
        content: The pickled value.
        find: Returns the object of a name.
        classes: The classes of scripts and notebooks that the value shares with others; those
            that it has beside these are added. Without it, they are its own.
    """
    known = {} if classes is None else classes

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, name):
            return find(name)

        def find_class(self, module, name):
            found = super().find_class(module, name)
            return _kept_apart(found, known) if name in _CLASS_MAKERS else found

    return Unpickler(io.BytesIO(content)).load()


def _kept_apart(make, classes):
    """Return a function that makes each class once for these `classes`.

    cloudpickle makes each once for a process, and gives it the attributes of whatever is
    unpickled last.
    """

    def make_once(*arguments):
        *others, tracker, extra = arguments
        if tracker not in classes:
            classes[tracker] = make(*others, None, extra)
        return classes[tracker]

    return make_once


def copy_beside(
    value: object, models: Sequence[keras.Model] = (), others: Sequence[keras.Model] = ()
) -> Any:
    """Copy a value that reads some models, to read others of the same architecture.

    Classes and functions stay the same ones. A script's would be changed by unpickling them in
    the process that they are from.

    Raises:
        ValueError: If it cannot be pickled.
    """
    code: list = []
    content = dump(value, {id(part): name for name, part in _parts(models)}, code)
    parts = dict(_parts(others))
    return load(content, lambda name: code[name] if isinstance(name, int) else parts[name])


def dump_beside(value: object, models: Sequence[keras.Model]) -> bytes:
    """Pickle a value without the layers and variables of some models."""
    return dump(value, {id(part): name for name, part in _parts(models)})


def load_beside(content: bytes, models: Sequence[keras.Model], classes: dict | None = None) -> Any:
    """Unpickle what `dump_beside` pickled, beside models of the same architecture.

    Args:
        content: The pickled value.
        models: The models.
        classes: See `load`.
    """
    return load(content, dict(_parts(models)).__getitem__, classes)


def _parts(models) -> Iterator[tuple[tuple, object]]:
    # In reverse, since of several names of a part the last one counts.
    for i, variable in reversed(list(enumerate(variables_of(models)))):
        yield ("variable", i), variable
    for i, model in reversed(list(enumerate(models))):
        for j, layer in enumerate(model._flatten_layers()):
            yield ("layer", i, j), layer


def outermost(models: Sequence[keras.Model]) -> list[keras.Model]:
    """Return the models that are no part of one before them."""
    found: list[keras.Model] = []
    inside: set[int] = set()
    for model in models:
        if id(model) not in inside:
            found.append(model)
            inside |= {id(layer) for layer in model._flatten_layers()}
    return found


# --- architectures ---------------------------------------------------------------------------


def describe(models: Sequence[keras.Model]) -> bytes:
    """Return the architecture of some models, from which `build` makes them again.

    Raises:
        Exception: If a layer has no configuration, or it cannot be pickled.
    """
    return dump(_described(models), {})


def _described(models):
    layers = [layer for model in models for layer in model._flatten_layers()]
    with ObjectSharingScope():
        configs = [_configured(model) for model in models]
    named: set[str] = set()
    lambdas = {
        _lambda_name((*path, name)): value
        for model in models
        for path, layer in _with_paths(model)
        for name, value in vars(layer).items()
        if isinstance(value, FunctionType) and value.__name__ == "<lambda>"
    }
    own = [
        (keras.saving.get_registered_name(one), one)
        for layer in layers
        for one in (type(layer), *_own_code(vars(layer).values()))
        if not one.__module__.startswith(("keras.", "builtins"))
    ]
    custom = {**dict(own), **lambdas, _HOLDER: Holder}
    classes = {name: one for name, one in custom.items() if isinstance(one, type)}
    configs = [_adapted(config, lambdas, classes, named) for config in configs]
    # Keras wraps methods of every layer in functions, which no configuration names.
    custom = {name: one for name, one in custom.items() if name in named}
    for name, one in own:
        if custom.get(name, one) is not one:
            raise ValueError(
                f"it has two classes or functions of the name {name!r}, and needs another name "
                "for one: keras.saving.register_keras_serializable(package=...)"
            )
    layers_of = [
        [(type(layer).__name__, layer.name) for layer in model._flatten_layers()]
        for model in models
    ]
    found = {"configs": configs, "custom": custom, "settings": settings(), "layers": layers_of}
    # A compiled step has them in it, so models that were adapted anew are other ones.
    found["constants"] = [
        keras.ops.convert_to_numpy(variable.value)
        for layer in _normalizations(models)
        for variable in layer.variables
    ]
    return found


def _with_paths(layer, above=()):
    """Yield each layer with the names of all layers around it, and its own."""
    path = (*above, layer.name)
    yield path, layer
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        yield from _with_paths(inner, path)


def _lambda_name(path):
    return f"featviz_callback>{'/'.join(path)}"


def settings() -> dict[str, Any]:
    """Return the settings of Keras that calls of layers depend on."""
    return {
        "policy": keras.config.dtype_policy().name,
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "image_data_format": keras.config.image_data_format(),
    }


def use_settings(found: dict[str, Any]) -> None:
    """Set what `settings` returned in another process."""
    keras.config.set_floatx(found["floatx"])
    keras.config.set_epsilon(found["epsilon"])
    keras.config.set_image_data_format(found["image_data_format"])
    keras.config.set_dtype_policy(found["policy"])


@contextlib.contextmanager
def using(found: dict[str, Any]) -> Iterator[None]:
    """Use what `settings` returned in another process, and then those of this one again."""
    before = settings()
    try:
        use_settings(found)
        yield
    finally:
        use_settings(before)


_HOLDER = "featviz_callback>Holder"


class Holder(keras.Model):
    """Stands for a wrapper, such as a GAN, of which only the parts are ever called."""

    def __init__(self, parts, name):
        super().__init__(name=name)
        for attribute, part in parts.items():
            setattr(self, attribute, part)

    @classmethod
    def from_config(cls, config):
        """Make one again from its parts."""
        parts = keras.saving.deserialize_keras_object(config["parts"], safe_mode=False)
        return cls(parts, config["name"])


def _configured(model):
    """Return the configuration of a model, or of what stands for a wrapper without any."""
    try:
        return keras.saving.serialize_keras_object(model)
    except NotImplementedError:
        if not is_wrapper(model):
            raise
    parts = {
        name: value
        for name, value in attributes(model).items()
        if not name.startswith("_") and isinstance(value, keras.Layer)
    }
    return {
        "module": __name__,
        "class_name": Holder.__name__,
        "registered_name": _HOLDER,
        "config": {"name": model.name, "parts": keras.saving.serialize_keras_object(parts)},
    }


def _own_code(values, depth=2):
    """Yield the functions and classes that are in values, and the class of each object."""
    for value in values:
        if isinstance(value, (list, tuple, dict)) and depth:
            inner = value.values() if isinstance(value, dict) else value
            yield from _own_code(inner, depth - 1)
        elif isinstance(value, (type, FunctionType, BuiltinFunctionType)):
            if value.__module__ is not None:
                yield value
        elif hasattr(value, "get_config"):
            yield type(value)


def _adapted(config, lambdas, classes, named, above=()):
    """Return a configuration that is not compiled and has lambdas by name; collect all names.

    Args:
        config: The configuration, or a part of it.
        lambdas: All lambdas, by `_lambda_name`.
        classes: The classes of layers, by their names.
        named: Where names are collected.
        above: The names of the layers around it.
    """
    if isinstance(config, (list, tuple)):
        return type(config)(_adapted(one, lambdas, classes, named, above) for one in config)
    if not isinstance(config, dict):
        return config
    inner = config.get("config")
    if "class_name" in config:
        named.update(str(config[key]) for key in ("class_name", "registered_name") if key in config)
        if isinstance(inner, str):
            named.add(inner)
        # The optimizer and the losses stay where training is.
        config = {key: value for key, value in config.items() if key != "compile_config"}
    if isinstance(inner, dict) and config.get("registered_name") in classes:
        inner = _accepted(inner, classes[config["registered_name"]])
        config = {**config, "config": inner}
    if isinstance(inner, dict) and "name" in inner:
        replaced, above = dict(inner), (*above, inner["name"])
        for key, value in inner.items():
            name = _lambda_name((*above, key))
            # Of an activation, Keras keeps the code alone.
            is_lambda = isinstance(value, dict) and (
                value.get("class_name") == "__lambda__" or list(value) == ["value"]
            )
            # Keras would make it again without the globals that it reads.
            if is_lambda and name in lambdas:
                replaced[key] = {
                    "class_name": "function",
                    "config": name,
                    "module": "builtins",
                    "registered_name": name,
                }
        config = {**config, "config": replaced}
    return {key: _adapted(value, lambdas, classes, named, above) for key, value in config.items()}


def _accepted(arguments, kind):
    """Leave out what Keras adds to the arguments of every layer, if a constructor takes none."""
    parameters = inspect.signature(kind.__init__).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return arguments
    added = {"name", "trainable", "dtype"} - set(parameters)
    return {key: value for key, value in arguments.items() if key not in added}


def build(content: bytes, classes: dict | None = None) -> list[keras.Model]:
    """Make the models of a description again, with weights of chance.

    Args:
        content: The description, see `describe`.
        classes: See `load`.

    Raises:
        ValueError: If they have other layers then.
    """
    return _built(load(content, _nothing, classes))


def _nothing(name):
    raise ValueError(f"A description names {name!r}.")


def _built(found):
    use_settings(found["settings"])
    with keras.saving.custom_object_scope(found["custom"]), ObjectSharingScope():
        models = [
            keras.saving.deserialize_keras_object(config, safe_mode=False)
            for config in found["configs"]
        ]
    for model, expected in zip(models, found["layers"], strict=True):
        again = model._flatten_layers()
        kinds, wanted = [type(one).__name__ for one in again], [kind for kind, _ in expected]
        # Something else may stand for the whole.
        if kinds[1:] != wanted[1:]:
            raise ValueError(f"it has the layers {kinds[:9]} then, in place of {wanted[:9]}")
        for layer, (_, name) in zip(again, expected, strict=True):
            # Keras counts the layers of a subclass that have no name.
            if layer.name != name:
                layer.name = name
    return models


def build_apart(models: Sequence[keras.Model]) -> list[keras.Model]:
    """Make models again in the process that trains, which notices nothing of it.

    They have the same classes, and weights of chance. A thread of its own has the names, the
    policy and the global generator of Keras for itself, and is in the scope of no
    `tf.distribute.Strategy`.
    """
    found = copy_beside(_described(models))
    with backend.random_states_preserved(), ThreadPoolExecutor(1) as thread:
        return thread.submit(_built, found).result()


@contextlib.contextmanager
def undistributed() -> Iterator[None]:
    """Spread nothing over the devices of a training: copies of its models are on one."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def require_same(models: Sequence[keras.Model], again: Sequence[keras.Model]) -> None:
    """Require that models have the same variables.

    Raises:
        ValueError: If they have not.
    """
    shapes, others = (
        [(tuple(v.shape), str(v.dtype)) for v in variables_of(some)] for some in (models, again)
    )
    if shapes != others:
        raise ValueError(f"it has {len(others)} variables then, {others[:9]}, not {shapes[:9]}")


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of models at one moment.

    Attributes:
        values: The values of all variables, each once.
        places: Of each of `variables_of`, the place of its value.
        is_trainable: Whether each of `variables_of` is trained.
        of_framework: What the framework keeps of models beside these, such as torch's buffers.
    """

    values: list[np.ndarray]
    places: list[int]
    is_trainable: list[bool]
    of_framework: list[np.ndarray]

    @property
    def size(self) -> int:
        """How many bytes they take."""
        return sum(one.nbytes for one in [*self.values, *self.of_framework])


def weights_of(models: Sequence[keras.Model]) -> Weights:
    """Return the weights of models, which later training does not change."""
    variables = variables_of(models)
    unique = {id(one): one for one in variables}
    places = {key: place for place, key in enumerate(unique)}
    return Weights(
        backend.load().copied(unique.values()),
        [places[id(one)] for one in variables],
        [one.trainable for one in variables],
        backend.load().framework_state(models),
    )


def assign(models: Sequence[keras.Model], weights: Weights) -> None:
    """Give models the weights of others of the same architecture."""
    for variable, place, is_trainable in zip(
        variables_of(models), weights.places, weights.is_trainable, strict=True
    ):
        variable.assign(weights.values[place])
        if variable.trainable != is_trainable:
            variable.trainable = is_trainable
    backend.load().assign_framework_state(models, weights.of_framework)
    renew_constants(models)
