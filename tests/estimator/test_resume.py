"""Processes killed in the middle of training, which another one finishes with the same bits."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from killable_runs import MAX_EPOCHS, content
from killing import Program

from sensorseq.io.model_file import CHECKPOINT, unpack

PROGRAM = Path(__file__).parents[1] / "support" / "killable_runs.py"


@pytest.fixture(scope="module")
def runs():
    """Runs of killable_runs.py, one at a time."""
    with Program(PROGRAM) as program:
        yield program


def hear_end(runs):
    """Wait for the end of a run; return the epochs it told of since, and its exit code."""
    epochs = []
    while True:
        word, number = runs.line().split()
        if word == b"ended":
            return epochs, int(number)
        epochs += [int(number)] if word == b"epoch" else []


@pytest.fixture(scope="module")
def uninterrupted(runs, tmp_path_factory):
    """Return the checkpoint of a whole run of each engine."""
    folder = tmp_path_factory.mktemp("whole")
    for engine in ("native", "autograd"):
        runs.begin(checkpoint=str(folder / engine), engine=engine, resume=False)
        assert hear_end(runs) == (list(range(1, MAX_EPOCHS + 1)), 0)
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
            assert int(runs.hear(b"epoch")) == epoch
            heard_s.append(time.perf_counter())
        epoch_s = (heard_s[-1] - heard_s[0]) / (len(heard_s) - 1)
        kill_s = time.perf_counter() + rng.uniform(0.0, 2 * epoch_s)
        while time.perf_counter() < kill_s:
            pass
        os.kill(pid, signal.SIGKILL)
        later, code = hear_end(runs)
        assert code == -signal.SIGKILL  # it was alive
        epoch = max([epoch, *later])
        assert 0 < epoch < MAX_EPOCHS  # and in the middle of its training
        assert epoch - epochs_in(path) in (0, 1)  # the one that was not written yet is lost
        n_kills += 1
    assert n_kills >= 3
    runs.begin(**where)
    epochs, code = hear_end(runs)
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
        _, code = hear_end(runs)
        assert code == -signal.SIGKILL
    assert epochs_in(path) == 1 + 2 + 3  # that were written before
    runs.begin(**where)
    assert hear_end(runs)[1] == 0
    assert_same_bytes(path, uninterrupted / "native")
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
