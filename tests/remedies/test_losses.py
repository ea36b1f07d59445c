import numpy as np
import pytest
import torch
from remedy_problems import compare, last, log_loss, mislabelled, pairs_of, run, tones
from torch.nn import functional

pytestmark = pytest.mark.trains

HARD = pairs_of(tones, n=90, n_classes=2, noise=1.5)


def confidence(classifier, data):
    return classifier.predict_proba(data[2]).max(axis=1).mean()


@pytest.mark.parametrize("loss", ["focal", "mse"])
def test_a_bounded_or_focused_loss_is_less_sure_of_wrong_labels(loss):
    usual, other = compare(
        mislabelled,
        lambda c, data: log_loss(c, *data[2:]),
        {"loss": "cross_entropy"},
        {"loss": loss},
        hidden_size=16,
        max_epochs=80,
    )
    assert np.median(other) < 0.85 * np.median(usual)
    assert (other < usual).sum() >= 4


@pytest.mark.parametrize("loss", ["focal", "mse"])
def test_the_curve_is_in_the_units_of_the_loss(loss):
    data = HARD(0)
    classifier = run(data, 0, loss=loss)
    p = classifier.predict_proba(data[2])
    if loss == "focal":
        right = p[np.arange(len(p)), data[3]]
        expected = (-((1 - right) ** 2) * np.log(right)).mean()
    else:
        expected = ((p - np.eye(2)[data[3]]) ** 2).mean()
    np.testing.assert_allclose(classifier.history_["val_loss"][-1], expected, rtol=1e-4)


def test_label_smoothing_lowers_the_confidence_and_the_price_of_being_wrong():
    sharp, smooth = compare(
        mislabelled,
        lambda c, data: (confidence(c, data), log_loss(c, *data[2:])),
        {"label_smoothing": 0.0},
        {"label_smoothing": 0.2},
        hidden_size=16,
        max_epochs=80,
    )
    assert (smooth[:, 0] < sharp[:, 0] - 0.05).all()
    assert np.median(smooth[:, 1]) < 0.75 * np.median(sharp[:, 1])


def test_a_loss_of_ones_own_is_what_is_trained_on():
    def missing_the_second_costs_twenty(logits, class_index):
        price = torch.where(class_index == 1, 20.0, 1.0)
        return price * functional.cross_entropy(logits, class_index, reduction="none")

    def recall_of_the_second(classifier, data):
        return classifier.predict(data[2])[data[3] == 1].mean()

    usual, own = compare(
        HARD,
        lambda c, data: (recall_of_the_second(c, data), c.predict(data[2]).mean()),
        {"loss": "cross_entropy"},
        {"loss": missing_the_second_costs_twenty},
        max_epochs=10,
    )
    assert np.median(own[:, 0]) > 0.95
    assert np.median(own[:, 1]) > np.median(usual[:, 1]) + 0.15


def test_a_loss_that_returns_the_mean_trains_as_one_that_returns_all():
    each, mean = compare(
        HARD,
        last("val_loss"),
        {"loss": lambda z, k: functional.cross_entropy(z, k, reduction="none")},
        {"loss": lambda z, k: functional.cross_entropy(z, k)},
        max_epochs=5,
    )
    np.testing.assert_allclose(each, mean, rtol=1e-4)
