import numpy as np
import pytest
from tables import write_csv

from sensorseq.errors import RecordingError
from sensorseq.options import ReadOptions
from sensorseq.preprocessing.resample import resample_recording
from sensorseq.readers import (
    find_recordings,
    join_sensors,
    read_csv,
    read_recordings,
    read_source,
    read_source_rate,
)
from sensorseq.recording import Recording


def sensor(rate_hz, start_s, end_s, frequency_hz, names=("x",), jitter_s=0.0):
    t = np.arange(round((end_s - start_s) * rate_hz) + 1) / rate_hz + start_s
    t = t + np.random.default_rng(0).uniform(-jitter_s, jitter_s, len(t))
    waves = [np.sin(2 * np.pi * frequency_hz * t + phase) for phase in range(len(names))]
    return Recording(np.column_stack(waves), t, names, "run", "robot", "ice")


@pytest.mark.parametrize("rate_hz", [20.0, 50.0, 100.0])
@pytest.mark.parametrize("jitter_s", [0.0, 0.002])
def test_known_sines_of_two_sensors_are_found_on_a_common_clock(rate_hz, jitter_s):
    motor = sensor(20.0, 0.003, 30.0, 0.7, ("current", "speed"), jitter_s)
    imu = sensor(100.0, 1.0, 28.0, 2.0, ("gyro",), jitter_s / 10)
    joined = join_sensors([motor, imu], ["motor", "imu"])
    assert joined.channel_names == ("current", "speed", "gyro")
    assert joined.attributes["sensor_rates_hz"]["imu"] == pytest.approx(100, rel=0.1)
    (piece,) = resample_recording(joined, rate_hz)
    t = piece.timestamps_s
    assert t[0] == pytest.approx(1.0, abs=0.06)
    assert t[-1] == pytest.approx(28.0, abs=0.06)
    inside = slice(40, -40)  # away from the mirrored samples at the ends
    truth = [(0.7, 0), (0.7, 1), (2.0, 0)]
    for column, (frequency_hz, phase) in enumerate(truth):
        wave = np.sin(2 * np.pi * frequency_hz * t + phase)
        assert np.abs(piece.values - wave[:, None])[inside, column].max() < 0.01


def in_one_table(path, sensors):
    """Write columns of different lengths side by side; shorter columns end in blanks."""
    n = max(map(len, sensors.values()))
    return write_csv(path, {k: [*x, *[None] * (n - len(x))] for k, x in sensors.items()})


@pytest.mark.parametrize("rate_hz", [50, 104, 148.15])
@pytest.mark.parametrize("first", ["gyro", "current"])
def test_sensors_in_one_table_keep_the_clocks_of_their_own_time_columns(tmp_path, rate_hz, first):
    sines = {"current": (100, 3), "gyro": (rate_hz, 2)}
    columns = {}
    for name in sorted(sines, reverse=first == "gyro"):
        t = np.arange(10 * sines[name][0]) / sines[name][0]
        columns |= {f"{name} [s]": t, name: np.sin(2 * np.pi * sines[name][1] * t)}
    in_one_table(tmp_path / "ice/run.csv", columns)
    for time_column in ("1", "3"):
        (source,) = find_recordings(tmp_path)
        recording = read_source(source, ReadOptions(time_column=time_column))
        assert set(recording.channel_names) == set(sines)
        for name, (hz, sine_hz) in sines.items():
            x = recording.select([name]).values[:, 0]
            t = recording.timestamps_s[np.isfinite(x)]
            np.testing.assert_allclose(t, np.arange(len(columns[name])) / hz)
            np.testing.assert_allclose(x[np.isfinite(x)], np.sin(2 * np.pi * sine_hz * t))
        fastest = read_source_rate(source, ReadOptions(time_column=time_column))
        assert fastest == pytest.approx(max(100, rate_hz), rel=1e-3)


T = np.arange(1000) / 100


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("odometer", 3 * T[:600]),  # its sensor failed
        ("recv_time", T[:600] + 1.7e9),
        ("device_time", 24e6 * T[:600]),
        ("device_time", 24e6 * T),
        ("cpu_time_s", 0.3 * T),
    ],
)
def test_another_column_that_rises_is_not_always_another_clock(tmp_path, name, values):
    x = np.sin(T)
    path = in_one_table(
        tmp_path / "run.csv", {"time": T, "x": x, name: values, "y": x[: len(values)]}
    )
    recording = read_csv(path)
    assert recording.channel_names == ("x", name, "y")
    np.testing.assert_array_equal(recording.timestamps_s, T)


def test_a_second_clock_of_another_time_is_refused_unless_it_is_chosen(tmp_path):
    columns = {"time": T, "x": np.sin(T), "cpu_time_s": 0.3 * T[:600], "y": np.sin(T[:600])}
    in_one_table(tmp_path / "ice/run.csv", columns)
    with pytest.raises(RecordingError, match="'time' and 'cpu_time_s' cover different times"):
        read_recordings(tmp_path)
    (source,) = find_recordings(tmp_path)
    chosen = ["x", "cpu_time_s", "y"]
    np.testing.assert_array_equal(read_source(source, ReadOptions(channels=chosen)).timestamps_s, T)
    assert read_source_rate(source, ReadOptions(channels=chosen)) == pytest.approx(100)


def test_a_channel_name_that_two_sensors_share_gets_a_prefix():
    left, right = sensor(20.0, 0, 3, 1, ("current", "a")), sensor(20.0, 0, 3, 2, ("current", "b"))
    joined = join_sensors([left, right], ["left", "right"])
    assert joined.channel_names == ("left.current", "a", "right.current", "b")
    assert joined.n_samples == left.n_samples  # timestamps that both sensors share occur only once


def test_sensors_that_do_not_overlap_in_time_are_an_error():
    with pytest.raises(RecordingError, match="do not overlap in time \\(a 0 to 3 s, b 5 to 9 s\\)"):
        join_sensors([sensor(20.0, 0, 3, 1), sensor(20.0, 5, 9, 1)], ["a", "b"])


def write(path, recording):
    columns = zip(recording.channel_names, recording.values.T, strict=True)
    write_csv(path, {"time": recording.timestamps_s, **dict(columns)})


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path):
        for number in range(2):
            write(tmp_path / "ICE" / f"pro_{number}.csv", sensor(20.0, 0, 3, 1, ("current",)))
            write(tmp_path / "ICE" / f"imu_{number}.csv", sensor(50.0, 0, 3, 1, ("gyro",)))
        return tmp_path

    def test_pairs_are_read_as_one_recording_with_the_rate_of_the_fastest(self, folder):
        arguments = {"files": ["pro_*", "imu_*"], "pair": "{sensor}_{recording}.*"}
        recordings = read_recordings(folder, **arguments)
        assert [recording.recording_id for recording in recordings] == ["ICE/0", "ICE/1"]
        assert recordings[0].channel_names == ("current", "gyro")
        assert recordings[0].label == "ICE"
        source = find_recordings(folder, ReadOptions(**arguments))[0]
        assert read_source_rate(source) == pytest.approx(50)
        only = read_source(source, ReadOptions(channels=["gyro"]))
        assert only.channel_names == ("gyro",)

    def test_a_recording_without_one_sensor_stops_or_is_skipped_with_a_warning(self, folder):
        (folder / "ICE" / "imu_1.csv").unlink()
        arguments = {"files": ["pro_*", "imu_*"], "pair": "{sensor}_{recording}.*"}
        with pytest.raises(RecordingError, match=r"pro_1\.csv: .* has no file for imu"):
            read_recordings(folder, **arguments)
        with pytest.warns(UserWarning, match="has no file for imu"):
            (left,) = read_recordings(folder, **arguments, on_error="skip")
        assert left.recording_id == "ICE/0"
        assert len(read_recordings(folder, **arguments, exclude=["ICE/1"])) == 1

    def test_a_wrong_channel_name_is_an_error_that_names_the_file_and_a_similar_name(self, folder):
        with pytest.raises(RecordingError, match=r"pro_0\.csv: no channel 'curent'.*'current'\?"):
            read_recordings(folder, files="pro_*", channels=["curent"])

    def test_an_error_is_raised_if_no_recording_can_be_read(self, tmp_path):
        (tmp_path / "a.csv").write_text("time,x\n")
        with (
            pytest.warns(UserWarning, match=r"a\.csv"),
            pytest.raises(RecordingError, match="none of 1"),
        ):
            read_recordings(tmp_path, on_error="skip")
