"""Steps derived from names, units and rates: their kinds, channels and order."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import write_csv

from sensorseq import PreparePipeline, Recording
from sensorseq.errors import ArgumentError, ConfigurationError
from sensorseq.io.prepared import read_windows
from sensorseq.prepare import prepare
from sensorseq.preprocessing.configuration import read_configuration
from sensorseq.preprocessing.cutting import RecordingPlan
from sensorseq.preprocessing.steps import StepChain, make_step
from sensorseq.preprocessing.steps.derive import channel_rates, derive_steps, motor_pairs
from sensorseq.readers import join_sensors, read_recordings
from sensorseq.recording import Channel

MOTORS = ("curL", "curR", "velL", "velR")
INERTIAL = ("wx", "wy", "wz", "ax", "ay", "az")
EVERY_INERTIAL_BIN = [f"{k}.0Hz" for k in range(2, 51, 2)]


def channels_of(names, units=()):
    units = dict(units)
    return tuple(Channel(name, units.get(name, "")) for name in names)


def derive(names, rate=6.5, own=None, units=()):
    rates = [rate] * len(names) if own is None else own
    return derive_steps(channels_of(names, units), rates, rate)


def results(found, names, rate, units=()):
    chain = StepChain(tuple(make_step(step) for step in found.steps))
    return [c.name for c in chain.output_channels(channels_of(names, units), rate)]


def kinds(found):
    return {step["kind"] for step in found.steps}


def values_of(steps, X, names, rate):
    recording = Recording.evenly_sampled(np.asarray(X, float), rate, names, "r")
    for step in steps:
        made = make_step(step)
        recording, rate = made.apply(recording, rate), made.output_rate_hz(rate)
    return {name: recording.values[:, i] for i, name in enumerate(recording.channel_names)}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (MOTORS, [("curL", "velL"), ("curR", "velR")]),
        (("left_torque", "left_speed", "ax"), [("left_torque", "left_speed")]),
        (("current", "rpm", "voltage"), [("current", "rpm")]),
        (("i_1", "i_2", "vel_1", "vel_2"), [("i_1", "vel_1"), ("i_2", "vel_2")]),
        (("curL", "velR"), []),
        (INERTIAL, []),
    ],
)
def test_currents_and_speeds_with_matching_names_are_motors(names, expected):
    assert motor_pairs(channels_of(names)) == expected


def test_motors_of_two_sides_give_the_channels_of_the_recipe():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 4))
    found = values_of(derive(MOTORS).steps, X, MOTORS, 6.5)
    cur_l, cur_r, vel_l, vel_r = X.T
    expected = {
        "curL_times_velL": cur_l * vel_l,
        "curR_signed_by_velR": cur_r * np.sign(vel_r),
        "curL_minus_curR": cur_l - cur_r,
        "velL_minus_velR": vel_l - vel_r,
    }
    for i, name in enumerate(MOTORS):
        x = X[:, i]
        step = np.diff(x, prepend=x[0])
        last = [x[max(0, t - 5) : t + 1] for t in range(40)]  # there are 6 samples in 1 s
        expected |= {
            name: x,
            f"{name}_difference": step,
            f"{name}_absolute_difference": np.abs(step),
            f"{name}_mean": [w.mean() for w in last],
            f"{name}_std": [w.std() for w in last],
            f"{name}_range": [np.ptp(w) for w in last],
        }
    assert len(found) == len(expected) + 2  # the second product and the second signed current
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-12, err_msg=name)
    lines = derive(MOTORS).lines
    assert len(lines) == 6
    assert lines[0] == "derived from curL, curR, velL, velR: difference from the previous sample"


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("current_left", "velocity_left"), [("current_left", "velocity_left")]),
        (("motorCurrent1", "wheelSpeed1", "wheelSpeed2"), [("motorCurrent1", "wheelSpeed1")]),
        (("curl", "curr", "vell", "velr"), [("curl", "vell"), ("curr", "velr")]),
        (("i_fl", "i_fr", "rpm_fr", "rpm_fl"), [("i_fl", "rpm_fl"), ("i_fr", "rpm_fr")]),
        (("CURRENT_L", "speedLeft"), [("CURRENT_L", "speedLeft")]),
        (("cur", "vel"), [("cur", "vel")]),
        (("curL", "velR"), []),
        (("cur_a", "cur_b", "vel_c"), []),
    ],
)
def test_currents_and_speeds_pair_by_their_place(names, pairs):
    steps = derive(names).steps
    made = [(s["left"], s["right"]) for s in steps if s["kind"] == "product"]
    assert made == pairs
    signed = [(s["value"], s["by"]) for s in steps if s["kind"] == "signed_by"]
    assert signed == made


@pytest.mark.parametrize(
    ("names", "differences"),
    [
        (("cur_left", "cur_right"), [("cur_left", "cur_right")]),
        (("curR", "curL"), [("curL", "curR")]),
        (("i_fl", "i_fr", "i_rl", "i_rr"), [("i_fl", "i_fr"), ("i_rl", "i_rr")]),
        (("velL", "curR"), []),
        (("vel_1", "vel_2"), []),
    ],
)
def test_left_minus_right_needs_names_that_differ_only_in_the_side(names, differences):
    steps = derive(names).steps
    assert [(s["left"], s["right"]) for s in steps if s["kind"] == "subtract"] == differences


def test_units_identify_channels_that_names_do_not():
    units = {"m1": "mA", "m2": "rpm", "m3": "V"}
    found = derive(("m1", "m2", "m3"), units=units)
    made = results(found, ("m1", "m2", "m3"), 6.5, units)
    assert {"m1_difference", "m2_difference"} <= set(made)
    assert "m3_difference" not in made
    sides = derive(("curL", "curR"), units={"curL": "A", "curR": "mA"})
    assert "subtract" not in kinds(sides)  # the sides are not subtracted if their units differ
    assert "difference" not in kinds(derive(("current_sensor",), units={"current_sensor": "V"}))
    spinning = derive(("wz",), rate=100.0, units={"wz": "rad/s"})
    assert kinds(spinning) == {"spectral"}  # a turn rate, not a wheel speed


def test_inertial_spectra_are_those_of_the_example():
    found = derive(INERTIAL, rate=100.0)
    spectra = {"kind": "spectral", "frame_s": 0.5, "hop_s": 0.1}
    assert found.steps == ({**spectra, "channels": list(INERTIAL)},)
    made = results(found, INERTIAL, 100.0)
    assert made[6:31] == [f"wx_{label}" for label in EVERY_INERTIAL_BIN]
    assert len(made) == 6 * 26


def test_slow_inertial_channels_have_no_spectra():
    for own, rate in (([20.0], 100.0), ([100.0], 20.0)):
        found = derive(("ax",), rate=rate, own=own)
        assert found.steps == ()
        assert "not derived: spectra of ax, because 20 Hz is below 40 Hz" in found.lines[0]


def test_fast_motors_and_slow_inertial_sensors_keep_their_own_rates():
    """At 400 Hz, lags equal the motors' sample period, and spectra end at half the IMU's rate."""
    names = (*MOTORS, "ax")
    found = derive(names, rate=400.0, own=[6.5] * 4 + [100.0])
    lags = {step["lag_s"] for step in found.steps if step["kind"] == "difference"}
    assert lags == {0.1538}
    (spectral,) = (step for step in found.steps if step["kind"] == "spectral")
    assert spectral["max_frequency_hz"] == 50.0
    (fast,) = derive(("ax",), rate=1000.0).steps
    assert fast["n_bands"] == 25


def test_too_slow_motors_have_no_moving_statistics():
    found = derive(("curL",), rate=100.0, own=[1.0])
    assert "moving" not in kinds(found)
    assert any(line.startswith("not derived: moving statistics of curL") for line in found.lines)


def test_nothing_recognizable_says_how_to_write_steps():
    found = derive(("temperature", "channel_1"))
    assert found.steps == ()
    (line,) = found.lines
    assert "none of the channels (temperature, channel_1)" in line
    assert "[[steps]]" in line


QUANTITIES = ("cur", "current", "i", "vel", "speed", "rpm", "ax", "wz", "acc", "gyro")
OTHERS = ("L", "R", "left", "right", "fl", "fr", "1", "2", "mean", "difference", "_", "x")
WORDS = st.sampled_from(QUANTITIES + OTHERS)
NAMES = st.one_of(
    st.lists(WORDS, min_size=1, max_size=4).map("_".join),
    st.lists(WORDS, min_size=1, max_size=3).map("".join),
    st.text(min_size=1, max_size=6).map(str.strip).filter(len),
)


@given(
    names=st.lists(NAMES, min_size=1, max_size=12, unique=True),
    unit=st.sampled_from(["", "A", "mA", "m/s", "rad/s", "rpm", "g", "m/s^2", "V", "?"]),
    rate=st.one_of(st.floats(0.5, 3000), st.sampled_from([6.5, 40.0, 41.0, 100.0])),
    data=st.data(),
)
def test_derived_steps_run_on_any_channels(names, unit, rate, data):
    """For any names, the steps can be made, keep every channel, and add distinct channels."""
    own = [data.draw(st.sampled_from([rate, 6.5, 100.0, float("nan"), 1.0])) for _ in names]
    units = {name: unit for name in names if data.draw(st.booleans())}
    found = derive(names, rate, own, units)
    assert found.lines
    made = results(found, names, rate, units)
    assert made[: len(names)] == names
    assert len(set(made)) == len(made)
    X = np.random.default_rng(0).normal(size=(int(0.6 * rate) + 2, len(names)))
    assert all(np.isfinite(v).all() for v in values_of(found.steps, X, names, rate).values())


def test_each_channel_has_the_rate_of_its_own_sensor():
    t = np.arange(100) / 100
    fast = Recording(np.zeros((100, 1)), t, ("ax",), "r")
    slow = Recording(np.zeros((7, 1)), np.arange(7) / 6.5, ("curL",), "r")
    assert channel_rates(join_sensors([slow, fast], ["pro", "imu"])) == pytest.approx([6.5, 100])


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Write two classes of three recordings: motors at 6.5 Hz, and an inertial sensor at 100 Hz."""
    folder = tmp_path_factory.mktemp("logs")
    rng = np.random.default_rng(0)
    for label in ("calm", "rough"):
        for i in range(3):
            for sensor, rate, names in (("pro", 6.5, MOTORS), ("imu", 100.0, INERTIAL)):
                t = np.arange(int(9 * rate)) / rate
                columns = zip(names, rng.normal(size=(len(t), len(names))).T, strict=True)
                write_csv(folder / label / f"{sensor}_{i:02d}.csv", {"time": t, **dict(columns)})
    return folder


MOTOR_FILES = {"files": "pro_*.csv", "window_s": 4.0, "derive": "auto"}
PAIRED = {"pair": "{sensor}_{recording}.*", "window_s": 4.0, "derive": "auto"}


READ = [(MOTOR_FILES, 6.5, 30), (PAIRED, 10.0, 186)]


@pytest.mark.parametrize(("settings", "rate", "n_channels"), READ)
def test_prediction_repeats_the_steps_that_preparation_derived(
    logs, tmp_path, settings, rate, n_channels
):
    summary = prepare(logs, tmp_path / "a.h5", **settings)
    windows = read_windows(tmp_path / "a.h5")
    assert windows.sample_rate_hz == pytest.approx(rate)
    assert windows.n_channels == n_channels
    configured = windows.provenance["configuration"]
    assert configured["derive"] == {"mode": None}
    assert {"difference", "product", "moving"} <= {step["kind"] for step in configured["steps"]}
    assert summary.derived == windows.provenance["derived"]
    assert any("left minus right" in line for line in summary.derived)
    which = {name: settings[name] for name in ("files", "pair") if name in settings}
    raw = read_recordings(logs, **which)
    again = RecordingPlan.recorded(windows.provenance).prepare(raw)
    np.testing.assert_array_equal(again.X, windows.X)
    assert again.channels == windows.channels
    # Preparation in memory derives the same steps, and the pipeline's TOML text restores it.
    pipeline = PreparePipeline(window_s=4.0, derive="auto")
    assert 'mode = "auto"' in pipeline.to_toml()
    assert pipeline.prepare(raw).channels == windows.channels
    written = tmp_path / "expanded.toml"
    written.write_text(pipeline.to_toml())
    assert "[derive]" not in pipeline.to_toml()
    np.testing.assert_array_equal(PreparePipeline.from_toml(written).prepare(raw).X, windows.X)


def test_an_option_replaces_the_steps_of_a_configuration_and_vice_versa(logs, tmp_path):
    config = tmp_path / "steps.toml"
    config.write_text('[window]\nwindow_s = 4.0\n[[steps]]\nkind = "detrend"\nwindow_s = 2.0\n')
    derived = prepare(logs, tmp_path / "a.h5", files="pro_*.csv", config=config, derive="auto")
    assert (
        derived.derived[0]
        == "the steps of the configuration are not used, because derive replaces them"
    )
    assert "curL_difference" in derived.channels
    plain = prepare(logs, tmp_path / "b.h5", files="pro_*.csv", config=config, derive="none")
    assert plain.derived == []
    assert plain.channels == MOTORS
    config.write_text('[derive]\nmode = "auto"\n[window]\nwindow_s = 4.0\n')
    own = [{"kind": "difference", "channels": ["curL"]}]
    chosen = prepare(logs, tmp_path / "c.h5", files="pro_*.csv", config=config, steps=own)
    assert chosen.channels == (*MOTORS, "curL_difference")
    off = prepare(logs, tmp_path / "d.h5", files="pro_*.csv", config=config, derive="none")
    assert off.channels == MOTORS


def test_contradictory_or_invalid_arguments_of_derive_are_refused(logs, tmp_path):
    both = tmp_path / "both.toml"
    derived = '[derive]\nmode = "auto"\n[window]\nwindow_s = 4\n'
    both.write_text(f'{derived}[[steps]]\nkind = "difference"\n')
    with pytest.raises(ArgumentError, match="derive='auto' and `steps` are both given") as caught:
        prepare(logs, tmp_path / "a.h5", files="pro_*.csv", config=both)
    assert str(both) in caught.value.__notes__[0]
    with pytest.raises(ArgumentError, match=r"derive='automatic' .* 'auto'"):
        prepare(logs, tmp_path / "a.h5", files="pro_*.csv", window_s=4.0, derive="automatic")
    unknown = tmp_path / "unknown.toml"
    unknown.write_text('[derive]\nmoed = "auto"\n')
    with pytest.raises(ConfigurationError, match=r"'moed' in \[derive\] .*Did you mean 'mode'"):
        read_configuration(unknown)
    with pytest.raises(ArgumentError, match="2 rates for 1 channels"):
        derive_steps(channels_of(("curL",)), [1.0, 2.0], 6.5)


def test_the_first_recording_that_can_be_read_decides(logs, tmp_path):
    copy = tmp_path / "logs"
    shutil.copytree(logs, copy)
    (copy / "calm" / "pro_00.csv").write_text("time,curL\n0,broken\n")
    found = prepare(copy, tmp_path / "a.h5", **MOTOR_FILES, split="none", on_error="skip")
    assert len(found.channels) == 30
    assert found.n_recordings == 5
