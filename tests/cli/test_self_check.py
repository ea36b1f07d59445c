"""`sensorseq doctor --self` passes here, and reports each part that a test breaks."""

import json
import platform
import shutil
import site
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from checkout import run_process
from commands import refused, said, succeed
from fits import learn_few_features

import sensorseq
from sensorseq import _signal, ops
from sensorseq.cli import self_check

NAMES = ["native library", "matrix products", "LSTM kernels", "preprocessing", "training"]
NAMES += ["save and load"]
WITHOUT_TRAINING = NAMES[:4]


@pytest.fixture
def no_training(monkeypatch):
    kept = {name: self_check.CHECKS[name] for name in WITHOUT_TRAINING}
    monkeypatch.setattr(self_check, "CHECKS", kept)


def failures():
    return [(r.name, r.finding) for r in self_check.check_installation() if r.status != "passed"]


def test_an_installation_that_works_passes_on_one_line_each(monkeypatch):
    learn_few_features(monkeypatch)
    lines = succeed("doctor", "--self").splitlines()
    assert [line[:6] for line in lines] == ["passed"] * len(NAMES)
    assert [line[8:23].strip() for line in lines] == NAMES


def test_a_failure_exits_with_1_and_the_other_checks_still_run(no_training, monkeypatch):
    monkeypatch.setattr(_signal, "read_numbers", lambda *_: None)
    code, out, _ = said("doctor", "--self", "--json")
    answer = json.loads(out)
    assert (code, answer["passed"]) == (1, False)
    statuses = {check["name"]: check["status"] for check in answer["checks"]}
    assert statuses == {**dict.fromkeys(WITHOUT_TRAINING, "passed"), "preprocessing": "failed"}


def test_a_core_without_the_fast_kernels_of_the_processor_fails(no_training, monkeypatch):
    monkeypatch.setattr(self_check, "_NEEDED", {platform.machine(): {"avx9": set()}})
    ((name, finding),) = failures()
    assert name == "native library"
    assert "the processor has avx9, but the core offers only " in finding


def test_the_flags_of_a_different_processor_are_not_required(no_training, monkeypatch):
    monkeypatch.setattr(self_check, "_NEEDED", {"another": {"avx9": set()}})
    assert failures() == []


def test_wrong_products_of_a_library_are_named_with_a_remedy(no_training, monkeypatch):
    def sgemm(_alpha, a, b, trans_b):
        assert trans_b
        return a @ b.T + np.float32(0.1)

    def functions(_names, dtype):
        return [sgemm if dtype == np.float32 else lambda _alpha, a, b, trans_b: a @ b.T]

    monkeypatch.setattr(scipy.linalg, "get_blas_funcs", functions)
    ((name, finding),) = failures()
    assert name == "matrix products"
    assert "products of float32 are wrong by 1e-02 (relative)" in finding
    assert "OPENBLAS_CORETYPE" in finding


@pytest.mark.parametrize(
    ("missing", "failed"),
    [("_ops", {"native library", "LSTM kernels"}), ("_signal", {"preprocessing"})],
)
@pytest.mark.long
def test_an_installation_without_a_library_fails_with_a_message(tmp_path, missing, failed):
    package = Path(sensorseq.__file__).parent
    leave_out = shutil.ignore_patterns("__pycache__", f"{missing}*.so")
    shutil.copytree(package, tmp_path / "sensorseq", ignore=leave_out)
    # -S, because the site module would find the library of the installed package
    program = (
        f"import sys; sys.path[:0] = {[str(tmp_path), *site.getsitepackages()]}\n"
        "from sensorseq.cli import main; main(['doctor', '--self'])"
    )
    done = run_process(sys.executable, "-S", "-c", program, PYTHONPATH="")
    lines = {line[8:23].strip(): line for line in done.stdout.splitlines()}
    assert (done.returncode, done.stderr, list(lines)) == (1, "", NAMES)
    failed = failed | {"training", "save and load"}
    assert {name for name, line in lines.items() if line.startswith("failed")} == failed
    assert all(missing in lines[name] for name in failed)


@pytest.mark.parametrize("error", [1e-3, torch.nan])
def test_inaccurate_kernels_fail(no_training, monkeypatch, error):
    right = ops.lstm_linear
    monkeypatch.setattr(ops, "lstm_linear", lambda *a, **k: (right(*a, **k)[0] + error,))
    ((name, finding),) = failures()
    assert name == "LSTM kernels"
    assert "differ from float64" in finding


def test_an_inaccurate_filter_fails(no_training, monkeypatch):
    class Filter(_signal.PolyphaseFilter):
        def push_last(self, x):
            return np.asarray(super().push_last(x)) * (1 + 1e-9)

    monkeypatch.setattr(_signal, "PolyphaseFilter", Filter)
    ((name, finding),) = failures()
    assert name == "preprocessing"
    assert "the filter differs from numpy by 1e-09" in finding


def test_the_command_checks_the_installation_or_the_gpu():
    for both in ([], ["--self", "--gpu"]):
        assert "give either --self or --gpu; to check windows" in refused(2, "doctor", *both)
