import numpy as np
import pytest
import torch
from remedy_problems import compare, gap, last, mislabelled, pairs_of, tones
from torch.nn import functional

pytestmark = pytest.mark.trains

LEARNED_BY_HEART = {"hidden_size": 16, "max_epochs": 80}


def matrices(classifier):
    with torch.no_grad():
        flat = [p.abs().ravel() for p in classifier.module_.parameters() if p.ndim >= 2]
        return torch.cat(flat).numpy()


def gap_and_validation_loss(classifier, data):
    return gap(classifier, data), last("val_loss", 5)(classifier, data)


@pytest.mark.parametrize(
    "remedy",
    [
        {"weight_decay": 0.01},
        {"l1": 0.003},
        {"dropout": 0.5},
        {"recurrent_dropout": 0.5},
        {"optimizer": "adamw", "weight_decay": 1.0},
    ],
    ids=["weight_decay", "l1", "dropout", "recurrent_dropout", "adamw"],
)
def test_what_was_learned_by_heart_shrinks_with(remedy):
    without, remedied = compare(
        mislabelled, gap_and_validation_loss, {}, remedy, **LEARNED_BY_HEART
    )
    assert np.median(remedied[:, 0]) < 0.65 * np.median(without[:, 0])
    assert np.median(remedied[:, 1]) < 0.8 * np.median(without[:, 1])
    assert (remedied < without).all(axis=1).sum() >= 4


def test_dropout_between_layers_narrows_the_gap_of_a_stack():
    without, dropped = compare(
        mislabelled, gap, {}, {"dropout": 0.5}, num_layers=2, **LEARNED_BY_HEART
    )
    assert np.median(dropped) < 0.75 * np.median(without)
    assert (dropped < without).sum() >= 4


def test_l1_makes_weights_zero_where_weight_decay_makes_them_small():
    without, sparse, small = compare(
        pairs_of(tones),
        lambda c, _: ((matrices(c) < 0.01).mean(), matrices(c).sum()),
        {},
        {"l1": 0.003},
        {"weight_decay": 0.003},
        max_epochs=80,
    )
    assert (sparse[:, 0] > 0.2).all()
    assert (small[:, 0] < 0.1).all()
    assert (sparse[:, 1] < 0.5 * without[:, 1]).all()
    assert (small[:, 1] < 0.75 * without[:, 1]).all()


def test_the_decay_of_adamw_is_decoupled_from_the_size_of_the_loss_and_that_of_adam_is_not():
    def times(factor):
        return lambda z, k: factor * functional.cross_entropy(z, k, reduction="none")

    adam, adam_100, adamw, adamw_100 = compare(
        pairs_of(tones, noise=0.3),
        lambda c, _: matrices(c).sum(),
        *(
            {"optimizer": optimizer, "loss": times(factor)}
            for optimizer in ("adam", "adamw")
            for factor in (1.0, 100.0)
        ),
        weight_decay=0.03,
        max_grad_norm=None,
        max_epochs=20,
        seeds=range(3),
    )
    np.testing.assert_allclose(adamw_100, adamw, rtol=0.02)
    assert (adam_100 > 1.5 * adam).all()


def test_penalties_are_not_in_the_curve():
    problem = pairs_of(tones)
    plain, penalized = compare(
        problem,
        lambda c, _: c.history_["loss"][0],
        {},
        {"l1": 0.1},
        batch_size=None,
        max_epochs=1,
        seeds=range(3),
    )
    np.testing.assert_allclose(plain, penalized, rtol=1e-5)  # one step: the first weights' loss
