"""The CUDA operators without a GPU: they run on CPU tensors, over a fake CUDA layer."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from checkout import run_process
from torch.utils import cpp_extension

from sensorseq.ops.gpu_check import Case, check_kernels, make_cases

pytestmark = pytest.mark.native

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMPILER = os.environ.get("CXX", "g++")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Compile the GPU's operators for the CPU."""
    tmp_path = tmp_path_factory.mktemp("bindings")
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler {COMPILER!r}")
    library = tmp_path / "bindings_on_cpu.so"
    command = [COMPILER, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fPIC"]
    command += ["-fvisibility=hidden", f"-I{ROOT / 'csrc'}"]
    core = [p for p in sorted((ROOT / "csrc").rglob("*.cpp")) if p.parent.name != "bind"]
    bindings = ["-O1", "-DTORCH_TARGET_VERSION=0x020b000000000000", "-DSENSORSEQ_HAS_CUDA"]
    bindings += ['-DSENSORSEQ_NVCC="13"', '-DSENSORSEQ_CUDA_ARCH="sm_90a"']
    bindings += [f"-isystem{path}" for path in cpp_extension.include_paths()]
    sources = {HERE / "bindings_on_cpu.cpp": bindings, **{p: ["-O0"] for p in core}}
    jobs = [
        [*command, *flags, "-c", str(p), "-o", str(tmp_path / f"{p.stem}.o")]
        for p, flags in sources.items()
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        assert list(pool.map(subprocess.call, jobs)) == [0] * len(jobs)
    link = [COMPILER, "-shared", *map(str, tmp_path.glob("*.o")), "-o", str(library)]
    link += ["-Wl,-Bsymbolic", *(f"-L{path}" for path in cpp_extension.library_paths())]
    subprocess.run([*link, "-ltorch", "-ltorch_cpu", "-lc10", "-pthread"], check=True)
    return library


def test_the_bindings_keep_the_contract_of_the_cuda_layer_and_give_the_references_values(library):
    finished = run_process(sys.executable, HERE / "bindings_on_cpu.py", library)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "all passed" in finished.stdout


def check(library, cases, *at):
    command = [sys.executable, str(HERE / "gpu_worker_on_cpu.py"), str(library), *at]
    return [
        (result.case, result.outcome, result.detail)
        for result in check_kernels(cases, device="cpu", command=command, limit_s=300)
    ]


def test_the_worker_that_checks_a_gpu_computes_the_expected_values(library):
    cases = [case for case in make_cases() if case.padded_hidden <= 64]
    results = check(library, cases)
    assert [result[:2] for result in results] == [(case, "passed") for case in cases], results


def test_a_failed_call_of_cuda_is_reported_and_the_next_kernel_is_checked(library):
    cases = [Case("fp16", 64, 5), Case("fp16x3", 64, 5)]
    # each process computes its first case twice, and only the second computation fails
    first, second = check(library, cases, "1")
    assert first[1] == second[1] == "died"
    assert "the device is on fire" in first[2]
