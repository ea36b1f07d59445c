"""The native core gives the same bits with any number of threads, several callers, and forks."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from sensorseq.nn import LSTMLinear
from sensorseq.ops.train_epoch import EpochTrainer, NetworkLayout, make_hyper

N_WINDOWS = 40  # seven tiles, which are enough tasks for all threads here
TIMEOUT_S = 120


@pytest.fixture(autouse=True)
def _same_number_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def work():
    """A deterministic function that returns results of the operators and the epoch engine."""
    return make_work()


def make_work(n_windows=N_WINDOWS, hidden_size=16, *, with_autograd=True):
    torch.manual_seed(0)
    network, module = NetworkLayout(3, hidden_size, 4), LSTMLinear(3, hidden_size, 4)
    weights = 0.1 * torch.randn(2, network.n_parameters)
    x, y = torch.randn(n_windows, 20, 3), torch.arange(n_windows) % 4

    def work():
        trainer = EpochTrainer(network, weights[:1], x, y, make_hyper(1), optimizer="adam")
        rows = torch.arange(n_windows).repeat(2)
        trainer.run(rows, torch.tensor([0, n_windows, 2 * n_windows]), 0.01)
        with torch.no_grad():
            results = [trainer.parameters, module(x)]
        if with_autograd:
            results += torch.autograd.grad(module.loss(x, y), list(module.parameters()))
        with torch.no_grad():
            return torch.cat([part.reshape(-1) for part in results])

    return work


def one_thread(work):
    torch.set_num_threads(1)
    return work()


@pytest.mark.parametrize(
    ("n_windows", "hidden_size", "many"),
    [(1, 150, 4), (15, 140, 4), (13, 340, 4), (72, 144, 8)],  # 72 windows: 12 tiles for 8 threads
)
def test_threads_that_share_the_units_of_a_layer_change_no_bit(n_windows, hidden_size, many):
    work = make_work(n_windows, hidden_size)
    expected = one_thread(work)
    for n_threads in (2, many, 2, 3):
        torch.set_num_threads(n_threads)
        torch.testing.assert_close(work(), expected, rtol=0, atol=0)


def test_the_number_of_threads_may_change_between_calls_and_changes_no_bit(work):
    expected = one_thread(work)
    for n_threads in (2, 4, 1, 3, 8, 1, 2):
        torch.set_num_threads(n_threads)
        assert torch.equal(work(), expected)


def n_native_threads():
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_the_thread_count_is_torchs_a_fork_can_draw_and_no_compiler_is_loaded():
    program = """
import os, signal, sys, threading, torch
from test_lstm_linear_threads import make_work, n_native_threads, one_thread
assert "torch._dynamo" not in sys.modules
work = make_work(with_autograd=False)  # whose calls run on torch's threads
one_thread(work)
before = n_native_threads()
one_thread(work)
assert n_native_threads() == before
for n_threads in (2, 4, 3):
    torch.set_num_threads(n_threads)
    for _ in range(3):
        work()
    print(n_native_threads() - before)

# a child forked while another thread draws weights can draw its own
from sensorseq.training.randomness import isolated_torch_rng

def draw(then):
    with isolated_torch_rng(0, torch.device("cpu")):
        then()

drawing, forked = threading.Event(), threading.Event()
thread = threading.Thread(target=draw, args=[lambda: (drawing.set(), forked.wait())])
thread.start()
drawing.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)  # ends a child that hangs
    draw(lambda: os._exit(0))
assert os.waitpid(child, 0)[1] == 0
forked.set()
thread.join()
"""
    assert run(program).split() == ["1", "3", "3"]


def test_simultaneous_callers_all_finish_with_the_same_bits(work):
    expected = one_thread(work)
    results = []

    def call():
        torch.set_num_threads(3)
        results.extend(work() for _ in range(20))

    callers = [threading.Thread(target=call, daemon=True) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(TIMEOUT_S)
        assert not caller.is_alive()
    assert len(results) == 80
    assert all(torch.equal(result, expected) for result in results)


def test_an_error_in_a_call_leaves_the_threads_usable(work):
    expected = one_thread(work)
    torch.set_num_threads(3)
    module, x = LSTMLinear(3, 16, 4), torch.randn(N_WINDOWS, 20, 3)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="class_index"):
            module.loss(x, torch.full((N_WINDOWS,), 4))
        assert torch.equal(work(), expected)


def run(program):
    """Return the output of a Python program, which must exit with code 0 before a timeout."""
    folders = [str(Path(__file__).parent), *(folder for folder in sys.path if folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_a_forked_child_and_its_own_child_use_their_own_threads():
    program = """
import os, signal, torch
from test_lstm_linear_threads import make_work, n_native_threads, one_thread
work = make_work()
expected = one_thread(work)
torch.set_num_threads(2)
assert torch.equal(work(), expected)

def check(depth):
    signal.alarm(30)  # ends a child that hangs
    for _ in range(5):
        assert torch.equal(work(), expected)
    assert n_native_threads() == 2
    fork(depth - 1)

def fork(depth):
    if depth == 0:
        return
    child = os.fork()
    if child == 0:
        code = 1
        try:
            check(depth)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, depth

for _ in range(5):
    fork(2)
assert torch.equal(work(), expected)
"""
    run(program)


@pytest.mark.long
def test_a_fit_in_a_forked_worker_has_the_bits_of_one_in_its_parent():
    program = """
import multiprocessing, numpy as np, torch
from sensorseq import SensorLSTMClassifier
torch.set_num_threads(2)
rng = np.random.default_rng(0)
X, y = rng.standard_normal((120, 30, 3)).astype("f4"), np.arange(120) % 3

def fit(_):
    model = SensorLSTMClassifier(hidden_size=16, max_epochs=3, batch_size=32, random_state=0)
    return model.fit(X, y).predict_proba(X)

expected = fit(0)
# as in workers of torch's DataLoader: torch's own threads do not survive a fork
one_thread = dict(initializer=torch.set_num_threads, initargs=(1,))
with multiprocessing.get_context("fork").Pool(2, **one_thread) as pool:
    for found in pool.map_async(fit, range(3)).get(90):
        assert np.array_equal(found, expected)
"""
    run(program)


@pytest.mark.long
def test_fits_and_predictions_in_a_forked_child_end_with_the_parents_bits_and_a_warning():
    program = """
import os, signal, warnings, numpy as np, torch
from sensorseq import SensorLSTMClassifier
torch.set_num_threads(2)
rng = np.random.default_rng(0)
X, y = rng.standard_normal((120, 30, 3)).astype("f4"), np.arange(120) % 3

def make():
    settings = dict(hidden_size=16, max_epochs=2, batch_size=32, head_norm="layer", dropout=0.2)
    return SensorLSTMClassifier(**settings, features=None, random_state=0)

def find():
    return make().fit(X, y).predict_proba(X)

model = make().fit(X, y)  # a parallel region of torch: its threads stay in this process
expected = find()
for call in (find, lambda: model.predict_proba(X)):
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # ends a child that hangs
        code = 1
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert np.array_equal(call(), expected)
            (text,) = {str(w.message) for w in caught}
            assert "was forked" in text and "'spawn' or 'forkserver'" in text, text
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, call
assert torch.get_num_threads() == 2
"""
    run(program)


@pytest.mark.long
@pytest.mark.parametrize("before_the_end", ["", "time.sleep(0.1)"], ids=["spin", "sleep"])
def test_the_interpreter_ends_while_threads_wait(before_the_end):
    program = f"""
import time, torch
from test_lstm_linear_threads import make_work
work = make_work()
torch.set_num_threads(4)
work()
{before_the_end}
"""
    run(program)
