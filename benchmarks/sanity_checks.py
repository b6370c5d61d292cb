"""Check that pictures depend on what a network has learnt (Adebayo et al. 2018).

A network of clothes is trained. Then its layers get random weights, one after the other
from the top, and each alone. Pictures must move as far as those of an unrelated network.
On the same weights they must not move at all. A network that learns shuffled labels by
heart must show other logits.

    python benchmarks/sanity_checks.py [--networks 2] [--epochs 10] [--shuffled-epochs 60]
        [--check]

Two measures that share no code say how far pictures move: drift, as the package measures
it, and one minus the structural similarity of scikit-image (`pip install scikit-image`).
`--check` tests both measures on planted pictures.

Reference:
    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv:1810.03292.
"""

import argparse
import logging

import monitor
import numpy as np
from common import RESULTS, write_table
from quality import save_sheet
from skimage.metrics import structural_similarity

from featviz_callback import optimize
from featviz_callback.records import pictures
from featviz_callback.records.drift import drift

STEPS = 32
# Fewer images are learnt by heart.
TRAINED_ON, SHUFFLED, PROBES = 2000, 1000, 500
# From the top.
LAYERS = ("logits", "conv3", "conv2", "conv1")


def dissimilarity(before, after):
    """Return one minus the structural similarity of each pair of grey pictures in [0, 1]."""
    pairs = zip(before[..., 0], after[..., 0], strict=True)
    return np.array([1 - structural_similarity(*pair, data_range=1.0) for pair in pairs])


def draw(model, probe_data, seed=0):
    """Return the pictures of each layer."""
    found = {}
    for objective in monitor.all_layers(model):
        layer = objective.names[0].split("#")[1].rsplit("_", 1)[0]
        found[layer] = optimize(
            objective, steps=STEPS, seed=seed, values_range=(0, 1), probe_data=probe_data
        ).images
    return found


def randomise(model, random_model, layers):
    """Give layers the weights of an untrained network."""
    for name in layers:
        model.get_layer(name).set_weights(random_model.get_layer(name).get_weights())


def train(seed, images, labels, epochs):
    """Return a trained network, and its accuracy on the images it was trained on."""
    model = monitor.build_model(seed)
    model.compile("adam", model.loss, metrics=["accuracy"])
    model.fit(images, labels, epochs=epochs, batch_size=32, verbose=0)
    return model, model.evaluate(images, labels, verbose=0)[1]


def states(seed, data, epochs, shuffled_epochs):
    """Yield `(what, model)`, the trained network first."""
    images, labels = data[0][:TRAINED_ON], data[1][:TRAINED_ON]
    model, accuracy = train(seed, images, labels, epochs)
    held_out = model.evaluate(data[0][-2000:], data[1][-2000:], verbose=0)[1]
    print(f"network {seed}: {accuracy:.0%} of its images right, held out {held_out:.0%}")
    yield "the same weights", model
    random_model, trained = monitor.build_model(seed + 100), model.get_weights()
    for count in range(1, len(LAYERS) + 1):
        randomise(model, random_model, LAYERS[:count])
        yield f"random from the top down to {LAYERS[count - 1]}", model
    for layer in LAYERS:
        model.set_weights(trained)
        randomise(model, random_model, [layer])
        yield f"random: {layer} alone", model
    model.set_weights(trained)
    other, _ = train(seed + 50, images, labels, epochs)
    yield "trained from other first weights", other
    shuffled = np.random.default_rng(seed).permutation(labels[:SHUFFLED])
    other, accuracy = train(seed, images[:SHUFFLED], shuffled, shuffled_epochs)
    print(f"shuffled labels: {accuracy:.0%} of its images right")
    yield "trained on shuffled labels", other


def measure(seed, data, given):
    """Return numbers by `probe_data`, state and layer, and rows of pictures of logits."""
    found, rows, firsts = {False: {}, True: {}}, [], {}

    def note(with_data, what, pictures_of):
        first = firsts[with_data]
        found[with_data][what] = {
            layer: (
                np.mean(drift(first[layer], images)),
                np.mean(dissimilarity(first[layer], images)),
            )
            for layer, images in pictures_of.items()
        }
        print(seed, with_data, what, found[with_data][what]["logits"], flush=True)

    for what, model in states(seed, data, given.epochs, given.shuffled_epochs):
        for with_data in (False, True):
            probe_data = data[0][:PROBES] if with_data else None
            if with_data not in firsts:
                first = firsts[with_data] = draw(model, probe_data)
                note(with_data, "the same weights, another seed", draw(model, probe_data, 1))
                each_next = {layer: np.roll(images, 1, 0) for layer, images in first.items()}
                note(with_data, "each unit against the next one", each_next)
            pictures_of = draw(model, probe_data)
            note(with_data, what, pictures_of)
            if not with_data:
                rows.append(pictures_of["logits"])
    return found, rows


def check():
    """Test both measures on planted pictures."""
    rng = np.random.default_rng(0)
    planted = rng.uniform(size=(4, 28, 28, 1)).astype("float32")
    assert np.allclose(drift(planted, planted), 0, atol=1e-6)
    assert np.allclose(dissimilarity(planted, planted), 0, atol=1e-6)
    other = rng.uniform(size=planted.shape).astype("float32")
    assert np.all(np.abs(drift(planted, other) - 1) < 0.15)
    assert np.all(np.abs(dissimilarity(planted, other) - 1) < 0.15)
    assert np.allclose(drift(planted, 1 - planted), 2, atol=1e-5)
    half = 0.5 * (planted + other)
    assert np.all(drift(planted, half) < drift(planted, other))
    assert np.all(dissimilarity(planted, half) < dissimilarity(planted, other))
    model, random_model = monitor.build_model(0), monitor.build_model(1)
    before = draw(model, None)
    randomise(model, random_model, ["conv3"])
    after = draw(model, None)
    # What lies below a layer cannot depend on it.
    assert np.array_equal(before["conv2"], after["conv2"])
    assert np.all(drift(before["conv3"], after["conv3"]) > 0.1)
    print("All planted checks hold.")


def main():
    """Write both tables, with `probe_data` and without, and a sheet of logits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--shuffled-epochs", type=int, default=60)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    logging.getLogger("featviz_callback").setLevel(logging.ERROR)
    if given.check:
        check()
        return
    data, found, rows = monitor.fashion_mnist.load_data(), [], []
    for seed in range(given.networks):
        measured, sheet = measure(seed, data, given)
        found.append(measured)
        if seed == 0:
            shown = [list(pictures.to_uint8(row, (0, 1))) for row in sheet]
            save_sheet(pictures.grid(shown), "sanity_checks.png")
    for with_data in (False, True):
        for what in found[0][with_data]:
            cells = []
            for layer in LAYERS:
                each = np.array([one[with_data][what][layer] for one in found])
                cells.append(" / ".join(f"{value:.2f}" for value in each.mean(0)))
            rows.append(("yes" if with_data else "no", what, *cells))
    title = (
        f"How far pictures move, drift / 1 - SSIM, mean of {given.networks} networks; "
        f"8 channels of each convolution and 10 logits, {STEPS} steps"
    )
    columns = ("`probe_data`", "against the trained network", *LAYERS)
    write_table("sanity_checks", title, columns, rows)
    print(RESULTS / "sanity_checks.png")


if __name__ == "__main__":
    main()
