import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sensorseq.errors import SignalError
from sensorseq.features.summary import FEATURES, N_BANDS, SummaryFeatures, summary_features


def feature(X, name, channel=0, lengths=None):
    columns = summary_features(X, lengths).reshape(len(X), -1, len(FEATURES))
    return columns[:, channel, FEATURES.index(name)]


def test_statistics_equal_those_of_numpy_and_scipy():
    X = np.random.default_rng(0).gamma(2.0, size=(7, 31, 3))
    for channel in range(3):
        x = X[:, :, channel]
        for name, expected in {
            "mean": x.mean(1),
            "sd": x.std(1),
            "min": x.min(1),
            "max": x.max(1),
            "skew": stats.skew(x, axis=1),
            "kurtosis": stats.kurtosis(x, axis=1),
            "mean_difference": np.diff(x).mean(1),
            "sd_difference": np.diff(x).std(1),
            "quantile_0.25": np.quantile(x, 0.25, axis=1),
        }.items():
            np.testing.assert_allclose(feature(X, name, channel), expected, err_msg=name)


@given(st.integers(0, 10**6))
def test_values_beyond_the_lengths_have_no_effect(seed):
    rng = np.random.default_rng(seed)
    X, lengths = rng.normal(size=(6, 12, 2)), rng.integers(0, 13, 6)
    spoilt = X.copy()
    spoilt[np.arange(12) >= lengths[:, None]] = np.nan
    features = summary_features(spoilt, lengths)
    assert np.isfinite(features).all()
    for row, length in enumerate(lengths):
        if length:
            np.testing.assert_array_equal(
                features[row], summary_features(X[row : row + 1, :length])[0]
            )


def test_a_sine_has_its_power_in_its_band():
    t = np.arange(100)
    for band in range(N_BANDS):
        frequency = (band + 0.5) / N_BANDS / 2
        powers = [
            feature(np.sin(2 * np.pi * frequency * t)[None, :, None], f"log_power_{b}")[0]
            for b in range(N_BANDS)
        ]
        assert int(np.argmax(powers)) == band
        # A sine of amplitude 1 has power 1/2, half of it at the positive frequency.
        assert np.exp(powers[band]) == pytest.approx(0.25, rel=0.05)


def test_constants_and_single_samples_have_finite_features():
    for X in (np.full((2, 8, 1), 1e6), np.zeros((2, 1, 2)), np.full((1, 5, 1), 0.1)):
        features = summary_features(X)
        assert np.isfinite(features).all()
        assert not feature(X, "skew").any()


@pytest.mark.parametrize("lengths", [None, [12, 0, 1, 5, 12, 3]])
def test_the_class_gives_the_statistics_of_the_function(lengths):
    X = np.random.default_rng(0).normal(size=(6, 12, 2))
    features = SummaryFeatures().fit(X, lengths)
    found = features.transform(X, lengths)
    np.testing.assert_array_equal(found, summary_features(X, lengths))
    assert found.shape == (6, features.n_features_) == (6, 2 * len(FEATURES))
    assert features.n_channels_ == 2
    state = features.state()
    settings = json.loads(json.dumps(state["settings"]))
    restored = SummaryFeatures.from_state({"settings": settings, "arrays": state["arrays"]})
    np.testing.assert_array_equal(restored.transform(X, lengths), found)


def test_one_channel_may_come_without_its_axis():
    X = np.random.default_rng(0).normal(size=(6, 12))
    found = SummaryFeatures().fit(X).transform(X)
    np.testing.assert_array_equal(found, summary_features(X[:, :, None]))


def test_misuse_of_the_class_is_reported():
    X = np.random.default_rng(0).normal(size=(6, 12, 2))
    features = SummaryFeatures().fit(X)
    for call, message in (
        (lambda: SummaryFeatures().transform(X), "call fit first"),
        (lambda: features.transform(X[:, :, :1]), "X has 1 channels, .* fitted on 2"),
        (lambda: features.transform(X[:, :0]), "no timesteps"),
        (lambda: features.transform(X, [13] * 6), r"lengths\[0\] is 13"),
        (lambda: features.transform(np.where(X[2, 3, 1] == X, np.nan, X)), "window 2, step 3"),
        (lambda: SummaryFeatures.from_state({"settings": {}, "arrays": {}}), "of kind None"),
    ):
        with pytest.raises(SignalError, match=message):
            call()
    state = features.state()
    state["settings"]["features"] = ["mean"]
    with pytest.raises(SignalError, match="does not list the statistics"):
        SummaryFeatures.from_state(state)
