"""Resampling a stream gives the bits of resampling the complete signal, with the stated latency."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, SignalError
from sensorseq.preprocessing.resample import StreamResampler, regrid, resample

RATES = [
    (1000.0, 100.0),
    (100.0, 20.0),
    (50.0, 100.0),
    (441.0, 480.0),
    (33.3, 11.1),
    (100.0, 99.987654321),
    (100.0, 10 * np.pi),
    (10.0, 100 * np.pi),
    (100.0, 100.0),
]


@given(
    rate=st.one_of(
        st.sampled_from([33.3, 59.94, 119.88, 6.5, 41.7, 104.0, 1 / 0.03, 1 / 0.007, 100 / 3]),
        st.integers(50, 4000).map(lambda tenths: tenths / 10),
    ),
    target=st.sampled_from([10.0, 25.0, 40.0, 50.0, 62.5, 100.0]),
    start_s=st.sampled_from([0.0, -50.0, 123.456, 1.7e9]),
    n_samples=st.integers(150, 900),
)
def test_a_stream_equals_a_recording_with_stamps_bit_for_bit(rate, target, start_s, n_samples):
    x = np.random.default_rng(n_samples).normal(size=(n_samples, 1))
    ((begin_s, whole),) = regrid(start_s + np.arange(n_samples) / rate, x, target)
    stream = StreamResampler(rate, target, 1)
    streamed = np.concatenate([stream.push(x), stream.flush()])
    assert begin_s == start_s
    if abs(rate / target - 1) * n_samples > 0.01:  # otherwise, a recording is not resampled
        np.testing.assert_array_equal(streamed, whole)


@given(
    rates=st.one_of(
        st.sampled_from(RATES),
        st.tuples(st.integers(1, 200).map(float), st.integers(1, 200).map(float)),
    ),
    n_samples=st.integers(0, 2500),
    n_channels=st.integers(1, 9),
    dtype=st.sampled_from([np.float32, np.float64]),
    attenuation_db=st.sampled_from([60.0, 90.0]),
    sizes=st.lists(st.one_of(st.integers(0, 3), st.integers(0, 1500)), max_size=20),
)
def test_a_stream_equals_the_whole_bit_for_bit(
    rates, n_samples, n_channels, dtype, attenuation_db, sizes
):
    x = np.random.default_rng(n_samples).normal(size=(n_samples, n_channels)).astype(dtype)
    stream = StreamResampler(*rates, n_channels, attenuation_db=attenuation_db)
    expected = resample(x, *rates, attenuation_db=attenuation_db)
    for _ in range(2):  # after a flush, a new signal begins
        start, parts = 0, []
        for size in [*sizes, n_samples]:
            parts.append(stream.push(x[start : start + size]))
            start = min(start + size, n_samples)
        parts.append(stream.flush())
        assert {part.dtype for part in parts} == {np.dtype(dtype)}
        np.testing.assert_array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize(("rate", "target"), RATES)
def test_an_output_comes_with_the_last_sample_up_to_its_time_plus_latency(rate, target):
    n_samples = 700
    x = np.random.default_rng(0).normal(size=(n_samples, 1))
    stream = StreamResampler(rate, target, 1)
    arrived = []  # the sample that produced each output
    for i in range(n_samples):
        arrived += [i] * len(stream.push(x[i : i + 1]))
    assert arrived
    # The latency is exact if the ratio is a simple fraction; otherwise, times within a rounding
    # error of a tick are ambiguous.
    latency = Fraction(stream.latency_s * rate).limit_denominator(10_000)
    step = Fraction(rate / target).limit_denominator(1000)
    is_exact = abs(float(step) - rate / target) < 1e-12
    for m, i in enumerate(arrived):
        ready = m * step + latency if is_exact else m * rate / target + float(latency)
        assert i == int(ready) or (not is_exact and abs(ready - round(ready)) < 1e-3)
    assert len(arrived) + len(stream.flush()) == len(resample(x, rate, target))


def test_the_latency_is_thirty_samples_of_the_lower_rate_or_so():
    for rate, target in RATES[:-1]:
        latency = StreamResampler(rate, target, 1).latency_s * min(rate, target)
        assert 25 < latency < 31
    assert StreamResampler(100, 100, 1).latency_s == 0
    by_half = StreamResampler(1000, 100, 1, attenuation_db=45).latency_s
    assert by_half < 0.55 * StreamResampler(1000, 100, 1).latency_s


def test_a_bad_chunk_is_named_by_its_place_in_the_signal_and_ignored():
    x = np.random.default_rng(0).normal(size=(400, 2))
    stream = StreamResampler(100.0, 50.0, 2)
    parts = [stream.push(x[:150])]
    bad = x[150:160].copy()
    bad[3, 1] = np.nan
    with pytest.raises(SignalError, match="nan at sample 153, channel 1"):
        stream.push(bad)
    with pytest.raises(SignalError, match=r"3 channel.*stream has 2"):
        stream.push(np.zeros((4, 3)))
    with pytest.raises(SignalError, match="float32, but the signal has float64"):
        stream.push(x[150:160].astype(np.float32))
    with pytest.raises(SignalError, match="reshape"):
        stream.push(np.zeros(4))
    parts += [stream.push(x[150:]), stream.flush()]
    np.testing.assert_array_equal(np.concatenate(parts), resample(x, 100.0, 50.0))


def test_impossible_arguments_are_named():
    with pytest.raises(SignalError, match="target_rate_hz"):
        StreamResampler(100.0, 0.0, 1)
    for bad in (0, 1.5, None):
        with pytest.raises(ArgumentError, match="n_channels"):
            StreamResampler(100.0, 10.0, bad)
    with pytest.raises(ArgumentError, match="attenuation_db"):
        StreamResampler(100.0, 10.0, 1, attenuation_db=5)
