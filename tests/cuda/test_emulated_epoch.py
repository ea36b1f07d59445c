"""Training steps of the CUDA kernels in the emulator of tests/native/cuda, without a GPU."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.native

ROOT = Path(__file__).resolve().parents[2]
TEST = ROOT / "tests" / "native" / "cuda" / "test_emulated_epoch.cpp"
COMPILER = os.environ.get("CXX", "g++")
# that of vectors passed by value is a note, and fibers look to it like longjmp
FLAGS = ["-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
FLAGS += ["-Wno-psabi", "-Wno-clobbered"]
SANITIZED = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def test_emulated_steps_are_those_of_the_cpu(tmp_path):
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler {COMPILER!r}")
    folders = [ROOT / "csrc", ROOT / "tests" / "native", ROOT / "tests" / "native" / "cuda"]
    command = [COMPILER, *FLAGS, *(f"-I{folder}" for folder in folders)]
    core = [p for p in sorted((ROOT / "csrc").rglob("*.cpp")) if not p.name.startswith("bindings")]
    # the core, which is the reference here, is compiled under sanitizers in tests/native
    emulated = (TEST, TEST.with_name("emulator.cpp"))
    jobs = [
        [*command, *flags, "-c", str(path), "-o", str(tmp_path / f"{path.stem}.o")]
        for paths, flags in ((emulated, SANITIZED), (core, ()))
        for path in paths
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        assert list(pool.map(subprocess.call, jobs)) == [0] * len(jobs)
    objects = map(str, tmp_path.glob("*.o"))
    subprocess.run(
        [COMPILER, *SANITIZED, *objects, "-pthread", "-o", str(tmp_path / "test")], check=True
    )
    finished = subprocess.run([str(tmp_path / "test")], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "all passed" in finished.stdout
