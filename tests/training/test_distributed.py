"""Two processes of torchrun train what one trains on their joint batches."""

import ast
import os
import socket
import subprocess
import sys
from pathlib import Path

import distributed_fits
import numpy as np
import pytest
from commands import run_process
from distributed_fits import CASES, outcome

from sensorseq import SensorLSTMRegressor

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What both ranks wrote; one start of torchrun serves all tests."""
    folder = tmp_path_factory.mktemp("ranks")
    distributed_fits.write_file(folder)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", distributed_fits.__file__, str(folder)]
    done = run_process(*command, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    return folder


def read(folder, name, rank):
    with np.load(folder / f"{name} {rank}.npz") as stored:
        return dict(stored)


def said(folder, rank):
    return ast.literal_eval((folder / f"said {rank}.txt").read_text())


@pytest.mark.parametrize("name", [*CASES, "a regression", "a file, streamed"])
def test_two_processes_train_what_one_trains_on_the_joint_batch(name, folder):
    if name in CASES:
        alone = outcome(distributed_fits.fit(CASES[name]))
    elif name == "a file, streamed":
        alone = outcome(distributed_fits.fit_streamed(folder))
    else:
        alone = outcome(distributed_fits.fit({}, SensorLSTMRegressor))
    together = read(folder, name, 0)
    assert together.keys() == alone.keys()
    for key, values in alone.items():
        np.testing.assert_allclose(together[key], values, rtol=1e-8, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("name", [*CASES, "a regression", "a file, streamed", "no seed"])
def test_all_processes_end_with_the_same_bits(name, folder):
    first, second = read(folder, name, 0), read(folder, name, 1)
    for key, values in first.items():
        assert values.tobytes() == second[key].tobytes(), key


@pytest.mark.parametrize("name", ["kept", "resumed"])
def test_a_checkpoint_is_written_once_and_gone_on_from_by_all(name, folder):
    assert [path.name for path in folder.glob("*run.checkpoint*")] == ["run.checkpoint"]
    for rank in (0, 1):
        plain = read(folder, "as it is", rank)
        for key, values in read(folder, name, rank).items():
            assert values.tobytes() == plain[key].tobytes(), key


def test_callbacks_are_told_in_the_first_process_and_stop_all(folder):
    assert [said(folder, rank)["called"] for rank in (0, 1)] == [2, 0]
    assert [said(folder, rank)["epochs"] for rank in (0, 1)] == [2, 2]


def test_a_callback_that_raises_in_the_first_process_ends_all(folder):
    for hook in ("on_fit_begin", "on_epoch_begin", "on_epoch_end"):
        assert said(folder, 0)[hook] == "broken off"
    for hook in ("on_fit_begin", "on_epoch_begin"):
        assert said(folder, 1)[hook].startswith("a callback failed in rank 0")


def test_what_cannot_be_shared_is_refused_by_name(folder):
    for rank in (0, 1):
        found = said(folder, rank)
        assert "head_norm='batch'" in found["batch norm"]
        assert "one process, but there are 2" in found["native"]
        assert found["engine"].startswith("autograd")
        assert "rank 1" in found["other arguments"]
        assert "learning_rate" in found["other arguments"]


def test_a_process_that_ends_does_not_leave_the_other_waiting(folder):
    assert not Path(folder / "lost 0.txt").exists()
    assert "rank 1 of 2 lost the others" in Path(folder / "lost 1.txt").read_text()


def test_processes_whose_partner_never_came_say_so_after_the_timeout():
    program = """
import datetime
from sensorseq.errors import EnvironmentProblemError
from sensorseq.training import distributed
distributed.TIMEOUT = datetime.timedelta(seconds=3)
try:
    distributed.current_ranks()
except EnvironmentProblemError as problem:
    print(problem)
"""
    waiting = []
    for rank in ("0", "1"):  # each of a pair of its own
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "1"}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **place, **meeting}
        command = [sys.executable, "-c", program]
        waiting.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        )
    for rank, process in enumerate(waiting):
        said, _ = process.communicate(timeout=60)
        assert said.startswith(f"rank {rank} waited up to 0.05 minutes, but not all 2 processes")
        assert "One of them ended before its fit began" in said
