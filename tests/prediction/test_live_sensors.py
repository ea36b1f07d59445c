"""Live samples of several sensors: lines with their sensor's name, replays, and many robots."""

import asyncio
import io
import itertools
import json

import numpy as np
import pytest
from commands import said
from fits import fused_classifier
from robots import served

from sensorseq import read_sensors
from sensorseq.errors import SensorseqError
from sensorseq.io.prepared import read_sensor_windows
from sensorseq.options import ReadOptions
from sensorseq.prediction import live
from sensorseq.prepare import prepare

RATES_HZ = {"imu": 50.0, "motor": 6.5}
FILES = {"files": ["imu_*.csv", "motor_*.csv"], "pair": "{sensor}_{recording}.*"}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Return three recordings of each of two classes; the inertial unit begins 0.1 s later."""
    folder, rng = tmp_path_factory.mktemp("logs"), np.random.default_rng(0)
    for label, number in itertools.product(range(2), range(3)):
        (folder / f"class_{label}").mkdir(exist_ok=True)
        for sensor, rate in RATES_HZ.items():
            t = (0.1 if sensor == "imu" else 0.0) + np.arange(0, 20, 1 / rate)
            x = np.sin((1 + label) * t) + 0.1 * rng.normal(size=len(t))
            path = folder / f"class_{label}" / f"{sensor}_{number}.csv"
            head = f"time,{sensor}_a,{sensor}_b"
            np.savetxt(path, np.column_stack([t, x, x**2]), "%.17g", ",", header=head, comments="")
    return folder


@pytest.fixture(scope="module")
def model(request, logs, tmp_path_factory):
    """Return a model and its file."""
    folder = tmp_path_factory.mktemp("model")
    prepare(logs, folder / "w.h5", **FILES, window_s=2, native_rates=True, split="none")
    windows = read_sensor_windows(folder / "w.h5", ["imu", "motor"])
    settings = {"features": "summary", "max_epochs": 2, "hidden_size": 4, "random_state": 0}
    fitted = fused_classifier(**settings, missing=getattr(request, "param", "outside")).fit(windows)
    fitted.save(folder / "m.safetensors")
    return fitted, folder / "m.safetensors"


# Values of `missing` for tests in which windows lack a sensor.
BOTH_ANSWERS = pytest.mark.parametrize("model", ["error", "expected"], indirect=True)


def expected(model, logs, number=2):
    """Return the probabilities for complete recordings of all sensors."""
    recordings = read_sensors(logs / "class_1", ReadOptions(**FILES))
    of_number = {name: [each[number]] for name, each in recordings.items()}
    return model.timeline(of_number, smooth="none").probabilities


def lines_of(logs, *, headers=False, number=2):
    """Return the lines of a recording in order of time."""
    rows, heads = [], b""
    for sensor in RATES_HZ:
        text = (logs / "class_1" / f"{sensor}_{number}.csv").read_bytes()
        head, *lines = text.splitlines()
        heads += sensor.encode() + b"," + head + b"\n"
        rows += [(float(line.split(b",")[0]), sensor.encode() + b"," + line) for line in lines]
    return heads * headers + b"".join(line + b"\n" for _, line in sorted(rows))


def decided(text):
    return [list(json.loads(line)["probabilities"].values()) for line in text.splitlines()]


def assert_decided(text, probabilities):
    assert len(probabilities) == 10
    np.testing.assert_allclose(decided(text), probabilities, rtol=0, atol=1e-9)


@pytest.mark.parametrize("file", ["imu_2.csv", "motor_2.csv"])
def test_any_file_of_a_recording_is_replayed_together_with_the_other_files(model, logs, file):
    fitted, path = model
    code, out, err = said("stream", path, "--replay", logs / "class_1" / file)
    assert code == 0, err
    assert_decided(out, expected(fitted, logs))
    assert "expects imu: imu_a, imu_b at 50 Hz; motor: motor_a, motor_b at 6.5 Hz" in err
    assert "samples 1130, decisions 10\n" in err


@BOTH_ANSWERS
def test_a_replay_continues_without_a_sensor_if_sensors_may_be_missing(model, logs, tmp_path):
    fitted, path = model
    for number in (0, 2):  # recording 0 has all sensors; recording 2 lacks one
        for sensor in RATES_HZ:
            if (sensor, number) != ("motor", 2):
                name = f"{sensor}_{number}.csv"
                (tmp_path / name).write_bytes((logs / "class_1" / name).read_bytes())
    code, out, err = said("stream", path, "--replay", tmp_path / "imu_2.csv")
    assert code == 0, err
    assert len(out.splitlines()) == (0 if fitted.model_.missing == "error" else 10)
    assert ("dropped 10" in err) == (fitted.model_.missing == "error")
    code, out, err = said("predict", path, tmp_path / "imu_2.csv")
    assert code == (3 if fitted.model_.missing == "error" else 0), err


@BOTH_ANSWERS
def test_a_replay_does_not_wait_for_clocks_that_are_years_apart(model, logs, tmp_path):
    for sensor in RATES_HZ:
        rows = np.loadtxt(logs / "class_1" / f"{sensor}_2.csv", delimiter=",", skiprows=1)
        rows[:, 0] += 1.7e9 * (sensor == "motor")
        head = f"time,{sensor}_a,{sensor}_b"
        np.savetxt(tmp_path / f"{sensor}_2.csv", rows, "%.17g", ",", header=head, comments="")
    code, out, err = said("stream", model[1], "--replay", tmp_path / "imu_2.csv")
    assert code == 0, err
    assert len(out.splitlines()) == (0 if model[0].model_.missing == "error" else 20)


@pytest.mark.parametrize("headers", [False, True])
def test_lines_that_name_their_sensor_get_the_decisions_of_the_recordings(
    model, logs, tmp_path, headers
):
    fitted, path = model
    (tmp_path / "lines").write_bytes(lines_of(logs, headers=headers))
    code, out, err = said("stream", path, "--input", tmp_path / "lines")
    assert code == 0, err
    assert_decided(out, expected(fitted, logs))


def test_odd_lines_are_skipped_and_counted_by_sensor(model, logs, tmp_path):
    fitted, path = model
    lines = lines_of(logs).splitlines(keepends=True)
    odd = [b"motr,0.1,1,2\n", b"imu,0.1\n", b"motor,0.1,one,two\n", b"imu,9.9,4\n"]
    (tmp_path / "lines").write_bytes(b"".join([*lines[:40], *odd, *lines[40:]]))
    code, out, err = said("stream", path, "--input", tmp_path / "lines")
    assert code == 0, err
    assert_decided(out, expected(fitted, logs))
    assert "unreadable of imu 2, unreadable of motor 1, unreadable of no known sensor" in err
    assert "('motr') 1" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1.5,2,3\n" * 30, "the first 20 lines begin with none of the sensors imu, motor"),
        (b"imu,1\n" * 30, "the first 20 lines of sensor 'imu' are not samples of 2 channels"),
        (b"imu,1.5,2\n" * 2, "lines of sensor 'imu' have no time. Send lines of imu,time,imu_a"),
        (b"motor,time,motor_a\n", "header of sensor 'motor' has no channel 'motor_b'"),
        (b"motr,0,1,2\n", r"none of 1 line\(s\) is a sample.*or motor,time,motor_a,motor_b"),
        (
            b"".join(b"imu,%g,1,2\n" % (k / 200) for k in range(99)),
            "(?s)stamps give 200 Hz.*of sensor 'imu'.*--sample-rate-hz imu=HZ",
        ),
    ],
)
def test_lines_that_are_not_samples_are_refused_with_the_name_of_their_sensor(model, text, message):
    stream = model[0].stream()
    parser, out = live.parser_for(stream), io.StringIO()
    with pytest.raises(SensorseqError, match=message):
        live.classify(stream, parser.parts(text, whole=True), parser, out, lambda _: None)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--smooth lag", 2, "--smooth lag is for a stream of one sensor"),
        ("--format float32", 2, "--format float32 cannot name the sensor. Send lines of imu,time,"),
        ("--sample-rate-hz 50", 2, "give the rate of each sensor"),
        ("--sample-rate-hz imu=fast", 2, "--sample-rate-hz imu=fast is neither a number"),
        ("--sample-rate-hz imo=50", 3, "the model has no sensor 'imo'"),
        ("--sample-rate-hz 50 --sample-rate-hz 60", 2, "once for each sensor"),
        ("--sample-rate-hz 50 --sample-rate-hz imu=60", 2, "once for each sensor"),
        ("--sample-rate-hz imu=50 --sample-rate-hz imu=60", 2, "once for each sensor"),
    ],
)
def test_options_that_do_not_fit_several_sensors_are_refused(model, options, code, message):
    ended, out, err = said("stream", model[1], *options.split(), "--input", "/dev/null")
    assert (ended, out, message in " ".join(err.split())) == (code, "", True)


def test_each_sensor_may_have_a_different_rate(model, logs):
    rates = live.rates_of(["imu=25", "motor=6.5"])
    assert rates == {"imu": 25.0, "motor": 6.5}
    assert (live.rates_of(["100"]), live.rates_of(None)) == (100.0, None)
    lines = lines_of(logs).splitlines(keepends=True)
    slow = [line for line in lines if line.startswith(b"motor")]
    slow += [line for line in lines if line.startswith(b"imu")][::2]
    parser, out = live.parser_for(model[0].stream(rates)), io.StringIO()
    slow.sort(key=lambda line: float(line.split(b",")[1]))
    parts = parser.parts(b"".join(slow))
    live.write_decisions(model[0].stream(rates), iter(parts), out)
    assert len(decided(out.getvalue())) == 10


def test_windows_unlike_training_are_reported_with_their_sensor(model, logs, tmp_path):
    far = [
        b",".join([*line.split(b",")[:2], b"1e6,1e6\n"]) if line.startswith(b"imu") else line
        for line in lines_of(logs).splitlines(keepends=True)
    ]
    (tmp_path / "lines").write_bytes(b"".join(far))
    code, out, err = said("stream", model[1], "--input", tmp_path / "lines")
    assert (code, len(out.splitlines())) == (0, 10)
    assert err.count("warning: The window lies outside") == 1
    assert "channel 'imu: imu_a'" in err
    assert "outside of imu 10" in err
    assert said("stream", model[1], "--strict", "--input", tmp_path / "lines")[0] == 3


def test_robots_of_several_sensors_get_decisions_over_tcp(model, logs):
    fitted, _ = model

    async def talk(port, number):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = lines_of(logs, number=number) if number < 3 else b"nobody,1,2,3\n" * 30
        for at in range(0, len(data), 700):
            writer.write(data[at : at + 700])
            await asyncio.sleep(0)
        writer.write_eof()
        found = await reader.read()
        writer.close()
        return found.decode()

    async def all_of_them(port):
        return await asyncio.gather(*[talk(port, number) for number in (1, 2, 3)])

    (*found, refused), _ = served(fitted.stream, all_of_them)
    for number, text in enumerate(found, 1):
        assert_decided(text, expected(fitted, logs, number))
    assert "begin with none of the sensors imu, motor" in json.loads(refused)["error"]
