"""The timing shared by the benchmarks."""

import sys
import time

import numpy as np
import pytest
import torch
from checkout import ROOT, run_process
from common import timing
from common.timing import KINDS, Shape, TimedPair, alternate, make_pair, measure, summarize
from torch.utils.flop_counter import FlopCounterMode

from sensorseq.errors import EnvironmentProblemError
from sensorseq.ops import reference


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances only by the times that the measured functions add."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def taking(clock, seconds, calls, name):
    def side(n):
        calls.append(name)
        clock[0] += n * seconds

    return side


def test_one_computation_is_timed_however_often_it_is_repeated(clock):
    calls = []
    fast, slow = taking(clock, 1e-4, calls, "one"), taking(clock, 3.0, calls, "other")
    times = alternate(fast, slow, rounds=4, budget_s=100.0)
    np.testing.assert_allclose(times, [[1e-4] * 4, [3.0] * 4])
    row = summarize(times[1], times[0])
    assert row["ratio"] == pytest.approx(3e4)
    assert (row["ours_ms"], row["theirs_ms"]) == pytest.approx((0.1, 3000.0))


def test_the_sides_alternate_and_each_goes_first_equally_often(clock):
    calls = []
    sides = [taking(clock, 1.0, calls, name) for name in "abc"]
    alternate(*sides, rounds=4, warm_up_s=0.0, budget_s=100.0)
    assert "".join(calls) == "aaabbbccc" + "abccba" * 2


def test_slow_sides_get_fewer_rounds_but_at_least_three(clock):
    assert alternate(taking(clock, 1.0, [], "a"), rounds=21, budget_s=8.0).shape == (1, 8)
    assert alternate(taking(clock, 9.0, [], "a"), rounds=21, budget_s=8.0).shape == (1, 3)
    assert alternate(taking(clock, 9.0, [], "a"), rounds=2, budget_s=8.0).shape == (1, 2)


def test_the_ratio_and_its_spread_are_computed_from_the_pairs():
    theirs = np.linspace(1.0, 3.0, 21)
    row = summarize(theirs, np.ones(21))
    assert (row["ratio_p10"], row["ratio"], row["ratio_p90"]) == pytest.approx((1.2, 2.0, 2.8))
    assert summarize(theirs, theirs)["ratio_p90"] == 1.0  # common drift cancels


def test_the_peak_itself_reaches_the_peak(monkeypatch):
    count = torch.ops.sensorseq.multiply_add_flops
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads would wait for each other on a busy machine
    monkeypatch.setattr(timing.time, "perf_counter", time.process_time)  # unaffected by load

    def side(n):
        count(n * 30_000)

    try:
        row = measure(TimedPair(side, side, count(30_000)), rounds=9)
    finally:
        torch.set_num_threads(before)
    assert 0.4 < row["ours_of_peak"] < 2.5
    for limit in ("peak", "sgemm"):
        share, of_limit = row[f"ours_of_{limit}"], row[f"{limit}_gflops"]
        assert row["ours_gflops"] == pytest.approx(share * of_limit)


def test_flops_are_those_of_the_matrix_products():
    shape = Shape(3, 5, 2, 7)
    n_windows, n_timesteps, n_channels, hidden_size = shape
    weights = [torch.randn(1, 1, 4 * hidden_size, size) for size in (n_channels, hidden_size)]
    x = torch.randn(1, n_windows, n_timesteps, n_channels)
    with FlopCounterMode(display=False) as counter:
        reference.lstm(x, None, *weights, torch.zeros(1, 1, 4 * hidden_size))
    assert make_pair("inference", shape).flops == counter.get_total_flops()
    for kind in KINDS[1:]:
        assert make_pair(kind, shape).flops == 3 * counter.get_total_flops()


@pytest.mark.parametrize("kind", KINDS)
def test_with_lengths_only_valid_steps_count(kind):
    full, varlen = (
        make_pair(kind, Shape(64, 50, 1, 4), uniform_lengths=lengths) for lengths in (False, True)
    )
    assert 0.4 < varlen.flops / full.flops < 0.65
    for case in (full, varlen):
        case.theirs(2)
        case.ours(2)


@pytest.mark.parametrize("kind", KINDS)
def test_sides_that_disagree_are_not_timed(kind, monkeypatch):
    right = timing.LSTMLinear.from_torch

    def wrong(lstm, linear):
        module = right(lstm, linear)
        with torch.no_grad():
            module.lstm.bias_hh_l0 += 0.01
        return module

    monkeypatch.setattr(timing.LSTMLinear, "from_torch", wrong)
    with pytest.raises(EnvironmentProblemError, match="the logits for 2x5x1x4 differ from torch's"):
        make_pair(kind, Shape(2, 5, 1, 4))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_gradients_that_disagree_are_not_timed(kind, monkeypatch):
    right = timing.Problem.theirs

    def wrong(problem, kind):
        step = right(problem, kind)
        return lambda: [1.01 * result for result in step()]

    monkeypatch.setattr(timing.Problem, "theirs", wrong)
    with pytest.raises(EnvironmentProblemError, match="the gradients for 2x5x1x4 differ"):
        make_pair(kind, Shape(2, 5, 1, 4))


@pytest.mark.benchmarks
@pytest.mark.parametrize("name", ["one step", "varlen training, train_epoch"])
def test_a_part_of_the_benchmark_runs_and_does_not_change_the_results(name):
    results = ROOT / "benchmarks" / "results" / "cpu.json"
    before = results.read_bytes()
    script = [sys.executable, ROOT / "benchmarks" / "bench_cpu.py", "--quick", "--threads", "1"]
    few = ["--only", name, "--shapes", "1x1x6x64", "32x100x1x64"]
    done = run_process(*script, *few, without=["OMP_WAIT_POLICY"])
    assert done.returncode == 0, done.stderr
    assert f"{name}: geometric mean" in done.stdout
    assert results.read_bytes() == before


@pytest.mark.benchmarks
@pytest.mark.parametrize(
    "name", ["accuracy", "cpu", "cuda", "estimator", "features", "fit", "recording", "threads"]
)
def test_a_benchmark_refuses_threads_that_sleep_while_they_wait(name):
    script = ROOT / "benchmarks" / f"bench_{name}.py"
    done = run_process(sys.executable, script, OMP_WAIT_POLICY="passive")
    assert done.returncode == 1
    assert "OMP_WAIT_POLICY=PASSIVE slows torch" in done.stderr
