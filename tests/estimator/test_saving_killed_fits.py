"""A fit killed during its training leaves a complete checkpoint, either the old or the new one."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from killable_runs import MAX_EPOCHS, content, contents
from killing import Program

PROGRAM = Path(__file__).parents[1] / "support" / "killable_runs.py"


@pytest.fixture(scope="module")
def runs():
    """Runs of killable_runs.py, one at a time."""
    with Program(PROGRAM) as program:
        yield program


def hear_end(runs):
    """Wait for the end of a run; return the epochs reported until then, and the exit code."""
    epochs = []
    while True:
        word, number = runs.line().split()
        if word == b"ended":
            return epochs, int(number)
        epochs += [int(number)] if word == b"epoch" else []


@pytest.fixture(scope="module")
def whole(runs, tmp_path_factory):
    """Return, for each engine, the file after each epoch of a run that was never killed."""
    files = {}
    for engine in ("native", "autograd"):
        copies = tmp_path_factory.mktemp(engine)
        path = str(tmp_path_factory.mktemp("whole") / "run")
        runs.begin(checkpoint=path, engine=engine, copies=str(copies))
        assert hear_end(runs) == (list(range(1, MAX_EPOCHS + 1)), 0)
        files[engine] = contents(copies)
        assert sorted(files[engine]) == list(range(1, MAX_EPOCHS + 1))
    return files


@pytest.mark.long
@pytest.mark.parametrize("engine", ["native", "autograd"])
@pytest.mark.parametrize("seed", range(4))
def test_a_fit_killed_at_a_random_moment_leaves_its_last_epoch(runs, engine, whole, tmp_path, seed):
    rng, path = np.random.default_rng(seed), tmp_path / "run"
    until = int(rng.integers(2, MAX_EPOCHS - 10))
    pid = runs.begin(checkpoint=str(path), engine=engine, least_epoch_s=0.005)
    heard_s = []
    for epoch in range(1, until + 1):
        assert int(runs.hear(b"epoch")) == epoch
        heard_s.append(time.perf_counter())
    epoch_s = (heard_s[-1] - heard_s[0]) / (len(heard_s) - 1)
    time.sleep(rng.uniform(0.0, 2 * epoch_s))
    os.kill(pid, signal.SIGKILL)
    later, code = hear_end(runs)
    assert code == -signal.SIGKILL  # the run was killed before it could end
    last = max([until, *later])
    n_epochs, arrays = content(path)
    assert last <= n_epochs <= last + 1  # an epoch is reported after its checkpoint is written
    assert arrays == whole[engine][n_epochs]
    runs.begin(checkpoint=str(path), engine=engine)
    assert hear_end(runs)[1] == 0
    assert content(path) == (MAX_EPOCHS, whole[engine][MAX_EPOCHS])
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


@pytest.mark.long
@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_fit_killed_while_it_writes_leaves_the_epoch_before(runs, whole, tmp_path, step):
    path = tmp_path / "run"
    for at_write in (1, 2, 5):
        runs.begin(checkpoint=str(path), engine="native", die_at=[step, at_write])
        assert hear_end(runs)[1] == -signal.SIGKILL
        if at_write == 1:
            assert not path.exists()
        else:
            assert content(path) == (at_write - 1, whole["native"][at_write - 1])
