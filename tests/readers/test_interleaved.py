"""Tables with a row for each sample of each sensor are refused or read.

They are refused without `sensor_column`, and read sensor by sensor with it.
"""

import h5py
import numpy as np
import pandas as pd
import pytest

from sensorseq import PreparePipeline, read_recordings, read_sensors
from sensorseq.errors import ArgumentError, RecordingError
from sensorseq.options import ReadOptions
from sensorseq.prepare import prepare
from sensorseq.readers import read_csv

WINDOW = {"window_s": 1.0, "split": "none"}


def sensor_rows(rates_hz, n_s=20.0, offset_s=0.003, start_s=0.0, seed=0):
    """Rows of several sensors in chronological order; the values of sensor k are about 10 * k."""
    rng = np.random.default_rng(seed)
    frames = []
    for place, (sensor, rate) in enumerate(rates_hz.items()):
        t = start_s + place * offset_s + np.arange(int(n_s * rate)) / rate
        values = 10 * place + np.sin(t[:, None] + np.arange(2)) + 0.1 * rng.normal(size=(len(t), 2))
        frame = pd.DataFrame(values, columns=["x", "y"])
        frame.insert(0, "sensor", sensor)
        frame.insert(0, "time", t)
        frames.append(frame)
    return pd.concat(frames).sort_values("time", kind="stable").reset_index(drop=True)


TWO = {"acc": 50.0, "gyro": 50.0}


def as_csv(folder, frame, name="a.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / name, index=False)
    return folder / name


@pytest.mark.parametrize(
    ("rates_hz", "offset_s"),
    [
        (TWO, 0.003),
        (TWO, 0.0),  # both sensors have the same timestamps
        (TWO, 0.01),  # alternating, so that all rows together are evenly spaced at 100 Hz
        ({"acc": 400.0, "gps": 1.0}, 0.0003),
        ({"acc": 400.0, "gps": 1.0}, 0.0),
        ({"acc": 100.0, "gyro": 50.0, "mag": 20.0}, 0.0017),
        ({1: 50.0, 2: 50.0}, 0.003),
        ({1: 50.0, 2: 50.0}, 0.0),
        (dict.fromkeys(range(7), 100.0), 0.001),  # seven joints, sampled one after another
        (dict.fromkeys(range(7), 100.0), 0.0),
    ],
)
def test_rows_of_several_sensors_are_refused(tmp_path, rates_hz, offset_s):
    stamps = "packets" if offset_s in (0.0, 0.003) else None
    frame = sensor_rows(rates_hz, 20.0 if "gps" in rates_hz else 8.0, offset_s=offset_s)
    path = as_csv(tmp_path, frame.rename(columns=str))
    for how in {None, stamps}:
        with pytest.raises(RecordingError, match=r"a\.csv: column 'sensor' names the sensor"):
            read_csv(path, ReadOptions(stamps=how))
    with pytest.raises(RecordingError, match="sensor_column='sensor'"):
        prepare(path, tmp_path / "w.h5", **WINDOW, stamps=stamps)


@pytest.mark.parametrize("name", ["who", "part", "k"])
def test_sensor_numbers_are_recognized_by_the_values(tmp_path, name):
    frame = sensor_rows(dict.fromkeys(range(6), 50.0), offset_s=0.002)
    path = as_csv(tmp_path, frame.rename(columns={"sensor": name}))
    with pytest.raises(RecordingError, match=rf"column '{name}' names .*in `channels`"):
        read_recordings(path)
    (kept,) = read_recordings(path, channels=["x", name])
    assert kept.channel_names == ("x", name)


def test_sensors_with_only_noise_are_recognized_by_its_size(tmp_path):
    frame = sensor_rows({1: 50.0, 2: 50.0}).rename(columns={"sensor": "k"})
    noise = np.random.default_rng(1).normal(size=(len(frame), 2))
    frame[["x", "y"]] = noise * np.where(frame.k == 1, 1.0, 0.1)[:, None]
    with pytest.raises(RecordingError, match="column 'k' names the sensor"):
        read_recordings(as_csv(tmp_path, frame))


def healthy(kind, n=1200):
    """One sensor at 100 Hz, with a column that looks like a column of sensor names."""
    rng, at = np.random.default_rng(0), np.arange(n)
    t = at / 100
    if kind == "pairs":  # stamps in packets of two
        t = (at // 2) / 50 + (at % 2) * 0.002
    columns = {
        "toggle": at % 2,
        "pairs": at % 2,
        "rolling counter": at % 16,
        "byte": at % 256,
        "state": np.array(["idle", "drive", "turn"])[at // 130 % 3],
        "mode number": at // 97 % 4,
        "gait": np.where(np.sin(2 * np.pi * t) > 0, "stance", "swing"),
        "contact": (np.sin(2 * np.pi * t) > 0).astype(int),
        "fresh": np.where(at % 10 == 0, "yes", "no"),
        "fresh thirds": np.where(at % 3 == 0, "new", "old"),
        "fresh number": (at % 10 == 0).astype(int),
        "quality": np.where(rng.random(n) < 0.3, "poor", "good"),
        "bit": rng.integers(0, 2, n),
        "mark": np.where(at % 20 == 0, "press", None),
        "one": np.full(n, "imu"),
        "clock": [f"10:{i // 6000:02d}:{i // 100 % 60:02d}" for i in at],
        "id": [f"row {i}" for i in at],
        "quantized": np.round(2 * np.sin(3 * t)),
    }
    x = np.sin(2 * np.pi * 1.3 * t) + 0.05 * rng.normal(size=n)
    return pd.DataFrame({"time": t, "sensor state": columns[kind], "x": x, "y": rng.normal(size=n)})


@pytest.mark.parametrize(
    "kind",
    [
        *("toggle", "pairs", "rolling counter", "byte", "state", "mode number", "gait", "contact"),
        *("fresh", "fresh thirds", "fresh number", "quality", "bit", "mark", "one", "clock", "id"),
        "quantized",
    ],
)
@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_other_columns_do_not_name_sensors(tmp_path, kind, jitter):
    frame = healthy(kind)
    frame["time"] += jitter / 100 * np.random.default_rng(3).uniform(-0.5, 0.5, len(frame))
    frame["time"] -= frame["time"].min()
    path = as_csv(tmp_path, frame)
    (read,) = read_recordings(path)
    assert read.n_samples == len(frame)


@pytest.mark.parametrize("kind", ["pairs", "rolling counter"])
def test_equal_stamps_in_packets_do_not_mean_several_sensors(tmp_path, kind):
    frame = healthy(kind)
    n = 2 if kind == "pairs" else 16
    frame["time"] = np.arange(len(frame)) // n * n / 100
    with pytest.raises(RecordingError, match="time repeats"):
        read_recordings(as_csv(tmp_path, frame))


def test_sensors_one_after_the_other_are_refused_with_both_options(tmp_path):
    frame = sensor_rows(TWO).sort_values("sensor", kind="stable")
    path = as_csv(tmp_path, frame)
    for stamps in (None, "packets", "keep", "merge"):
        with pytest.raises(RecordingError, match=r"again wherever column 'sensor' .*acc, gyro"):
            read_recordings(path, stamps=stamps)
    (one,) = read_recordings(path, sensor_column="sensor")
    assert one.channel_names == ("acc.x", "acc.y", "gyro.x", "gyro.y")
    apart = read_recordings(path, recording_column="sensor")
    assert [each.n_samples for each in apart] == [1000, 1000]


def assert_is_pivoted(recordings, frame, names):
    (one,) = recordings
    t = one.timestamps_s - one.timestamps_s[0]
    assert one.channel_names == tuple(f"{name}.{axis}" for name in names for axis in "xy")
    for place, name in enumerate(frame.sensor.unique()):
        rows = frame[frame.sensor == name]
        own = np.isfinite(one.values[:, 2 * place])
        np.testing.assert_allclose(t[own], rows.time - frame.time.iloc[0], atol=1e-9)
        np.testing.assert_array_equal(one.values[own, 2 * place : 2 * place + 2], rows[["x", "y"]])


FORMATS = ["csv", "csv.gz", "semicolons", "parquet", "categories", "h5", "npz"]


def is_text(column):
    return not pd.api.types.is_numeric_dtype(column)


def write(folder, frame, kind):
    suffix = {"semicolons": "csv", "categories": "parquet"}.get(kind, kind)
    path = folder / f"a.{suffix}"
    if kind == "semicolons":
        frame.to_csv(path, index=False, sep=";", decimal=",")
    elif "csv" in kind:
        frame.to_csv(path, index=False)
    elif kind == "parquet":
        frame.to_parquet(path)
    elif kind == "categories":
        frame.assign(sensor=frame.sensor.astype("category")).to_parquet(path)
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            for name in frame:
                file[name] = list(frame[name]) if is_text(frame[name]) else frame[name].to_numpy()
    else:
        arrays = {n: frame[n].to_numpy(str if is_text(frame[n]) else None) for n in frame}
        np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("kind", "numbered"), [*((kind, False) for kind in FORMATS), ("csv", True), ("npz", True)]
)
def test_each_sensor_is_read_by_itself(tmp_path, kind, numbered):
    rates = {1: 50.0, 2: 20.0} if numbered else {"acc": 50.0, "gyro": 20.0}
    frame = sensor_rows(rates)
    path = write(tmp_path, frame, kind)
    how = {"decimal": ","} if kind == "semicolons" else {}
    with pytest.raises(RecordingError, match="names the sensor of each row"):
        read_recordings(path, **how)
    names = ["sensor_1", "sensor_2"] if numbered else ["acc", "gyro"]
    read = read_recordings(path, sensor_column="sensor", **how)
    assert_is_pivoted(read, frame, names)
    assert read[0].attributes["sensor_rates_hz"] == pytest.approx(
        dict(zip(names, (50.0, 20.0), strict=True))
    )
    native = read_sensors(path, ReadOptions(sensor_column="sensor", **how))
    assert {name: own[0].n_samples for name, own in native.items()} == dict(
        zip(names, (1000, 400), strict=True)
    )


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("offset", [0, 3])
def test_the_unit_is_found_from_the_clock_of_each_sensor(tmp_path, unit, offset):
    """All rows together have no plausible rate, but the rows of each sensor have one."""
    ticks = {"ms": 1000, "us": 10**6, "ns": 10**9}[unit]
    frame = sensor_rows(dict.fromkeys(range(5), 100.0), offset_s=0.0)
    whole = (frame.time * ticks).round().astype(np.int64) + offset * frame.sensor
    frame["time"] = whole + 1_700_000_000 * ticks
    (one,) = read_recordings(as_csv(tmp_path, frame), sensor_column="sensor")
    assert one.attributes["clock"]["unit"] == unit
    assert one.attributes["sensor_rates_hz"]["sensor_3"] == pytest.approx(100, rel=1e-6)


def test_a_table_with_one_value_column_has_a_channel_for_each_sensor(tmp_path):
    frame = sensor_rows(dict.fromkeys(range(12), 25.0), offset_s=0.0)[["time", "sensor", "x"]]
    path = as_csv(tmp_path, frame.rename(columns={"sensor": "joint", "x": "value"}))
    with pytest.raises(RecordingError, match=r"column 'joint' .*\(0, 1, 2, 3, 4, 5 and 6 more\)"):
        read_recordings(path)
    (one,) = read_recordings(path, sensor_column="joint")
    assert one.channel_names == tuple(f"joint_{joint}.value" for joint in range(12))
    np.testing.assert_allclose(np.round(one.values.mean(axis=0), -1), 10 * np.arange(12))


def folder_of(tmp_path, rates_hz, n_each, **how):
    for k, label in enumerate(("ice", "mud")):
        for i in range(n_each):
            frame = sensor_rows(rates_hz, seed=10 * k + i, **how)
            as_csv(tmp_path / "logs" / label, frame, f"r{i}.csv")
    return tmp_path / "logs"


def test_windows_are_those_of_a_file_for_each_sensor(tmp_path):
    """The test covers a common grid and native rates, in `prepare` and in the pipeline."""
    rates = {"acc": 50.0, "gyro": 20.0}
    logs = folder_of(tmp_path, rates, n_s=3.0, n_each=3)
    for path in logs.rglob("*.csv"):
        frame = pd.read_csv(path)
        for sensor, own in frame.groupby("sensor"):
            renamed = own.drop(columns="sensor").rename(
                columns={"x": f"{sensor}.x", "y": f"{sensor}.y"}
            )
            as_csv(tmp_path / "apart" / path.parent.name, renamed, f"{sensor}_{path.name}")
    for native in (False, True):
        pipeline = PreparePipeline(window_s=1.0, native_rates=native)
        read = read_sensors if native else read_recordings
        one = pipeline.prepare(read(logs, ReadOptions(sensor_column="sensor")))
        pair = ReadOptions(pair="{sensor}_r{recording}.*")
        other = pipeline.prepare(read(tmp_path / "apart", pair))
        pairs = [(one[n], other[n]) for n in one] if native else [(one, other)]
        assert len(pairs) == 1 + native
        for a, b in pairs:
            assert a.channels == b.channels
            np.testing.assert_array_equal(a.X, b.X)
            np.testing.assert_array_equal(a.split, b.split)
        made = prepare(
            logs,
            tmp_path / f"{native}.h5",
            window_s=1.0,
            sensor_column="sensor",
            native_rates=native,
        )
        assert made.n_windows == len(one)


def test_it_can_be_combined_with_a_label_column_and_a_recording_column(tmp_path):
    parts = []
    for run in range(3):
        frame = sensor_rows({"acc": 50.0, "gyro": 20.0}, start_s=100.0 * run)
        frame.insert(0, "run", run)
        frame["ground"] = np.where(frame.time - 100 * run < 10, "ice", "mud")
        parts.append(frame)
    path = as_csv(tmp_path, pd.concat(parts))
    how = {"recording_column": "run", "label_column": "ground"}
    with pytest.raises(RecordingError, match=r"run '0'\): column 'sensor' names"):
        read_recordings(path, **how)
    runs = read_recordings(path, **how, sensor_column="sensor")
    assert [one.recording_id for one in runs] == ["0", "1", "2"]
    for number, one in enumerate(runs):
        assert one.channel_names == ("acc.x", "acc.y", "gyro.x", "gyro.y")
        first, last = one.label_spans
        assert (first.label, last.label) == ("ice", "mud")
        assert last.start_s == pytest.approx(100 * number + 10)


def test_rows_without_a_time_column_have_the_rate_of_their_sensor(tmp_path):
    frame = sensor_rows(TWO).drop(columns="time")
    path = as_csv(tmp_path, frame)
    with pytest.raises(RecordingError, match="column 'sensor' names the sensor"):
        read_recordings(path, sample_rate_hz=50)
    (one,) = read_recordings(path, sample_rate_hz=50, sensor_column="sensor")
    assert (one.n_samples, one.median_sample_rate_hz) == (1000, pytest.approx(50))


def test_a_sensor_without_chosen_channels_does_not_shorten_the_others(tmp_path):
    frame = sensor_rows(TWO)
    rare = pd.DataFrame({"time": [8.0011, 9.0011], "sensor": "gps", "x": 0.5, "y": 0.1})
    path = as_csv(tmp_path, pd.concat([frame, rare]).sort_values("time"))
    with pytest.raises(RecordingError, match=r"\(acc, gyro, gps\)"):
        read_recordings(path)
    (one,) = read_recordings(path, sensor_column="sensor", channels=["gyro.y", "acc.x"])
    assert (one.channel_names, one.n_samples) == (("gyro.y", "acc.x"), 2000)


def test_blanks_around_the_name_of_a_sensor_are_not_part_of_it(tmp_path):
    frame = sensor_rows(TWO)
    frame.loc[::3, "sensor"] += " "
    (one,) = read_recordings(as_csv(tmp_path, frame), sensor_column="sensor")
    assert one.channel_names == ("acc.x", "acc.y", "gyro.x", "gyro.y")


def test_options_that_do_not_fit_are_named(tmp_path):
    frame = sensor_rows(TWO)
    path = as_csv(tmp_path, frame)
    with pytest.raises(RecordingError, match=r"no column 'sensr'.*Did you mean 'sensor'"):
        read_recordings(path, sensor_column="sensr")
    with pytest.raises(ArgumentError, match=r"pair='.*use only one of these options"):
        read_recordings(path, sensor_column="sensor", pair="{sensor}_{recording}.*")
    frame.loc[6, "sensor"] = None
    with pytest.raises(RecordingError, match=r"row 7: column 'sensor' is empty"):
        read_recordings(as_csv(tmp_path, frame), sensor_column="sensor")
