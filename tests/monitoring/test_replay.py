"""A replay of checkpoints is equal to the callback in the training that made them."""

import resource

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import FeatureVisCallback, Objective, replay
from featviz_callback.backend import random_states_preserved
from featviz_callback.tensorboard import find_runs
from tests.conftest import PIXELS, compiled, make_small_model, read_events, train
from tests.monitoring.conftest import neurons

# Times of a live training and of a replay differ.
TIMES = ("feature_vis/seconds", "feature_vis/share", "feature_vis/compile_seconds")
COLUMNS = (
    *("epochs", "names", "images", "scores", "status", "drift", "noise_floor", "score_ratio"),
    *("starts", "functional_drift", "top_overlap", "selectivity", "best_class", "active_share"),
    *("importance", "settled", "skipped"),
)


def objectives(model):
    return [Objective.neuron(model, "logits", [0, 3]), Objective.channel(model, "conv1", 2)]


def watch(folder, chosen=objectives, **settings):
    settings = {"steps": 2, "log_dir": folder, "on_error": "raise", "probe_data": PIXELS} | settings
    return FeatureVisCallback(chosen, **settings)


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A training of three epochs with checkpoints: its folder, and its callback."""
    folder = tmp_path_factory.mktemp("live")
    model = compiled()
    model.save_weights(folder / "00.weights.h5")
    saving = [
        keras.callbacks.ModelCheckpoint(folder / "{epoch:02d}.weights.h5", save_weights_only=True),
        keras.callbacks.ModelCheckpoint(folder / "{epoch:d}-{loss:.2f}.keras"),
    ]
    callback = watch(folder / "logs")
    train(model, *saving, callback, epochs=3)
    return folder, callback


def pattern(live):
    return str(live[0] / "{epoch:02d}.weights.h5")


def assert_equal(history, expected):
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(history, name), getattr(expected, name), name)
    health, live_health = history.health.arrays(), expected.health.arrays()
    assert health.keys() == live_health.keys()
    for name, values in health.items():
        np.testing.assert_array_equal(values, live_health[name], name)


def events(folder):
    images, scalars = read_events(folder / "feature_vis")
    return images, {tag: rows for tag, rows in scalars.items() if tag not in TIMES}


def assert_equal_events(folder, expected):
    (images, scalars), (live_images, live_scalars) = events(folder), events(expected)
    assert scalars == live_scalars
    assert images.keys() == live_images.keys()
    for tag, rows in images.items():
        for (step, picture), (live_step, live_picture) in zip(rows, live_images[tag], strict=True):
            assert step == live_step
            np.testing.assert_array_equal(picture, live_picture, tag)


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(one.value)) for one in variables]


def assert_same_state(model, before):
    for one, expected in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(one, expected)


def test_a_replay_is_equal_to_the_live_run(live, tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    model = compiled(make_small_model(seed=5))
    # An optimizer with state, which the checkpoints have too.
    train(model, epochs=1)
    before, drawn = state(model), np.random.get_state()[1].tolist()
    callback = watch(tmp_path)
    history = replay(callback, model, pattern(live), verbose=0)
    assert history is callback.history
    assert history.epochs.tolist() == [-1, 0, 1, 2]
    assert_equal(history, live[1].history)
    assert_equal_events(tmp_path, live[0] / "logs")
    assert_same_state(model, before)
    assert np.random.get_state()[1].tolist() == drawn
    assert "count from 1" in caplog.text


def test_without_the_untrained_network_only_its_row_is_missing(live, tmp_path):
    """Whole archives, by the numbers in a pattern that has other fields too."""
    callback = watch(tmp_path)
    replay(callback, compiled(), str(live[0] / "{epoch:d}-{loss:.2f}.keras"), verbose=0)
    history, expected = callback.history, live[1].history
    assert history.epochs.tolist() == [0, 1, 2]
    for name in ("status", "starts"):
        np.testing.assert_array_equal(getattr(history, name), getattr(expected, name)[1:])
    for name in ("images", "scores", "score_ratio"):
        np.testing.assert_array_equal(getattr(history, name), getattr(expected, name)[1:], name)
    np.testing.assert_array_equal(history.drift[1:], expected.drift[2:])
    assert np.isnan(history.drift[0]).all()
    assert np.isfinite(history.noise_floor[[0, 2]]).all()


@pytest.mark.acceptance
def test_checkpoints_can_be_given_in_other_ways(live, tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    paths = [live[0] / f"{number:02d}.weights.h5" for number in range(4)]
    model = compiled()

    def weights_of(epoch):
        if epoch > 2:
            return None
        with random_states_preserved():
            own = make_small_model()
            own.load_weights(paths[epoch + 1])
        return own.get_weights()

    ways = {
        "mapping": {epoch: paths[epoch + 1] for epoch in (2, -1, 0, 1)},
        "function": weights_of,
        "list": paths[1:],
    }
    for name, checkpoints in ways.items():
        callback = watch(tmp_path / name)
        replay(callback, model, checkpoints, verbose=0)
        if name == "list":
            assert callback.history.epochs.tolist() == [0, 1, 2]
            np.testing.assert_array_equal(callback.history.images, live[1].history.images[1:])
        else:
            assert_equal(callback.history, live[1].history)
    assert caplog.text.count("taken as epochs 0, 1") == 1


@pytest.mark.acceptance
@pytest.mark.parametrize("freq", [2, (0, 2)])
def test_freq_counts_epochs_as_in_a_training(freq, live, tmp_path):
    callback = watch(tmp_path, freq=freq, max_overhead=1e-9)
    replay(callback, compiled(), pattern(live), verbose=0)
    assert callback.history.epochs.tolist() == [-1, 0, 2]
    np.testing.assert_array_equal(callback.history.images, live[1].history.images[[0, 1, 3]])


def test_max_overhead_is_ignored_and_that_is_said(live, tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    callback = watch(tmp_path, max_overhead=1e-9)
    replay(callback, compiled(), pattern(live), verbose=0)
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2]
    assert caplog.text.count("max_overhead=1e-09 is ignored") == 1


@pytest.mark.acceptance
def test_an_interrupted_replay_goes_on_in_its_run(live, tmp_path):
    """By Ctrl-C in the middle, and then in another process."""
    model = compiled(make_small_model(seed=5))
    before = state(model)

    def interrupted(epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return live[0] / f"{epoch + 1:02d}.weights.h5"

    callback = watch(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        replay(callback, model, interrupted, verbose=0)
    assert_same_state(model, before)
    assert callback.history.epochs.tolist() == [-1, 0]
    # Another callback stands for another process: it reads the event files back.
    other = watch(tmp_path)
    replay(other, model, pattern(live), verbose=0)
    assert find_runs(tmp_path) == [str(tmp_path)]
    assert other.history.epochs.tolist() == [-1, 0, 1, 2]
    np.testing.assert_array_equal(other.history.images[2:], live[1].history.images[2:])
    np.testing.assert_array_equal(other.history.scores, live[1].history.scores)
    images, scalars = events(tmp_path)
    expected = events(live[0] / "logs")[1]
    tag = "feature_vis_score/Neuron#logits_3"
    assert scalars[tag] == expected[tag]
    assert [step for step, _ in images["feature_vis/evolution"]] == [2]
    # The callback that was interrupted still has its images to the bit.
    replay(callback, model, pattern(live), verbose=0)
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2][: len(callback.history)]
    assert find_runs(tmp_path) == [str(tmp_path)]


@pytest.mark.acceptance
@pytest.mark.parametrize("epochs", [[-1], [-1, 0]])
def test_the_same_callback_goes_on_with_its_own_images(live, tmp_path, epochs):
    callback, model = watch(tmp_path), compiled()
    first = {epoch: live[0] / f"{epoch + 1:02d}.weights.h5" for epoch in epochs}
    replay(callback, model, first, verbose=0)
    replay(callback, model, pattern(live), verbose=0)
    np.testing.assert_array_equal(callback.history.images, live[1].history.images)
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2]
    assert find_runs(tmp_path) == [str(tmp_path)]


def test_a_freq_that_leaves_out_all_is_said(live, tmp_path, caplog):
    """Checkpoints of every fifth epoch, and `freq=5`."""
    caplog.set_level("WARNING", logger="featviz_callback")
    paths = {5 * number - 1: live[0] / f"{number:02d}.weights.h5" for number in (1, 2, 3)}
    callback = watch(tmp_path, neurons, freq=5, probe_data=None)
    replay(callback, compiled(), paths, verbose=0)
    assert callback.history.epochs.tolist() == [4, 14]
    assert "freq=5 counts epochs, not checkpoints" in caplog.text


@pytest.mark.acceptance
@pytest.mark.parametrize("change", ["weights", "settings", "architecture"])
def test_other_weights_settings_or_architectures_are_a_run_of_their_own(live, tmp_path, change):
    paths = {epoch: live[0] / f"{epoch + 1:02d}.weights.h5" for epoch in (-1, 0)}
    replay(watch(tmp_path), compiled(), paths, verbose=0)
    if change == "weights":
        replay(watch(tmp_path), compiled(), {-1: paths[-1], 0: paths[-1]}, verbose=0)
    elif change == "architecture":
        other = compiled()
        other.get_layer("conv1").activation = keras.activations.relu
        replay(watch(tmp_path), other, paths, verbose=0)
    else:
        replay(watch(tmp_path, seed=1), compiled(), paths, verbose=0)
    assert len(find_runs(tmp_path)) == 2


def test_a_damaged_checkpoint_is_named_skipped_and_noted(live, tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    damaged = tmp_path / "02.weights.h5"
    damaged.write_bytes((live[0] / "02.weights.h5").read_bytes()[:2000])
    paths = {epoch: live[0] / f"{epoch + 1:02d}.weights.h5" for epoch in (-1, 0, 2)}
    callback = watch(tmp_path / "logs")
    replay(callback, compiled(), paths | {1: damaged}, verbose=0)
    assert callback.history.epochs.tolist() == [-1, 0, 2]
    assert callback.history.skipped.tolist() == [1]
    np.testing.assert_array_equal(callback.history.images, live[1].history.images[[0, 1, 3]])
    assert f"Epoch 1 is skipped. The checkpoint {str(damaged)!r} cannot" in caplog.text


def test_of_damaged_last_checkpoints_the_one_before_them_is_the_last(live, tmp_path):
    """With `freq=5` epoch 2 has a snapshot only as the last one, and so has its noise floor."""
    damaged = tmp_path / "damaged.weights.h5"
    damaged.write_bytes(b"")
    paths = {epoch: live[0] / f"{epoch + 1:02d}.weights.h5" for epoch in (-1, 0, 1, 2)}
    for checkpoints in (paths | {3: damaged, 4: damaged}, (paths | {3: damaged}).get):
        callback = watch(tmp_path / f"logs {callable(checkpoints)}", freq=5)
        replay(callback, compiled(), checkpoints, verbose=0)
        history, rows = callback.history, [0, 1, 3]
        assert history.epochs.tolist() == [-1, 0, 2]
        assert 3 in history.skipped
        np.testing.assert_array_equal(history.images, live[1].history.images[rows])
        np.testing.assert_array_equal(history.noise_floor, live[1].history.noise_floor[rows])


class FullDisk:
    """Let no file grow beyond some bytes, by the operating system, as on a full disk."""

    def __enter__(self):
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        return self

    def allow(self, size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._before[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


def full_at(disk, epoch, pattern, folder):
    """Return a function of checkpoints, at one of which the disk is full for a while."""

    def path_of(number):
        # A replay asks for the next checkpoint before it takes the snapshot of one.
        if number == epoch + 1:
            [events] = (folder / "feature_vis").glob("*tfevents*")
            disk.allow(events.stat().st_size + 100)
        if number > epoch + 1:
            disk.allow(resource.RLIM_INFINITY)
        return pattern.format(epoch=number + 1) if number < 3 else None

    return path_of


@pytest.mark.filterwarnings("ignore:FeatureVisCallback could not take or write")
def test_what_found_no_room_on_the_disk_is_taken_by_the_next_replay(live, tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    callback = watch(tmp_path, on_error="warn")
    with FullDisk() as disk:
        replay(callback, compiled(), full_at(disk, 0, pattern(live), tmp_path), verbose=0)
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2]
    assert "The snapshot after epoch 0 is not written. The same replay" in caplog.text
    tag = "feature_vis_score/Neuron#logits_3"
    assert [step for step, _ in events(tmp_path)[1].get(tag, [])] == [-1, 1, 2]
    replay(callback, compiled(), pattern(live), verbose=0)
    assert "goes on after epoch -1" in caplog.text
    assert find_runs(tmp_path) == [str(tmp_path)]
    np.testing.assert_array_equal(callback.history.images, live[1].history.images)
    assert events(tmp_path)[1][tag] == events(live[0] / "logs")[1][tag]


@pytest.mark.filterwarnings("ignore:FeatureVisCallback could not take or write")
def test_a_record_that_cannot_be_written_ends_no_replay(live, tmp_path):
    """A folder is where the note belongs."""
    (tmp_path / "feature_vis" / "replay.json").mkdir(parents=True)
    callback = watch(tmp_path, on_error="warn")
    with pytest.warns(UserWarning, match=r"directory: .*replay\.json"):
        replay(callback, compiled(), pattern(live), verbose=0)
    assert_equal(callback.history, live[1].history)
    assert not list((tmp_path / "feature_vis").glob("*.part"))


def other_architecture(folder):
    model = keras.Sequential([keras.Input((12, 10, 1)), layers.Flatten(), layers.Dense(3)])
    model.save_weights(folder / "01.weights.h5")
    return folder / "01.weights.h5"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: [folder / "missing.weights.h5"], "no file at .*missing"),
        (lambda folder: str(folder / "{epoch}.keras"), "no file of .*{epoch}.keras"),
        (lambda folder: str(folder / "last.keras"), "in which there is no {epoch}"),
        (lambda folder: {-2: "x.keras"}, "-2: 'x.keras'"),
        (lambda folder: [], "checkpoints=\\[\\]"),
        (lambda folder: lambda epoch: None, "no checkpoint at all"),
        (lambda folder: [other_architecture(folder)], "cannot be loaded into the model"),
    ],
)
def test_wrong_checkpoints_are_refused_before_anything_is_computed(tmp_path, make, said):
    model = compiled()
    before = state(model)
    callback = watch(tmp_path / "logs")
    with pytest.raises(ValueError, match=said):
        replay(callback, model, make(tmp_path), verbose=0)
    assert_same_state(model, before)
    assert len(callback.history) == 0
    assert not (tmp_path / "logs").exists()


def test_two_files_of_one_number_are_refused(live, tmp_path):
    for name in ("1-0.5.weights.h5", "1-0.4.weights.h5"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match="two files of number 1"):
        replay(watch(tmp_path), compiled(), str(tmp_path / "{epoch}-{loss}.weights.h5"))


def test_no_callback_is_refused(live):
    with pytest.raises(ValueError, match="`callback`.*Received: callback='logs'"):
        replay("logs", compiled(), pattern(live))


class Autoencoder(keras.Model):
    """A wrapper: its parts are trained by a `train_step`, and it has no `call`."""

    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential(
            [
                keras.Input((12, 10, 1)),
                layers.Conv2D(3, 3, activation="tanh", name="conv"),
                layers.Flatten(),
                layers.Dense(4, name="code"),
            ],
            # Names of targets begin with it, and draws depend on names.
            name="encoder",
        )
        inner = [keras.Input((4,)), layers.Dense(120, name="pixels")]
        self.decoder = keras.Sequential(inner, name="decoder")
        # Keras saves no weights of a model that it takes for one without.
        self.built = True

    def loss_of(self, images):
        decoded = self.decoder(self.encoder(images))
        return keras.ops.mean((decoded - keras.ops.reshape(images, (-1, 120))) ** 2)

    def train_step(self, *arguments):
        return STEPS[keras.backend.backend()](self, *arguments)


def tensorflow_step(model, images):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = model.loss_of(images)
    weights = model.trainable_variables
    model.optimizer.apply(tape.gradient(loss, weights), weights)
    return {"loss": loss}


def torch_step(model, images):
    model.zero_grad()
    loss = model.loss_of(images)
    loss.backward()
    weights = model.trainable_weights
    model.optimizer.apply([one.value.grad for one in weights], weights)
    return {"loss": loss.detach()}


def jax_step(model, state, images):
    import jax

    def loss_of(weights):
        with keras.StatelessScope(list(zip(model.trainable_variables, weights, strict=True))):
            return model.loss_of(images)

    weights, others, of_optimizer, of_metrics = state
    loss, gradients = jax.value_and_grad(loss_of)(weights)
    weights, of_optimizer = model.optimizer.stateless_apply(of_optimizer, gradients, weights)
    return {"loss": loss}, (weights, others, of_optimizer, of_metrics)


STEPS = {"tensorflow": tensorflow_step, "torch": torch_step, "jax": jax_step}


@pytest.mark.acceptance
def test_a_wrapper_with_a_train_step_of_its_own(tmp_path):
    pattern = str(tmp_path / "{epoch}.weights.h5")
    live_one, model = watch(tmp_path / "live", None), Autoencoder()
    model.compile(keras.optimizers.Adam(0.01))
    model.save_weights(tmp_path / "0.weights.h5")
    saving = keras.callbacks.ModelCheckpoint(pattern, save_weights_only=True)
    model.fit(PIXELS, batch_size=8, epochs=2, verbose=0, callbacks=[live_one, saving])
    other = Autoencoder()
    other.compile(keras.optimizers.Adam(0.01))
    callback = watch(tmp_path / "replayed", None)
    replay(callback, other, pattern, verbose=0)
    assert callback.history.epochs.tolist() == [-1, 0, 1]
    assert_equal(callback.history, live_one.history)
    assert_equal_events(tmp_path / "replayed", tmp_path / "live")


@keras.saving.register_keras_serializable()
class Subclassed(keras.Model):
    """A model with a `call` of its own."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.conv = layers.Conv2D(4, 3, activation="tanh", name="conv")
        self.flatten = layers.Flatten()
        self.logits = layers.Dense(2, name="logits")

    def call(self, images):
        return self.logits(self.flatten(self.conv(images)))


def subclassed():
    model = Subclassed()
    model(PIXELS)
    return model


def with_two_inputs():
    image, age = keras.Input((12, 10, 1), name="image"), keras.Input((2,), name="age")
    maps = layers.Conv2D(4, 3, activation="tanh", name="conv")(image)
    joined = layers.Concatenate()([layers.Flatten()(maps), age])
    return keras.Model([image, age], layers.Dense(2, name="logits")(joined), name="two")


def of_policy(policy):
    inner = [
        layers.Conv2D(4, 3, activation="tanh", name="conv", dtype=policy),
        layers.Flatten(),
        layers.Dense(2, name="logits", dtype=policy),
    ]
    return keras.Sequential([keras.Input((12, 10, 1)), *inner], name="of_policy")


def of_int8():
    """Only what is beside quantised kernels is trained: biases, and the convolution."""
    inner = [
        layers.Conv2D(4, 3, activation="tanh", name="conv"),
        layers.Flatten(),
        layers.Dense(2, name="logits"),
    ]
    model = keras.Sequential([keras.Input((12, 10, 1)), *inner], name="of_int8")
    model.quantize("int8")
    return model


AGES = np.linspace(0, 1, 32, dtype="float32").reshape(16, 2)
KINDS = {
    "subclassed": (subclassed, {}),
    "two inputs": (with_two_inputs, {"fixed_inputs": {"age": AGES[3]}, "probe_data": None}),
    "mixed_float16": (lambda: of_policy("mixed_float16"), {}),
    "float16": (lambda: of_policy("float16"), {}),
    "int8": (of_int8, {}),
}


@pytest.mark.acceptance
@pytest.mark.parametrize("kind", KINDS)
def test_models_of_other_kinds_are_equal_too(kind, tmp_path):
    """With labels, so that selectivity is compared."""
    make, settings = KINDS[kind]
    labels = np.arange(16) % 2
    settings = {"probe_data": (PIXELS, labels), "log_importance": True} | settings
    keras.utils.set_random_seed(3)
    model = compiled(make(), rate=0.05)
    model.save_weights(tmp_path / "0.weights.h5")
    pattern = str(tmp_path / "{epoch}.weights.h5")
    saving = keras.callbacks.ModelCheckpoint(pattern, save_weights_only=True)
    live_one = watch(tmp_path / "live", None, **settings)
    given = {"image": PIXELS, "age": AGES} if kind == "two inputs" else PIXELS
    model.fit(given, labels, batch_size=8, epochs=2, verbose=0, callbacks=[live_one, saving])
    keras.utils.set_random_seed(4)
    callback, other = watch(tmp_path / "replayed", None, **settings), compiled(make())
    replay(callback, other, pattern, verbose=0)
    assert callback.history.epochs.tolist() == [-1, 0, 1]
    assert np.ptp(callback.history.images, axis=0).max() > 0
    assert callback.history.importance is not None
    if kind != "two inputs":
        assert np.isfinite(callback.history.selectivity).all()
    assert_equal(callback.history, live_one.history)
    assert_equal_events(tmp_path / "replayed", tmp_path / "live")


def test_a_wrapper_that_was_never_called_takes_its_weights(tmp_path):
    """Keras loads no file into it, unless told that it is built."""
    trained, model = Autoencoder(), Autoencoder()
    trained.save_weights(tmp_path / "1.weights.h5")
    model.built = False
    callback = watch(tmp_path / "logs", None)
    replay(callback, model, str(tmp_path / "{epoch}.weights.h5"), verbose=0)
    assert callback.history.epochs.tolist() == [0]
    assert not model.built


def normalised(values):
    norm = layers.Normalization(axis=-1, name="norm")
    norm.adapt(values)
    inner = [norm, layers.Conv2D(4, 3, name="conv1"), layers.Flatten(), layers.Dense(10)]
    inner[-1].name = "logits"
    return keras.Sequential([keras.Input((12, 10, 1)), *inner])


def test_constants_that_keras_makes_of_weights_are_restored_too(tmp_path):
    """Keras makes them of `Normalization`, and not anew when a weight is assigned."""
    trained, model = normalised(7 * PIXELS), normalised(PIXELS - 3)
    trained.save_weights(tmp_path / "1.weights.h5")
    before = np.array(keras.ops.convert_to_numpy(model(PIXELS)))
    ways = (str(tmp_path / "{epoch}.weights.h5"), lambda e: None if e else trained.get_weights())
    images = []
    for checkpoints in ways:
        callback = watch(tmp_path / f"logs {len(images)}", values_range=(0, 1))
        images.append(replay(callback, model, checkpoints, verbose=0).images)
    # This traces the model as it is now.
    np.testing.assert_allclose(model.predict(PIXELS, verbose=0), before, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(*images)


def test_the_last_checkpoint_shows_a_bar_and_lines(live, tmp_path, capsys):
    callback = watch(tmp_path, neurons, verbose=1)
    replay(callback, compiled(), pattern(live))
    printed = capsys.readouterr().out
    assert "4/4" in printed
    assert printed.count("feature_vis: epoch") == 4
