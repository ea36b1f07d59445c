import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError
from sensorseq.preprocessing.steps import SpectralFrames
from sensorseq.preprocessing.windows.cut import window_starts
from sensorseq.recording import Channel, Recording

RATE = 100.0
IMU = (Channel("ax", "m/s^2"), Channel("wx", "rad/s"), Channel("current", "A"))


def frames(step, values, rate=RATE, channels=IMU):
    values = np.asarray(values, np.float64)
    columns = values[:, np.newaxis] if values.ndim == 1 else values
    recording = Recording.evenly_sampled(columns, rate, channels[: columns.shape[1]], "run")
    return step.apply(recording, rate)


@given(
    k=st.integers(1, 24),
    amplitude=st.floats(0.01, 100.0),
    phase=st.floats(0, 6),
    mean=st.floats(-9, 9),
)
def test_a_sine_has_its_amplitude_in_its_bin_and_half_in_the_neighbors(k, amplitude, phase, mean):
    times = np.arange(173) / RATE
    sine = mean + amplitude * np.sin(2 * np.pi * 2.0 * k * times + phase)
    step = SpectralFrames(channels=("ax",), scale="amplitude")
    spectra = frames(step, sine).values[:, 1:]
    expected = np.zeros(25)
    expected[k - 1] = amplitude
    # A Hann window spreads half of the amplitude to each neighbor; bin 25 is its own mirror image.
    for beside in (k - 1, k + 1):
        if 1 <= beside < 25:
            expected[beside - 1] = amplitude / 2
    check = slice(None) if k < 24 else slice(24)
    expected = np.tile(expected, (len(spectra), 1))
    np.testing.assert_allclose(spectra[:, check], expected[:, check], atol=1e-12 * (100 + 9))


def test_the_scales_express_the_same_amplitude():
    times = np.arange(200) / RATE
    sine = 3.0 * np.sin(2 * np.pi * 10.0 * times)
    column = ["ax_10.0Hz"]
    for scale, expected, unit in (
        ("amplitude", 3.0, "m/s^2"),
        ("power", 9.0, "(m/s^2)^2"),
        ("log", np.log(3.5), ""),
        ("decibel", 20 * np.log10(3.5), "dB"),
    ):
        result = frames(SpectralFrames(scale=scale, floor=0.5), sine).select(column)
        np.testing.assert_allclose(result.values, expected, atol=1e-12)
        assert result.channels[0].unit == unit
    (_, current) = SpectralFrames(max_frequency_hz=2.0, scale="power").output_channels(IMU[2:])
    assert current == Channel("current_2.0Hz", "A^2")


def test_half_the_sample_rate_counts_once():
    alternating = 2.0 * (-1.0) ** np.arange(100)
    result = frames(SpectralFrames(scale="amplitude"), alternating)
    np.testing.assert_allclose(result.values[:, -1], 2.0, atol=1e-12)


@given(frame=st.integers(4, 60), seed=st.integers(0, 99))
def test_the_power_of_all_bins_is_the_power_under_the_window(frame, seed):
    """By Parseval's theorem, the power is that of the centered frame, less the leakage to 0 Hz."""
    signal = np.random.default_rng(seed).normal(size=frame)
    step = SpectralFrames(frame / RATE, channels=("ax",), scale="power")
    power = frames(step, signal).values[0, 1:]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame)
    under = window * (signal - signal.mean())
    twice = np.full(len(power), 0.5)
    if frame % 2 == 0:
        twice[-1] = 1.0
    energy = (twice * power).sum() * window.sum() ** 2 / frame + under.sum() ** 2 / frame
    assert energy == pytest.approx((under**2).sum())


def test_logarithms_of_raw_spectra_can_be_reproduced():
    signal = np.random.default_rng(0).normal(size=(300, 2))
    step = SpectralFrames(0.5, 0.1, max_frequency_hz=50.0, floor=0.01 / 12.5)
    result = frames(step, signal)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(50) / 50)
    for row, start in enumerate(range(0, 251, 10)):
        frame = signal[start : start + 50]
        spectrum = np.fft.rfft(window[:, None] * (frame - frame.mean(axis=0)), axis=0)
        spectrum[25] /= 2  # the bin at half the sample rate
        raw = np.log(np.abs(spectrum[1:26]) + 0.01)
        np.testing.assert_allclose(result.values[row, 2:27], raw[:, 0] - np.log(12.5), atol=1e-9)
        means = (window[:, None] * frame).sum(axis=0) / window.sum()
        np.testing.assert_allclose(result.values[row, :2], means, atol=1e-12)
    assert result.n_samples == 26


def test_a_constant_gives_the_floor_and_itself():
    result = frames(SpectralFrames(floor=0.01, channels=("ax",)), np.full((120, 2), 1e8 + 0.1))
    assert (result.values[:, :2] == 1e8 + 0.1).all()
    assert (result.values[:, 2:] == np.log(0.01)).all()


@given(shift=st.integers(1, 12))
def test_a_signal_later_by_hops_gives_the_frames_later(shift):
    signal = np.random.default_rng(0).normal(size=400)
    step = SpectralFrames()
    later, all_ = (frames(step, one).values for one in (signal[10 * shift :], signal))
    np.testing.assert_array_equal(later, all_[shift:])


@given(
    rate=st.sampled_from([10.0, 33.3, 50.0, 99.9, 100.0, 1562.5]),
    hop=st.sampled_from([0.1, 0.3, 0.7, 1.1]),
    n_samples=st.integers(0, 2000),
)
def test_frames_start_where_windows_do_and_never_run_over(rate, hop, n_samples):
    step = SpectralFrames(2.0, hop, ("ax",), max_frequency_hz=2.0)
    ramp = np.arange(float(n_samples))
    result = frames(step, ramp, rate)
    frame = round(2.0 * rate)
    starts = window_starts(n_samples, frame, hop, rate)
    # A symmetric window would give the ramp's value at the center of the frame. The periodic window
    # gives the value half a sample later.
    np.testing.assert_allclose(result.values[:, 0], starts + frame / 2, atol=1e-8)


def test_the_time_of_a_frame_is_its_center_or_its_last_sample():
    ramp = np.arange(200.0)
    for phase, first in (("zero", 0.245), ("causal", 0.49)):
        result = frames(SpectralFrames(phase=phase), ramp)
        np.testing.assert_allclose(result.timestamps_s, first + 0.1 * np.arange(16), atol=1e-12)
        stream = SpectralFrames(phase=phase).stream(IMU[:1], RATE)
        assert stream.latency_s == pytest.approx(0.49 - first)
        assert stream.delay_s == pytest.approx(first)


def test_other_channels_become_means_over_the_frame():
    values = np.random.default_rng(0).normal(size=(100, 3))
    result = frames(SpectralFrames(channels=("wx",), max_frequency_hz=6.0), values)
    assert result.channel_names == ("ax", "wx", "current", "wx_2.0Hz", "wx_4.0Hz", "wx_6.0Hz")
    window = np.hanning(51)[:-1]
    expected = (window[:, None] * values[30:80]).sum(axis=0) / window.sum()
    np.testing.assert_allclose(result.values[3, :3], expected, atol=1e-12)


@given(n_bands=st.integers(1, 20))
def test_bands_add_up_the_power_of_their_bins(n_bands):
    signal = np.random.default_rng(0).normal(size=150)
    single = SpectralFrames(min_frequency_hz=4.0, max_frequency_hz=42.0, scale="power")
    banded = SpectralFrames(
        min_frequency_hz=4.0, max_frequency_hz=42.0, n_bands=n_bands, scale="power"
    )
    bins = frames(single, signal).values[:, 1:]
    bands = frames(banded, signal).values[:, 1:]
    assert bands.shape == (len(bins), n_bands)
    np.testing.assert_allclose(bands.sum(axis=1), bins.sum(axis=1), rtol=1e-12)
    names = [channel.name for channel in banded.output_channels(IMU[:1])]
    assert names[1].startswith("ax_4.0-")
    assert names[-1].endswith("-42.0Hz")


def test_names_have_enough_digits_to_distinguish_bins():
    for frame_s, last in ((0.5, "ax_6.0Hz"), (1.0, "ax_6.0Hz"), (4.0, "ax_6.00Hz")):
        step = SpectralFrames(frame_s, max_frequency_hz=6.0)
        channels = step.output_channels(IMU[:1])
        assert channels[-1].name == last
        assert len(channels) == 1 + int(6 * frame_s)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"frame_s": 0.02}, "frame_s=0.02 is 2 samples at 100 Hz; a spectrum needs at least 4"),
        ({"frame_s": 0.045}, "4.5 samples at 100 Hz.*use 0.04 s or 0.05 s"),
        ({"hop_s": 0.001}, "hop_s=0.001 is less than a sample at 100 Hz"),
        ({"max_frequency_hz": 60.0}, "max_frequency_hz=60 is above half the sample rate, 50 Hz"),
        ({"n_bands": 30}, "n_bands=30 is more than the 25 available bins"),
        ({"frame_s": 1e12}, "is frame_s in seconds, and the frequency in Hz"),
    ],
)
def test_frames_that_do_not_fit_the_rate_are_an_error(arguments, match):
    with pytest.raises(ArgumentError, match=match):
        frames(SpectralFrames(**arguments), np.zeros((300, 3)))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"max_frequency_hz": 1.0}, "no bin lies from 0 to 1 Hz.*2 Hz apart; use longer"),
        ({"min_frequency_hz": 9.0, "max_frequency_hz": 5.0}, "no bin lies from 9 to 5 Hz"),
        ({"min_frequency_hz": 1e300, "max_frequency_hz": 5.0}, "no bin lies from 1e.300 to 5 Hz"),
        ({"n_bands": 3, "max_frequency_hz": 4.0}, "n_bands=3 is more than the 2 available bins"),
        ({"max_frequency_hz": 1e30}, "is frame_s in seconds, and the frequency in Hz"),
    ],
)
def test_an_impossible_range_is_an_error(arguments, match):
    with pytest.raises(ArgumentError, match=match):
        SpectralFrames(**arguments)


def test_names_need_the_rate_only_without_a_highest_frequency():
    with pytest.raises(ArgumentError, match="give max_frequency_hz or sample_rate_hz"):
        SpectralFrames().output_channels(IMU)
    assert len(SpectralFrames().output_channels(IMU, RATE)) == 3 + 3 * 25
    assert len(SpectralFrames(max_frequency_hz=50.0).output_channels(IMU)) == 3 + 3 * 25
