"""Several sensors, each at its own rate: their files, the prepared windows, and a model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import said, succeed
from fits import fused_classifier

from sensorseq import PreparePipeline, SensorWindows, read_sensors
from sensorseq.errors import ArgumentError, PreparedFileError, RecordingError
from sensorseq.io.prepared import read_sensor_windows, sensors_in
from sensorseq.options import ReadOptions
from sensorseq.prepare import prepare

RATES_HZ = {"imu": 50.0, "motor": 6.5}
FILES = {"files": ["imu_*.csv", "motor_*.csv"], "pair": "{sensor}_{recording}.*"}
HOW = {"window_s": 2.0, "native_rates": True}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Three classes of four recordings each; the inertial unit begins 0.1 s later."""
    folder = tmp_path_factory.mktemp("logs")
    rng = np.random.default_rng(0)
    for label in range(3):
        (folder / f"class_{label}").mkdir()
        for number in range(4):
            for sensor, rate in RATES_HZ.items():
                t = (0.1 if sensor == "imu" else 0.0) + np.arange(0, 20, 1 / rate)
                x = np.sin((1 + label) * t) + 0.1 * rng.normal(size=len(t))
                path = folder / f"class_{label}" / f"{sensor}_{number}.csv"
                rows = np.column_stack([t, x, x**2])
                np.savetxt(
                    path, rows, "%.9g", ",", header=f"time,{sensor}_a,{sensor}_b", comments=""
                )
    return folder


def copied(logs, folder, *left_out):
    """Copy the logs without some files."""
    for path in logs.rglob("*.csv"):
        if path.name not in left_out:
            (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
            (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    return folder


def assert_same(one, other):
    assert list(one) == list(other)
    for name in one:
        for column in ("X", "lengths", "y", "groups", "recording_id", "start_s", "split"):
            np.testing.assert_array_equal(getattr(one[name], column), getattr(other[name], column))
        assert one[name].sample_rate_hz == other[name].sample_rate_hz


@pytest.mark.parametrize("more", [{"split": None}, {"hop_s": 1.0}])
def test_a_file_has_the_windows_of_the_pipeline(logs, tmp_path, more):
    path = tmp_path / "windows.h5"
    given = {**more, "split": "none"} if "split" in more else more
    prepare(logs, path, **FILES, **HOW, **given)
    made = PreparePipeline(**HOW, **more).prepare(read_sensors(logs, ReadOptions(**FILES)))
    stored = read_sensor_windows(path, sensors_in(path))
    assert isinstance(made, SensorWindows)
    assert_same(made, stored)
    assert not list(tmp_path.glob("*.sensors"))


def test_windows_are_the_samples_at_those_times(logs, tmp_path):
    prepare(logs, tmp_path / "w.h5", **FILES, **HOW)
    windows = read_sensor_windows(tmp_path / "w.h5", ["imu", "motor"])
    assert {name: own.n_timesteps for name, own in windows.sensors.items()} == {
        "imu": 100,
        "motor": 13,
    }
    row = int(np.flatnonzero(windows.recording_id == "class_1/2")[3])
    for name, rate in RATES_HZ.items():
        t, x = np.loadtxt(
            logs / "class_1" / f"{name}_2.csv", delimiter=",", skiprows=1, usecols=(0, 1)
        ).T
        first = int(np.flatnonzero(t >= 6.0 - 1e-9)[0])  # the fourth window of 2 s
        got = windows[name].X[row, :, 0]
        np.testing.assert_allclose(got, x[first : first + len(got)], atol=1e-5)
        assert t[first] - 6.0 < 1 / rate


def test_stamps_in_nanoseconds_stay_on_the_clock_of_the_sensors(logs, tmp_path):
    """With only one sensor, stamps of 19 digits would be counted from the first stamp."""
    for path in logs.glob("*/*.csv"):
        rows = np.loadtxt(path, delimiter=",", skiprows=1)
        late_s = 3.3 if path.name.startswith("imu") else 0.0
        ns = 1_700_000_000_000_000_000 + np.round(1e9 * (rows[:, 0] + late_s)).astype(np.int64)
        lines = [
            f"{t},{x!r}" for t, x in zip(ns.tolist(), (ns % 10**11 / 1e9).tolist(), strict=True)
        ]
        (tmp_path / "logs" / path.parent.name).mkdir(parents=True, exist_ok=True)
        text = "\n".join([f"stamp_ns,{path.name.split('_')[0]}_s", *lines, ""])
        (tmp_path / "logs" / path.parent.name / path.name).write_text(text)
    given = {**FILES, **HOW, "time_column": "stamp_ns", "split": "none"}
    prepare(tmp_path / "logs", tmp_path / "w.h5", **given)
    windows = read_sensor_windows(tmp_path / "w.h5", ["imu", "motor"])
    begins = [windows[name].X[:, 0, 0] for name in ("imu", "motor")]
    assert len(windows) == 12 * 8
    assert np.abs(begins[0] - begins[1]).max() < 0.21
    np.testing.assert_allclose(windows.start_s % 100, np.minimum(*begins), atol=1e-5)


def test_a_recording_without_a_sensor_is_named_or_kept(logs, tmp_path):
    folder = copied(logs, tmp_path / "logs", "motor_3.csv")
    with pytest.raises(RecordingError, match=r"3 of 12 .* 'motor': class_0/3"):
        prepare(folder, tmp_path / "w.h5", **FILES, **HOW)
    summary = prepare(folder, tmp_path / "w.h5", **FILES, **HOW, missing="expected")
    assert any("motor is missing in 3 recordings" in line for line in summary.sensors)
    windows = read_sensor_windows(tmp_path / "w.h5", ["imu", "motor"])
    lost = ~windows.present[:, 1]
    assert set(windows.recording_id[lost]) >= {"class_0/3", "class_1/3", "class_2/3"}
    assert np.isnan(windows["motor"].X[lost]).all()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sample_rate_hz": 10.0}, "sample_rate_hz cannot be combined with native_rates"),
        ({"split_by": "time"}, "split_by"),
        ({"balance": "undersample"}, "balance cannot be combined"),
        ({"label_column": "label"}, "label_column cannot be combined"),
        ({"native_rates": None, "slop_s": 0.1}, "slop_s=0.1 needs native_rates=True"),
        ({"missing": "maybe"}, "missing='maybe'"),
        ({"slop_s": 1.0}, "slop_s=1.0 must be above 0 and less than half"),
        ({"hop_s": 0.3}, "sensor 'motor' has 6.5 samples a second.* use hop_s=0.34 or more"),
    ],
)
def test_options_that_exclude_each_other_are_refused(logs, tmp_path, more, message):
    with pytest.raises(ArgumentError, match=message):
        prepare(logs, tmp_path / "w.h5", **FILES, **{**HOW, **more})


def test_recordings_of_several_sensors_are_given_by_name(logs):
    recordings = read_sensors(logs, ReadOptions(**FILES))
    with pytest.raises(ArgumentError, match="needs the recordings of each sensor"):
        PreparePipeline(**HOW).prepare(recordings["imu"])
    with pytest.raises(ArgumentError, match="need native_rates=True"):
        PreparePipeline(window_s=2).prepare(recordings)
    odd = recordings["imu"][3]
    recordings["imu"][3] = replace(odd, values=1000 * odd.values)
    with pytest.raises(RecordingError, match="class_0/3"):
        PreparePipeline(**HOW).prepare(recordings)
    assert len(PreparePipeline(**HOW).prepare(recordings, allow_scales=True)) > 100


def test_files_of_one_sensor_and_other_outputs_are_refused(logs, tmp_path):
    with pytest.raises(RecordingError, match="needs `files` for each sensor"):
        prepare(logs, tmp_path / "w.h5", files="imu_*.csv", **HOW)
    (tmp_path / "mine.h5").write_text("my notes")
    with pytest.raises(PreparedFileError, match=r"mine\.h5"):
        prepare(logs, tmp_path / "mine.h5", **FILES, **HOW)
    assert (tmp_path / "mine.h5").read_text() == "my notes"


def test_commands_can_be_used_from_logs_to_a_test(logs, tmp_path):
    path, model = tmp_path / "w.h5", tmp_path / "m.safetensors"
    options = [f"--files={pattern}" for pattern in FILES["files"]]
    more = ["--pair", FILES["pair"], "--window-s", "2", "--native-rates", "-o", path]
    made = succeed("prepare", logs, *options, *more, "--split", "0.5,0.25,0.25")
    assert "imu: 100 samples at 50 Hz, 2 channels (imu_a, imu_b)" in made
    settings = [f"--set={one}" for one in ("max_epochs=2", "hidden_size=4", "features=summary")]
    trained = succeed("train", path, "-o", model, *settings, "--quiet")
    assert "together" in trained
    assert "imu: the curve of its LSTM" in trained
    found = json.loads(succeed("evaluate", model, path, "--json", "--quiet"))
    assert set(found["baselines"]) == {"majority", "ridge", "gradient_boosting", "rocket_ridge"}
    code, _, err = said("inspect", path, "--leakage")
    assert (code, "several sensors, each at its own rate (imu, motor)" in err) == (3, True)
    code, _, err = said("inspect", path, "--leakage", "--sensor", "mottor")
    assert (code, "has imu, motor. Did you mean motor?" in err) == (2, True)
    for file in (path, model):
        described = json.loads(succeed("info", file, "--json"))
        assert list(described["sensors"]) == ["imu", "motor"]
        assert f"sensor motor of {file}" in succeed("info", file)
    assert "Members" in succeed("diagnose", model, "--sensor", "imu")
    code, _, err = said("diagnose", model)
    assert (code, "the model has imu, motor" in err) == (2, True)
    for command in (["train", path, "-o", tmp_path / "x"], ["evaluate", model, path]):
        code, _, err = said(*command, "--report", tmp_path / "page.html")
        assert (code, "--report is for one sensor" in err) == (2, True)


def test_one_sensor_of_a_file_is_inspected_without_the_windows_that_it_lacks(logs, tmp_path):
    folder = copied(logs, tmp_path / "logs", "motor_3.csv")
    path = tmp_path / "w.h5"
    prepare(folder, path, **FILES, **HOW, missing="expected")
    windows = read_sensor_windows(path, ["imu", "motor"])["motor"]
    has = np.isfinite(windows.X).any(axis=(1, 2))
    said_of_it = succeed("inspect", path, "--leakage", "--sensor", "motor")
    assert f"no leak found in {has.sum()} windows" in said_of_it
    page = tmp_path / "page.html"
    found = json.loads(succeed("inspect", path, "--html", page, "--sensor", "motor", "--json"))
    names = [one["recording_id"] for one in found["recordings"]]
    assert names == sorted(set(windows.recording_id[has].tolist()))
    assert len(names) == 9
    assert "motor_a" in page.read_text()
    code, _, err = said("inspect", folder, "--sensor", "motor")
    assert (code, "--sensor needs a prepared file" in err) == (2, True)


def test_predict_finds_the_files_of_the_other_sensors(logs, tmp_path):
    path, model = tmp_path / "w.h5", tmp_path / "m.safetensors"
    prepare(logs, path, **FILES, **HOW, missing="expected")
    settings = {"features": "summary", "max_epochs": 2, "hidden_size": 4, "random_state": 0}
    fitted = fused_classifier(**settings, missing="expected").fit(path)
    fitted.save(model)
    found = json.loads(succeed("predict", model, logs / "class_1" / "imu_2.csv", "--json"))
    (one,) = found["recordings"]
    assert [Path(name).name for name in one["paths"]] == ["imu_2.csv", "motor_2.csv"]
    windows = read_sensor_windows(path, sensors_in(path))
    own = fitted.predict_proba(windows[windows.recording_id == "class_1/2"])
    got = [[row["probability"][f"class_{k}"] for k in range(3)] for row in one["windows"]]
    np.testing.assert_array_equal(got, own)
    alone = copied(logs, tmp_path / "alone", *(p.name for p in logs.rglob("motor_*.csv")))
    said_alone = succeed("predict", model, alone / "class_0" / "imu_1.csv")
    assert "sensor 'motor' is missing in 10 of 10 windows" in said_alone
