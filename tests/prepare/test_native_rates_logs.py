"""Topics of robot logs as sensors: the logs, windows at each topic's rate, and a model."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from commands import said, succeed
from fits import fused_classifier

from sensorseq import PreparePipeline, Recording, read_sensors
from sensorseq.errors import ArgumentError, RecordingError
from sensorseq.io.prepared import read_sensor_windows, sensors_in
from sensorseq.options import ReadOptions
from sensorseq.prepare import prepare, recording_part

pytest.importorskip("mcap")

from mcaps import write_mcap

START_NS = 1_700_000_000_000_000_000
RATES_HZ = {"/imu": 200.0, "/motor": 10.0}
HOW = {"window_s": 2.0, "native_rates": True}


def write_log(file, topics, *, label=0, seconds=8.0, seed=0, **more):
    """Write topics with numbers x and y at given rates; the inertial unit begins 0.03 s later."""
    rng, messages = np.random.default_rng(seed), []
    for topic, rate in topics.items():
        for t in (0.03 if topic == "/imu" else 0.0) + np.arange(int(seconds * rate)) / rate:
            x = np.sin((1 + label) * t) + 0.1 * rng.normal()
            messages.append((topic, START_NS + round(1e9 * t), {"x": x, "y": x**2}))
    return write_mcap(file, sorted(messages, key=lambda one: one[1]), chunk_size=10_000, **more)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Three logs for each of two classes."""
    folder = tmp_path_factory.mktemp("logs")
    for label in range(2):
        (folder / f"class_{label}").mkdir()
        for number in range(3):
            file = folder / f"class_{label}" / f"run_{number}.mcap"
            topics = {"/imu": 50.0, "/motor": 10.0}
            write_log(file, topics, label=label, seed=10 * label + number)
    return folder


@pytest.fixture(scope="module")
def read(logs):
    return read_sensors(logs)


def test_no_array_has_more_rows_than_its_sensor_has_samples(tmp_path, monkeypatch):
    """A motor at 10 Hz needs no more memory if an inertial unit at 200 Hz is in the same log."""
    log, rows = write_log(tmp_path / "log.mcap", RATES_HZ), []
    made, written = Recording.__post_init__, recording_part.write_part

    def record(recording):
        made(recording)
        rows.append((recording.channel_names, recording.n_samples))

    def write(path, key, facts, arrays):
        rows.append((facts["channels"], arrays["X"].shape[0] * arrays["X"].shape[1]))
        written(path, key, facts, arrays)

    monkeypatch.setattr(Recording, "__post_init__", record)
    monkeypatch.setattr(recording_part, "write_part", write)
    prepare(log, tmp_path / "w.h5", **HOW, split="none")
    read_sensors(log)
    for topic, rate in RATES_HZ.items():
        own = [n for names, n in rows if set(names) == {f"{topic}.x", f"{topic}.y"}]
        assert (len(own) >= 3, max(own)) == (True, 8 * rate)
    assert {len(names) for names, _ in rows} == {2}  # no array has the channels of both topics


@pytest.mark.parametrize("channels", [["/motor.y", "/imu.x", "/imu.y"], ["/imu.y"]])
def test_a_file_has_the_windows_of_the_pipeline(logs, read, tmp_path, channels):
    prepare(logs, tmp_path / "w.h5", **HOW, channels=channels, split="none")
    names = sensors_in(tmp_path / "w.h5")
    stored = read_sensor_windows(tmp_path / "w.h5", names)
    made = [
        PreparePipeline(**HOW, split=None).prepare(
            read_sensors(logs, ReadOptions(channels=channels))
        ),
        PreparePipeline(**HOW, split=None, channels=channels).prepare(read),
    ]
    expected = channels or ["/imu.x", "/imu.y", "/motor.x", "/motor.y"]
    assert set(names) == {name.split(".")[0] for name in expected}
    for windows in made:
        for name in names:
            own = tuple(one for one in expected if one.startswith(name))
            assert stored[name].channels == windows[name].channels == own
            np.testing.assert_array_equal(stored[name].X, windows[name].X)
            np.testing.assert_array_equal(stored[name].start_s, windows[name].start_s)
            np.testing.assert_array_equal(stored[name].recording_id, windows[name].recording_id)


def test_topics_are_on_the_clock_of_their_log_even_without_its_statistics(tmp_path):
    for number, more in enumerate([{}, {"use_statistics": False}, {"use_chunking": False}]):
        file = write_log(tmp_path / f"{number}.mcap", {"/imu": 50.0, "/motor": 10.0}, **more)
        read = {name: one.timestamps_s[0] for name, (one,) in read_sensors(file).items()}
        assert read == {"/imu": 0.03, "/motor": 0.0}


def test_a_topic_that_starts_in_a_later_file_of_a_bag_is_on_its_clock(tmp_path):
    write_log(tmp_path / "bag_0.mcap", {"/motor": 10.0}, seconds=5)
    write_log(tmp_path / "bag_1.mcap", {"/imu": 50.0}, seconds=5)
    (tmp_path / "metadata.yaml").write_text("")
    assert read_sensors(tmp_path)["/imu"][0].timestamps_s[0] == 0.03
    read = partial(read_sensors, tmp_path, ReadOptions(channels=["/imu.x"]))
    assert read()["/imu"][0].timestamps_s[0] == 0.03
    # this topic is only in the second file, but the bag begins with the first file
    write_log(tmp_path / "bag_0.mcap", {"/motor": 10.0, "/imu": 50.0}, seconds=5)
    shifted = write_log(tmp_path / "bag_1.mcap", {"/late": 10.0}, seconds=5)
    assert list(read_sensors(shifted)) == ["/late"]
    assert read_sensors(tmp_path)["/late"][0].timestamps_s[0] == 0.0


def test_a_log_without_a_topic_is_named_or_kept(logs, tmp_path):
    folder = Path(shutil.copytree(logs, tmp_path / "logs"))
    for label in range(2):
        write_log(folder / f"class_{label}" / "run_2.mcap", {"/imu": 50.0}, label=label)
    with pytest.raises(RecordingError, match="2 of 6 recordings have no sensor '/motor': class_0/"):
        prepare(folder, tmp_path / "w.h5", **HOW)
    prepare(folder, tmp_path / "w.h5", **HOW, split="none", missing="expected")
    windows = read_sensor_windows(tmp_path / "w.h5", ["/imu", "/motor"])
    lost = ~windows.present[:, 1]
    assert set(windows.recording_id[lost]) == {"class_0/run_2", "class_1/run_2"}
    assert windows.present[:, 0].all()


def test_channels_that_no_topic_has_are_named(logs, tmp_path):
    file = logs / "class_0" / "run_0.mcap"
    with pytest.raises(RecordingError, match=r"no channel 'imu\.x'.*Did you mean '/imu\.x'"):
        read_sensors(file, ReadOptions(channels=["imu.x"]))
    with pytest.raises(RecordingError, match=r"no channel '/imu\.z'"):
        read_sensors(file, ReadOptions(channels=["/imu.z"]))
    with pytest.raises(ArgumentError, match=r"'/motr\.x' belongs to none of the sensors /imu"):
        read_sensors(file, ReadOptions(channels=["/imu.x", "/motr.x"]))
    (tmp_path / "imu_0.csv").write_text("time,a\n0,1\n1,2\n")
    with pytest.raises(ArgumentError, match=r"channels='a'.*choose files with `files`"):
        read_sensors(tmp_path, ReadOptions(pair="{sensor}_{recording}.*", channels=["a"]))


def test_a_damaged_log_is_skipped_or_used_up_to_the_damage(logs, tmp_path):
    folder = Path(shutil.copytree(logs, tmp_path / "logs"))
    half, gone = (folder / "class_0" / f"run_{number}.mcap" for number in (1, 2))
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    gone.write_bytes(b"")
    with pytest.raises(RecordingError, match=r"run_1\.mcap: cannot be read; it is intact up to"):
        prepare(folder, tmp_path / "w.h5", **HOW)
    summary = prepare(folder, tmp_path / "w.h5", **HOW, split="none", on_error="skip")
    windows = read_sensor_windows(tmp_path / "w.h5", ["/imu", "/motor"])
    _, counts = np.unique(windows.recording_id, return_counts=True)
    assert counts.tolist() == [4, counts[1], 4, 4, 4]
    assert 1 <= counts[1] < 4
    assert "the file is empty" in str(summary.dropped)


def test_commands_can_be_used_from_logs_to_a_prediction(logs, tmp_path):
    path, model = tmp_path / "w.h5", tmp_path / "m.safetensors"
    made = succeed(
        *("prepare", logs, "--window-s", "2", "--native-rates", "-o", path),
        *("--channels", "/imu.x,/motor.x", "--split", "0.4,0.3,0.3"),
    )
    assert "/motor: 20 samples at 10 Hz, 1 channel (/motor.x)" in made
    settings = [f"--set={one}" for one in ("max_epochs=2", "hidden_size=4", "features=summary")]
    assert "together" in succeed("train", path, "-o", model, *settings, "--quiet")
    succeed("evaluate", model, path, "--quiet")
    file = logs / "class_1" / "run_2.mcap"
    (one,) = json.loads(succeed("predict", model, file, "--json", "--quiet"))["recordings"]
    assert (one["paths"], one["label"], one["n_windows"]) == ([str(file)], "class_1", 4)
    decisions = succeed("stream", model, "--replay", file, "--quiet").splitlines()
    np.testing.assert_allclose(
        [list(json.loads(line)["probabilities"].values()) for line in decisions],
        [list(row["probability"].values()) for row in one["windows"]],
        atol=1e-9,
    )
    alone = write_log(tmp_path / "alone.mcap", {"/imu": 50.0, "/rain": 1.0})
    code, _, err = said("predict", model, alone)
    assert (code, "windows lack sensors: '/motor' in 4 of 4 windows" in err) == (3, True)


def test_a_prediction_is_the_same_as_for_the_prepared_windows(logs, tmp_path):
    prepare(logs, tmp_path / "w.h5", **HOW, missing="expected")
    settings = {"features": "summary", "max_epochs": 2, "hidden_size": 4, "random_state": 0}
    fitted = fused_classifier(**settings, missing="expected").fit(tmp_path / "w.h5")
    fitted.save(tmp_path / "m.safetensors")
    windows = read_sensor_windows(tmp_path / "w.h5", ["/imu", "/motor"])
    own = fitted.predict_proba(windows[windows.recording_id == "class_1/run_0"])
    predicted = partial(succeed, "predict", tmp_path / "m.safetensors", "--json", "--quiet")
    (one,) = json.loads(predicted(logs / "class_1" / "run_0.mcap"))["recordings"]
    got = [list(row["probability"].values()) for row in one["windows"]]
    np.testing.assert_array_equal(got, own)
    alone = write_log(tmp_path / "alone.mcap", {"/imu": 50.0})
    (one,) = json.loads(predicted(alone))["recordings"]
    assert "sensor '/motor' is missing in 4 of 4 windows." in one["notes"]
