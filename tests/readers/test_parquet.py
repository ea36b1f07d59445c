import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from sensorseq.errors import RecordingError
from sensorseq.options import ReadOptions
from sensorseq.readers import read_parquet


def write(folder, columns, name="drive.parquet", schema=None):
    path = folder / name
    pyarrow.parquet.write_table(pa.table(columns, schema=schema), path)
    return path


def test_a_table_becomes_a_recording_with_known_channels_rate_and_units(tmp_path):
    t = np.arange(200) / 50
    schema = pa.schema(
        [
            ("time", pa.float64()),
            pa.field("current", pa.float32(), metadata={"unit": "A"}),
            ("speed", pa.int16()),
        ]
    )
    current = np.sin(t).astype(np.float32)
    columns = {"time": t, "current": current, "speed": np.arange(200, dtype=np.int16)}
    path = write(tmp_path, columns, schema=schema)
    recording = read_parquet(path, group="robot", label="ice")
    assert recording.median_sample_rate_hz == pytest.approx(50, rel=1e-9)
    assert [(c.name, c.unit) for c in recording.channels] == [("current", "A"), ("speed", "")]
    np.testing.assert_array_equal(recording.values, np.column_stack([current, np.arange(200)]))
    assert (recording.recording_id, recording.group, recording.label) == ("drive", "robot", "ice")


def test_nulls_are_missing_samples_and_columns_without_numbers_are_not_channels(tmp_path):
    words = {"note": ["x", None], "empty": pa.array([None, None], pa.float64())}
    words |= {"nothing": pa.nulls(2), "on": [True, False]}
    recording = read_parquet(write(tmp_path, {"time": [0.0, 1.0], "a": [1.0, None], **words}))
    np.testing.assert_array_equal(recording.values, [[1, 1], [np.nan, 0]])
    assert recording.channel_names == ("a", "on")
    assert recording.attributes == {"dropped_columns": ["note", "empty", "nothing"]}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_become_seconds(tmp_path, unit):
    start = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
    stamps = pa.array([start, start + datetime.timedelta(seconds=3)], pa.timestamp(unit, "UTC"))
    recording = read_parquet(write(tmp_path, {"time": stamps, "a": [1.0, 2.0]}))
    np.testing.assert_array_equal(recording.timestamps_s - start.timestamp(), [0, 3])


LISTS = {
    "fixed": lambda X: pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1]),
    "list": lambda X: pa.array(X.tolist(), pa.list_(pa.float32())),
    "large list": lambda X: pa.array(X.tolist(), pa.large_list(pa.float64())),
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("is_large", [False, True])
def test_a_column_of_equally_long_lists_has_a_channel_for_each_position(
    tmp_path, kind, is_large, monkeypatch
):
    X = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
    words = pa.array([["a", "b"]] * 90)
    ragged = pa.array([[1.0] * (1 + i % 3) for i in range(90)])
    columns = {"t_s": np.arange(90) / 30, "state": LISTS[kind](X), "ragged": ragged, "words": words}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "log.parquet", row_group_size=40)
    options = {"scratch": tmp_path} if is_large else {}
    if is_large:
        monkeypatch.setattr("sensorseq.options.LARGE_BYTES", 100)
    read = read_parquet(tmp_path / "log.parquet", ReadOptions(time_column="t_s", **options))
    assert read.channel_names == tuple(f"state[{place}]" for place in range(4))
    np.testing.assert_array_equal(read.values, X)
    assert read.attributes["dropped_columns"] == ["ragged", "words"]


def test_a_list_without_numbers_is_a_missing_sample_and_long_lists_are_not_channels(tmp_path):
    rows = [[1.0, 2.0], None, [3.0, None], [4.0, 5.0]]
    image = pa.array([[0.0] * 600] * 4)
    columns = {"time_s": np.arange(4.0), "force": pa.array(rows), "image": image}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "log.parquet")
    read = read_parquet(tmp_path / "log.parquet")
    wanted = [[1, 2], [np.nan, np.nan], [3, np.nan], [4, 5]]
    np.testing.assert_array_equal(read.values, wanted)
    assert read.attributes["dropped_columns"] == ["image"]


def test_a_column_named_like_a_position_in_a_list_is_an_error(tmp_path):
    columns = {"time_s": np.arange(4.0), "a": pa.array([[1.0, 2.0]] * 4), "a[1]": np.ones(4)}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "log.parquet")
    with pytest.raises(RecordingError, match=r"is the name of a column and of a list element"):
        read_parquet(tmp_path / "log.parquet")


def test_a_position_without_numbers_is_left_out_and_one_may_be_the_time_or_the_labels(tmp_path):
    n = 60
    lists = pa.array([[np.sin(i / 3), np.nan, i // 30] for i in range(n)], pa.list_(pa.float64()))
    stamps = pa.array([[i / 20, 0.5 * i] for i in range(n)], pa.list_(pa.float64()))
    pyarrow.parquet.write_table(pa.table({"s": lists, "clock": stamps}), tmp_path / "log.parquet")
    options = {"time_column": "clock[0]", "label_column": "s[2]"}
    read = read_parquet(tmp_path / "log.parquet", ReadOptions(**options))
    assert read.channel_names == ("s[0]", "clock[1]")
    assert read.attributes["dropped_columns"] == ["s[1]"]
    assert [(span.label, span.start_s) for span in read.label_spans] == [("0", 0.0), ("1", 1.5)]
    np.testing.assert_allclose(read.timestamps_s, np.arange(n) / 20)


def test_a_column_is_not_confused_with_one_whose_name_begins_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("sensorseq.options.LARGE_BYTES", 100)
    columns = {"a.b": np.ones(50), "a": np.arange(50.0), "time_s": np.arange(50.0)}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "log.parquet")
    read = read_parquet(tmp_path / "log.parquet", ReadOptions(scratch=tmp_path))
    np.testing.assert_array_equal(read.values, np.stack([np.ones(50), np.arange(50)], axis=1))
