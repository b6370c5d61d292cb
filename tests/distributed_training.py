"""Run one process of a training on several devices, for `test_distribution`.

`python -m tests.distributed_training KINDS FOLDER RANK PORTS` trains each kind
twice, without the callback and with it. The file `KIND-RANK.npz` holds what each
training leaves behind (`plain/...`, `watched/...`), and the pictures.
"""
# ruff: noqa: E402

import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

KINDS, FOLDER, RANK, PORTS = sys.argv[1].split(), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
# A process that takes snapshots takes no part in the training.
PORTS = PORTS if __name__ == "__main__" else []
PROCESSES = len(PORTS) or 1
BACKEND = os.environ["KERAS_BACKEND"]

# These settings must precede the import of Keras.
if BACKEND == "jax" and PORTS:
    import jax
    import jax.experimental.multihost_utils

    jax.distributed.initialize(f"127.0.0.1:{PORTS[0]}", PROCESSES, RANK)
elif BACKEND == "tensorflow":
    workers = [f"127.0.0.1:{port}" for port in PORTS]
    if PORTS:
        task = {"type": "worker", "index": RANK}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
    import tensorflow as tf

    if PORTS:
        STRATEGY = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        devices = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], devices
        )
        STRATEGY = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
elif BACKEND == "torch" and PORTS:
    import torch

    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{PORTS[0]}", rank=RANK, world_size=PROCESSES
    )

import keras
import numpy as np
from keras import layers

from featviz_callback import FeatureVisCallback, Objective
from featviz_callback.monitoring import remote

SHAPE = (8, 8, 1)
EPOCHS, BATCH = 2, 8
SETTINGS = {"steps": 4, "seed": 1}
# A strategy could take an optimizer's variables for the model's.
OPTIMIZERS = {"mirrored_in_scope": "adam"}


def make_model():
    """Build the same model in every process."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(4, 3, activation="tanh", name="conv"),
            layers.BatchNormalization(),
            layers.Dropout(0.2, seed=1),
            layers.Flatten(),
            layers.Dense(4, name="logits"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


def objectives(model):
    """Return three pictures, which two devices cannot share equally, and one more."""
    return [Objective.neuron(model, "logits", [0, 1, 2]), Objective.channel(model, "conv", 0)]


def data(shared=False):
    """Return images and labels; if shared, this process' part of each batch."""
    images = np.random.default_rng(0).random((2 * BATCH, *SHAPE), "float32")
    labels = np.arange(2 * BATCH) % 4
    part = BATCH // PROCESSES if shared else BATCH
    first = RANK * part if shared else 0
    rows = [i for batch in (0, BATCH) for i in range(batch + first, batch + first + part)]
    return images[rows], labels[rows], part


def fit(model, callbacks, shared=False):
    """Train by Keras' own loop; return the losses."""
    images, labels, batch = data(shared)
    settings = {"batch_size": batch, "epochs": EPOCHS, "shuffle": False, "verbose": 0}
    return model.fit(images, labels, callbacks=callbacks, **settings).history["loss"]


def loop(model, callbacks, step, watched=None):
    """Train by a custom loop; `step` trains one epoch and returns its losses."""
    callbacks = keras.callbacks.CallbackList(callbacks, model=model if watched is None else watched)
    losses = []
    callbacks.on_train_begin()
    for epoch in range(EPOCHS):
        callbacks.on_epoch_begin(epoch)
        losses.append(step())
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    return losses


# --- the kinds of training ------------------------------------------------------------


def mirrored(callbacks):
    """Train on TensorFlow, in one process with two logical CPUs."""
    with STRATEGY.scope():
        model = make_model()
    return model, fit(model, callbacks)


def mirrored_in_scope(callbacks):
    """Train as `mirrored`, with `fit` inside the strategy's scope too."""
    with STRATEGY.scope():
        model = make_model()
        return model, fit(model, callbacks)


def fit_multi_worker(callbacks):
    """Train on TensorFlow with two workers, by `fit`."""
    with STRATEGY.scope():
        model = make_model()
    images, labels, _ = data()
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH)
    return model, model.fit(batches, epochs=EPOCHS, callbacks=callbacks, verbose=0)


def multi_worker(callbacks):
    """Train on TensorFlow with two workers, by a custom loop."""
    with STRATEGY.scope():
        model = make_model()
        model.optimizer.build(model.trainable_variables)
    images, labels, batch = data(shared=True)
    batches = [(images[i : i + batch], labels[i : i + batch]) for i in range(0, len(images), batch)]

    def on_replica(images, labels):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(y=labels, y_pred=model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        return loss

    run = tf.function(lambda *batch: STRATEGY.run(on_replica, args=batch))
    return model, loop(model, callbacks, lambda: [float(run(*batch)) for batch in batches])


def data_parallel(callbacks):
    """Train on JAX, where every device has all weights."""
    distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
    with distribution.scope():
        model = make_model()
        return model, fit(model, callbacks, shared=True)


def model_parallel(callbacks):
    """Train on JAX, where weights are spread over the devices of all processes."""
    mesh = keras.distribution.DeviceMesh(
        (1, 2), ("batch", "model"), keras.distribution.list_devices()
    )
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*logits.*kernel"] = (None, "model")
    layout[".*conv.*kernel"] = (None, None, None, "model")
    layout[".*logits/output"] = ("batch", None)
    distribution = keras.distribution.ModelParallel(
        layout_map=layout, batch_dim_name="batch", auto_shard_dataset=False
    )
    with distribution.scope():
        model = make_model()
        assert not model.get_layer("logits").kernel.value.is_fully_replicated
        return model, fit(model, callbacks)


def distributed_data_parallel(callbacks):
    """Train on torch by a custom loop over a wrapped model, as in Keras' guide."""
    model = make_model()
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    images, labels, batch = data(shared=True)

    def step():
        losses = []
        for i in range(0, len(images), batch):
            optimizer.zero_grad()
            logits = wrapped(torch.as_tensor(images[i : i + batch]), training=True)
            target = torch.as_tensor(labels[i : i + batch])
            loss = torch.nn.functional.cross_entropy(logits, target)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    return model, loop(model, callbacks, step, watched=wrapped)


class Fading:
    """An executor that takes one snapshot, and later none."""

    def __init__(self, pool):
        self._pool, self.asked = pool, 0

    def submit(self, function, *arguments):
        self.asked += function is remote.work
        if self.asked > 1:
            raise RuntimeError("no worker any more")
        return self._pool.submit(function, *arguments)


def elsewhere(train, folder, settings):
    """Train once more, with snapshots in another process; return what is left behind."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        executor = Fading(pool)
        callback = FeatureVisCallback(
            objectives, folder, on_error="raise", executor=executor, **settings
        )
        found = left_behind(*train([callback]))
    history = callback.history
    found |= {"epochs": history.epochs, "asked": executor.asked, "skipped": history.skipped}
    return found | ({"images": history.images} if len(history) else {})


def left_behind(model, losses):
    """Return the losses and every variable, gathered from all devices."""
    variables = [*model.variables, *model.optimizer.variables]
    arrays = {"losses": np.array(losses)}
    for i, variable in enumerate(variables):
        value = variable.value
        if BACKEND == "jax" and PORTS:
            value = jax.experimental.multihost_utils.process_allgather(value, tiled=True)
        arrays[str(i)] = np.asarray(keras.ops.convert_to_numpy(value))
    return arrays


def main():
    """Train all kinds, twice each."""
    for kind in KINDS:
        train = globals()[kind]
        folder = os.path.join(FOLDER, "logs", f"{kind}-{RANK}")
        try:
            plain = left_behind(*train([]))
        except ValueError as error:
            np.savez(os.path.join(FOLDER, f"{kind}-{RANK}.npz"), error=str(error))
            continue
        settings = {"max_overhead": 0.999, "optimizer": OPTIMIZERS.get(kind), **SETTINGS}
        callback = FeatureVisCallback(objectives, log_dir=folder, on_error="raise", **settings)
        model, losses = train([callback])
        arrays = {f"plain/{name}": array for name, array in plain.items()}
        arrays |= {f"watched/{k}": array for k, array in left_behind(model, losses).items()}
        history = callback.history
        arrays |= {"epochs": history.epochs, "images": history.images, "scores": history.scores}
        arrays |= {
            "starts": np.array(history.starts[-1], str),
            "model": model.to_json(),
            "optimizer": OPTIMIZERS.get(kind, ""),
        }
        if PORTS:
            found = elsewhere(train, f"{folder}-elsewhere", settings)
            arrays |= {f"elsewhere/{name}": array for name, array in found.items()}
        np.savez(os.path.join(FOLDER, f"{kind}-{RANK}.npz"), **arrays)


if __name__ == "__main__":
    main()
