"""Two processes that write the same output, and commands on disks that are full or read-only."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest
from checkout import ROOT, run_process
from commands import said, succeed
from small_disk import filled, read_only, small_disk
from small_recordings import write_recordings

FIT = ["--max-epochs", "3", "--no-compare", "--set", "features=none", "--set", "refit=none", "-q"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make recordings, a prepared file and a model."""
    folder = tmp_path_factory.mktemp("outputs")
    write_recordings(folder / "logs")
    succeed("prepare", folder / "logs", "--window-s", "2", "-o", folder / "w.h5", "-q")
    succeed("train", folder / "w.h5", "-o", folder / "m", *FIT)
    return folder


def lines_for(place, new):
    """Return a command for each kind of output, and the file that is locked."""
    logs, windows, model = place / "logs", place / "w.h5", place / "m"
    long = ["--set", "max_epochs=400", "--set", "early_stopping=false", *FIT[2:]]
    return {
        "prepare": (["prepare", logs, "--window-s", "2", "-o", new / "o", "-j", "2"], "o"),
        "train": (["train", windows, "-o", new / "o", *long], "o"),
        "report": (["train", windows, "-o", new / "{n}", "--report", new / "o", *long], "o"),
        "export": (["export", model, "-o", new / "o", "--check", windows], "o"),
    }


def start(line, n):
    return subprocess.Popen(
        [sys.executable, "-m", "sensorseq", *(str(word).format(n=n) for word in line)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_pair(line, new, name):
    """Start a second command as soon as the first has locked the output."""
    lock = new / f".{name}.lock"
    first = start(line, "first")
    while not (lock.exists() and lock.stat().st_size):
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.002)
    # Suspend the first command, so that it has not ended when the second command starts.
    os.kill(first.pid, signal.SIGSTOP)
    second = start(line, "second")
    of_second = second.communicate()[1]
    os.kill(first.pid, signal.SIGCONT)
    of_first = first.communicate()[1]
    assert (first.returncode, second.returncode) == (0, 4), (of_first, of_second)
    assert re.search(
        rf"{name}: another run \(process {first.pid} on \S+\) is writing this", of_second
    )
    assert of_second.count("error: ") == 1
    left = {path.name for path in new.iterdir()}
    assert left <= {name, "first"}
    assert name in left


@pytest.mark.long
def test_the_second_of_two_preparations_is_refused(place, tmp_path):
    check_pair(lines_for(place, tmp_path)["prepare"][0], tmp_path, "o")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "turn"),
    list(product(["prepare", "train", "report", "export"], range(4))),
)
def test_of_twenty_pairs_the_second_is_refused(place, tmp_path, kind, turn):
    check_pair(lines_for(place, tmp_path)[kind][0], tmp_path, lines_for(place, tmp_path)[kind][1])


def error_of(line):
    code, _, error = said(*line)
    assert "Errno" not in error
    return code, error


def test_a_read_only_disk_is_refused_before_anything_is_read(place, tmp_path):
    nothing = tmp_path / "nothing.h5"  # does not exist, but the output is checked first
    with small_disk(tmp_path / "disk") as disk, read_only(disk):
        for line in (
            ["prepare", place / "logs", "--window-s", "2", "-o", disk / "o"],
            ["run", nothing, "-o", disk / "o"],
            ["train", nothing, "-o", disk / "o"],
            ["train", nothing, "-o", tmp_path / "o", "--report", disk / "o"],
            ["evaluate", nothing, nothing, "--report", disk / "o"],
            ["export", nothing, "-o", disk / "o"],
            ["export", nothing, "--format", "c", "-o", disk / "o"],
            ["diagnose", nothing, "--html", disk / "o"],
            ["train", place / "w.h5", "-o", tmp_path / "o", "--set", f"checkpoint={disk / 'o'}"],
        ):
            code, error = error_of(line)
            assert (code, "cannot be written (read-only file system" in error) == (4, True), line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk"]


@pytest.mark.filterwarnings("default")
def test_a_full_disk_ends_checkpoints_but_not_the_training(place, tmp_path):
    with small_disk(tmp_path / "disk") as disk, filled(disk):
        line = ["train", place / "w.h5", "-o", tmp_path / "o", *FIT]
        code, error = error_of([*line, "--set", f"checkpoint={disk / 'run'}"])
        assert (code, error.count("warning: checkpoint")) == (0, 1)
        assert "(no space left on device). Free disk space" in error
        code, error = error_of([*line[:3], disk / "o", *FIT])
        assert (code, "no space left on device" in error) == (4, True)
        assert [path.name for path in disk.iterdir()] == ["fill"]
    succeed("info", tmp_path / "o")


@pytest.mark.long
def test_a_full_stdout_is_one_message(place):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sensorseq", "info", str(place / "w.h5")],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    words = "error: the output cannot be written (no space left on device)."
    assert (done.returncode, done.stderr.startswith(words)) == (4, True)
    assert done.stderr.count("\n") == 1


def test_a_page_is_written_even_if_messages_cannot_be(tmp_path):
    (tmp_path / "h.csv").write_text("loss,val_loss\n" + "0.5,0.5\n" * 20)
    words = f"diagnose {tmp_path / 'h.csv'} --html {tmp_path / 'h.html'} 2>/dev/full"
    command = f"{sys.executable} -m sensorseq {words}"
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        command, shell=True, cwd=ROOT, stderr=subprocess.PIPE, check=False, env=buffered
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "h.html").read_bytes().startswith(b"<!DOCTYPE html")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_commands_survive_full_disks():
    program = ROOT / "benchmarks" / "harden" / "full_disk.py"
    done = run_process(sys.executable, program, "--disks", "18")
    if "no file system can be mounted" in done.stderr:
        pytest.skip(done.stderr)
    assert json.loads(done.stdout.splitlines()[-1])["failures"] == 0, done.stdout
