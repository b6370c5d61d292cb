"""Objectives that are read alike, joined so that they share compiled steps."""

import numpy as np

from featviz_callback import Objective
from featviz_callback.objectives import SomeTargets, join_alike, score_all
from tests.conftest import layer_output, make_small_model, mixed, prepare


def test_objectives_that_read_the_same_layers_alike_are_one(small_model):
    objectives = mixed(small_model)
    joined = join_alike(objectives)
    assert [one.parts for one in joined] == [
        (objectives[0], objectives[3]),
        (objectives[1],),
        (objectives[2],),
        (objectives[4],),
    ]
    assert joined[0].names == [f"Neuron#logits_{i}" for i in (3, 1, 9)]
    [(rows, multipliers)] = joined[0].data()
    assert rows.tolist() == [3, 1, 9]
    assert multipliers.tolist() == [1, 1, 1]
    assert len(joined[0]) == 3


def test_combinations_are_put_together_target_by_target(small_model):
    def one(channels, logits):
        return Objective.channel(small_model, "conv1", channels) - Objective.neuron(
            small_model, "logits", logits
        )

    [joined] = join_alike([one([0, 1], [5, 6]), one(2, 7)])
    channels, logits = joined.data()
    assert channels[0].tolist() == [0, 0, 1, 1, 2]
    assert logits[0].tolist() == [5, 6, 5, 6, 7]
    assert logits[1].tolist() == [-1] * 5


def test_other_models_and_multipliers_of_another_size_stay_apart(small_model):
    other = make_small_model()
    objectives = [
        Objective.neuron(small_model, "logits", 0),
        Objective.neuron(other, "logits", 0),
        Objective.neuron(small_model, "logits", 1, multiplier=-1.0),
        Objective.neuron(small_model, "logits", 2, multiplier=3.0),
    ]
    assert [len(one.parts) for one in join_alike(objectives)] == [2, 1, 1]


def test_some_targets_are_scored_as_among_all(small_model, images):
    [whole] = join_alike(
        [Objective.neuron(small_model, "logits", [4, 0, 7]), Objective.neuron(small_model, -1, 2)]
    )
    chosen = SomeTargets.of(whole, [3, 1])
    assert len(chosen) == 2
    assert chosen.names == ["Neuron#logits_2", "Neuron#logits_0"]
    expected = layer_output(small_model, "logits", images)[:, [2, 0]].T
    [scores] = score_all([chosen], images)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_what_is_compared_place_by_place_is_optimised_apart(small_model, images):
    direction = Objective.direction(small_model, "logits", np.arange(10.0))
    caricature = Objective.caricature(small_model, "logits", images[:1])
    assert len(join_alike([direction, caricature])) == 2


def test_a_picture_has_the_contrast_that_it_has_alone(small_model, images):
    inversion = Objective.inversion(small_model, "logits", images[:1])
    against = Objective.inversion(small_model, "logits", images[1:2], multiplier=-1)
    alone, joined = (prepare(join_alike(some)[0]) for some in ([inversion], [inversion, against]))
    assert alone.plan.parameterization == joined.plan.parameterization
    assert len(join_alike([inversion, against, inversion])) == 2
