"""Test the guarantees of every step, and of a chain of steps."""

import json
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, ConfigurationError, RecordingError, SignalError
from sensorseq.preprocessing.steps import (
    STEPS,
    BandPass,
    Derivative,
    Detrend,
    Difference,
    Magnitude,
    Moving,
    Notch,
    Power,
    Product,
    SignedBy,
    StepChain,
    Subtract,
    make_step,
)
from sensorseq.recording import Channel, Recording

RATE = 50.0
CHANNELS = (
    Channel("current", "mA"),
    Channel("voltage", "V"),
    Channel("speed", "rad/s"),
    Channel("ax", "m/s^2"),
    Channel("ay", "m/s^2"),
)
SOME = ("ay", "current")

WITH_LOOK_AHEAD = [
    Detrend(0.5, SOME),
    Detrend(0.3, keep=True),
    BandPass(2.0, 12.0, SOME, attenuation_db=40.0),
    BandPass(high_hz=8.0),
    BandPass(low_hz=4.0, channels=SOME, keep=True),
    Notch(15.0, 8.0, SOME),
    Derivative(),
    Derivative(0.2, order=2, polynomial=3, channels=SOME, keep=False),
    *(Moving(0.3, statistic, SOME, "zero") for statistic in ("rms", "std", "range")),
    Moving(0.02, "mean", phase="zero", keep=False),
]
CAUSAL = [
    Detrend(0.5, SOME, "causal"),
    BandPass(2.0, 12.0, SOME, "causal", order=2),
    BandPass(high_hz=8.0, phase="causal"),
    BandPass(low_hz=4.0, phase="causal", keep=True),
    Notch(15.0, channels=SOME, phase="causal"),
    Derivative(phase="causal", channels=SOME),
    Derivative(0.2, 2, 3, phase="causal", suffix="jerk"),
    Difference(),
    Difference(lag_s=0.1, absolute=True, channels=SOME, keep=False),
    *(
        Moving(0.25, statistic, SOME)
        for statistic in ("rms", "mean", "std", "range", "min", "max", "mean_absolute")
    ),
    Product("speed", "current"),
    Power("current", "voltage", keep=False),
    Subtract("ax", "ay", name="tilt"),
    SignedBy("current", "speed"),
    Magnitude(("ax", "ay")),
]
CHAINS = [
    StepChain(),
    StepChain((Power("current", "voltage"), Detrend(0.4, ("current_power",)), Difference())),
    StepChain(
        (
            BandPass(1.0, 20.0, ("ax", "ay")),
            Moving(0.3, "std", ("speed",), "zero"),
        )
    ),
    StepChain((Detrend(0.5, ("ax",)), StepChain((Difference(channels=("speed",)),)))),
]
STEPWISE = [*WITH_LOOK_AHEAD, *CAUSAL]
ALL = [*STEPWISE, *CHAINS]


COMBINED = (Product, Power, Subtract, SignedBy, Magnitude)


def names_in(values):
    """Return the names of this file's channels that occur in the values, directly or in tuples."""
    names = {channel.name for channel in CHANNELS}
    each = [one for value in values for one in (value if isinstance(value, tuple) else [value])]
    return [one for one in each if one in names]


def over(steps):
    """Parametrize a test over steps, with their names as ids."""
    named = [pytest.param(step, id=f"{step.kind}-{i}") for i, step in enumerate(steps)]
    return pytest.mark.parametrize("step", named)


def noise(n_samples, seed=0, dtype=np.float64):
    values = np.random.default_rng(seed).normal(0.3, 2.0, (n_samples, len(CHANNELS)))
    return np.cumsum(values, axis=0).astype(dtype)


def recording_of(values, **more):
    return Recording.evenly_sampled(values, RATE, CHANNELS, "run", **more)


def test_every_kind_of_step_is_tested_here():
    assert {step.kind for step in ALL} == set(STEPS)


@over(ALL)
@given(
    n_samples=st.one_of(st.integers(0, 4), st.integers(5, 260)),
    cuts=st.lists(st.floats(0, 1), max_size=6),
    seed=st.integers(0, 9),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_chunks_give_the_bits_of_the_whole(step, n_samples, cuts, seed, dtype):
    values = noise(n_samples, seed, dtype)
    whole = step.apply(recording_of(values), RATE)
    stream = step.stream(CHANNELS, RATE)
    edges = [0, *sorted(int(cut * n_samples) for cut in cuts), n_samples]
    rows = [stream.push(values[a:b]) for a, b in pairwise(edges)]
    chunked = np.concatenate([*rows, stream.flush()])
    np.testing.assert_array_equal(chunked, whole.values)
    assert whole.values.dtype == chunked.dtype == dtype


@over(ALL)
def test_single_samples_and_empty_chunks_give_the_bits_of_the_whole(step):
    values = noise(90)
    stream = step.stream(CHANNELS, RATE)
    rows = [stream.push(values[a:b]) for i in range(90) for a, b in ((i, i), (i, i + 1))]
    rows.append(stream.flush())
    np.testing.assert_array_equal(np.concatenate(rows), step.apply(recording_of(values)).values)


@over(ALL)
@pytest.mark.parametrize("n_samples", [0, 1, 200])
def test_the_result_has_the_promised_channels_and_the_same_timestamps(step, n_samples):
    result = step.apply(recording_of(noise(n_samples), start_s=7.0), RATE)
    assert result.channels == step.output_channels(CHANNELS)
    assert result.n_samples == n_samples
    np.testing.assert_array_equal(result.timestamps_s, 7.0 + np.arange(n_samples) / RATE)


@over(STEPWISE)
def test_channels_that_are_not_named_stay_unchanged(step):
    recording = recording_of(noise(90, dtype=np.float32))
    result = step.apply(recording)
    fields_that_name = [step.channels] if hasattr(step, "channels") else vars(step).values()
    read = names_in(fields_that_name) or recording.channel_names
    kept = [name for name in recording.channel_names if step.keep or name not in read]
    np.testing.assert_array_equal(result.select(kept).values, recording.select(kept).values)
    assert result.n_channels == len(kept) + (1 if isinstance(step, COMBINED) else len(read))


@over(ALL)
def test_latency_is_true(step):
    """The output for time t is available with the sample at t + latency_s, and not much earlier."""
    values = noise(300)
    stream = step.stream(CHANNELS, RATE)
    n_rows = 0
    for i in range(len(values)):
        n_rows += len(stream.push(values[i : i + 1]))
        assert n_rows == max(0, i + 1 - round(stream.latency_s * RATE))


@over(CAUSAL)
@given(at=st.integers(0, 199), seed=st.integers(0, 9))
def test_causal_steps_never_look_ahead(step, at, seed):
    values = noise(200, seed)
    changed = values.copy()
    changed[at:] += noise(200 - at, seed + 100) * 1e3
    before, after = (step.apply(recording_of(v)) for v in (values, changed))
    early = before.timestamps_s < (at - 0.5) / RATE
    np.testing.assert_array_equal(before.values[early], after.values[early])
    if at < 150:  # later outputs do change
        assert not np.array_equal(before.values, after.values)


@over(WITH_LOOK_AHEAD)
def test_steps_of_zero_phase_do_look_ahead(step):
    """If no step looked ahead, the law that causal steps do not look ahead would prove nothing."""
    values = noise(200)
    changed = values.copy()
    changed[100:] += 1e3
    before, after = (step.apply(recording_of(v)) for v in (values, changed))
    early = before.timestamps_s < 99.5 / RATE
    # A step whose window is a single sample does not look ahead.
    looks_ahead = step.stream(CHANNELS, RATE).latency_s > 0
    assert looks_ahead == (not np.array_equal(before.values[early], after.values[early]))


@over(CAUSAL)
def test_causal_steps_have_no_latency(step):
    assert step.stream(CHANNELS, RATE).latency_s == 0


@over(CHAINS[1:])
def test_a_chain_is_its_steps_one_after_the_other(step):
    recording = recording_of(noise(300, dtype=np.float32))
    one_by_one = recording
    latency_s = 0.0
    for one in step.steps:
        latency_s += one.stream(one_by_one.channels, RATE).latency_s
        one_by_one = one.apply(one_by_one, RATE)
    together = step.apply(recording)
    np.testing.assert_array_equal(together.values, one_by_one.values)
    np.testing.assert_allclose(together.timestamps_s, one_by_one.timestamps_s, atol=1e-12)
    assert together.channels == one_by_one.channels
    assert step.stream(CHANNELS, RATE).latency_s == pytest.approx(latency_s)


@over(ALL)
def test_a_step_is_restored_from_its_dict(step):
    said = json.loads(json.dumps(step.to_dict()))
    assert None not in said.values()  # TOML has no null
    assert make_step(said) == step
    assert hash(make_step(said)) == hash(step)


@over(ALL)
def test_a_missing_sample_is_named(step):
    values = noise(100)
    values[17, 3] = np.nan
    with pytest.raises(RecordingError, match=r"'run'.*'ax'.* sample 17"):
        step.apply(recording_of(values))
    stream = step.stream(CHANNELS, RATE)
    stream.push(values[:10])
    with pytest.raises(SignalError, match=r"'ax' is nan at sample 17 of the stream"):
        stream.push(values[10:])


@over(ALL)
def test_pieces_keep_their_facts(step):
    attributes = {"robot": "husky"}
    recording = recording_of(noise(120), group="g", label="ice", attributes=attributes)
    result = step.apply(recording)
    for field in fields(Recording):
        if field.name not in ("channels", "values", "timestamps_s"):
            assert getattr(result, field.name) == getattr(recording, field.name)


@over(ALL)
def test_the_input_is_left_alone_and_not_shared(step):
    values = noise(120)
    copy = values.copy()
    result = step.apply(recording_of(values))
    np.testing.assert_array_equal(values, copy)
    assert not np.shares_memory(result.values, values)


@over(ALL)
def test_a_stream_is_not_affected_if_its_input_or_output_is_overwritten(step):
    """Callers may reuse a buffer for the input, and may change the output in place."""
    values = noise(120)
    stream = step.stream(CHANNELS, RATE)
    buffer = np.empty((12, len(CHANNELS)))
    rows = []
    for first in range(0, 120, 12):
        buffer[:] = values[first : first + 12]
        given = stream.push(buffer)
        rows.append(given.copy())
        np.testing.assert_array_equal(buffer, values[first : first + 12])
        buffer[:] = given[:] = -1e9
    rows.append(stream.flush())
    np.testing.assert_array_equal(np.concatenate(rows), step.apply(recording_of(values)).values)


@over(ALL)
def test_uneven_or_contradicted_stamps_are_refused(step):
    recording = recording_of(noise(60))
    shifted = recording.timestamps_s + np.where(np.arange(60) == 30, 0.004, 0.0)
    with pytest.raises(RecordingError, match=r"'run': samples are not evenly spaced"):
        step.apply(replace(recording, timestamps_s=shifted))
    with pytest.raises(RecordingError, match=r"'run' is .*50 Hz, but sample_rate_hz is 49"):
        step.apply(recording, 49.0)
    with pytest.raises(RecordingError, match=r"too few to determine the rate; give sample_rate_hz"):
        step.apply(recording_of(noise(1)))


@over(ALL)
def test_a_stream_refuses_samples_of_the_wrong_form(step):
    stream = step.stream(CHANNELS, RATE)
    for wrong, said in (
        (np.zeros((4, 3)), r"expected \(n, 5\)"),
        (np.zeros(5), "reshape"),
        (np.zeros((1, 5), complex), "must be real numbers"),
    ):
        with pytest.raises(SignalError, match=said):
            stream.push(wrong)
    stream.flush()
    with pytest.raises(SignalError, match="flushed"):
        stream.push(np.zeros((1, 5)))
    with pytest.raises(SignalError, match="flushed"):
        stream.flush()


@over(step for step in STEPWISE if isinstance(step, COMBINED) or step.channels is not None)
def test_an_unknown_channel_is_an_error_with_the_nearest_known(step):
    others = tuple(Channel(f"{channel.name}_1") for channel in CHANNELS)
    with pytest.raises(ArgumentError, match=r"is not known. Did you mean '\w+_1'"):
        step.output_channels(others)
    with pytest.raises(ArgumentError, match=r"is not known. Did you mean '\w+_1'"):
        step.stream(others, RATE)
    with pytest.raises(ArgumentError):
        step.output_channels(())


def test_the_same_feature_twice_is_an_error_that_says_what_to_do():
    once = Difference().apply(recording_of(noise(20)))
    with pytest.raises(ArgumentError, match=r"two channels named 'current_difference'.*suffix"):
        Difference(channels="current").apply(once)
    twice = Difference(channels="current", suffix="step").apply(once)
    assert twice.channel_names[-1] == "current_step"


def test_the_error_of_a_chain_says_which_step_it_comes_from():
    chain = StepChain((Difference(), Moving(0.001)))
    with pytest.raises(ArgumentError, match="less than a sample at 50 Hz") as caught:
        chain.stream(CHANNELS, RATE)
    assert caught.value.__notes__ == ["in steps[1] (moving)"]
    with pytest.raises(ArgumentError) as caught:
        chain.apply(recording_of(noise(9)))
    assert caught.value.__notes__[-1] == "for recording 'run'"
    with pytest.raises(ArgumentError, match="is not a step; make one with make_step"):
        StepChain(({"kind": "difference"},))


def test_a_mistyped_kind_or_field_is_an_error_with_the_nearest_known():
    with pytest.raises(ArgumentError, match=r"kind='band_pas' is not known. Did you mean 'band_p"):
        make_step({"kind": "band_pas", "low_hz": 1.0})
    with pytest.raises(ConfigurationError, match=r"no field 'windows_s'. Did you mean 'window_s'"):
        make_step({"kind": "moving", "windows_s": 1.0})
    with pytest.raises(ConfigurationError, match="'moving' needs window_s"):
        make_step({"kind": "moving"})
    with pytest.raises(ConfigurationError, match="a table with a kind"):
        make_step({"window_s": 1.0})
    with pytest.raises(ConfigurationError, match="steps='difference' is not a list"):
        make_step({"kind": "chain", "steps": "difference"})


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"kind": "moving", "window_s": "long"}, "window_s='long' must be a number above zero"),
        ({"kind": "moving", "window_s": 1.0, "statistic": "rsm"}, "Did you mean 'rms'"),
        ({"kind": "detrend", "window_s": 1.0, "phase": "casual"}, "Did you mean 'causal'"),
        ({"kind": "detrend", "window_s": -1.0}, "window_s=-1.0"),
        ({"kind": "detrend", "window_s": 1.0, "keep": "no"}, "keep='no' must be True or False"),
        ({"kind": "detrend", "window_s": 1.0, "channels": []}, "list of channel names"),
        ({"kind": "detrend", "window_s": 1.0, "channels": ["a", "a"]}, "'a' more than once"),
        ({"kind": "difference", "lag_samples": 1.5}, "lag_samples=1.5 must be an integer"),
        ({"kind": "difference", "lag_samples": 1, "lag_s": 0.1}, "give only one of them"),
        ({"kind": "derivative", "order": 3}, "order=3 must be an integer from 1 to 2"),
        ({"kind": "derivative", "order": 2, "polynomial": 1}, "polynomial=1 has no derivative"),
        ({"kind": "product", "left": "a", "right": ""}, "right='' is not a name"),
        ({"kind": "chain", "steps": [{"kind": "moving", "window_s": 0}]}, "window_s=0"),
    ],
)
def test_a_value_that_does_not_fit_is_an_error_that_names_it(said, match):
    with pytest.raises(ArgumentError, match=match):
        make_step(said)
