"""Windows of several sensors are aligned by their starts and share labels, groups and split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import WindowError
from sensorseq.sensor_windows import SensorWindows, align_sensors, as_sensor_windows
from sensorseq.windows import WindowSet

HOP_S = 2.0


def windows_at(starts_s, recording="a", n_timesteps=3, labels=None):
    n = len(starts_s)
    X = np.repeat(np.arange(n, dtype=np.float32)[:, None, None], n_timesteps, axis=1)
    ids = np.full(n, recording) if isinstance(recording, str) else np.array(recording)
    y = np.array(["x"] * n if labels is None else labels)
    return WindowSet(X, y=y, recording_id=ids, start_s=np.array(starts_s, float))


@pytest.mark.parametrize(("late", "n_rows"), [(0.0, 4), (0.5, 4), (1.0, 4), (2.0, None)])
def test_windows_that_start_within_the_slop_form_one_row(late, n_rows):
    slop_s, starts = 0.4, HOP_S * np.arange(4)
    slow = windows_at(starts + late * slop_s, n_timesteps=2)
    sensors = {"fast": windows_at(starts), "slow": slow}
    if n_rows is None:
        with pytest.raises(WindowError, match=r"slop_s=0\.4"):
            align_sensors(sensors, slop_s=slop_s)
        kept = align_sensors(sensors, slop_s=slop_s, missing="expected")
        assert (len(kept), kept.present.sum()) == (8, 8)
        return
    aligned = align_sensors(sensors, slop_s=slop_s)
    assert len(aligned) == n_rows
    np.testing.assert_array_equal(aligned["fast"].X[:, 0, 0], aligned["slow"].X[:, 0, 0])


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=12, unique=True),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=12, unique=True),
    st.floats(0, 0.4),
)
def test_rows_are_the_windows_of_any_sensor_in_order(first, second, late):
    def of(found, late):
        found = sorted(found)
        ids = [f"r{recording}" for recording, _ in found]
        return windows_at([HOP_S * k + late for _, k in found], ids)

    both = align_sensors(
        {"a": of(first, 0.0), "b": of(second, late)}, slop_s=0.5, missing="expected"
    )
    found = [
        (name, round((start - 0.2) / HOP_S))
        for name, start in zip(both.recording_id.tolist(), both.start_s.tolist(), strict=True)
    ]
    assert sorted(found) == sorted({(f"r{r}", k) for r, k in [*first, *second]})
    assert both.present[:, 0].sum() == len(first)
    assert both.present[:, 1].sum() == len(second)
    of_a = [row for row, there in zip(found, both.present[:, 0], strict=True) if there]
    assert sorted(of_a) == sorted((f"r{r}", k) for r, k in first)


def test_a_window_that_sensors_label_differently_is_left_out():
    sensors = {
        "a": windows_at([0.0, 2.0], labels=["x", "y"]),
        "b": windows_at([0.0, 2.0], labels=["x", "x"]),
    }
    assert align_sensors(sensors).y.tolist() == ["x"]


@pytest.mark.parametrize("names", [("often", "seldom"), ("seldom", "often")])
def test_windows_of_different_hops_meet_where_they_begin_together(names):
    sets = {"often": windows_at(np.arange(11.0)), "seldom": windows_at([0.0, 5.0, 10.0])}
    aligned = align_sensors({name: sets[name] for name in names})
    assert aligned["often"].X[:, 0, 0].tolist() == [0, 5, 10]


def test_a_sensor_with_fewer_recordings_is_named():
    a = windows_at([0.0, 0.0], ["r", "s"])
    aligned = align_sensors({"a": a, "b": windows_at([0.0], "r")}, slop_s=1)
    assert aligned.provenance["sensors"]["b"] == {"n_windows": 1, "n_aligned": 1, "lacks": ["s"]}


@pytest.mark.parametrize(
    ("sensors", "message"),
    [
        ({}, "no sensor"),
        ({"a": np.zeros((2, 3, 1)), "b": np.zeros((3, 3, 1))}, "'b' has 3 windows, but 'a' has 2"),
        ({"a": np.zeros((2, 3))}, r"'a' has shape \(2, 3\)"),
        ({"a": windows_at([0.0]), "b": windows_at([0.0], labels=["y"])}, "'a' and 'b' differ in y"),
    ],
)
def test_sensors_that_are_not_aligned_are_refused_by_name(sensors, message):
    with pytest.raises(WindowError, match=message):
        as_sensor_windows(sensors)


def test_rows_and_parts_are_those_of_every_sensor():
    split = np.array(["train", "test", "train"])
    sets = {"a": windows_at([0.0, 2.0, 4.0]), "b": windows_at([0.0, 2.0, 4.0], n_timesteps=5)}
    whole = SensorWindows(sets).with_split(split)
    assert (len(whole), whole.shape, list(whole)) == (3, (3, 2), ["a", "b"])
    for part in (whole.part("train"), whole[[0, 2]], whole.take(split == "train")):
        assert [part[name].X[:, 0, 0].tolist() for name in part] == [[0, 2], [0, 2]]
    assert "b: WindowSet(3 windows of 5 steps" in repr(whole)
