"""Commands turn the files or rows of several sensors into windows, a model and predictions."""

from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
from commands import answer, refused, succeed

from sensorseq import read_recordings
from sensorseq.io.prepared import read_windows
from sensorseq.preprocessing import find_leakage

FAST = ["--set", "hidden_size=4", "--set", "max_epochs=2", "--set", "features=none"]
FAST += ["--set", "refit=none", "--no-compare"]
SENSORS = ("Accelerometer", "Gyroscope")


def sensor_table(kind, drive, sensor, n=250):
    """Return a signal that oscillates faster on rough ground; no two drives overlap in time."""
    rng, at = np.random.default_rng(100 * kind + 10 * drive + sensor), np.arange(n)
    wave = np.sin(2 * np.pi * (1 + 3 * kind) * at[:, None] / 50 + np.arange(3))
    frame = pd.DataFrame(wave / (1 + sensor) + 0.2 * rng.normal(size=(n, 3)), columns=list("xyz"))
    start_ns = 1_714_550_000 * 10**9 + (drive + 10 * kind) * 10**12
    frame.insert(0, "time", start_ns + at * 20_000_000 + sensor * 3_000_000)
    return frame


def logs_of(root, layout, n=3, n_samples=250):
    for kind, label in enumerate(("calm", "rough")):
        for drive in range(n):
            for at, sensor in enumerate(SENSORS):
                path = root / label / layout.format(drive=f"drive_{drive}", sensor=sensor)
                path.parent.mkdir(parents=True, exist_ok=True)
                sensor_table(kind, drive, at, n_samples).to_csv(path, index=False)
    return root


def parts_of(path):
    with h5py.File(path) as file:
        return file["recording_id"][()].astype(str), file["split"][()], file["groups"][()]


LAYOUTS = {
    "{drive}/{sensor}.csv": "{recording}/{sensor}.*",
    "{sensor}/{drive}.csv": "{sensor}/{recording}.*",
    "{sensor}_{drive}.csv": "{sensor}_{recording}.*",
    "{drive}-{sensor}.csv": "{recording}-{sensor}.*",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_of_one_drive_stay_together_and_the_pattern_joins_them(tmp_path, layout):
    logs = logs_of(tmp_path / "logs", layout)
    apart = tmp_path / "a.h5"
    text = succeed("prepare", logs, "--window-s", "2", "-o", apart)
    pattern = LAYOUTS[layout]
    assert f"--pair '{pattern}'" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    ids, part, group = parts_of(apart)
    drives = np.array([name[:5] + "/" + name[name.index("drive_") :][:7] for name in ids])
    for drive in np.unique(drives):
        assert len(set(part[drives == drive])) == len(set(group[drives == drive])) == 1
    assert len(set(drives)) == len(set(group)) == 6

    joined = read_recordings(logs, pair=pattern)
    assert len({one.recording_id for one in joined}) == len(joined) == 6
    names = tuple(f"{sensor}.{axis}" for sensor in SENSORS for axis in "xyz")
    assert {one.channel_names for one in joined} == {names}


def test_windows_of_one_time_in_two_parts_are_a_leak(tmp_path):
    logs = logs_of(tmp_path / "logs", "{drive}/{sensor}.csv")
    succeed("prepare", logs, "--window-s", "2", "-o", tmp_path / "w.h5")
    assert "no leak" in succeed("inspect", tmp_path / "w.h5", "--leakage")
    windows = read_windows(tmp_path / "w.h5")
    ids = windows.recording_id
    split = np.where(np.char.endswith(ids.astype(str), SENSORS[0]), "train", "test")
    (leak,) = find_leakage(replace(windows, groups=ids, split=split)).leaks
    assert (leak.kind, leak.count) == ("simultaneous_windows", len(windows) // 2)
    by_label = np.where(windows.y == "calm", "train", "test")
    assert not find_leakage(replace(windows, groups=ids, split=by_label)).leaks


def test_a_new_sensor_s_file_goes_to_the_part_of_its_drive(tmp_path):
    logs, out = logs_of(tmp_path / "logs", "{drive}/{sensor}.csv"), tmp_path / "w.h5"
    late = logs / "calm" / "drive_2" / "Gyroscope.csv"
    content = late.read_bytes()
    late.unlink()
    succeed("prepare", logs, "--window-s", "2", "-o", out)
    late.write_bytes(content)
    succeed("prepare", logs, "--window-s", "2", "-o", out, "--resume")
    ids, part, group = parts_of(out)
    own = np.char.startswith(ids, "calm/drive_2/")
    assert len(set(ids[own])) == 2
    assert len(set(part[own])) == len(set(group[own])) == 1


@pytest.mark.parametrize(
    ("layout", "native"),
    [("{drive}/{sensor}.csv", []), ("{sensor}/{drive}.csv", ["--native-rates"])],
)
def test_predict_finds_the_sensors_of_a_path(tmp_path, layout, native):
    logs, out, model = logs_of(tmp_path / "logs", layout), tmp_path / "w.h5", tmp_path / "m"
    pair = ["--pair", LAYOUTS[layout]]
    succeed("prepare", logs, *pair, "--window-s", "2", "-o", out, *native)
    succeed("train", out, "-o", model, *FAST)
    files = [logs / "rough" / layout.format(drive="drive_1", sensor=one) for one in SENSORS]
    found = [answer("predict", model, file) for file in files]
    assert found[0] == found[1]
    (one,) = found[0]["recordings"]
    assert one["paths"] == [str(file) for file in files]
    whole = answer("predict", model, logs)["recordings"]
    assert len(whole) == 6
    assert one["windows"] == next(
        each["windows"] for each in whole if set(each["paths"]) == set(one["paths"])
    )
    if files[0].parent.name == "drive_1":  # the folder of one recording
        (own,) = answer("predict", model, files[0].parent)["recordings"]
        assert own["windows"] == one["windows"]


def test_the_folders_of_a_pattern_are_not_classes(tmp_path):
    logs = logs_of(tmp_path / "logs", "{drive}/{sensor}.csv")
    recordings = read_recordings(logs / "calm", pair="{recording}/{sensor}.csv")
    assert {one.label for one in recordings} == {None}
    assert [one.recording_id for one in recordings] == [f"drive_{i}" for i in range(3)]
    with_label = read_recordings(logs, pair="{recording}/{sensor}.csv")
    assert {one.label for one in with_label} == {"calm", "rough"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{sensor}.*", r"'{recording}/{sensor}.*' if each recording has its own folder"),
        ("{recording}/{sensor}/", "must be the end of a path"),
    ],
)
def test_a_pattern_that_joins_nothing_shows_one_that_does(tmp_path, pattern, message):
    logs = logs_of(tmp_path / "logs", "{drive}/{sensor}.csv")
    said = refused(2, "prepare", logs, "--pair", pattern, "--window-s", "2", "-o", "w.h5")
    assert message in said


def test_sensors_with_other_channels_are_an_error_with_the_pattern(tmp_path):
    logs = logs_of(tmp_path / "logs", "{drive}/{sensor}.csv")
    for path in logs.rglob("Gyroscope.csv"):
        path.write_text(path.read_text().replace("x,y,z", "a,b,c", 1))
    how = [logs, "--window-s", "2", "-o", tmp_path / "w.h5"]
    assert "join them with --pair '{recording}/{sensor}.*'" in refused(3, "prepare", *how)
    succeed("prepare", *how, "--pair", "{recording}/{sensor}.*")


def test_rows_of_several_sensors_are_prepared_and_predicted(tmp_path):
    for kind, label in enumerate(("calm", "rough")):
        (tmp_path / "logs" / label).mkdir(parents=True)
        for drive in range(3):
            frames = [
                sensor_table(kind, drive, at).assign(sensor=sensor)
                for at, sensor in enumerate(SENSORS)
            ]
            rows = pd.concat(frames).sort_values("time")
            rows.to_csv(tmp_path / "logs" / label / f"r{drive}.csv", index=False)
    out, model = tmp_path / "w.h5", tmp_path / "m"
    how = ["prepare", tmp_path / "logs", "--window-s", "2", "-o", out]
    assert "with --sensor-column sensor" in refused(3, *how)
    assert "with --sensor-column sensor" in refused(3, *how, "--stamps", "packets")
    succeed(*how, "--sensor-column", "sensor", "--native-rates")
    succeed("train", out, "-o", model, *FAST)
    (one,) = answer("predict", model, tmp_path / "logs" / "rough" / "r1.csv")["recordings"]
    assert len(one["windows"]) >= 2
    again = answer("predict", model, tmp_path / "logs")["recordings"]
    assert len(again) == 6
    text = succeed("inspect", tmp_path / "logs", "--sensor-column", "sensor")
    assert "Accelerometer.x" in text
