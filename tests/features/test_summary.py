from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal, stats

from sensorseq.errors import ArgumentError, SignalError
from sensorseq.features.summary import (
    FEATURES,
    N_BANDS,
    SMALLEST_POWER,
    SPECTRAL,
    SummaryFeatures,
    inner_edges,
    statistic_names,
    summary_features,
)


def feature(X, name, channel=0, lengths=None, n_steps=None):
    names = statistic_names(n_steps)
    columns = summary_features(X, lengths, n_steps).reshape(len(X), -1, len(names))
    return columns[:, channel, names.index(name)]


def narrow_powers(X, n_steps):
    """Return the powers (n, bands) of the first channel."""
    names = [name for name in statistic_names(n_steps) if name.startswith("log_narrow")]
    logs = [feature(X, name, n_steps=n_steps) for name in names]
    return np.exp(np.stack(logs, axis=1)) - SMALLEST_POWER


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


@given(st.integers(2, 90), st.integers(1, 90), st.integers(0, 99))
def test_narrow_bands_divide_the_periodogram_of_windows_of_any_length(length, n_steps, seed):
    X = np.random.default_rng(seed).normal(size=(3, length, 1))
    frequency, power = signal.periodogram(X[:, :, 0], detrend="constant", scaling="spectrum")
    power[:, 1:] /= np.where(frequency[1:] == 0.5, 1, 2)  # half of it at a positive frequency
    edges, expected = inner_edges(n_steps), np.zeros((3, len(inner_edges(n_steps)) + 1))
    for line in range(1, length // 2 + 1):
        place = Fraction(line * n_steps, length)
        expected[:, sum(place >= int(edge) for edge in edges)] += power[:, line]
    np.testing.assert_allclose(narrow_powers(X, n_steps), expected, atol=1e-11)
    if length % 2:  # Parseval's theorem
        np.testing.assert_allclose(2 * expected.sum(axis=1), X.var(axis=1)[:, 0])
    share = power[:, 1:] / power[:, 1:].sum(axis=1, keepdims=True)
    centroid = share @ frequency[1:]
    spread = np.sqrt((share * (frequency[1:] - centroid[:, None]) ** 2).sum(axis=1))
    for name, value in zip(SPECTRAL, (centroid, spread, stats.entropy(share.T)), strict=True):
        found = feature(X, name, n_steps=n_steps)
        np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-9, err_msg=name)


def test_bands_cover_all_lines_and_grow_with_the_frequency():
    for n_steps in range(1, 600):
        edges = inner_edges(n_steps)
        assert len(statistic_names(n_steps)) == 18 + len(edges) + 1 + 3 <= 41
        assert (np.diff([1, *edges, n_steps // 2 + 1]) > 0).all() or not len(edges)


def test_a_spectrum_does_not_depend_on_other_channels_and_windows():
    X = np.random.default_rng(0).normal(size=(9, 70, 3)).cumsum(axis=1)
    together = summary_features(X, None, 64).reshape(9, 3, -1)
    for channel in range(3):
        alone = summary_features(X[4:5, :, channel : channel + 1], None, 64)
        np.testing.assert_allclose(together[4, channel], alone[0], rtol=1e-9, atol=1e-12)


def test_constants_and_single_samples_have_finite_features():
    for X in (np.full((2, 8, 1), 1e6), np.zeros((2, 1, 2)), np.full((1, 5, 1), 0.1)):
        features = summary_features(X, None, 8)
        assert np.isfinite(features).all()
        for name in ("skew", *SPECTRAL):
            assert not feature(X, name, n_steps=8).any()
        assert narrow_powers(X, 8) == pytest.approx(0, abs=1e-25)


@pytest.mark.parametrize("spectrum", [False, True])
@pytest.mark.parametrize("lengths", [None, [11, 0, 1, 5, 11, 3]])
def test_the_class_gives_the_statistics_of_the_function(lengths, spectrum):
    X = np.random.default_rng(0).normal(size=(6, 12, 2))
    features = SummaryFeatures(spectrum).fit(X, lengths)
    found = features.transform(X, lengths)
    n_steps = None if not spectrum else 12 if lengths is None else 11
    assert features.n_steps_ == n_steps
    np.testing.assert_array_equal(found, summary_features(X, lengths, n_steps))
    assert found.shape == (6, features.n_features_) == (6, 2 * len(features.names))
    assert features.names[:18] == FEATURES
    assert features.n_channels_ == 2


def test_a_state_of_other_statistics_is_refused():
    X = np.random.default_rng(0).normal(size=(6, 12, 2))
    state = SummaryFeatures(spectrum=True).fit(X).state()
    for changed in ({"features": ["mean"]}, {"features": list(FEATURES)}, {"n_steps": 64}):
        settings = state["settings"] | changed
        with pytest.raises(SignalError, match="does not list the statistics"):
            SummaryFeatures.from_state({"settings": settings, "arrays": {}})
    for wrong in (0, -3, 2.5, None, 2**31):
        settings = state["settings"] | {"n_steps": wrong}
        with pytest.raises(ArgumentError, match=r"n_steps=.* must be an integer from 1"):
            SummaryFeatures.from_state({"settings": settings, "arrays": {}})


def test_a_state_from_before_the_spectrum_gives_the_same_statistics():
    names = "mean sd min max skew kurtosis mean_difference sd_difference quantile_0.05"
    names += " quantile_0.25 quantile_0.5 quantile_0.75 quantile_0.95 log_power_0 log_power_1"
    names += " log_power_2 log_power_3 log_power_4"
    settings = {"kind": "summary", "features": names.split(), "n_channels": 1}
    restored = SummaryFeatures.from_state({"settings": settings, "arrays": {}})
    found = restored.transform(np.array([[1.0, 4.0, 2.0, 8.0, 5.0, 7.0, 1.0]]))
    expected = [4.0, 2.6186146828319083, 1.0, 8.0, 0.23867581744561667, -1.4322916666666659]
    expected += [0.0, 4.041451884327381, 1.0, 1.5, 4.0, 6.0, 7.699999999999999]
    expected += [-27.631021115928547, 0.6474789786133154, -1.8677802642500123]
    expected += [-27.631021115928547, 0.3099723979428008]
    np.testing.assert_allclose(found[0], expected, rtol=1e-13)
    assert restored.state()["settings"] == settings
