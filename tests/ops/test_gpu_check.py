"""The verdict on a GPU: which calls need it, where it is stored, and which kernels it allows.

The GPU is simulated.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import said, succeed

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ArgumentError, EnvironmentProblemError
from sensorseq.estimator import fit_windows
from sensorseq.io.atomic import locking
from sensorseq.ops import _extension, choice, cuda_kernels, gpu_check
from sensorseq.ops.cuda_kernels import NOT_CHECKED, NOT_PASSED, SWITCH, permission
from sensorseq.ops.gpu_check import Case, check_before_fit, check_gpu
from sensorseq.ops.kernel_cases import expected

CASES = [Case("fp16", 64, 5), Case("fp16x3", 64, 5)]
FAKE = Path(__file__).with_name("fake_worker.py")
GPU = torch.device("cuda", 0)
NO_GPU = {"built": True, "arch": "sm_90,sm_90a", "devices": [], "runtime": 13000}


@pytest.fixture
def switch(monkeypatch):
    """Choose which kernels may be used; None means the default."""

    def choose(mode):
        if mode is None:
            monkeypatch.delenv(SWITCH, raising=False)
        else:
            monkeypatch.setenv(SWITCH, mode)

    choose("auto")
    return choose


@pytest.fixture
def hopper(switch, monkeypatch, tmp_path):
    """Simulate a machine whose GPU supports the kernels; its properties can be changed."""
    machine = SimpleNamespace(
        name="NVIDIA H100", multi_processor_count=132, total_memory=80 << 30, capability=(9, 0)
    )
    machine.facts = {**NO_GPU, "devices": [{}, {}], "driver": 13010}
    monkeypatch.setattr(_extension, "cuda_facts", lambda: machine.facts)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=None: machine.capability)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: machine)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu_check, "make_cases", lambda **_: CASES)
    cuda_kernels.forget_permissions()
    with choice.allowing_tf32(False):
        yield machine
    cuda_kernels.forget_permissions()


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    folder = tmp_path_factory.mktemp("values")
    for case in CASES:
        np.savez(
            folder / f"{case.precision}-{case.padded_hidden}-{case.n_timesteps}.npz",
            **{name: value.astype(np.float32) for name, value in expected(case).items()},
        )
    return folder


@pytest.fixture
def worker(values, monkeypatch):
    """Choose the behavior of the worker."""

    def choose(mischief="none"):
        command = (sys.executable, str(FAKE), str(values), mischief, "fp16x3-64-5")
        monkeypatch.setattr(gpu_check, "WORKER", command)

    choose()
    return choose


def who(hidden_size=64, dtype=torch.float32):
    return choice.choose_here(GPU, dtype, hidden_size=hidden_size)


def test_if_switched_off_no_kernel_is_used_or_checked(hopper, worker, switch, tmp_path):
    switch("0")
    check_before_fit("cuda")
    assert (who().served_by, who().reason) == ("framework", "SENSORSEQ_CUDA_KERNELS=0")
    assert not (tmp_path / "cache").exists()


def test_by_default_a_kernel_is_used_once_it_has_passed(hopper, worker, switch):
    switch(None)
    assert who().served_by == "framework"
    check_before_fit("cuda")
    assert who().served_by == "native"


def test_the_default_follows_what_was_measured():
    results = Path(__file__).parents[2] / "benchmarks" / "results"
    kernels = json.loads((results / "gpu_check.json").read_text())["rows"]["kernels"]
    assert (cuda_kernels.DEFAULT == "auto") == kernels["right"]
    # no GPU has run the portable kernels yet
    portable = {kernel for kernel in cuda_kernels.ALL_KERNELS if kernel[0] == "fp32"}
    assert {tuple(kernel) for kernel in kernels["passed"]} == cuda_kernels.ALL_KERNELS - portable


def test_if_forced_every_kernel_is_used_with_a_warning(hopper, switch):
    switch("1")
    with pytest.warns(UserWarning, match="without a check"):
        assert who().served_by == "native"
    assert who().served_by == "native"  # without a second warning
    switch("yes")
    with pytest.raises(ArgumentError, match="SENSORSEQ_CUDA_KERNELS='yes'"):
        who()


def test_a_kernel_is_used_once_it_has_passed(hopper, worker):
    assert (who().served_by, who().reason) == ("framework", NOT_CHECKED)
    check_before_fit("auto")
    assert who().served_by == "native"
    assert who(dtype=torch.float16).served_by == "native"
    assert who(hidden_size=65).reason == NOT_PASSED  # no case tested this size here


@pytest.mark.parametrize("mischief", ["dies", "other bits", "prints garbage and dies"])
def test_a_failed_check_leaves_the_work_to_torch_with_one_warning(hopper, worker, mischief):
    worker(mischief)
    with pytest.warns(UserWarning, match="failed their check .*fp16x3 H=61 T=5") as caught:
        check_before_fit("cuda:1")
    assert len(caught) == 1
    assert (who().served_by, who().reason) == ("framework", NOT_PASSED)
    assert who(dtype=torch.float16).served_by == "native"
    check_before_fit("cuda:1")  # the verdict is kept, and there is no second warning


def test_the_verdict_is_of_this_library_gpu_slice_and_driver(hopper, worker, monkeypatch):
    check_before_fit("cuda")
    first = cuda_kernels.verdict_file(0)
    assert json.loads(first.read_text())["passed"]
    for change in (
        {"name": "NVIDIA H100 MIG 3g.40gb"},
        {"multi_processor_count": 60},
        {"total_memory": 40 << 30},
        {"facts": {**hopper.facts, "driver": 13020}},
    ):
        before = {name: getattr(hopper, name) for name in change}
        vars(hopper).update(change)
        assert cuda_kernels.verdict_file(0) != first
        assert cuda_kernels.read_verdict(0) is None
        vars(hopper).update(before)
    monkeypatch.setattr(cuda_kernels, "_library_digest", lambda: "another build")
    assert cuda_kernels.read_verdict(0) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"passed": 3}', '{"passed": [[1]]}', "\0"])
def test_a_verdict_that_cannot_be_read_allows_no_kernel(hopper, content):
    file = cuda_kernels.verdict_file(0)
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert permission(0) == (frozenset(), NOT_CHECKED)


def test_a_verdict_allows_no_kernel_that_does_not_exist(hopper):
    file = cuda_kernels.verdict_file(0)
    file.parent.mkdir(parents=True)
    file.write_text('{"passed": [["fp16", 64], ["fp16", 512]]}')
    assert permission(0).verified == {("fp16", 64)}


def test_a_cache_folder_that_is_a_file_is_no_error(hopper, worker, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.warns(UserWarning, match="could not be checked, so torch's LSTM is used"):
        check_before_fit("cuda")
    assert who().served_by == "framework"


def test_a_user_without_a_home_is_no_error(hopper, worker, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: Path("~nobody-at-all").expanduser())
    with pytest.warns(UserWarning, match="could not be checked, so torch's LSTM is used"):
        check_before_fit("cuda")
    assert who().served_by == "framework"


def test_while_another_process_runs_the_check_torch_is_used(hopper, worker):
    file = cuda_kernels.verdict_file(0)
    file.parent.mkdir(parents=True)
    with locking(file, run=True):
        with pytest.warns(UserWarning, match="could not be checked, so torch's LSTM is used"):
            check_before_fit("cuda")
        assert who().served_by == "framework"


@pytest.mark.parametrize(
    ("change", "gap"),
    [
        ({"facts": {**NO_GPU, "driver": 12080}}, "CUDA 12.8"),
        ({"facts": {**NO_GPU, "driver": 13000}}, "no GPU"),
        ({"facts": {**NO_GPU, "driver": 0}}, "no NVIDIA driver"),
        ({"facts": {"built": False, "devices": []}}, "built without CUDA kernels"),
        ({"capability": (8, 0)}, "built without CUDA kernels for capability 8.0"),
        ({"capability": (7, 2)}, r"7\.5.*7\.2"),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "1"])
def test_a_machine_that_cannot_run_them_leaves_the_work_to_torch(
    hopper, switch, monkeypatch, change, gap, mode
):
    switch(mode)
    vars(hopper).update(change)
    check_before_fit("cuda")
    assert who().served_by == "framework"
    with pytest.raises(EnvironmentProblemError, match=gap):
        check_gpu()


def test_an_operator_starts_no_check(hopper, monkeypatch):
    monkeypatch.setattr(gpu_check, "WORKER", ("/nowhere",))
    who()
    choice.served()
    assert not cuda_kernels.verdict_file(0).parent.exists()


@pytest.mark.parametrize(("device", "asked"), [("cuda", ["cuda"]), ("auto", ["auto"]), ("cpu", [])])
def test_a_fit_on_a_gpu_requests_the_check(monkeypatch, device, asked):
    devices = []
    monkeypatch.setattr(fit_windows, "check_before_fit", devices.append)
    monkeypatch.setattr(
        fit_windows, "resolve_device", lambda device, **of_network: torch.device("cpu")
    )
    fit_windows.check_arguments(SensorLSTMClassifier(device=device).get_params())
    assert devices == asked


def test_doctor_lists_what_passed_and_what_is_used(hopper, worker, switch):
    switch("0")
    text = " ".join(succeed("doctor", "--gpu").split())
    assert "passed fp16x3 H=61 T=5" in text
    assert "2 of 2 runs passed" in text
    assert "set SENSORSEQ_CUDA_KERNELS=auto" in text
    worker("dies")
    switch("auto")
    code, out, _ = said("doctor", "--gpu", "--json")
    answer = json.loads(out)
    assert (code, answer["passed"]) == (1, False)
    assert [row["outcome"] for row in answer["checks"]] == ["passed", "died"]


def test_doctor_explains_why_nothing_can_be_checked():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code, _, err = said("doctor", "--gpu")
    assert code != 0
    assert "there are no CUDA kernels to check" in err
