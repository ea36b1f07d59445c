"""Marker, unsigned, wrapping and rescaled values are reported; healthy look-alikes are not."""

import numpy as np
import pytest
from borealtc import BOREALTC, needs_borealtc
from typer.testing import CliRunner

from sensorseq.cli.app import app
from sensorseq.datasets import load_surfaces
from sensorseq.evaluation.inspect import inspect_recordings
from sensorseq.inspection.facts import measure
from sensorseq.inspection.recordings import check_recordings
from sensorseq.prepare import prepare
from sensorseq.preprocessing import PreparePipeline
from sensorseq.preprocessing.held import kinds_of_slow
from sensorseq.preprocessing.measured import MOST_PIECES, PIECE, measure_values
from sensorseq.preprocessing.odd import describe_odd_values, find_odd_values
from sensorseq.readers import find_recordings, read_source
from sensorseq.recording import Recording

HZ = 50.0


def noise(rng, t):
    return rng.normal(size=len(t))


def motion(rng, t, pitch_hz):
    return np.sin(2 * np.pi * pitch_hz * t + rng.uniform(0, 6)) + 0.2 * noise(rng, t)


def recordings(make, seconds=30.0):
    """Make fifteen recordings; `make` computes a channel from time, motion and a generator."""
    t = np.arange(int(seconds * HZ)) / HZ
    made = []
    for label, pitch_hz in (("idle", 1.0), ("drill", 6.0), ("saw", 12.0)):
        for i in range(5):
            rng = np.random.default_rng(int(10 * pitch_hz) + i)
            x = np.asarray(make(t, motion(rng, t, pitch_hz), rng), float)
            name = f"{label}/{i}"
            made.append(Recording(x.reshape(len(t), -1), t, ("a",), name, label=label))
    return made


def odd_values_of(made):
    return [measure_values(recording, kinds_of_slow(recording)).odd_values for recording in made]


def found_in(made):
    return find_odd_values(odd_values_of(made))


def lost(x, rng, mark, share=0.02):
    return np.where(rng.random(len(x)) < share, mark, x)


def two_states(t, low, high):
    return np.where(np.sin(3 * t) > 0, high, low)


ODD = {
    "failed reads as 0": ("marks", "0 in", lambda t, x, r: lost(9.8 + x, r, 0)),
    "few failed reads": ("marks", "0 in", lambda t, x, r: lost(9.8 + x, r, 0, 0.003)),
    "failed reads as -1": ("marks", "-1 in", lambda t, x, r: lost(2 + 0.3 * x, r, -1)),
    "failed reads as -999": ("marks", "-999 in", lambda t, x, r: lost(x, r, -999)),
    "failed reads as 65535": ("marks", "65535 in", lambda t, x, r: lost(x, r, 65535)),
    "a slow channel": ("marks", "-999 in", lambda t, x, r: lost(np.round(21 + t / 99, 1), r, -999)),
    "a long loss": ("marks", "32767 in 2", lambda t, x, r: np.where(abs(t - 9) < 2.5, 32767, x)),
    "16 bits": ("unsigned", "and 65535", lambda t, x, r: np.rint(40 * x) % 2**16),
    "16 bits, large": ("unsigned", "and 65535", lambda t, x, r: np.rint(9000 * x) % 2**16),
    "16 bits at rest": ("unsigned", "and 65535", lambda t, x, r: np.rint(noise(r, t)) % 2**16),
    "8 bits": ("unsigned", "and 255", lambda t, x, r: np.rint(20 * x) % 2**8),
    "12 bits": ("unsigned", "and 4095", lambda t, x, r: np.rint(200 * x) % 2**12),
    "32 bits": ("unsigned", "and 4294967295", lambda t, x, r: np.rint(200 * x) % 2**32),
    "0 to 360": ("wraps", "nearly 360", lambda t, x, r: (90 * t + x) % 360),
    "-180 to 180": ("wraps", "nearly 360", lambda t, x, r: (60 * t + x) % 360 - 180),
    "0 to 2 pi": ("wraps", "nearly 6.28319", lambda t, x, r: (-1.5 * t) % (2 * np.pi)),
    "-pi to pi": ("wraps", "nearly 6.28319", lambda t, x, r: (2 * t) % (2 * np.pi) - np.pi),
    "northwards": ("wraps", "nearly 360", lambda t, x, r: np.rint(5 * x) % 360),
    "a slow compass": (
        "wraps",
        "nearly 360",
        lambda t, x, r: np.round(99 * np.rint(4 * t) / 4) % 360,
    ),
    "an encoder": ("wraps", "nearly 4096", lambda t, x, r: np.rint(3000 * t + 9 * x) % 4096),
    "mg after g": ("rescaled", "mA where it was A", lambda t, x, r: (1 + x) * 1000.0 ** (t > 17)),
    "g after mg": ("rescaled", "times smaller", lambda t, x, r: (1 + x) * 1000.0 ** (t <= 17)),
    "deg/s after rad/s": ("rescaled", "degrees where", lambda t, x, r: x * 57.2958 ** (t > 17)),
}

HEALTHY = {
    "a robot that stops": lambda t, x, r: np.where(t < 15, x, 0.01 * noise(r, t)),
    "a robot that starts": lambda t, x, r: np.where(t < 15, 0.01 * noise(r, t), noise(r, t)),
    "a current in standby": lambda t, x, r: np.where(t < 15, 0.05 + 0.01 * noise(r, t), 2 + x / 2),
    "gravity at rest": lambda t, x, r: 9.8 + np.where(t < 15, 0.01 * noise(r, t), x),
    "a speed of 0 in stops": lambda t, x, r: np.where(t // 4 % 2 == 0, 0, 1 + 0.02 * noise(r, t)),
    "ticks, 0 in stops": lambda t, x, r: np.where(t // 4 % 2 == 0, 0, np.rint(20 + noise(r, t))),
    "a button": lambda t, x, r: r.random(len(t)) < 0.02,
    "a gear": lambda t, x, r: np.rint(2 + 2 * np.sin(t)),
    "a command of 8 bits": lambda t, x, r: two_states(t, 0, 255),
    "a command of degrees": lambda t, x, r: two_states(t, 0, 360),
    "a servo": lambda t, x, r: two_states(t, 5, 350) + noise(r, t),
    "two states near pi": lambda t, x, r: two_states(t, -3, 3) + 0.02 * noise(r, t),
    "a line sensor of 8 bits": lambda t, x, r: np.rint(two_states(t, 20, 240) + 6 * noise(r, t)),
    "a line sensor cut off at both ends": lambda t, x, r: np.clip(
        np.rint(two_states(t, 8, 4090) + 8 * noise(r, t)), 0, 4095
    ),
    "shocks cut off": lambda t, x, r: np.clip(x * np.exp(2 * noise(r, t)), -16, 16),
    "rare shocks": lambda t, x, r: r.standard_t(1.5, len(t)),
    "rare shocks in whole numbers": lambda t, x, r: np.rint(r.standard_t(1.5, len(t))),
    "a course without speed": lambda t, x, r: r.uniform(0, 360, len(t)),
    "a slow turn": lambda t, x, r: (170 + t + x / 2) % 360,
    "signed counts": lambda t, x, r: np.rint(30000 * np.sin(40 * t)),
    "a swing that decays": lambda t, x, r: np.exp(-t / 5) * x,
    "a constant": lambda t, x, r: 0 * t,
}


@pytest.mark.parametrize("what", ODD)
def test_odd_values_are_named_with_their_figures(what):
    kind, figures, make = ODD[what]
    made = recordings(make)
    (odd,) = found_in(made)
    assert (odd.kind, odd.channel) == (kind, "a")
    assert len(odd.figures) >= 12  # of 15
    assert all(figures in text for text in odd.figures.values())


@pytest.mark.parametrize("what", HEALTHY)
def test_healthy_values_are_not_named(what):
    assert found_in(recordings(HEALTHY[what])) == []


def test_a_quaternion_that_changes_its_sign_is_named_unless_the_rows_are_continuous():
    t = np.arange(1500) / HZ
    for axis, places in (((0.6, 0.48, 0.64), [0, 1, 2, 3]), ((0, 0, 1), [1, 2, 3, 0])):
        half = np.cumsum(0.02 + 0.01 * np.random.default_rng(0).normal(size=1500))[:, None]
        q = np.hstack([np.cos(half), np.sin(half) * axis])
        positive = q * np.where(q[:, :1] < 0, -1, 1)
        n_changes = (np.diff(np.sign(q[:, 0])) != 0).sum()
        for x, n in ((q, 0), (positive, n_changes), (np.sign(positive[:, :1] - 0.5) * q[:1], 0)):
            x = np.column_stack([t, x[:, places]])
            odd = found_in([Recording(x, t, ("a", *"wxyz"), "one")])
            assert [(one.kind, one.channel, one.figures[0]) for one in odd] == [
                ("signs", name, f"{n} changes") for name in "wxyz" if n
            ]


def test_simulated_recordings_are_healthy():
    assert found_in(load_surfaces()[::3]) == []


@pytest.mark.long
@needs_borealtc
def test_real_recordings_are_healthy():
    assert found_in([read_source(source) for source in find_recordings(BOREALTC)]) == []


def test_an_empty_placeholder_and_an_angle_as_sine_and_cosine_are_healthy():
    made = recordings(lambda t, x, r: lost(9.8 + x, r, np.nan))
    assert found_in(made) == []
    for turn in (np.sin, np.cos):
        assert found_in(recordings(lambda t, x, r, turn=turn: turn(2 * t))) == []


def test_a_value_that_occurs_once_in_a_few_recordings_is_not_a_placeholder():
    made = recordings(lambda t, x, r: 9.8 + x)
    for recording in made[:3]:
        recording.values[[100], 0] = 0.0
    assert found_in(made) == []
    made[3].values[100, 0] = -999.0
    assert found_in(made) == []
    made[4].values[100, 0] = -999.0
    assert sorted(found_in(made)[0].figures) == [3, 4]


def test_the_maximum_of_recordings_scaled_by_it_is_not_a_placeholder():
    made = recordings(lambda t, x, r: np.where(t == 9, 40, x) / 40)
    assert all(recording.values.max() == 1 for recording in made)
    assert found_in(made) == []


def test_only_a_part_of_a_long_recording_is_read():
    n = 3 * PIECE * MOST_PIECES
    t = np.arange(n) / 1000
    x = (90 * t) % 360
    made = [Recording(x[:, None], t, ("a",), "long")]
    (text,) = describe_odd_values(["long"], odd_values_of(made))
    assert text.startswith("a: the values wrap around, in 1 recording (a of long: ")


def test_inspection_reports_a_finding_once_for_all_channels_and_nothing_else():
    made = recordings(lambda t, x, r: lost(9.8 + x, r, -1))
    both = []
    for recording in made:
        values = np.repeat(recording.values, 2, axis=1)
        values[:, 1] += np.where(values[:, 1] == -1, 0, 1)
        both.append(
            Recording(
                values,
                recording.timestamps_s,
                ("a", "b"),
                recording.recording_id,
                label=recording.label,
            )
        )
    findings = check_recordings([measure(recording) for recording in both])[0]
    assert [finding.kind for finding in findings] == ["marks"]
    assert findings[0].where["channels"] == ["a", "b"]
    assert findings[0].text.startswith(
        "a, b: one value, far from all others, occurs again and again"
    )
    assert "in every recording (a of " in findings[0].text
    assert "empty (NaN)" in findings[0].advice


def test_a_unit_that_changes_in_one_recording_is_found_by_inspection_too():
    made = recordings(lambda t, x, r: 1 + x)
    values = made[7].values * np.where(made[7].timestamps_s > 17, 1000.0, 1.0)[:, None]
    made[7] = Recording(values, made[7].timestamps_s, ("a",), "drill/2", label="drill")
    kinds = {
        recording.kind: recording
        for recording in check_recordings([measure(recording) for recording in made])[0]
    }
    assert list(kinds) == ["rescaled", "unit"]
    assert all(recording.where["recordings"] == ["drill/2"] for recording in kinds.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fifteen logs with a heading and an acceleration whose failed reads are 0."""
    logs = tmp_path_factory.mktemp("odd") / "logs"
    for recording in recordings(lambda t, x, r: lost(9.8 + x, r, 0), seconds=15.0):
        path = logs / f"{recording.recording_id}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        t, x = recording.timestamps_s, recording.values[:, 0]
        rows = np.stack([t, x, (90 * t) % 360], axis=1)
        np.savetxt(path, rows, "%.5f", ",", header="time,acc,heading", comments="")
    return logs


def test_inspect_and_prepare_and_the_pipeline_give_the_same_message(folder, tmp_path):
    result, _ = inspect_recordings(folder)
    assert [odd["kind"] for odd in result["odd"]] == ["marks", "wraps"]
    summary = prepare(folder, tmp_path / "o.h5", window_s=2)
    marks, wraps = summary.odd_values
    assert marks.startswith("acc: one value, far from all others, occurs again and again, in 15")
    assert "(acc of drill/3.csv: 0 in 21 samples)" in marks
    assert wraps.startswith("heading: the values wrap around, in 15 recordings (heading of ")
    again = prepare(folder, tmp_path / "o.h5", window_s=2)
    assert (again.action, again.odd_values) == ("none", summary.odd_values)
    (text,) = prepare(folder, tmp_path / "h.h5", window_s=2, channels=["heading"]).odd_values
    assert text == wraps
    made = [read_source(source) for source in find_recordings(folder)]
    with pytest.warns(UserWarning, match="again and again|wrap around") as warned:
        PreparePipeline(window_s=2).prepare(made)
    assert [str(warning.message) for warning in warned] == [
        text.replace("drill/3.csv", "drill/3").replace("drill/0.csv", "drill/0")
        for text in summary.odd_values
    ]


def test_the_commands_name_options_in_80_columns(folder, tmp_path):
    for arguments in (
        ["inspect", str(folder), "-q"],
        ["prepare", str(folder), "--window-s", "2", "-o", str(tmp_path / "o.h5"), "-q"],
    ):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        text = " ".join(done.output.split())
        assert "occurs again and again" in text
        assert "or choose other --channels." in text
