"""Repeated rows and rows out of order raise an error or, on request, are repaired and counted."""

import numpy as np
import pytest
import scipy.io
from tables import write_table

from sensorseq.errors import RecordingError
from sensorseq.options import ReadOptions
from sensorseq.readers import find_recordings, read_recordings, read_source, read_source_rate

STAMPS = [0.0, 0.1, 0.3, 0.2, 0.3, 0.4]
VALUES = [1.0, 2.0, 4.0, 3.0, 6.0, 7.0]
COUNTS = {"n_out_of_order": 1, "n_duplicates": 1, "n_spread": 0}


def write(path, stamps=STAMPS, values=VALUES, name="current"):
    return write_table(path, {"time_s": stamps, name: values})


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".h5"])
def test_every_reader_repairs_on_request_and_counts(tmp_path, suffix):
    write(tmp_path / f"run{suffix}")
    (source,) = find_recordings(tmp_path)
    with pytest.raises(RecordingError, match=r"row 4: time goes back.*1 such row.*stamps='merge'"):
        read_source(source)
    with pytest.raises(RecordingError, match="goes back"):
        read_source_rate(source)
    recording = read_source(source, ReadOptions(stamps="merge"))
    np.testing.assert_array_equal(recording.timestamps_s, [0.0, 0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(recording.values[:, 0], [1, 2, 3, 5, 7])
    assert recording.attributes["repaired_stamps"] == COUNTS
    assert read_source_rate(source, ReadOptions(stamps="merge")) == pytest.approx(10)
    (same,) = read_recordings(tmp_path, stamps="merge")
    assert same.attributes["repaired_stamps"] == COUNTS


def test_a_file_in_order_is_read_as_it_is_and_counts_nothing(tmp_path):
    write(tmp_path / "run.csv", [0, 1, 2], [1, 2, 3])
    (source,) = find_recordings(tmp_path)
    plain, repaired = read_source(source), read_source(source, ReadOptions(stamps="merge"))
    np.testing.assert_array_equal(repaired.values, plain.values)
    assert "repaired_stamps" not in plain.attributes
    assert "repaired_stamps" not in repaired.attributes


def test_a_missing_stamp_remains_an_error(tmp_path):
    (tmp_path / "run.csv").write_text("time_s,a\n0,1\n,2\n1,3\n")
    (source,) = find_recordings(tmp_path)
    with pytest.raises(RecordingError, match="row 2: no timestamp"):
        read_source(source, ReadOptions(stamps="merge"))


def test_the_counts_of_several_sensors_are_added(tmp_path):
    write(tmp_path / "imu_1.csv", name="gyro")
    write(tmp_path / "motor_1.csv")
    (source,) = find_recordings(
        tmp_path, ReadOptions(files=["imu_*", "motor_*"], pair="{sensor}_{recording}.*")
    )
    joined = read_source(source, ReadOptions(stamps="merge"))
    assert joined.attributes["repaired_stamps"] == {name: 2 * n for name, n in COUNTS.items()}


def write_any(path, columns):
    """Write columns as a table or a file of arrays."""
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, arrays)
    else:
        write_table(path, columns)


each_suffix = pytest.mark.parametrize("suffix", [".csv", ".parquet", ".h5", ".npz", ".mat"])


@each_suffix
def test_samples_with_stamps_in_whole_seconds_keep_their_rate_and_are_not_merged(tmp_path, suffix):
    values = np.random.default_rng(0).normal(size=1200).round(4)
    columns = {"time_s": np.arange(1200) // 30, "a": values, "b": np.arange(1200) % 7}
    write_any(tmp_path / f"run{suffix}", columns)
    (source,) = find_recordings(tmp_path)
    said = r"row 2: time repeats.* About 30 rows .*, 30 Hz on average. .* use stamps='packets'"
    for read in (read_source, read_source_rate):
        with pytest.raises(RecordingError, match=said):
            read(source, ReadOptions(time_unit="s", stamps="keep"))
    recording = read_source(source, ReadOptions(time_unit="s"))  # all packets have the same size
    assert recording.attributes["packets"] == "packets of 30 samples"
    np.testing.assert_allclose(recording.timestamps_s, np.arange(1200) / 30, atol=1e-9)
    np.testing.assert_array_equal(recording.values[:, 0], values)
    assert recording.attributes["repaired_stamps"] == {**dict.fromkeys(COUNTS, 0), "n_spread": 1160}
    assert read_source_rate(source, ReadOptions(time_unit="s")) == pytest.approx(30)


@each_suffix
def test_a_clock_that_restarts_is_refused_with_every_repair(tmp_path, suffix):
    stamps = np.r_[np.arange(1500) * 0.01 + 0.5, np.arange(1500) * 0.01 + 0.503]
    write_any(tmp_path / f"run{suffix}", {"time_s": stamps, "a": np.sin(np.arange(3000))})
    (source,) = find_recordings(tmp_path)
    for stamps in (None, "packets", "merge", "keep"):
        for read in (read_source, read_source_rate):
            with pytest.raises(RecordingError, match=r"row 1501: .*Cut the recording at row 1501,"):
                read(source, ReadOptions(stamps=stamps))


def test_a_recording_of_a_long_table_is_refused_by_its_own_rows(tmp_path):
    stamps = np.r_[np.arange(200) * 0.01, np.arange(100) * 0.01 + 0.003]
    columns = {
        "run": ["one"] * 200 + ["two"] * 300,
        "time": np.r_[np.arange(200) * 0.01, stamps],
        "a": np.sin(np.arange(500)),
    }
    write_table(tmp_path / "all.csv", columns)
    one, two = find_recordings(tmp_path / "all.csv", ReadOptions(recording_column="run"))
    assert read_source(one, ReadOptions(stamps="merge")).n_samples == 200
    with pytest.raises(RecordingError, match=r"run 'two'.*Cut the recording at row 201,"):
        read_source(two, ReadOptions(stamps="merge"))


def test_labels_follow_samples_that_are_spread(tmp_path):
    columns = {
        "time": np.arange(300) // 30,
        "a": np.sin(np.arange(300) / 40),
        "ground": ["ice"] * 140 + ["mud"] * 160,
    }
    write_table(tmp_path / "run.csv", columns)
    (source,) = find_recordings(tmp_path)
    recording = read_source(source, ReadOptions(label_column="ground", time_unit="s"))
    spans = [(span.start_s, span.end_s, span.label) for span in recording.label_spans]
    assert spans == [
        (0.0, pytest.approx(140 / 30), "ice"),
        (pytest.approx(140 / 30), pytest.approx(10), "mud"),
    ]


def test_a_column_that_numbers_the_sensors_is_named(tmp_path):
    columns = {
        "time": np.repeat(np.arange(100) * 0.01, 2),
        "a": np.sin(np.arange(200)),
        "joint": np.tile([1, 2], 100),
    }
    write_table(tmp_path / "run.csv", columns)
    (source,) = find_recordings(tmp_path)
    for stamps in (None, "packets", "merge", "keep"):
        with pytest.raises(RecordingError, match="column 'joint' names the sensor of each row"):
            read_source(source, ReadOptions(stamps=stamps))
