"""Logs as people have them, each from the first file to a prediction for a second one."""

import json
import re

import numpy as np
import pytest

from sensorseq.cli import run

FAST = (
    "--no-compare",
    "--max-epochs",
    "2",
    "--set",
    "features=none",
    "--set",
    "hidden_size=8",
    "-q",
)
RATE = 40
ROBOTS = {  # two, with other classes, names and values
    "first": {"classes": ("ice", "snow"), "names": ("ax", "ay"), "size": 1.0, "start": 1645150995},
    "second": {
        "classes": ("A 1", "B 2"),
        "names": ("m 1", "m 2"),
        "size": 40.0,
        "start": 1760000123,
    },
}


@pytest.fixture(params=ROBOTS)
def robot(request):
    return ROBOTS[request.param]


def signals(robot, seconds=20.0, rate=RATE):
    """Yield class, name, seconds and values of six recordings."""
    rng = np.random.default_rng(3)
    for number, label in enumerate(robot["classes"]):
        for i in range(3):
            t = np.arange(int(seconds * rate)) / rate
            wave = np.sin(2 * np.pi * (1 + 3 * number) * t[:, None] + np.arange(2))
            values = robot["size"] * (wave + 0.1 * rng.standard_normal(wave.shape))
            yield label, f"run_{i}", t, values


def write(path, columns, header):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [] if header is None else [",".join(header)]
    lines += [
        ",".join("" if v != v else f"{v:.15g}" for v in row) for row in np.column_stack(columns)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def said(capsys, *arguments, code=0):
    """Return what a command that ends with this code prints."""
    capsys.readouterr()
    ended = run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert ended == code, out + err
    return re.sub(r"\s+", " ", out + err)


def predicted(capsys, folder, recording, *options, predict=()):
    """Prepare a folder, train, and predict a recording; return what `prepare` said and JSON."""
    windows, model = folder.parent / "w.h5", folder.parent / "m.safetensors"
    told = said(capsys, "prepare", folder, "--window-s", 1, "-o", windows, "-q", *options)
    said(capsys, "train", windows, "-o", model, *FAST)
    run(["predict", str(model), str(recording), "--json", "-q", *predict])
    (found,) = json.loads(capsys.readouterr().out)["recordings"]
    assert len(found["windows"]) >= 15
    return told, found


def test_a_file_without_header_is_said_to_be_one_and_is_read_with_names_or_places(
    robot, tmp_path, capsys
):
    for label, name, t, x in signals(robot):
        stamps = 1000 * robot["start"] + np.rint(1000 * t)
        lines = [
            ",".join([*(f"{v:.5f}" for v in row), f"{ms:.0f}"])
            for row, ms in zip(x, stamps, strict=True)
        ]
        path = tmp_path / "logs" / label / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    logs, windows = tmp_path / "logs", tmp_path / "w.h5"
    told = said(capsys, "prepare", logs, "--window-s", 1, "-o", windows, code=3)
    assert "first line holds numbers" in told
    assert all(
        word in told for word in ("--names", "--no-header", "column_3", str(path.parent.parent))
    )
    told = said(capsys, "inspect", logs, code=3)
    assert told.count("first line holds numbers") == 1  # not once for each file
    assert "5 more" in told
    names = [*robot["names"], "stamp"]
    told, _ = predicted(capsys, logs, path, "--names", ",".join(names), "--time-column", "stamp")
    assert ", ".join(names[:2]) in told
    assert "is in ms" in told
    told, found = predicted(capsys, logs, path, "--no-header", "--time-column", "-1")
    assert "column_1, column_2" in told
    # the same samples with a header, whose names are those of the training
    headed = write(
        tmp_path / "headed.csv",
        [x, 1000 * robot["start"] + np.rint(1000 * t)],
        ["column_1", "column_2", "column_3"],
    )
    _, same = predicted(
        capsys, logs, headed, "--no-header", "--time-column", "3", predict=["--header"]
    )
    assert len(same["windows"]) == len(found["windows"])
    told = said(capsys, "prepare", logs, "--window-s", 1, "-o", windows, "--names", "a,b", code=3)
    assert "2 name(s)" in told
    assert "3 field(s)" in told


def test_names_given_for_a_file_with_a_header_are_refused(robot, tmp_path, capsys):
    for label, name, t, x in signals(robot):
        write(tmp_path / "logs" / label / f"{name}.csv", [t, x], ["time", *robot["names"]])
    told = said(
        capsys,
        "prepare",
        tmp_path / "logs",
        "--window-s",
        1,
        "-o",
        tmp_path / "w.h5",
        "--names",
        "time,a,b",
        code=3,
    )
    assert robot["names"][0] in told
    assert "--header" in told


def test_the_rate_is_the_clock_of_files_without_a_time_column(robot, tmp_path, capsys):
    for label, name, _, x in signals(robot):
        path = write(tmp_path / "logs" / label / f"{name}.csv", [x], robot["names"])
    told = said(
        capsys, "prepare", path.parent.parent, "--window-s", 1, "-o", tmp_path / "w.h5", code=3
    )
    assert "--sample-rate-hz" in told
    assert "--time-column" in told
    told, found = predicted(capsys, path.parent.parent, path, "--sample-rate-hz", RATE)
    assert f"1/{RATE} s" in told
    assert any(f"1/{RATE} s" in note for note in found["notes"])  # so is that of a prediction
    starts = [window["start_s"] for window in found["windows"]]
    assert np.diff(starts) == pytest.approx(1)
    bare = write(tmp_path / "bare.csv", [x], None)
    told, other = predicted(
        capsys,
        path.parent.parent,
        bare,
        "--sample-rate-hz",
        RATE,
        predict=["--names", ",".join(robot["names"])],
    )
    assert other["windows"] == found["windows"]
