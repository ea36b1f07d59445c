import numpy as np
import pytest
from remedy_problems import compare, gap, last, marked, mislabelled, pairs_of, tones

pytestmark = pytest.mark.trains


def odd_signs(n, seed, *, n_pulses=5, spacing=5):
    """Pulses up or down, an odd number of them up or not: nothing is known before the last."""
    rng = np.random.default_rng(seed)
    up = rng.integers(0, 2, (n, n_pulses))
    X = 0.1 * rng.normal(size=(n, spacing * n_pulses, 1))
    for pulse in range(n_pulses):
        start = 1 + spacing * pulse
        X[:, start : start + 2, 0] += 2.0 * (2 * up[:, [pulse]] - 1)
    return X, up.sum(axis=1) % 2


def test_more_units_fit_what_one_cannot():
    one, eight = compare(
        pairs_of(tones, n=80, n_classes=4, noise=0.2),
        last("accuracy", 5),
        {"hidden_size": 1},
        {"hidden_size": 8},
        max_epochs=60,
    )
    assert one.max() < 0.9
    assert eight.min() > 0.95


def test_more_layers_fit_what_one_of_two_units_cannot():
    one, three = compare(
        pairs_of(odd_signs, n=192, n_val=10),
        last("accuracy", 5),
        {"num_layers": 1},
        {"num_layers": 3},
        hidden_size=2,
        pooling="last",
        learning_rate=0.02,
        lr_schedule="cosine",
        max_epochs=200,
        seeds=range(7),
    )
    assert np.median(three) > np.median(one) + 0.15
    assert (three > one).sum() >= 6


def test_the_second_direction_reads_what_the_first_has_forgotten():
    forwards, both = compare(
        pairs_of(marked, at=1, n_timesteps=100),
        lambda classifier, data: classifier.score(*data[2:]),
        {"bidirectional": False},
        {"bidirectional": True},
        pooling="last",
    )
    assert np.median(forwards) < 0.7
    assert np.median(both) > 0.9
    assert (both > forwards + 0.2).sum() >= 3


def test_fewer_units_learn_less_of_the_wrong_labels_by_heart():
    many, few = compare(mislabelled, gap, {"hidden_size": 32}, {"hidden_size": 3}, max_epochs=60)
    assert np.median(few) < np.median(many) / 2
    assert (few < many).all()
