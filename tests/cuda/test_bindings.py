"""The CUDA operators without a GPU: on CPU tensors, over a pretended CUDA layer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import cpp_extension

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMPILER = os.environ.get("CXX", "g++")


def test_the_bindings_keep_the_contract_of_the_cuda_layer_and_give_the_references_values(tmp_path):
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler {COMPILER!r}")
    library = tmp_path / "bindings_on_cpu.so"
    command = [COMPILER, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared"]
    command += ["-fPIC", "-fvisibility=hidden"]
    command += ["-DTORCH_TARGET_VERSION=0x020b000000000000", "-DSENSORSEQ_HAS_CUDA"]
    command += ['-DSENSORSEQ_NVCC="13"', '-DSENSORSEQ_CUDA_ARCH="sm_90a"', f"-I{ROOT / 'csrc'}"]
    command += [f"-isystem{path}" for path in cpp_extension.include_paths()]
    command += [str(HERE / "bindings_on_cpu.cpp"), "-o", str(library), "-Wl,-Bsymbolic"]
    command += [f"-L{path}" for path in cpp_extension.library_paths()]
    subprocess.run([*command, "-ltorch", "-ltorch_cpu", "-lc10"], check=True)
    finished = subprocess.run(
        [sys.executable, str(HERE / "bindings_on_cpu.py"), str(library)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "all passed" in finished.stdout
