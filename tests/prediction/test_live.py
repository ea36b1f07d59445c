import contextlib
import functools
import io
import itertools
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from commands import said, succeed
from fits import plain_classifier
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorseq import PreparePipeline, Recording
from sensorseq.errors import ArgumentError, InputError
from sensorseq.evaluation.predict import predict_recordings
from sensorseq.evaluation.raw_recordings import samples_of_recording
from sensorseq.prediction import live
from sensorseq.readers.csv import read_csv
from sensorseq.recording import Channel
from sensorseq.sequence.smoothing import Smoothing

NAMES = ("cur", "vel")


def write_csv(path, x, t, names=("time_s", *NAMES)):
    rows = [",".join(map(repr, row)) for row in np.column_stack([t, x]).tolist()]
    path.write_text("\n".join([",".join(names), *rows]) + "\n")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a model, its file, and a recording that it was not trained on."""
    folder = tmp_path_factory.mktemp("live")
    rng = np.random.default_rng(0)
    recordings = []
    for i in range(8):
        t = np.arange(200) / 20.0
        x = np.sin(t * (2 + 4 * (i % 2)))[:, None] + 0.3 * rng.normal(size=(200, 2))
        channels = tuple(Channel(name) for name in NAMES)
        recordings.append(Recording(x, t, channels, f"r{i}", f"r{i}", ["calm", "rough"][i % 2]))
    windows = PreparePipeline(window_s=1.0, hop_s=0.5, split=None).prepare(recordings[:-1])
    model = plain_classifier(hidden_size=4, max_epochs=2, random_state=0).fit(windows)
    model.save(folder / "m.safetensors")
    write_csv(folder / "new.csv", recordings[-1].values, recordings[-1].timestamps_s)
    return model, folder / "m.safetensors", folder / "new.csv", recordings[-1]


def expected(model, path):
    (prediction,) = predict_recordings(model, [path])
    return prediction.probability.tolist()


def decided(text):
    return [list(json.loads(line)["probabilities"].values()) for line in text.splitlines()]


@pytest.mark.parametrize("option", ["--replay", "--input"])
def test_a_streamed_recording_gives_the_decisions_of_predict(files, option):
    model, path, csv, _ = files
    code, out, err = said("stream", path, option, csv)
    assert (code, decided(out)) == (0, expected(model, csv))
    assert "expects cur, vel at 20 Hz" in err
    assert "samples 200, decisions 19" in err
    first = json.loads(out.splitlines()[0])
    assert {"start_s", "end_s", "label", "probability", "answered", "delay_s"} <= set(first)


def test_windows_unlike_training_are_reported_once_and_counted_or_end_the_stream(files, tmp_path):
    _, path, _, recording = files
    values = recording.values * np.where(np.arange(200) < 100, 1.0, 1000.0)[:, None]
    write_csv(tmp_path / "wrong.csv", values, recording.timestamps_s)
    command = ["stream", path, "--replay", tmp_path / "wrong.csv"]
    code, out, err = said(*command)
    is_outside = [json.loads(line)["outside"] for line in out.splitlines()]
    assert (code, is_outside) == (0, [False] * 9 + [True] * 10)
    assert err.count("The window lies outside what the model was trained on: channel 'cur'") == 1
    assert "decisions 19, outside 10" in err
    code, out, err = said(*command, "--strict")
    assert (code, len(out.splitlines())) == (3, 9)
    assert "error: The window lies outside what the model was trained on" in err


@pytest.mark.long
def test_samples_come_from_another_program(files):
    model, path, csv, _ = files
    command = [sys.executable, "-m", "sensorseq", "stream", str(path)]
    done = subprocess.run(command, input=csv.read_bytes(), capture_output=True, check=True)
    assert decided(done.stdout.decode()) == expected(model, csv)


def wait_until_taken(port):
    """Send empty datagrams to a port until something receives them."""
    for _ in range(600):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("127.0.0.1", port))
            try:
                probe.send(b"")
                time.sleep(0.05)
                probe.send(b"")  # refused if nothing received the first datagram
            except ConnectionRefusedError:
                continue
            return


def test_floats_over_udp(files):
    model, path, csv, recording = files
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def send():
        wait_until_taken(port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for row in np.array_split(recording.values.astype("<f8"), 25):
                out.sendto(row.tobytes(), ("127.0.0.1", port))
                time.sleep(0.005)
            out.sendto(
                b"", ("127.0.0.1", port)
            )  # an empty datagram does not end the stream, because anyone can send one
            time.sleep(1.5)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        out = succeed("stream", path, "--udp", port, "--format", "float64", "-q")
    finally:
        sender.join()
    assert decided(out) == expected(model, csv)


def test_a_serial_line_that_begins_within_a_line(files):
    model, _, csv, _ = files
    ours, theirs = pty.openpty()
    stream, parser, out = model.stream(), live.SampleParser("csv", NAMES), io.StringIO()

    def send():
        os.write(theirs, b"37\n" + csv.read_bytes().partition(b"\n")[2])
        time.sleep(0.2)
        os.close(theirs)

    sender = threading.Thread(target=send)
    sender.start()

    def samples():  # reading fails if the terminal hangs up
        with contextlib.suppress(OSError):
            yield from live.samples_of_pipe(ours, parser)

    live.write_decisions(stream, samples(), out)
    sender.join()
    os.close(ours)
    assert decided(out.getvalue()) == expected(model, csv)
    assert parser.n_unreadable == 1


@given(st.lists(st.integers(0, 56), max_size=6))
def test_the_bytes_of_floats_may_be_split_anywhere(cuts):
    data = np.arange(14, dtype="<f4").tobytes()
    parser = live.SampleParser("float32", NAMES)
    parts = [parser.feed(data[a:b]) for a, b in itertools.pairwise([0, *sorted(cuts), len(data)])]
    parts.append(parser.feed(b"", whole=True))
    values = np.concatenate([part.values for part in parts])
    np.testing.assert_array_equal(values, np.arange(14).reshape(7, 2))


CELLS = [
    *(
        "",
        " ",
        '""',
        "1",
        " 1 ",
        "\t1",
        "\x0b1",
        "1.",
        ".5",
        "+1",
        "-1",
        "00",
        "007",
        "1e3",
        "1E+3",
    ),
    *("nan", "NaN", "NAN", "-nan", "1e-400", "9007199254740993", "0.10000000000000000555111512312"),
    *('"1"', '" 1"', "None", "TRUE", "-", "+-1", "--1", "1_0", "1__0", "0x1", "0x1p3", "1e", "1 2"),
    *("1f", "1.5L", "1d3", "\u22121", "?", "x"),
]


@pytest.mark.parametrize("n_lines", [3, 80])  # 80 lines are parsed in one block
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_is_the_same_number_in_a_line_and_in_a_file(tmp_path, cell, n_lines):
    in_file, in_line = numbers_in(tmp_path, cell, n_lines)
    assert repr(in_file) == repr(in_line)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.from_regex(r"[-+ ]?[0-9]{0,20}[._]?[0-9]{0,20}([eE][+-]?[0-9]{1,2})? ?", fullmatch=True))
def test_a_number_is_the_same_in_a_line_and_in_a_file(tmp_path, cell):
    in_file, in_line = numbers_in(tmp_path, cell, 3)
    assert repr(in_file) == repr(in_line)


@pytest.mark.parametrize(
    ("cell", "in_file", "in_line"),
    [
        *[(word, np.nan, None) for word in ("NA", "N/A", "null", "NULL", "#N/A", "nan(1)")],
        *[("\u0663", 3.0, None), ("1\xa0", 1.0, None)],  # beyond ASCII
        # files must not contain infinite values
        *[(word, None, np.inf) for word in ("inf", "Infinity", "1e400")],
        ('1"', None, 1.0),
    ],
)
def test_some_cells_have_a_different_meaning_in_lines_and_in_files(
    tmp_path, cell, in_file, in_line
):
    assert repr(numbers_in(tmp_path, cell, 3)) == repr([in_file, in_line])


def numbers_in(folder, cell, n_lines):
    """Return the number that a cell means in a file and in a line; None if the cell is refused."""
    lines = [f"{i},{cell if i == 1 else i},{i}\n" for i in range(n_lines)]
    text = "".join(["time_s,cur,vel\n", *lines]).encode()
    path = folder / "cells.csv"
    path.write_bytes(text)
    try:
        in_file = float(read_csv(path).values[1, 0])
    except InputError:
        in_file = None
    values = live.SampleParser("csv", NAMES).feed(text, whole=True).values
    return [in_file, float(values[1, 0]) if len(values) == n_lines else None]


@pytest.mark.parametrize("name", ["time_ms", "timeMs", "Time (milliseconds)"])
def test_times_have_the_unit_in_their_name(name):
    lines = f"{name},cur,vel\n500,1,2\n600,3,4\n".encode()
    found = live.SampleParser("csv", NAMES, name).feed(lines)
    np.testing.assert_array_equal(found.timestamps_s, [0.5, 0.6])
    with pytest.raises(InputError, match=r"'time \(min\)' seems to be in 'min'; send seconds"):
        live.SampleParser("csv", NAMES, "time (min)").feed(b"time (min),cur,vel\n1,2,3\n")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--replay {csv} --sample-rate-hz 200", 3, "Give the sensor's rate"),
        ("--replay {csv} --udp 5005", 2, "give only one of --input"),
        ("--input absent.csv", 3, "absent.csv"),
        ("--lag 5", 2, "--lag 5 has no effect with --smooth none; leave it out, or use --smooth"),
        ("--lag 3 --smooth filter", 2, "--lag 3 has no effect with --smooth filter; leave it out"),
        ("--mean-dwell-s 30", 2, "--mean-dwell-s 30.0 has no effect with --smooth none; leave it"),
        ("--speed 2 --input {csv}", 2, "--speed applies only to --replay; leave it out."),
        ("--replay {csv} --format float32", 2, "--format float32 does not apply to --replay"),
        ("--format float32 --time-column t", 2, "--time-column does not apply to --format float32"),
        ("--format float64 --max-delay-s 1", 2, "--max-delay-s needs timestamps, unlike --format"),
    ],
)
def test_mistakes_are_reported(files, options, code, message):
    _, path, csv, _ = files
    words = [word.format(csv=csv) for word in options.split()]
    ended, _, err = said("stream", path, *words)
    assert (ended, message in err) == (code, True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"lag": 5},
            "--lag 5 has no effect with --smooth marginals; leave it out, or use --smooth",
        ),
        ({"lag": 0, "smooth": "marginals"}, "--lag 0 has no effect with --smooth marginals"),
        ({"mean_dwell_s": 9.0, "smooth": "none"}, "--mean-dwell-s 9.0 has no effect with --smooth"),
    ],
)
def test_options_of_another_smoothing_are_refused(files, given, message):
    model, path, csv, recording = files
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    ended, out, err = said("predict", path, csv, *words)
    assert (ended, out, message in " ".join(err.split())) == (2, "", True)
    for call in (functools.partial(model.timeline, [recording]), model.stream):
        with pytest.raises(ArgumentError, match="has no effect with smooth='"):
            call(smooth=Smoothing(**given))


def test_a_port_in_use_is_reported(files):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on UDP port {port}"):
            next(live.samples_of_udp(str(port), live.SampleParser("csv", NAMES)))
    with pytest.raises(ArgumentError, match="not a port"):
        next(live.samples_of_udp("127.0.0.1:99999", live.SampleParser("csv", NAMES)))


def test_ctrl_c_flushes_the_remaining_decisions(files):
    model, _, csv, recording = files

    def interrupted():
        yield live.Samples(recording.values, recording.timestamps_s)
        raise KeyboardInterrupt

    out = io.StringIO()
    assert live.write_decisions(model.stream(), interrupted(), out) == 200
    assert decided(out.getvalue()) == expected(model, Path(csv))


def test_a_replay_runs_at_the_given_speed(files):
    model, _, csv, _ = files
    began_s = time.monotonic()
    n_samples = sum(
        len(part.values) for part in samples_of_recording(model.model_, csv, None, 30.0)
    )
    assert n_samples == 200
    assert 0.33 < time.monotonic() - began_s < 5  # the recording lasts 9.95 s
