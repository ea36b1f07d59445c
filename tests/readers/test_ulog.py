"""ULog files from drones are read like robot logs."""

import struct

import numpy as np
import pytest
from ulogs import START_US, flight, message, write_ulog

from sensorseq.errors import RecordingError
from sensorseq.options import ReadOptions
from sensorseq.readers import find_recordings, read_recordings, read_source_rate
from sensorseq.readers.robot_logs import list_topics, read_robot_log


def test_topics_are_listed_with_instance_rate_and_numbers(tmp_path):
    found = {topic.name: topic for topic in list_topics(flight(tmp_path / "a.ulg"))}
    assert list(found) == [
        "battery_status_0",
        "sensor_accel_0",
        "sensor_accel_1",
        "vehicle_status_0",
    ]
    accel, battery = found["sensor_accel_1"], found["battery_status_0"]
    assert (accel.message_type, accel.n_messages) == ("sensor_accel", 1200)
    assert accel.rate_hz == pytest.approx(200)
    cells = [f"battery_status_0.voltage_cell_v[{cell}]" for cell in range(4)]
    ends = ["battery_status_0.current_a", *cells, "battery_status_0.is_powering_off"]
    assert list(battery.channels) == ends  # the noise, an array of 80 numbers, is left out


def test_a_channel_has_the_values_and_times_of_the_file(tmp_path):
    rng = np.random.default_rng(0)
    times_us = np.cumsum(rng.integers(3000, 5000, 300))
    values = rng.normal(size=300).astype(np.float32)
    topics = {
        ("sensor_gyro", 0): (times_us, {"z": ("float", values), "n": ("int32_t", range(300))}),
        ("sensor_gyro", 2): (times_us + 7, {"z": ("float", -values), "n": ("int32_t", range(300))}),
    }
    path = write_ulog(tmp_path / "a.ulg", topics, start_us=2**41)
    one = read_robot_log(path, ReadOptions(channels=["sensor_gyro_2.z"]))
    np.testing.assert_array_equal(one.values[:, 0], -values)
    np.testing.assert_allclose(one.timestamps_s, (times_us + 7) / 1e6, rtol=0, atol=1e-12)
    several = read_robot_log(path, ReadOptions(channels=["sensor_gyro_0.z", "sensor_gyro_0.n"]))
    np.testing.assert_array_equal(several.values, np.stack([values, np.arange(300)], axis=1))


def test_a_number_may_label_and_topics_keep_their_rates(tmp_path):
    path = flight(tmp_path / "a.ulg", mode=14)
    channels = ["sensor_accel_0.x", "battery_status_0.current_a"]
    one = read_robot_log(
        path, ReadOptions(channels=channels, label_column="vehicle_status_0.nav_state")
    )
    assert [(span.label, span.start_s) for span in one.label_spans] == [("2", 0.0), ("14", 3.0)]
    assert one.channel_names == tuple(channels)
    (source,) = find_recordings(tmp_path)
    assert read_source_rate(source) == pytest.approx(200)


def test_a_truncated_log_is_named_with_the_byte_or_used_up_to_it(tmp_path):
    for seed in range(3):
        flight(tmp_path / f"{seed}.ulg", seed=seed)
    path = tmp_path / "1.ulg"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(RecordingError, match=r"1.ulg: is intact up to byte \d+ of \d+") as error:
        list(read_recordings(tmp_path, channels=["sensor_accel_0.x"]))
    whole = int(str(error.value).split("byte ")[1].split(" ")[0])
    n_bytes, _ = struct.unpack_from("<HB", content, whole)
    assert whole < len(content) // 2 < whole + 3 + n_bytes
    kept = read_robot_log(path, ReadOptions(channels=["sensor_accel_0.x"], salvage=True))
    assert 2.5 < kept.duration_s < 3.5
    assert "is intact up to byte" in kept.attributes["salvaged"]["reason"]


def test_a_topic_whose_stamps_never_change_is_not_a_sensor(tmp_path):
    times_us = np.arange(0, 3_000_000, 10_000)
    topics = {
        ("gyro", 0): (times_us, {"z": ("float", np.sin(times_us / 1e5))}),
        ("innovations", 0): (np.zeros(300, int), {"v": ("float", np.ones(300))}),
    }
    path = write_ulog(tmp_path / "a.ulg", topics)
    assert [(one.name, len(one.channels)) for one in list_topics(path)] == [
        ("gyro_0", 1),
        ("innovations_0", 0),
    ]
    assert read_robot_log(path).channel_names == ("gyro_0.z",)
    with pytest.raises(RecordingError, match=r"time repeats in time column .*innovations_0"):
        read_robot_log(path, ReadOptions(channels=["innovations_0.v"]))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty, or not a ULog file"), (b"time,x\n1,2\n" * 9, "is empty, or not a ULog file")],
)
def test_another_file_is_named(tmp_path, content, message):
    (tmp_path / "a.ulg").write_bytes(content)
    with pytest.raises(RecordingError, match=message):
        list_topics(tmp_path / "a.ulg")


def test_damage_between_messages_and_unknown_channels_are_named(tmp_path):
    path = flight(tmp_path / "a.ulg")
    with pytest.raises(RecordingError, match=r"no channel 'sensor_accel_0.y'.*sensor_accel_0.x"):
        read_robot_log(path, ReadOptions(channels=["sensor_accel_0.y"]))
    with pytest.raises(RecordingError, match=r"has no header\.stamp"):
        read_robot_log(path, ReadOptions(time_column="header.stamp"))
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<HQ", 0, START_US + 3_000_000)) - 3
    content[at + 2] = 0  # changes the kind of a message, but not its size
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"is intact up to byte \d+ of"):
        read_robot_log(path)


def test_only_the_messages_before_a_hole_in_a_log_are_used(tmp_path):
    path = flight(tmp_path / "a.ulg")
    content = path.read_bytes()
    at = content.index(struct.pack("<HQ", 0, START_US + 2_000_000)) - 3
    path.write_bytes(content[:at] + bytes(40) + content[at + 40 :])
    with pytest.raises(RecordingError, match=rf"is intact up to byte {at} of {len(content)}"):
        read_robot_log(path)
    kept = read_robot_log(path, ReadOptions(channels=["sensor_accel_0.x"], salvage=True))
    assert kept.timestamps_s[-1] == pytest.approx(1.995)
    assert "Only the first 2.0 s of the log are used" in kept.attributes["salvaged"]["reason"]


def test_data_appended_after_a_crash_are_read(tmp_path):
    path = flight(tmp_path / "a.ulg")
    content = bytearray(path.read_bytes())
    content += message("D", bytes(14))[:9]  # a truncated message
    struct.pack_into("<Q", content, 16 + 3 + 16, len(content))
    content += message("I", bytes([10]) + b"char[3] oh" + b"yes")
    content[16 + 3 + 8] |= 1  # the flag of appended data
    path.write_bytes(content)
    read = read_robot_log(path, ReadOptions(channels=["sensor_accel_0.x"]))
    assert read.n_samples == 1200


def test_padding_and_strings_are_not_channels_and_missing_files_are_named(tmp_path):
    times_us = np.arange(0, 1_000_000, 10_000)
    fields = {
        "value": ("float", np.ones(100)),
        "_padding0": ("uint8_t", np.zeros((100, 4))),
        "key": ("char", np.full((100, 5), 65)),
    }
    path = write_ulog(tmp_path / "a.ulg", {("debug", 0): (times_us, fields)})
    assert list_topics(path)[0].channels == ("debug_0.value",)
    with pytest.raises(RecordingError, match="no such file"):
        list_topics(tmp_path / "b.ulg")
    for read in (list_topics, read_robot_log):
        with pytest.raises(RecordingError, match="a ULog file is a separate recording"):
            read([path, path])
    (tmp_path / "metadata.yaml").write_text("a: 1\n")
    assert [source.recording_id for source in find_recordings(tmp_path)] == ["a"]
