"""MDF files from vehicles are read like robot logs, with each channel group at its own rate."""

import numpy as np
import pytest

from sensorseq.errors import RecordingError
from sensorseq.options import ReadOptions
from sensorseq.readers import find_recordings, list_topics, read_recordings, read_source_rate
from sensorseq.readers.robot_logs import read_robot_log

mdfs = pytest.importorskip("mdfs", reason="asammdf is not installed")
asammdf = pytest.importorskip("asammdf")


def test_groups_are_listed_with_their_rates(tmp_path):
    path, *_ = mdfs.drive(tmp_path / "a.mf4")
    found = {topic.name: topic for topic in list_topics(path)}
    assert list(found) == ["CAN1", "Wheel[0]", "Wheel[1]", "State"]
    assert found["CAN1"].channels == ("CAN1.motor.current",)
    assert found["CAN1"].n_messages == 2400
    assert found["CAN1"].rate_hz == pytest.approx(200)
    assert found["Wheel[1]"].rate_hz == pytest.approx(40)


@pytest.mark.parametrize("compression", [0, 1, 2])
@pytest.mark.parametrize("version", ["3.30", "4.10"])
def test_values_have_their_units_and_conversions(tmp_path, version, compression):
    path, current, speed = mdfs.drive(tmp_path / "a.mf4", version=version, compression=compression)
    one = read_recordings(path)[0] if version == "4.10" else read_robot_log(path)
    units = {channel.name: channel.unit for channel in one.channels}
    names = [topic.channels[0] for topic in list_topics(path)]
    assert [units[name] for name in names[:2]] == ["A", "m/s"]
    for name, expected in zip(names[:2], (current, speed), strict=True):
        values = one.values[:, one.channel_names.index(name)]
        np.testing.assert_allclose(values[~np.isnan(values)], expected, rtol=1e-6)


def test_words_of_a_group_label_the_others(tmp_path):
    path, *_ = mdfs.drive(tmp_path / "a.mf4")
    one = read_robot_log(
        path, ReadOptions(channels=["CAN1.motor.current"], label_column="State.mode")
    )
    assert [(span.label, span.start_s) for span in one.label_spans] == [
        ("idle", 0.0),
        ("pull", pytest.approx(6.0)),
    ]
    (source,) = find_recordings(tmp_path)
    assert read_source_rate(source) == pytest.approx(200)


def test_invalid_values_are_missing(tmp_path):
    from asammdf import MDF, Signal

    t = np.arange(100) / 10
    file = MDF(version="4.10")
    invalid = np.arange(100) % 7 == 3
    file.append([Signal(np.arange(100.0), t, name="x", invalidation_bits=invalid)])
    file.save(tmp_path / "a.mf4")
    file.close()
    one = read_robot_log(tmp_path / "a.mf4")
    assert one.channel_names == ("group_0.x",)
    np.testing.assert_array_equal(np.isnan(one.values[:, 0]), invalid)


def test_large_files_are_read_in_pieces_and_stored(tmp_path, monkeypatch):
    path, current, _ = mdfs.drive(tmp_path / "a.mf4")
    monkeypatch.setattr("sensorseq.options.LARGE_BYTES", 1000)
    monkeypatch.setattr("sensorseq.readers.mdf._PIECE_BYTES", 100)
    (tmp_path / "scratch").mkdir()
    one = read_robot_log(
        path, ReadOptions(channels=["CAN1.motor.current"], scratch=tmp_path / "scratch")
    )
    np.testing.assert_array_equal(one.values[:, 0], current)


def test_truncated_or_unknown_files_are_named(tmp_path):
    path, *_ = mdfs.drive(tmp_path / "a.mf4")
    content = path.read_bytes()
    for n_bytes in (*range(0, 64, 16), len(content) // 3, len(content) // 2, len(content) - 40):
        (tmp_path / "b.mf4").write_bytes(content[:n_bytes])
        with pytest.raises(RecordingError, match=r"b\.mf4: "):
            read_robot_log(tmp_path / "b.mf4")
    (tmp_path / "b.mf4").write_bytes(content[:8] + b"9.99    " + content[16:])
    with pytest.raises(RecordingError, match=r"version '9\.99' in bytes 8 to 15"):
        list_topics(tmp_path / "b.mf4")
    (tmp_path / "b.mf4").write_bytes(b"UnFinMF " + content[8:])
    with pytest.raises(RecordingError, match="did not finish this file"):
        list_topics(tmp_path / "b.mf4")
    with pytest.raises(RecordingError, match=r"no channel 'CAN1\.current'.*CAN1\.motor\.current"):
        read_robot_log(path, ReadOptions(channels=["CAN1.current"]))
    with pytest.raises(RecordingError, match="a separate recording"):
        read_robot_log([path, path])


def test_a_damaged_block_is_an_error(tmp_path):
    path, *_ = mdfs.drive(tmp_path / "a.mf4", compression=1)
    content = bytearray(path.read_bytes())
    at = content.index(b"##DZ")
    content[at + 60 : at + 200] = bytes(140)
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"the records of group .* cannot be read"):
        read_robot_log(path)


def write_groups(path, *groups):
    """Write groups of channels, given as dicts, at 50 Hz."""
    with asammdf.MDF(version="4.10") as mdf:
        for number, columns in enumerate(groups):
            t, name = np.arange(200) / 50, f"G{number}"
            signals = [asammdf.Signal(x, t, name=column) for column, x in columns.items()]
            mdf.append(signals, acq_source=asammdf.Source(name, name, "", 2, 2), comment=name)
        mdf.save(path, overwrite=True)
    return path


@pytest.mark.parametrize(
    "names",
    [
        ["CAN_DataFrame.BusChannel", "CAN_DataFrame.ID", "CAN_DataFrame.DataBytes"],
        ["CAN_RemoteFrame.ID", "CAN_RemoteFrame.DLC"],
        ["LIN_Frame.ID", "LIN_Frame.DataBytes"],
        ["ETH_Frame.DataLength", "ETH_Frame.DataBytes"],
        ["ID", "DLC", "DataBytes"],
    ],
)
def test_raw_bus_frames_are_refused_with_the_way_to_decode_them(tmp_path, names):
    data = np.random.default_rng(0).integers(0, 256, (200, 8)).astype("u1")
    raw = {name: data if name.endswith("Bytes") else data[:, 0] for name in names}
    path = write_groups(tmp_path / "raw.mf4", raw)
    for read in (list_topics, read_recordings):
        with pytest.raises(RecordingError, match=r"raw bus frames.*extract_bus_logging"):
            read(path)
    path = write_groups(tmp_path / "both.mf4", raw, {"speed": np.arange(200.0), "ID": data[:, 0]})
    listed = list_topics(path)
    channels = [topic.channels for topic in listed]
    (signals,) = filter(None, channels)
    assert [name.rpartition(".")[2] for name in signals] == ["speed", "ID"]
    assert "raw bus frames" in [topic.message_type for topic in listed]
    assert read_recordings(path)[0].channel_names == signals
    frames = next(topic.name for topic in listed if not topic.channels)
    with pytest.raises(RecordingError, match="extract_bus_logging"):
        read_recordings(path, channels=[f"{frames}.{names[0]}"])
