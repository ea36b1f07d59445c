"""Processes killed in the middle of training, which another one finishes with the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from killable_runs import MAX_EPOCHS, content

from sensorseq.io.model_file import CHECKPOINT, unpack

PROGRAM = Path(__file__).parents[1] / "support" / "killable_runs.py"


class Runs:
    """Runs of killable_runs.py, one at a time."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def begin(self, **asked):
        """Begin a run; return the process that trains."""
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self.hear("pid"))

    def hear(self, word):
        """Wait for a line that begins with this word; return the rest of it."""
        while True:
            line = self._process.stdout.readline()
            assert line, f"the program ended before it said {word!r}"
            assert not (line.startswith("ended") and word != "ended"), line
            if line.startswith(word):
                return line.removeprefix(word).strip()

    def hear_end(self):
        """Wait for the end of a run; return the epochs it told of since, and its exit code."""
        epochs = []
        while True:
            line = self._process.stdout.readline().split()
            if line[0] == "ended":
                return epochs, int(line[1])
            epochs += [int(line[1])] if line[0] == "epoch" else []

    def close(self):
        self._process.communicate()


@pytest.fixture(scope="module")
def runs():
    runs = Runs()
    yield runs
    runs.close()


@pytest.fixture(scope="module")
def uninterrupted(runs, tmp_path_factory):
    """Return the checkpoint of a whole run of each engine."""
    folder = tmp_path_factory.mktemp("whole")
    for engine in ("native", "autograd"):
        runs.begin(checkpoint=str(folder / engine), engine=engine, resume=False)
        assert runs.hear_end() == (list(range(1, MAX_EPOCHS + 1)), 0)
    return folder


def assert_same_bytes(path, uninterrupted):
    rows, _, arrays = found = content(path)
    assert found == content(uninterrupted)
    assert len(rows) == MAX_EPOCHS
    assert any("optimizer" in name for name in arrays)


def epochs_in(path):
    return len(unpack(CHECKPOINT, path)[0]["history"].tobytes().splitlines())


@pytest.mark.long
@pytest.mark.parametrize("engine", ["native", "autograd"])
@pytest.mark.parametrize("seed", range(2))
def test_runs_killed_at_random_moments_end_with_the_bytes_of_one_never_killed(
    runs, engine, uninterrupted, tmp_path, seed
):
    rng = np.random.default_rng(seed)
    path = tmp_path / "run"
    n_kills, epoch = 0, 0
    while epoch < MAX_EPOCHS - 10:
        before = epochs_in(path) if n_kills else 0
        until = before + int(rng.integers(2, 6))
        where = {"checkpoint": str(path), "engine": engine, "resume": True}
        pid = runs.begin(**where, at_most=until + 4, least_epoch_s=0.02)
        heard_s = []
        for epoch in range(before + 1, until + 1):
            assert int(runs.hear("epoch")) == epoch
            heard_s.append(time.perf_counter())
        epoch_s = (heard_s[-1] - heard_s[0]) / (len(heard_s) - 1)
        kill_s = time.perf_counter() + rng.uniform(0.0, 2 * epoch_s)
        while time.perf_counter() < kill_s:
            pass
        os.kill(pid, signal.SIGKILL)
        later, code = runs.hear_end()
        assert code == -signal.SIGKILL  # it was alive
        epoch = max([epoch, *later])
        assert 0 < epoch < MAX_EPOCHS  # and in the middle of its training
        assert epoch - epochs_in(path) in (0, 1)  # the one that was not written yet is lost
        n_kills += 1
    assert n_kills >= 3
    runs.begin(**where)
    epochs, code = runs.hear_end()
    assert code == 0
    assert 0 < len(epochs) < MAX_EPOCHS
    assert_same_bytes(path, uninterrupted / engine)
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


@pytest.mark.long
@pytest.mark.parametrize("step", ["write", "rename"])
def test_runs_killed_while_a_checkpoint_is_written_end_with_the_same_bytes(
    runs, uninterrupted, tmp_path, step
):
    path = tmp_path / "run"
    for at_write in (1, 2, 3, 4):
        where = {"checkpoint": str(path), "engine": "native", "resume": True}
        runs.begin(die_at=[step, at_write], **where)
        _, code = runs.hear_end()
        assert code == -signal.SIGKILL
    assert epochs_in(path) == 1 + 2 + 3  # that were written before
    runs.begin(**where)
    assert runs.hear_end()[1] == 0
    assert_same_bytes(path, uninterrupted / "native")
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
