"""A kernel's first launch on a device, without a GPU, over a fake CUDA runtime."""

import os
import shutil
import subprocess
from pathlib import Path

import ptxas
import pytest

pytestmark = pytest.mark.native

ROOT = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CXX", "g++")


def test_a_kernel_is_loaded_outside_of_captures_and_a_gpu_may_be_too_small_for_it(tmp_path):
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler {COMPILER!r}")
    build_cuda = ptxas.load_build_cuda()
    try:
        runtime = build_cuda.find_toolkit(os.environ).runtime
    except build_cuda.LeftOutError as reason:
        pytest.skip(f"no nvcc: {reason}")
    headers = next(
        (p / "include" for p in runtime.parents if (p / "include" / "cuda_runtime.h").exists()),
        None,
    )
    assert headers is not None, f"no cuda_runtime.h above {runtime}"
    command = [COMPILER, "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'csrc'}"]
    command += [f"-isystem{headers}", "-x", "c++", str(ROOT / "csrc" / "cuda" / "device.cu")]
    command += [str(Path(__file__).with_name("ready_without_a_gpu.cpp")), "-o", str(tmp_path / "a")]
    subprocess.run(command, check=True)
    done = subprocess.run([tmp_path / "a"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all passed" in done.stdout
