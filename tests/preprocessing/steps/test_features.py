import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from sensorseq.errors import ArgumentError
from sensorseq.preprocessing.steps import Derivative, Difference, Moving
from sensorseq.preprocessing.steps.features import STATISTICS
from sensorseq.recording import Channel, Recording

RATE = 100.0


def feature(step, signal, unit="A"):
    channels = [Channel("a", unit)]
    recording = Recording.evenly_sampled(np.reshape(signal, (-1, 1)), RATE, channels, "run")
    return step.apply(recording, RATE).values[:, -1]


def unit_of(step, unit):
    return step.output_channels((Channel("a", unit),))[-1].unit


# Derivative.


@pytest.mark.parametrize("phase", ["zero", "causal"])
@pytest.mark.parametrize("window_s", [None, 0.03, 0.1, 0.5])
@pytest.mark.parametrize("n_samples", [1, 2, 3, 40])
def test_a_line_has_its_slope_at_every_sample(phase, window_s, n_samples):
    line = 1e4 - 2.5 * np.arange(n_samples) / RATE
    rate = feature(Derivative(window_s, phase=phase), line)
    expected = np.full(n_samples, -2.5)
    if phase == "causal" or n_samples == 1:
        expected[0] = 0.0  # a single sample has no slope
    np.testing.assert_allclose(rate, expected, atol=1e-7)


@pytest.mark.parametrize("phase", ["zero", "causal"])
def test_a_parabola_has_its_derivatives_at_every_sample(phase):
    times = np.arange(200) / RATE
    parabola = 4.0 * times**2 - times
    rate = feature(Derivative(0.1, phase=phase), parabola)
    begin = 2 if phase == "causal" else 0  # a parabola needs three samples
    np.testing.assert_allclose(rate[begin:], (8 * times - 1)[begin:], atol=1e-9)
    acceleration = feature(Derivative(0.1, order=2, phase=phase), parabola)
    np.testing.assert_allclose(acceleration[begin:], 8.0, atol=1e-7)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("window", "polynomial"), [(5, 2), (11, 3), (21, 4)])
def test_zero_phase_equals_scipys_filter_away_from_the_edges(order, window, polynomial):
    signal = np.random.default_rng(0).normal(size=200)
    result = feature(Derivative(window / RATE, order, polynomial), signal)
    expected = savgol_filter(signal, window, polynomial, order, 1 / RATE)
    half = window // 2
    np.testing.assert_allclose(result[half:-half], expected[half:-half], atol=1e-8)


@given(
    n_samples=st.integers(1, 60),
    window=st.integers(5, 30),
    polynomial=st.integers(1, 3),
    order=st.integers(1, 2),
)
def test_causal_is_the_polynomial_through_the_samples_so_far(n_samples, window, polynomial, order):
    if polynomial < order:
        polynomial = order
    signal = np.random.default_rng(n_samples).normal(100.0, 1.0, n_samples)
    result = feature(Derivative(window / RATE, order, polynomial, phase="causal"), signal)
    for t in range(n_samples):
        seen = signal[max(0, t - window + 1) : t + 1]
        degree = min(polynomial, len(seen) - 1)
        expected = 0.0
        if degree >= order:
            times = np.arange(len(seen)) - (len(seen) - 1)
            expected = np.polyfit(times, seen, degree)[degree - order] * order * RATE**order
        assert result[t] == pytest.approx(expected, abs=1e-6 * RATE**order)


def test_units_are_per_second():
    units = {"A": "A/s", "rad/s": "rad/s^2", "%": "%/s", "": ""}
    units |= dict.fromkeys(("m/s^2", "m/s²", "m/s2"), "m/s^3")
    assert {unit: unit_of(Derivative(), unit) for unit in units} == units
    assert unit_of(Derivative(order=2), "rad") == "rad/s^2"
    assert unit_of(Derivative(order=2), "rad/s") == "rad/s^3"


def test_a_window_shorter_than_its_polynomial_says_how_many_samples_it_is():
    with pytest.raises(ArgumentError, match=r"2 samples at 100 Hz; a polynomial of degree 2 needs"):
        feature(Derivative(0.02), np.zeros(9))


# Difference.


@given(n_samples=st.integers(0, 50), lag=st.integers(1, 60))
def test_a_difference_is_from_the_sample_a_lag_earlier(n_samples, lag):
    signal = np.random.default_rng(0).normal(size=n_samples)
    expected = np.zeros(n_samples)
    expected[lag:] = signal[lag:] - signal[: max(0, n_samples - lag)]
    np.testing.assert_array_equal(feature(Difference(lag), signal), expected)
    by_time = feature(Difference(lag_s=(lag + 0.3) / RATE, absolute=True), signal)
    np.testing.assert_array_equal(by_time, np.abs(expected))


def test_differences_are_named_and_keep_their_unit():
    (channel,) = Difference(keep=False).output_channels((Channel("curL", "A"),))
    assert channel == Channel("curL_difference", "A")
    (_, channel) = Difference(absolute=True).output_channels((Channel("curL", "A"),))
    assert channel == Channel("curL_absolute_difference", "A")
    with pytest.raises(ArgumentError, match=r"lag_s=0.001 is less than half a sample at 100 Hz"):
        feature(Difference(lag_s=0.001), np.zeros(5))


# Moving.

BY_PANDAS = {
    "rms": lambda rolling: (rolling.apply(lambda x: np.mean(x**2))) ** 0.5,
    "mean": lambda rolling: rolling.mean(),
    "std": lambda rolling: rolling.apply(np.std),
    "range": lambda rolling: rolling.max() - rolling.min(),
    "min": lambda rolling: rolling.min(),
    "max": lambda rolling: rolling.max(),
    "mean_absolute": lambda rolling: rolling.apply(lambda x: np.mean(np.abs(x))),
}


@pytest.mark.parametrize("statistic", STATISTICS)
@given(n_samples=st.integers(0, 80), window=st.integers(2, 40), is_centered=st.booleans())
def test_moving_statistics_agree_with_pandas(statistic, n_samples, window, is_centered):
    signal = np.random.default_rng(window).normal(1.0, 2.0, n_samples)
    width = window | 1 if is_centered else window
    rolling = pd.Series(signal).rolling(width, min_periods=1, center=is_centered)
    expected = BY_PANDAS[statistic](rolling).to_numpy(np.float64)
    step = Moving(window / RATE, statistic, phase="zero" if is_centered else "causal")
    np.testing.assert_allclose(feature(step, signal), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("phase", ["zero", "causal"])
def test_an_offset_of_1e8_costs_no_digits(statistic, phase):
    # Values are multiples of 2^-20, so that adding the offset causes no rounding.
    small = np.round(np.random.default_rng(1).normal(size=1000) * 2**20) / 2**20
    step = Moving(0.37, statistic, phase=phase)
    result = feature(step, 1e8 + small)
    if statistic in ("std", "range"):  # these statistics do not depend on the offset
        np.testing.assert_allclose(result, feature(step, small), rtol=1e-12, atol=1e-12)
    else:
        exact = small.astype(np.longdouble) + np.longdouble(1e8)
        before, after = (37, 0) if phase == "causal" else (19, 18)
        for t in range(0, 1000, 7):
            window = exact[max(0, t - before + 1) : t + after + 1]
            expected = {
                "rms": np.sqrt(np.mean(window**2)),
                "mean": window.mean(),
                "mean_absolute": window.mean(),
                "min": window.min(),
                "max": window.max(),
            }[statistic]
            # rms and mean_absolute add at most 37 numbers that are as large as the offset.
            assert abs(float(result[t] - expected)) <= 1e8 * 4 * np.finfo(np.float64).eps


@pytest.mark.parametrize("spike", [0.0, 1e6])
def test_long_windows_accumulate_no_rounding_error_even_in_the_worst_case(spike):
    n_samples, window = 12_500, 4000
    signal = 50.0 + np.random.default_rng(3).normal(size=n_samples)
    signal[window - 1 :: window] += spike  # anchors, which are subtracted from the other samples
    signal[::window] -= spike
    mean, std = (feature(Moving(window / RATE, what), signal) for what in ("mean", "std"))
    for t in range(window // 2, n_samples, 371):
        exact = signal[max(0, t - window + 1) : t + 1].astype(np.longdouble)
        assert abs(float(mean[t] - exact.mean())) <= 1e-13 * (50 + spike)
        assert float(std[t]) == pytest.approx(float(exact.std()), rel=5e-14)


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("phase", ["zero", "causal"])
def test_a_spike_that_has_left_the_window_leaves_no_trace(statistic, phase):
    signal = np.random.default_rng(0).normal(size=500)
    spiked = signal.copy()
    spiked[200] = 1e15
    step = Moving(0.2, statistic, phase=phase)
    reach = np.arange(200 - 10, 200 + 21) if phase == "zero" else np.arange(200, 221)
    apart = np.delete(np.arange(500), reach)
    np.testing.assert_array_equal(feature(step, spiked)[apart], feature(step, signal)[apart])


@pytest.mark.parametrize("phase", ["zero", "causal"])
def test_a_constant_has_no_spread_and_is_its_own_mean(phase):
    constant = np.full(300, 0.1 + 1e8)
    assert (feature(Moving(0.5, "std", phase=phase), constant) == 0).all()
    assert (feature(Moving(0.5, "mean", phase=phase), constant) == constant).all()


def test_windows_of_one_sample_are_refused_for_a_spread():
    with pytest.raises(ArgumentError, match=r"1 sample at 100 Hz; a moving std needs at least 2"):
        feature(Moving(0.01, "std"), np.zeros(5))
    np.testing.assert_array_equal(feature(Moving(0.01, "mean"), np.arange(5.0)), np.arange(5.0))
