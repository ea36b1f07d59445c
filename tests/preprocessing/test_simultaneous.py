"""Recordings that cover the same time stay together; independent recordings stay separate."""

import itertools
import warnings

import numpy as np
import pytest

from sensorseq import PreparePipeline, Recording
from sensorseq.errors import SplitError
from sensorseq.preprocessing.simultaneous import Covered, find_simultaneous

DATE_S = 1_714_550_000.0
LABELS = ("carpet", "tile")


def covered(name, start_s=0.0, duration_s=30.0, rate_hz=100.0, group=None, label=None):
    label = name.split("/")[0] if label is None else label
    end_s = start_s + duration_s - 1 / rate_hz
    return Covered(name, group or name, (label,), start_s, end_s, 1 / rate_hz)


def data(layout, sensors, clock="date", n=5, labels=LABELS, lengths="various"):
    """Return recordings in a layout such as "{r}/{s}", whose sensors cover the same time."""
    rng = np.random.default_rng(7)
    found = []
    for k, label in enumerate(labels):
        for i in range(n):
            start_s = {"date": DATE_S + 1000 * (i + n * k), "zero": 0.0}.get(clock)
            if clock == "same dates in every class":
                start_s = DATE_S + 1000 * i
            if clock == "boot":
                start_s = 100 + 50.0 * (i + n * k)
            duration_s = round(rng.uniform(20, 40), 2) if lengths == "various" else 30.0
            for s in sensors:
                name = f"{label}/{layout.format(r=f'{i:02d}', s=s, l=label)}"
                found.append(covered(name, start_s, duration_s))
    return found


LAYOUTS = {
    "2024-05-01_{r}/{s}": "{recording}/{sensor}.*",
    "{s}/run{r}": "{sensor}/{recording}.*",
    "{s}_{r}": "{sensor}_{recording}.*",
    "{r}_{s}": "{recording}_{sensor}.*",
    "{r}-{s}": "{recording}-{sensor}.*",
    "drive_{s}_{r}": "drive_{sensor}_{recording}.*",
    "log_{r}_{s}_raw": "log_{recording}_{sensor}_raw.*",
    "session/{s}_{r}": "{sensor}_{recording}.*",
    "{s}{r}": None,  # no pattern separates sensor and recording
}
SENSORS = {
    "words": ("Accelerometer", "Gyroscope"),
    "short": ("acc", "gyr", "mag"),
    "compound": ("AccelerometerUncalibrated", "TotalAcceleration"),
    "numbered": ("imu1", "imu2"),
    "axes": ("x", "y", "z"),
    "any": ("left", "right"),
}


@pytest.mark.parametrize(
    ("layout", "sensors"),
    # a name such as imu100 does not separate sensor and recording
    [pair for pair in itertools.product(LAYOUTS, SENSORS) if pair != ("{s}{r}", "numbered")],
)
@pytest.mark.parametrize("clock", ["date", "boot", "zero", "same dates in every class"])
def test_sensors_of_a_recording_are_one_group(layout, sensors, clock):
    recordings = data(layout, SENSORS[sensors], clock)
    found = find_simultaneous(recordings)
    assert len(found.groups) == 10
    assert {len(names) for names in found.groups.values()} == {len(SENSORS[sensors])}
    assert found.pair == LAYOUTS[layout]
    for names in found.groups.values():
        assert len({one.start_s for one in recordings if one.recording_id in names}) == 1


@pytest.mark.parametrize("sensors", ["words", "short", "compound", "numbered", "axes"])
@pytest.mark.parametrize("layout", ["{r}/{s}", "{s}_{r}", "{r}_{s}"])
def test_sensors_are_known_by_name_where_all_recordings_are_equally_long(layout, sensors):
    found = find_simultaneous(data(layout, SENSORS[sensors], "zero", lengths="equal"))
    assert len(found.groups) == 10


HEALTHY = {
    "numbered": ("{r}", [""]),
    "numbered with a word": ("r{r}", [""]),
    "robots and runs": ("robot_{s}_{r}", ["01", "02", "03"]),
    "subjects and trials": ("subject{s}/trial{r}", ["1", "2", "3"]),
    "maneuvers": ("{s}_{r}", ["straight", "turn", "stop"]),
    "maneuvers in folders": ("{s}/{r}", ["straight", "turn", "stop"]),
    "maneuvers of robots": ("robot{r}/{s}", ["straight", "turn", "stop"]),
    "train and test": ("{s}/{r}", ["train", "test"]),
    "sides": ("{r}_{s}", ["left", "right"]),
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_recordings_that_all_last_equally_long_from_0_are_independent(kind):
    layout, words = HEALTHY[kind]
    assert find_simultaneous(data(layout, words, "zero", lengths="equal")) is None


@pytest.mark.parametrize("kind", HEALTHY)
@pytest.mark.parametrize("clock", ["zero", "date", "boot"])
def test_consecutive_recordings_are_independent(kind, clock):
    layout, words = HEALTHY[kind]
    recordings, rng = [], np.random.default_rng(1)
    for number, one in enumerate(data(layout, words, clock)):
        start_s = {"zero": 0.0, "date": DATE_S, "boot": 9.0}[clock] + (
            clock != "zero"
        ) * 100 * number
        recordings.append(covered(one.recording_id, start_s, round(rng.uniform(20, 40), 2)))
    assert find_simultaneous(recordings) is None


def test_the_length_of_a_maneuver_is_no_evidence():
    """Each maneuver has the same duration on every robot and floor."""
    for layout in ("robot{r}/{s}", "{s}/robot{r}", "{s}_{r}"):
        recordings = []
        lengths = {"straight": 10.0, "turn": 20.0, "stop": 15.0}
        for label, r, s in itertools.product(LABELS, range(4), lengths):
            name = f"{label}/{layout.format(r=r, s=s)}"
            recordings.append(covered(name, 0.0, lengths[s]))
        assert find_simultaneous(recordings) is None


def test_dates_that_restart_with_every_recording_are_no_evidence():
    recordings = [covered(f"{label}/r{i}", DATE_S, 30 + i) for label in LABELS for i in range(10)]
    assert find_simultaneous(recordings) is None


def test_consecutive_files_of_one_log_are_independent():
    recordings = [
        covered(f"{label}/log_{i}", DATE_S + 1e6 * k + 60 * i, 62.0)
        for k, label in enumerate(LABELS)
        for i in range(10)
    ]
    assert find_simultaneous(recordings) is None


def test_dates_need_no_names_and_a_given_group_is_kept():
    names = ["a/first", "a/second", "a/third", "a/fourth"]
    starts = [DATE_S, DATE_S + 4, DATE_S + 100, DATE_S + 200]
    recordings = [covered(*one) for one in zip(names, starts, strict=True)]
    found = find_simultaneous(recordings)
    assert found.groups == {"a/first": ("a/first", "a/second")}
    assert found.pair is None
    assert "name their files so that `pair` can" in str(found)
    given = [covered(*one, group=f"robot {one[0]}") for one in zip(names, starts, strict=True)]
    assert find_simultaneous(given) is None


def recording(name, start_s, seed, n=3000):
    t = start_s + np.arange(n) / 100
    values = np.random.default_rng(seed).normal(size=(n, 2))
    return Recording(values, t, ("x", "y"), name, label=name.split("/")[0])


def recordings_of_sensors(n, labels=LABELS):
    return [
        recording(f"{label}/{i}/{sensor}", DATE_S + 1000 * (i + n * k), 100 * k + 10 * i + s)
        for k, label in enumerate(labels)
        for i in range(n)
        for s, sensor in enumerate(("acc", "gyr", "mag"))
    ]


@pytest.mark.parametrize("split_by", ["group", "recording"])
def test_windows_of_one_time_are_in_one_part(split_by):
    pipeline = PreparePipeline(window_s=2.0, split_by=split_by)
    with pytest.warns(UserWarning, match=r"30 recordings cover .*pair='\{recording\}/\{sensor\}"):
        windows = pipeline.prepare(recordings_of_sensors(5))
    drives = [name.rpartition("/")[0] for name in windows.recording_id.tolist()]
    parts = set(zip(drives, windows.split.tolist(), strict=True))
    assert len(parts) == len(set(drives)) == 10
    groups = set(zip(drives, windows.groups.tolist(), strict=True))
    assert len(groups) == 10


def test_too_few_recordings_are_an_error_with_the_reason():
    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(SplitError, match="too few") as raised,
    ):
        PreparePipeline(window_s=2.0).prepare(recordings_of_sensors(2))
    assert any("cover the same time" in note for note in raised.value.__notes__)
