import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt, sosfilt_zi

from sensorseq import _signal
from sensorseq.errors import ArgumentError
from sensorseq.preprocessing.steps import BandPass, Detrend, Notch
from sensorseq.recording import Channel, Recording

RATE = 100.0


def filtered(step, signal, rate=RATE):
    recording = Recording.evenly_sampled(np.reshape(signal, (-1, 1)), rate, [Channel("a")], "run")
    return step.apply(recording, rate).values[:, 0]


def response(step, rate=RATE, n_samples=2**15):
    """Return frequencies and complex gains, computed from an impulse in the middle of zeros."""
    impulse = np.zeros(n_samples)
    impulse[n_samples // 2] = 1.0
    answer = np.roll(filtered(step, impulse, rate), -(n_samples // 2))
    return np.fft.rfftfreq(n_samples, 1 / rate), np.fft.rfft(answer)


def decibel(gain):
    return 20 * np.log10(np.maximum(np.abs(gain), 1e-300))


# Detrend.


@pytest.mark.parametrize("phase", ["zero", "causal"])
@pytest.mark.parametrize("n_samples", [1, 2, 3, 10, 49, 50, 51, 500])
def test_a_line_with_an_offset_becomes_0_from_end_to_end(phase, n_samples):
    line = 1e6 - 0.37 * np.arange(n_samples)
    rest = filtered(Detrend(0.5, phase=phase), line)
    assert np.abs(rest).max() < 1e-8  # one unit in the last place of 1e6 is 1e-10
    assert (filtered(Detrend(0.5, phase=phase), np.full(n_samples, 1e8 + 0.1)) == 0).all()


@given(n_samples=st.integers(1, 120), window=st.integers(3, 40), seed=st.integers(0, 99))
def test_a_causal_detrend_is_the_residual_of_the_trailing_line(n_samples, window, seed):
    signal = 1e3 + np.cumsum(np.random.default_rng(seed).normal(size=n_samples))
    rest = filtered(Detrend(window / RATE, phase="causal"), signal)
    for t in range(n_samples):
        seen = signal[max(0, t - window + 1) : t + 1]
        if len(seen) < 3:
            assert rest[t] == 0
            continue
        times = np.arange(len(seen)) - (len(seen) - 1)
        _, end = np.polyfit(times, seen - seen[0], 1)
        assert rest[t] == pytest.approx(seen[-1] - seen[0] - end, abs=1e-10)


@given(n_samples=st.integers(1, 60), half=st.integers(1, 20), seed=st.integers(0, 99))
def test_a_centered_detrend_is_the_residual_of_the_weighted_line(n_samples, half, seed):
    signal = 1e3 + np.cumsum(np.random.default_rng(seed).normal(size=n_samples))
    rest = filtered(Detrend((2 * half + 1) / RATE), signal)
    for t in range(n_samples):
        first, last = max(0, t - half), min(n_samples - 1, t + half)
        times = np.arange(first - t, last - t + 1)
        seen = signal[first : last + 1] - signal[t]
        line = 0.0
        if len(seen) > 2:
            weight = np.cos(np.pi / 2 * times / (half + 1)) ** 2  # a Hann window
            _, line = np.polyfit(times, seen, 1, w=np.sqrt(weight))
        assert rest[t] == pytest.approx(-line, abs=1e-9)


# BandPass.


@given(
    rate=st.sampled_from([50.0, 100.0, 333.0]),
    low=st.sampled_from([None, 0.03, 0.1]),
    high=st.sampled_from([None, 0.2, 0.4]),
    width=st.sampled_from([None, 0.02, 0.03]),
    attenuation=st.sampled_from([None, 40.0, 60.0, 90.0, 120.0]),
)
def test_zero_phase_keeps_the_band_within_a_tenth_of_a_decibel(rate, low, high, width, attenuation):
    if low is None and high is None:
        low = 0.05
    edges = [None if edge is None else edge * rate for edge in (low, high)]
    step = BandPass(*edges, attenuation_db=attenuation, transition_hz=width and width * rate)
    frequency, gain = response(step, rate)
    width = width or min(min(edge for edge in (low, high) if edge), 1) / 2
    width = min(width, 0.5 - (high or 0)) if high else width
    low_hz, high_hz = edges[0] or 0.0, edges[1] or rate
    inside = (frequency >= low_hz) & (frequency <= high_hz)
    outside = (frequency <= low_hz - width * rate) | (frequency >= high_hz + width * rate)
    assert np.abs(decibel(gain[inside])).max() < 0.1
    if outside.any():
        assert decibel(gain[outside]).max() <= -(attenuation or 60.0)
    assert np.abs(gain.imag).max() < 1e-10  # no frequency is shifted


@pytest.mark.parametrize("phase", ["zero", "causal"])
@pytest.mark.parametrize("n_samples", [1, 2, 700])
@pytest.mark.parametrize("offset", [-2.5, 1e8])
def test_a_constant_gives_no_transient(phase, n_samples, offset):
    constant = np.full(n_samples, offset)
    assert (filtered(BandPass(high_hz=5.0, phase=phase), constant) == offset).all()
    assert (filtered(BandPass(low_hz=5.0, phase=phase), constant) == 0).all()
    assert (filtered(BandPass(2.0, 5.0, phase=phase), constant) == 0).all()
    assert (filtered(Notch(20.0, phase=phase), constant) == offset).all()


def test_a_line_through_a_high_pass_is_0_from_end_to_end():
    line = 3.0 + 0.2 * np.arange(1000)
    assert np.abs(filtered(BandPass(low_hz=2.0), line)).max() < 1e-9


@pytest.mark.parametrize("order", [None, 1, 3, 8])
@pytest.mark.parametrize("band", [(None, 10.0), (10.0, None), (5.0, 20.0)])
def test_causal_filters_agree_with_scipy_at_rest_on_the_first_sample(order, band):
    rng = np.random.default_rng(0)
    signal = 5.0 + rng.normal(size=400)
    edges = [edge for edge in band if edge is not None]
    is_band = len(edges) == 2
    kind = "bandpass" if is_band else "lowpass" if band[0] is None else "highpass"
    sections = butter(order or 4, edges if is_band else edges[0], kind, fs=RATE, output="sos")
    expected, _ = sosfilt(sections, signal, zi=sosfilt_zi(sections) * signal[0])
    result = filtered(BandPass(*band, phase="causal", order=order), signal)
    np.testing.assert_allclose(result, expected, atol=1e-8)


@given(
    order=st.integers(1, 9),
    n_channels=st.integers(1, 9),
    pieces=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_sections_in_pieces_have_the_bits_of_scipy(order, n_channels, pieces, seed):
    sections = butter(order, 0.3, output="sos")
    signal = np.random.default_rng(seed).normal(size=(sum(pieces) + 1, n_channels))
    kept = _signal.SectionFilter(sections, n_channels)
    rows = [kept.push(part) for part in np.split(signal, np.cumsum(pieces)[:-1])]
    np.testing.assert_array_equal(np.concatenate(rows), sosfilt(sections, signal, axis=0))


@pytest.mark.parametrize(
    ("sections", "n_channels", "match"),
    [
        (np.ones((0, 6)), 1, r"shape \(n, 6\)"),
        (np.ones((1, 5)), 1, r"shape \(n, 6\)"),
        (np.ones((1, 6)), 0, "n_channels=0"),
        (np.full((1, 6), 2.0), 1, r"sections\[:, 3\]"),
    ],
)
def test_sections_of_the_wrong_form_are_refused(sections, n_channels, match):
    with pytest.raises(ValueError, match=match):
        _signal.SectionFilter(sections, n_channels)


@pytest.mark.parametrize("phase", ["zero", "causal"])
@pytest.mark.parametrize("band", [{"high_hz": 50}, {"low_hz": 60}, {"low_hz": 1, "high_hz": 80}])
def test_an_edge_at_half_the_rate_or_above_is_named(phase, band):
    edge = list(band)[-1]
    with pytest.raises(ArgumentError, match=rf"{edge}={band[edge]:g} .*50 Hz at 100"):
        filtered(BandPass(phase=phase, **band), np.zeros(10))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "low_hz, high_hz or both"),
        ({"low_hz": 5, "high_hz": 5}, "low_hz=5 is not below high_hz=5"),
        ({"low_hz": 5, "high_hz": 2}, "low_hz=5 is not below high_hz=2"),
        ({"low_hz": 1, "transition_hz": 2}, "reaches below 0 Hz"),
        ({"high_hz": 1, "attenuation_db": 20}, "attenuation_db=20 is out of range; use 40"),
        ({"high_hz": 1, "order": 4}, "order=4 is only for phase='causal'"),
        ({"high_hz": 1, "phase": "causal", "attenuation_db": 60}, "is only for phase='zero'"),
        ({"high_hz": 1, "phase": "causal", "order": 0}, "order=0 must be an integer"),
        ({"high_hz": -1}, "high_hz=-1 must be a number above zero"),
    ],
)
def test_an_impossible_band_is_an_error_that_names_it(arguments, match):
    with pytest.raises(ArgumentError, match=match):
        BandPass(**arguments)


def test_a_transition_beyond_half_the_rate_or_of_a_million_taps_is_refused():
    with pytest.raises(ArgumentError, match=r"exceeds half.*transition_hz of at most 10"):
        filtered(BandPass(high_hz=40.0, transition_hz=11.0), np.zeros(10))
    with pytest.raises(ArgumentError, match=r"needs \d+ taps at 100 Hz.*lower rate first"):
        filtered(BandPass(low_hz=1e-4), np.zeros(10))


# Notch.


def test_a_notch_removes_the_hum_and_leaves_the_rest():
    frequency, gain = response(Notch(20.0, 4.0))
    away = np.abs(frequency - 20.0)
    assert decibel(gain[away <= 1.0]).max() < -60
    assert np.abs(decibel(gain[away >= 2.0])).max() < 0.1
    assert np.abs(gain.imag).max() < 1e-10
    frequency, gain = response(Notch(20.0, 4.0, phase="causal"))
    away = np.abs(frequency - 20.0)
    assert decibel(gain[away < 0.002]).max() < -50
    assert decibel(gain[away >= 2.05]).min() > -3.02
    assert decibel(gain[away <= 1.9]).max() < -2.99


@pytest.mark.parametrize(
    ("arguments", "match"),
    [((49.0, 4.0), "reaches half the sample rate, 50 Hz"), ((1.0, 2.0), "reaches below 0 Hz")],
)
def test_a_notch_that_does_not_fit_the_rate_is_an_error(arguments, match):
    with pytest.raises(ArgumentError, match=match):
        filtered(Notch(*arguments), np.zeros(10))


def test_a_window_too_short_says_how_many_samples_it_is():
    with pytest.raises(ArgumentError, match=r"window_s=0.02 is 2 samples at 100 Hz.*use 0.03 s"):
        filtered(Detrend(0.02), np.zeros(10))
    with pytest.raises(ArgumentError, match="is it in seconds"):
        filtered(Detrend(1e9), np.zeros(10))
