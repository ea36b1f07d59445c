"""Files in Edge Impulse's acquisition format, and folders from phone apps."""

import json

import numpy as np
import pytest
from commands import succeed
from tables import write_table

from sensorseq.errors import RecordingError
from sensorseq.readers import find_recordings, read_recordings


def content(values, interval_ms=8.0, names=("accX", "accY")):
    sensors = [{"name": name, "units": "m/s2"} for name in names]
    payload = {"device_type": "X", "interval_ms": interval_ms, "sensors": sensors, "values": values}
    return {"protected": {"ver": "v1", "alg": "none"}, "signature": "0" * 8, "payload": payload}


def sample(path, values, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = content(np.asarray(values).tolist(), **more)
    if path.suffix == ".cbor":
        cbor2 = pytest.importorskip("cbor2", reason="cbor2 is not installed")
        path.write_bytes(cbor2.dumps(made))
    else:
        path.write_text(json.dumps(made))
    return path


@pytest.mark.parametrize("suffix", [".json", ".cbor"])
def test_values_rate_and_units_are_read_from_the_file(tmp_path, suffix):
    values = np.random.default_rng(0).normal(size=(100, 2))
    sample(tmp_path / f"a{suffix}", values)
    (tmp_path / "notes.json").write_text('{"by": "me"}')
    (one,) = read_recordings(tmp_path)
    assert [(c.name, c.unit) for c in one.channels] == [("accX", "m/s2"), ("accY", "m/s2")]
    assert one.median_sample_rate_hz == 125
    np.testing.assert_array_equal(one.values, values)


def test_sensors_with_the_same_name_are_numbered_and_units_may_be_missing(tmp_path):
    made = content([[1, 2], [3, 4]], names=["x", "x"])
    made["payload"]["sensors"][0]["units"] = None
    (tmp_path / "a.json").write_text(json.dumps(made))
    (one,) = read_recordings(tmp_path)
    assert [(c.name, c.unit) for c in one.channels] == [("x[0]", ""), ("x[1]", "m/s2")]


def test_values_of_a_single_sensor_may_lack_inner_lists(tmp_path):
    sample(tmp_path / "a.json", [1.5, 2.5, 4.0], names=["light"])
    (one,) = read_recordings(tmp_path)
    assert one.values[:, 0].tolist() == [1.5, 2.5, 4.0]


def test_labels_of_an_export_are_those_listed_not_the_parts_of_its_split(tmp_path):
    rng, listed = np.random.default_rng(0), []
    for number in range(6):
        label, part = "idle" if number % 2 else "wave", "testing" if number > 3 else "training"
        name = f"{part}/{label}.{number}.json"
        sample(tmp_path / name, rng.normal(size=(250, 2)) * (1 + number % 2))
        listed.append({"path": name, "category": part, "label": {"type": "label", "label": label}})
    (tmp_path / "info.labels").write_text(json.dumps({"version": 1, "files": listed}))
    assert {source.label for source in find_recordings(tmp_path)} == {"idle", "wave"}
    windows, model = tmp_path / "w.h5", tmp_path / "m.safetensors"
    fast = ("--set", "max_epochs=1", "--set", "features=None", "--set", "refit=None")
    for step in (
        ("inspect", tmp_path),
        ("prepare", tmp_path, "--window-s", 0.5, "-o", windows),
        ("train", windows, "-o", model, *fast),
        ("predict", model, tmp_path / "testing" / "wave.4.json"),
    ):
        succeed(*step)
    ((_, *others), path) = listed, tmp_path / "info.labels"
    part = find_recordings(tmp_path / "training")
    assert [source.label for source in part] == ["idle", "idle", "wave", "wave"]
    path.write_text(json.dumps({"files": others}))
    with pytest.raises(RecordingError, match=r"wave\.0\.json: is not listed in info\.labels"):
        find_recordings(tmp_path)
    path.write_text(json.dumps({"files": [*others, listed[0] | {"label": {"type": "unlabeled"}}]}))
    labels = {one.recording_id: one.label for one in find_recordings(tmp_path)}
    assert labels["training/wave.0"] is None
    assert labels["training/idle.1"] == "idle"
    path.write_text(
        json.dumps({"files": [*others, listed[0] | {"label": {"type": "multi-label"}}]})
    )
    with pytest.raises(RecordingError, match=r"wave\.0\.json are of type 'multi-label'"):
        find_recordings(tmp_path)
    (tmp_path / "info.labels").write_text("[]")
    with pytest.raises(RecordingError, match=r"info\.labels: cannot be read as a list of labels"):
        find_recordings(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"values": [[1, 2], [3]]}, "row 2 of values: .* each of the 2 sensors"),
        ({"values": [[1, 2]], "interval_ms": 0}, "interval_ms is 0, not a positive number"),
        ({"values": [[1, "x"]]}, r"a\.json: "),
        ({"values": []}, "its payload has no values"),
        ({"values": [[1, 2]], "interval_ms": "abc"}, "interval_ms is 'abc', not a positive"),
        ({"values": [[1, 2]], "sensors": [{"name": "time"}, {"name": "x"}]}, "named 'time'"),
        ({"values": [[1, 2]], "sensors": 3}, r"a\.json: "),
    ],
)
def test_damage_is_named(tmp_path, change, said):
    made = content([])
    made["payload"] |= change
    (tmp_path / "a.json").write_text(json.dumps(made))
    with pytest.raises(RecordingError, match=said):
        read_recordings(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(made)[:-1])
    with pytest.raises(RecordingError, match=r"a\.json: "):
        read_recordings(tmp_path)
    (tmp_path / "b.json").write_text("[1, 2]")
    with pytest.raises(RecordingError, match=r"b\.json: has no payload"):
        read_recordings(tmp_path / "b.json")


def test_a_folder_of_phyphox_is_one_recording_of_several_sensors(tmp_path):
    for label in ("walk", "rest"):
        for run in range(2):
            folder = tmp_path / label / f"2026-03-0{run + 1}"
            for sensor, hz in (("Accelerometer", 100), ("Gyroscope", 50)):
                t = np.arange(3 * hz) / hz + 0.0123
                unit = "m/s^2" if sensor == "Accelerometer" else "rad/s"
                columns = {"Time (s)": t, f"X ({unit})": np.sin(t), f"Y ({unit})": np.cos(t)}
                write_table(folder / f"{sensor}.csv", columns)
            write_table(folder / "meta" / "device.csv", {"property": ["version"], "value": ["1"]})
    files = ["Accelerometer.csv", "Gyroscope.csv"]
    found = read_recordings(tmp_path, pair="{recording}/{sensor}.csv", files=files)
    assert {one.label for one in found} == {"walk", "rest"}
    assert all(one.n_channels == 4 for one in found)
    assert found[0].attributes["sensor_rates_hz"] == {
        "Accelerometer": pytest.approx(100),
        "Gyroscope": pytest.approx(50),
    }
