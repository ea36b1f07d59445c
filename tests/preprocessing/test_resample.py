"""Sines are the reference: resampling to a different rate leaves a sine unchanged or removes it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, SignalError
from sensorseq.preprocessing.resample import resample

RATES = [
    (1000.0, 100.0),
    (1000.0, 30.0),
    (1562.5, 100.0),
    (33.3, 11.1),
    (100.0, 250.0),
    (100.0, 99.987654321),  # not a simple fraction, so the filter uses its table
    (100.0, 10 * np.pi),
    (100.0, 100 * np.pi),
]
EDGE = 60  # samples (of the lower rate) at each end that the mirrored edges affect


def sine(frequency_hz, times_s, phase=0.4):
    return np.sin(2 * np.pi * frequency_hz * times_s + phase)


def fit_sine(signal, times_s, frequency_hz):
    """Return the amplitude and phase of a sine, fitted by least squares."""
    angle = 2 * np.pi * frequency_hz * times_s
    basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    (a, b), *_ = np.linalg.lstsq(basis, signal, rcond=None)
    return np.hypot(a, b), np.arctan2(b, a)


def inner(signal, rate, target):
    edge = int(np.ceil(EDGE * max(1.0, target / rate)))
    return slice(edge, len(signal) - edge)


@pytest.mark.parametrize(("rate", "target"), RATES)
@pytest.mark.parametrize("n_samples", [1, 3, 1001])
def test_a_constant_stays_that_constant_up_to_the_edges(rate, target, n_samples):
    resampled = resample(np.full((n_samples, 1), -3.7), rate, target)
    np.testing.assert_allclose(resampled, -3.7, rtol=1e-13)


@given(
    n_samples=st.integers(0, 200),
    rate=st.integers(1, 60),
    target=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_length_is_the_ceiling_and_channels_never_mix(n_samples, rate, target, seed):
    signal = np.random.default_rng(seed).normal(size=(n_samples, 3))
    resampled = resample(signal, rate, target)
    assert resampled.shape == (-(-n_samples * target // rate), 3)
    for columns in ([2, 0, 1], [1]):
        own = resample(signal[:, columns], rate, target)
        np.testing.assert_array_equal(own, resampled[:, columns])


def test_the_same_rate_changes_nothing_but_returns_a_copy():
    signal = np.random.default_rng(0).normal(size=(50, 2))
    resampled = resample(signal, 100, 100)
    np.testing.assert_array_equal(resampled, signal)
    assert not np.shares_memory(resampled, signal)


def test_float32_stays_float32_and_is_computed_in_float64():
    signal = np.random.default_rng(0).normal(size=(500, 1))
    narrow = resample(signal.astype(np.float32), 100, 30)
    assert narrow.dtype == np.float32
    wide = resample(signal.astype(np.float32).astype(np.float64), 100, 30)
    np.testing.assert_array_equal(narrow, wide.astype(np.float32))
    assert resample(np.arange(20).reshape(-1, 1), 2, 1).dtype == np.float64


def test_a_fraction_and_its_irrational_neighbor_agree():
    # Compare both algorithms, polyphase and table, at nearly the same ratio.
    signal = sine(3.0, np.arange(3000) / 100)[:, None]
    by_phases = resample(signal, 100, 40)
    by_table = resample(signal, 100, 40 * (1 + 1e-9))
    assert (len(by_phases), len(by_table)) == (1200, 1201)
    np.testing.assert_allclose(by_table[:1200], by_phases, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_missing_sample_is_an_error_that_says_where(bad):
    signal = np.zeros((10, 2))
    signal[4, 1] = bad
    with pytest.raises(SignalError, match="sample 4, channel 1"):
        resample(signal, 100, 50)


@pytest.mark.parametrize("rate", [0, -1, np.nan, np.inf, "fast", None])
def test_an_impossible_rate_is_named(rate):
    with pytest.raises(SignalError, match="target_rate_hz"):
        resample(np.zeros((4, 1)), 100, rate)
    with pytest.raises(SignalError, match="sample_rate_hz"):
        resample(np.zeros((4, 1)), rate, 100)


def test_rates_too_far_apart_for_one_filter_are_an_error_that_says_so():
    with pytest.raises(SignalError, match=r"differ by a factor of 1e\+08.*two steps"):
        resample(np.zeros((100, 1)), 1e6, 1e-2)
    assert len(resample(np.zeros((100, 1)), 1e-2, 1e2)) == 1_000_000


def test_a_signal_of_another_shape_or_type_is_an_error():
    with pytest.raises(SignalError, match="reshape"):
        resample(np.zeros(10), 100, 50)
    with pytest.raises(SignalError, match="expected real numbers"):
        resample(np.zeros((3, 1), complex), 100, 50)


@given(
    rate=st.one_of(st.integers(10, 2000).map(float), st.floats(10, 2000)),
    factor=st.one_of(st.sampled_from([0.1, 0.2, 0.5, 2.0, 1.5]), st.floats(0.05, 5.0)),
    relative=st.floats(0.02, 0.8),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_any_sine_in_the_passband_survives_within_a_tenth_of_a_decibel(
    rate, factor, relative, dtype
):
    target = rate * factor
    frequency = relative * min(rate, target) / 2
    n_samples = int(240 * max(1.0, 1 / factor))
    signal = sine(frequency, np.arange(n_samples) / rate)[:, None].astype(dtype)
    resampled = resample(signal, rate, target)[:, 0].astype(np.float64)
    times = np.arange(len(resampled)) / target
    keep = inner(resampled, rate, target)
    amplitude, phase = fit_sine(resampled[keep], times[keep], frequency)
    assert abs(20 * np.log10(amplitude)) < 0.1
    assert abs(phase - 0.4) / (2 * np.pi * frequency) * target < 0.1
    assert np.abs(resampled - sine(frequency, times))[keep].max() < 1e-4


@given(
    rate=st.floats(10, 2000),
    factor=st.one_of(st.sampled_from([0.1, 0.3]), st.floats(0.05, 0.95)),
    relative=st.one_of(st.just(0.001), st.floats(0, 1)),
    attenuation_db=st.sampled_from([60.0, 90.0, 120.0]),
)
def test_any_sine_above_the_new_nyquist_frequency_is_attenuated(
    rate, factor, relative, attenuation_db
):
    target = rate * factor
    frequency = target / 2 + relative * (rate - target) / 2
    n_samples = int(300 / factor)
    signal = sine(frequency, np.arange(n_samples) / rate)[:, None]
    resampled = resample(signal, rate, target, attenuation_db=attenuation_db)[:, 0]
    level = np.abs(resampled[100:-100]).max()
    assert 20 * np.log10(max(level, 1e-30)) < -(attenuation_db - 5)


def test_the_ratio_does_not_depend_on_the_length_of_the_signal():
    rng = np.random.default_rng(0)
    long = rng.normal(size=(60_000, 1))
    nearly = 50 * (1 + 1e-8)  # drifts by 1e-8 per sample, and by more than 1e-4 in total
    few, all_ = (resample(signal, 100.0, nearly)[:900] for signal in (long[:2000], long))
    np.testing.assert_array_equal(few, all_)


@pytest.mark.parametrize(("rate", "target"), RATES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_passband_is_that_of_soxr(rate, target, dtype):
    soxr = pytest.importorskip("soxr")
    times = np.arange(9000) / rate
    signal = sum(sine(r * min(rate, target) / 2, times, r) for r in (0.05, 0.2, 0.47, 0.76))
    signal = np.stack([signal, -signal], axis=1).astype(dtype)
    ours = resample(signal, rate, target)
    theirs = soxr.resample(signal, rate, target, quality="HQ")
    keep = inner(ours, rate, target)
    np.testing.assert_allclose(theirs[: len(ours)][keep], ours[keep], atol=1e-3)


def test_an_attenuation_that_no_filter_reaches_is_an_error():
    for bad in (0, 10, 500, np.nan, "much"):
        with pytest.raises(ArgumentError, match="attenuation_db"):
            resample(np.zeros((10, 1)), 100, 50, attenuation_db=bad)
