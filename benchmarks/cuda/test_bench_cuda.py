"""The comparison with cuDNN, run on the CPU against torch: results, times and messages."""

import functools
import json
import sys

import pytest
import torch
from checkout import ROOT, run_process
from common.results_file import STAMP
from common.timing import Shape
from cuda import steps as benchmark_cuda
from cuda.steps import KINDS, MODES, PRECISIONS, Problem, compare

from sensorseq.errors import EnvironmentProblemError
from sensorseq.ops.choice import allowing_tf32

CPU = torch.device("cpu")
TINY = Shape(3, 7, 2, 5)
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def measure(kind, precision, modes=("eager", "graph"), shape=TINY, device=CPU):
    return benchmark_cuda.measure(
        kind, shape, precision, device, modes=modes, rounds=1, at_least_s=0.0, budget_s=0.1
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_are_as_accurate_as_the_precision_allows(kind, precision):
    problem = Problem(
        TINY, PRECISIONS[precision], CPU, uniform_lengths=kind.startswith("varlen"), seed=1
    )
    measured = compare(problem, kind)
    for errors in measured.values():
        assert len(errors) == (1 if kind.endswith("inference") else 2)
        assert max(errors) < PRECISIONS[precision].tolerance


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_rounding_is_visible_in_half_precision_but_not_in_single_precision(precision):
    measured = compare(Problem(TINY, PRECISIONS[precision], CPU, seed=2), "training")
    smallest = min(min(errors) for errors in measured.values())
    largest = max(max(errors) for errors in measured.values())
    assert (largest < 1e-5) if precision == "fp32" else (smallest > 1e-5)


@pytest.mark.parametrize("kind", ["training", "varlen inference"])
@pytest.mark.parametrize("mode", MODES)
def test_a_row_states_what_was_timed_and_how(kind, mode):
    (row,) = measure(kind, "fp32", [mode])
    assert (row["what"], row["precision"], row["mode"]) == (kind, "fp32", mode)
    assert row["shape"] == list(TINY)
    if kind.startswith("varlen") and mode == "graph":
        assert row["ratio"] is None
        assert "cannot be captured" in row["reason"]
        return
    assert row["served_by"] == "native"
    assert row["ratio"] == pytest.approx(row["theirs_ms"] / row["ours_ms"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parameter", ["weight_hh_l0", "bias_ih_l0"])
def test_sides_that_disagree_are_not_timed(kind, parameter, monkeypatch):
    right = Problem.ours

    def wrong(problem, kind):
        with torch.no_grad():
            getattr(problem.module.lstm, parameter).add_(0.01)
        return right(problem, kind)

    monkeypatch.setattr(Problem, "ours", wrong)
    # a fixed seed, because random lengths may all be 1, and one step has no recurrence to test
    seeded = functools.partial(Problem, seed=3)
    monkeypatch.setattr(benchmark_cuda, "Problem", seeded)
    monkeypatch.setattr(benchmark_cuda, "alternate", None)
    with pytest.raises(EnvironmentProblemError, match=f"the {kind} results for 3x7x2x5"):
        measure(kind, "fp32")


def test_nan_is_a_disagreement(monkeypatch):
    right = Problem.ours
    monkeypatch.setattr(Problem, "ours", lambda *a: lambda: [t * torch.nan for t in right(*a)()])
    with pytest.raises(EnvironmentProblemError, match="differ from float32 by nan"):
        measure("inference", "bf16")


def test_a_shape_computed_by_the_framework_has_the_ratio_one_and_is_not_timed(monkeypatch):
    monkeypatch.setattr(benchmark_cuda, "why_framework", lambda *_: "too wide")
    monkeypatch.setattr(benchmark_cuda, "alternate", None)
    for row in measure("training", "fp32"):
        assert (row["served_by"], row["ratio"], row["reason"]) == ("framework", 1.0, "too wide")
        assert "1 (framework): too wide" in benchmark_cuda.format_row(row)


def test_padded_channels_are_zeros_and_change_nothing():
    problem = Problem(TINY, PRECISIONS["fp16, C padded to 128"], CPU, seed=3)
    assert problem.lstm.input_size == 128
    assert problem.their_x.shape == (3, 7, 128)
    assert problem.their_x[..., 2:].count_nonzero() == 0
    plain = Problem(TINY, PRECISIONS["fp16"], CPU, seed=3)
    torch.testing.assert_close(problem.theirs("inference")(), plain.theirs("inference")())


def test_data_are_drawn_anew_and_a_seed_draws_them_again():
    first, second = (Problem(TINY, PRECISIONS["fp32"], CPU) for _ in range(2))
    assert not torch.equal(first.x, second.x)
    again = Problem(TINY, PRECISIONS["fp32"], CPU, seed=first.seed)
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.lstm.weight_hh_l0, again.lstm.weight_hh_l0)


def test_tf32_is_set_and_restored():
    rnn = torch.backends.cudnn.rnn
    before = rnn.fp32_precision
    for allowed, name in ((True, "tf32"), (False, "ieee")):
        with pytest.raises(ZeroDivisionError), allowing_tf32(allowed):  # noqa: PT012
            assert rnn.fp32_precision == name
            raise ZeroDivisionError
        assert rnn.fp32_precision == before


def bench_cuda(*arguments, folder):
    script = ROOT / "benchmarks" / "bench_cuda.py"
    return run_process(sys.executable, script, *arguments, "--output", folder)


@pytest.mark.benchmarks
def test_the_sweep_continues_where_it_stopped(tmp_path):
    first = bench_cuda("--dry-run", "--limit", "2", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    path = tmp_path / "cuda_dry.json"
    before = json.loads(path.read_text())
    stamps = [{name: row[name] for name in STAMP} for row in before["rows"]]
    assert before["environment"]["measurements"] == stamps[:1]
    assert all(stamp == stamps[0] for stamp in stamps)
    assert len(before["rows"]) == 4
    second = bench_cuda("--dry-run", "--limit", "3", "--resume", folder=tmp_path)
    assert second.returncode == 0, second.stderr
    after = json.loads(path.read_text())["rows"]
    assert after[:4] == before["rows"]
    assert len(after) == 6
    assert "geometric means" in second.stdout


@pytest.mark.benchmarks
def test_models_trained_together_equal_those_trained_one_after_another(tmp_path):
    done = bench_cuda("--dry-run", "--table", "models", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "cuda_dry_models.json").read_text())["rows"]
    assert [row["mode"] for row in rows] == ["eager", "graph"]
    assert max(row["error"] for row in rows) < 1e-4


@without_gpu
@pytest.mark.benchmarks
def test_without_a_gpu_the_script_measures_nothing(tmp_path):
    done = bench_cuda("--quick", folder=tmp_path)
    assert done.returncode == 4
    assert "needs an NVIDIA GPU" in done.stderr
    assert not list(tmp_path.iterdir())
