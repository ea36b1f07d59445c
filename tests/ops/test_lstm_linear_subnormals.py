"""Subnormal numbers are zero in float32 and kept in float64; the caller's threads are unchanged."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from budget import assert_within_budget
from threads import torch_threads
from torch import nn

from sensorseq import ops
from sensorseq.nn import LSTMLinear
from sensorseq.ops.train_epoch import EpochTrainer, NetworkLayout, make_hyper

DTYPES = [torch.float32, torch.float64]
SUBNORMAL = torch.full((1 << 16,), 1e-40)  # enough for two threads


@pytest.fixture(params=[1, 2], ids=["one_thread", "two_threads"])
def _threads(request):
    with torch_threads(request.param):
        modes()  # a thread inherits the mode of the thread that starts it, so start all threads now
        yield


@pytest.fixture(params=[False, True], ids=["kept", "flushed"])
def flushes(request, _threads):
    """Set whether this thread flushes subnormal numbers to zero, and return this setting."""
    if not torch.set_flush_denormal(request.param):
        pytest.skip("torch cannot flush subnormal numbers on this processor")
    yield request.param
    torch.set_flush_denormal(False)


def modes():
    """Return how numpy and each of torch's threads compute with subnormal numbers."""
    return (
        float(np.float64(1e-310) * np.float64(1.0)),
        float(np.float32(1e-40) * np.float32(1.0)),
        (SUBNORMAL * 1.0).view(torch.int32).tolist(),
    )


def make_problem(dtype, n_timesteps=200, n_windows=13, hidden_size=9, n_channels=2, seed=0):
    """With torch's initial weights, the gradients become subnormal after some 150 steps."""
    torch.manual_seed(seed)
    lstm = nn.LSTM(n_channels, hidden_size, batch_first=True, dtype=dtype)
    linear = nn.Linear(hidden_size, 3, dtype=dtype)
    x = torch.randn(n_windows, n_timesteps, n_channels, dtype=dtype)
    return lstm, linear, x, torch.arange(n_windows) % 3


def gradients(logits_of, parameters, x, y):
    x = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(logits_of(x), y)
    return torch.autograd.grad(loss, [x, *parameters])


def torchs_gradients(lstm, linear, x, y):
    parameters = [*lstm.parameters(), *linear.parameters()]
    return gradients(lambda x: linear(lstm(x)[1][0][-1]), parameters, x, y)


def everything(dtype):
    """All results of the operators and the epoch engine on a problem with vanishing gradients."""
    lstm, linear, x, y = make_problem(dtype)
    module = LSTMLinear.from_torch(lstm, linear)
    results = [module(x), *gradients(module, list(module.parameters()), x, y)]
    leaf = x.clone().requires_grad_()
    loss = module.loss(leaf, y)
    results += [loss, *torch.autograd.grad(loss, [leaf, *module.parameters()])]
    with torch.no_grad():
        results += [module.loss(x, y), module.stream(n_windows=len(x))(x)]
    weights = [w[None, None] for w in (lstm.weight_ih_l0, lstm.weight_hh_l0)]
    bias = (lstm.bias_ih_l0 + lstm.bias_hh_l0)[None, None]
    hidden, h_n, c_n = ops.lstm(leaf[None], *weights, bias)
    results += [hidden, h_n, c_n, *torch.autograd.grad(h_n.sum(), leaf)]
    trainer = take_steps(module, x, y)
    return [t.detach().clone() for t in (*results, trainer.parameters, trainer.state)]


def take_steps(module, x, y):
    network = NetworkLayout(x.shape[2], module.lstm.weight_hh_l0.shape[1], 3)
    parameters = network.flatten(dict(module.named_parameters()))[None].detach()
    trainer = EpochTrainer(network, parameters, x, y, make_hyper(1), optimizer="adam")
    trainer.run(torch.arange(len(x)), torch.tensor([0, 6, len(x)]), 0.01)
    return trainer


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_call_does_not_change_the_callers_threads(flushes, dtype):
    before = modes()
    assert (before[0] == before[1] == 0.0) == flushes
    everything(dtype)
    assert modes() == before


def test_a_call_that_raises_does_not_change_the_callers_threads(flushes):
    lstm, linear, x, y = make_problem(torch.float32)
    module = LSTMLinear.from_torch(lstm, linear)
    before = modes()
    with pytest.raises(RuntimeError, match="lengths"):
        module(x, torch.full((len(x),), 10_000))
    with pytest.raises(RuntimeError, match="class_index"):
        module.loss(x, y + 3)
    assert modes() == before


@pytest.mark.long
def test_a_thread_started_by_a_call_has_the_callers_mode():
    program = """
import torch
torch.set_num_threads(2)
import test_lstm_linear_subnormals as subnormals
lstm, linear, x, y = subnormals.make_problem(torch.float32, n_timesteps=20)
module = subnormals.LSTMLinear.from_torch(lstm, linear)
subnormals.take_steps(module, x, y)  # the first use of threads
assert (subnormals.SUBNORMAL * 1.0 != 0.0).all()
"""
    folders = [str(Path(__file__).parent), *(folder for folder in sys.path if folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_callers_mode_and_threads_change_no_bit_of_the_results(isa, dtype):
    results = []
    try:
        for flushes, n_threads in ((False, 1), (True, 1), (False, 2), (True, 2)):
            torch.set_flush_denormal(flushes)
            with torch_threads(n_threads):
                results.append(everything(dtype))
    finally:
        torch.set_flush_denormal(False)
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            integers = torch.int32 if dtype == torch.float32 else torch.int64
            assert torch.equal(ours.view(integers), theirs.view(integers))


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_float64_keeps_subnormal_numbers_and_float32_has_zero(isa, dtype, flushes):
    # With zero weights, the gates i, f, o are 1/2 and g is 0: each step halves c and the gradient.
    smallest = 2.0**-1070 if dtype == torch.float64 else 2.0**-145
    x, zero = torch.zeros(1, 2, 4, 1, dtype=dtype), torch.zeros(1, 2, 1, 3, dtype=dtype)
    weights = [torch.zeros(1, 1, 12, size, dtype=dtype) for size in (1, 3)]
    c_0, grad_c_n = (torch.full_like(zero, 16 * smallest) for _ in range(2))
    c_0.requires_grad_()
    torch.set_flush_denormal(flushes)
    try:
        _, _, c_n = ops.lstm(x, *weights, weights[0][..., 0], h_0=zero, c_0=c_0)
        (grad_c_0,) = torch.autograd.grad(c_n, c_0, grad_c_n)
    finally:
        torch.set_flush_denormal(False)
    wanted = smallest if dtype == torch.float64 else 0.0
    assert c_n.flatten().tolist() == grad_c_0.flatten().tolist() == [wanted] * 6


def test_gradients_that_vanish_are_finite_and_as_accurate_as_torchs(isa):
    # Over 64 sets of 16 seeds, the mean error of an array is 0.3 to 0.6 of the allowed error. For
    # each array, the allowed error is at least 5 standard deviations above the mean.
    pairs = []
    for seed in range(16):
        lstm, linear, x, y = make_problem(torch.float32, 500, seed=seed)
        module = LSTMLinear.from_torch(lstm, linear)
        ours = gradients(module, list(module.parameters()), x, y)
        theirs = torchs_gradients(lstm, linear, x, y)
        exact = torchs_gradients(lstm.double(), linear.double(), x.double(), y)
        pairs.append((ours, theirs, exact))
        assert 0 < exact[0][:, 0].abs().max() < torch.finfo(torch.float32).tiny
        subnormal = ours[0].abs() < torch.finfo(torch.float32).tiny
        assert (ours[0][subnormal] == 0).all()
    for i in range(len(pairs[0][0])):
        assert all(ours[i].isfinite().all() for ours, _, _ in pairs)
        assert_within_budget([tuple(side[i] for side in pair) for pair in pairs])
