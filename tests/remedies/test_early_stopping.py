import numpy as np
import pytest
from remedy_problems import compare, log_loss, mislabelled, run

pytestmark = pytest.mark.trains

LONG = {"max_epochs": 60}


def loss_on_validation(classifier, data):
    return log_loss(classifier, *data[2:])


def test_the_weights_kept_are_those_of_the_lowest_validation_loss_not_the_last():
    (last, last_epoch), (best, best_epoch) = (
        np.transpose(arm)
        for arm in compare(
            mislabelled,
            lambda c, data: (loss_on_validation(c, data), c.best_epoch_),
            {"restore_best": False},
            {"restore_best": True},
            **LONG,
        )
    )
    assert (last_epoch == 60).all()
    assert best_epoch.max() < 60
    assert (best < last).all()
    assert np.median(best) < 0.8 * np.median(last)


def test_the_loss_kept_is_the_lowest_of_the_curve():
    for seed in range(3):
        data = mislabelled(seed)
        classifier = run(data, seed, restore_best=True, **LONG)
        curve = classifier.history_["val_loss"]
        assert classifier.best_score_ == curve.min() == curve[classifier.best_epoch_ - 1]
        np.testing.assert_allclose(loss_on_validation(classifier, data), curve.min(), rtol=1e-4)


def test_stopping_early_saves_most_epochs_and_loses_little():
    whole, stopped = compare(
        mislabelled,
        lambda c, data: (loss_on_validation(c, data), c.n_iter_),
        {"early_stopping": False},
        {"early_stopping": True, "patience": 10},
        restore_best=True,
        **LONG,
    )
    assert (whole[:, 1] == 60).all()
    assert np.median(stopped[:, 1]) < 50
    assert np.median(stopped[:, 0]) < 1.1 * np.median(whole[:, 0])


def test_patience_waits_longer_and_tolerance_shorter():
    short, long, tolerant = compare(
        mislabelled,
        lambda classifier, _: classifier.n_iter_,
        {"patience": 4},
        {"patience": 16},
        {"patience": 16, "tol": 0.5},
        early_stopping=True,
        max_epochs=80,
    )
    assert np.median(long) > np.median(short) + 8
    assert (tolerant < long).sum() >= 4


def test_what_is_monitored_decides_which_epoch_is_kept():
    by_loss, by_accuracy, by_training = compare(
        mislabelled,
        lambda c, data: (loss_on_validation(c, data), c.score(*data[2:]), c.best_epoch_),
        {"monitor": "val_loss"},
        {"monitor": "val_accuracy"},
        {"monitor": "loss"},
        restore_best=True,
        **LONG,
    )
    assert (by_loss[:, 0] <= by_training[:, 0]).all()
    assert (by_accuracy[:, 1] >= by_loss[:, 1]).all()
    assert np.median(by_accuracy[:, 1]) > np.median(by_training[:, 1]) + 0.05
    assert np.median(by_training[:, 2]) > 50  # the training loss falls to the end
