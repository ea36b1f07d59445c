"""Files whose rows are out of order or twice: an error, or repaired and counted when asked."""

import numpy as np
import pytest
from tables import write_table

from sensorseq.errors import RecordingError
from sensorseq.readers import find_recordings, read_recordings, read_source, read_source_rate

STAMPS = [0.0, 0.1, 0.3, 0.2, 0.3, 0.4]
VALUES = [1.0, 2.0, 4.0, 3.0, 6.0, 7.0]
COUNTS = {"n_out_of_order": 1, "n_duplicates": 1, "n_spread": 0}


def write(path, stamps=STAMPS, values=VALUES, name="current"):
    return write_table(path, {"time_s": stamps, name: values})


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".h5"])
def test_every_reader_repairs_when_asked_and_counts(tmp_path, suffix):
    write(tmp_path / f"run{suffix}")
    (source,) = find_recordings(tmp_path)
    with pytest.raises(RecordingError, match=r"row 4: time goes back.*1 such row.*repair_stamps"):
        read_source(source)
    with pytest.raises(RecordingError, match="goes back"):
        read_source_rate(source)
    recording = read_source(source, repair_stamps=True)
    np.testing.assert_array_equal(recording.timestamps_s, [0.0, 0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(recording.values[:, 0], [1, 2, 3, 5, 7])
    assert recording.attributes["repaired_stamps"] == COUNTS
    assert read_source_rate(source, repair_stamps=True) == pytest.approx(10)
    (same,) = read_recordings(tmp_path, repair_stamps=True)
    assert same.attributes["repaired_stamps"] == COUNTS


def test_a_file_in_order_is_read_as_it_is_and_counts_nothing(tmp_path):
    write(tmp_path / "run.csv", [0, 1, 2], [1, 2, 3])
    (source,) = find_recordings(tmp_path)
    plain, repaired = read_source(source), read_source(source, repair_stamps=True)
    np.testing.assert_array_equal(repaired.values, plain.values)
    assert "repaired_stamps" not in plain.attributes
    assert repaired.attributes["repaired_stamps"] == dict.fromkeys(COUNTS, 0)


def test_a_missing_stamp_stays_an_error(tmp_path):
    (tmp_path / "run.csv").write_text("time_s,a\n0,1\n,2\n1,3\n")
    (source,) = find_recordings(tmp_path)
    with pytest.raises(RecordingError, match="row 2: no time stamp"):
        read_source(source, repair_stamps=True)


def test_the_counts_of_several_sensors_are_added(tmp_path):
    write(tmp_path / "imu_1.csv", name="gyro")
    write(tmp_path / "motor_1.csv")
    (source,) = find_recordings(tmp_path, files=["imu_*", "motor_*"], pair="{sensor}_{recording}.*")
    joined = read_source(source, repair_stamps=True)
    assert joined.attributes["repaired_stamps"] == {name: 2 * n for name, n in COUNTS.items()}
