import numpy as np
import pytest
from fits import plain_classifier
from remedy_problems import SMALL, compare, marked, pairs_of, tones

pytestmark = pytest.mark.trains

CLEAN = pairs_of(tones, noise=0.3)


def changed(change):
    def problem(seed):
        X, y, X_val, y_val = CLEAN(seed)
        return change(X, seed), y, change(X_val, seed + 1), y_val

    return problem


def beside_a_channel_in_large_units(X, seed):
    rng = np.random.default_rng(seed)
    return np.concatenate([1e4 * rng.normal(size=X.shape), 1e-3 * X + 50.0], axis=2)


def validation_accuracy(classifier, data):
    return classifier.score(*data[2:])


@pytest.mark.parametrize("scale", ["standard", "robust", "min_max", "quantile"])
@pytest.mark.parametrize(
    "change",
    [lambda X, _: X + 50.0, lambda X, _: 1e-3 * X, beside_a_channel_in_large_units],
    ids=["an offset of 50", "units of 1000", "a channel in units of 1e-4"],
)
def test_scaling_rescues(change, scale):
    unscaled, scaled = compare(
        changed(change), validation_accuracy, {"scale": None}, {"scale": scale}, seeds=range(3)
    )
    assert unscaled.max() < 0.55  # a guess has 1/3
    assert np.median(scaled) > 0.7
    assert (scaled > unscaled + 0.2).all()


def test_max_abs_rescues_from_units_but_not_from_an_offset():
    for change, low, high in (
        (lambda X, _: 1e-3 * X, 0.8, 1.0),
        (lambda X, _: X + 50.0, 0.0, 0.5),
    ):
        unscaled, scaled = compare(
            changed(change), validation_accuracy, {"scale": None}, {"scale": "max_abs"}
        )
        assert unscaled.max() < 0.5
        assert low <= np.median(scaled) <= high


@pytest.mark.parametrize("cure", ["robust", "quantile"])
def test_a_few_spikes_squeeze_the_rest_except_where_quantiles_decide(cure):
    def spiky(seed):
        X, y, X_val, y_val = CLEAN(seed)
        X[::20, 3] = 1000.0
        return X, y, X_val, y_val

    squeezed, cured = compare(spiky, validation_accuracy, {"scale": "min_max"}, {"scale": cure})
    assert squeezed.max() < 0.5
    assert cured.min() > 0.8


def test_padded_and_unpadded_windows_are_the_same_windows():
    rng = np.random.default_rng(0)
    X, y = tones(60, 0, n_timesteps=20)
    lengths = rng.integers(12, 21, 60)
    short = [x[:n] for x, n in zip(X, lengths, strict=True)]
    rubbish = np.concatenate([X, np.zeros_like(X)], axis=1)
    for x, n in zip(rubbish, lengths, strict=True):
        x[n:] = 1e6
    settings = {**SMALL, "max_epochs": 10, "random_state": 0}
    listed = plain_classifier(**settings).fit(short, y)
    padded = plain_classifier(**settings).fit(rubbish, y, lengths=lengths)
    np.testing.assert_array_equal(listed.history_["val_loss"], padded.history_["val_loss"])
    expected = listed.predict_proba(short)
    np.testing.assert_allclose(padded.predict_proba(rubbish, lengths), expected, atol=1e-6)
    np.testing.assert_allclose(listed.predict_proba(rubbish, lengths), expected, atol=1e-6)


def test_padding_that_is_not_told_is_read_and_the_end_forgotten():
    told, untold = [], []
    for seed in range(5):
        X, y, X_val, y_val = pairs_of(marked, at=18, n_timesteps=20)(seed)
        X, X_val = (np.pad(x, ((0, 0), (0, 180), (0, 0))) for x in (X, X_val))
        settings = {**SMALL, "pooling": "last", "random_state": seed}
        lengths, lengths_val = np.full(len(X), 20), np.full(len(X_val), 20)
        knowing = plain_classifier(**settings).fit(X, y, lengths=lengths)
        told.append(knowing.score(X_val, y_val, lengths=lengths_val))
        untold.append(plain_classifier(**settings).fit(X, y).score(X_val, y_val))
    assert np.median(untold) < 0.7
    assert min(told) > 0.85
