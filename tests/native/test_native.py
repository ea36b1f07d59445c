"""The native core under AddressSanitizer and UBSan, without torch and without Python."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-O1", "-g", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]


def build_and_run(folder, *flags, source_root=ROOT):
    """Compile the kernels and their test, run it, return the finished process."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler {COMPILER!r}")
    sources = [*sorted((source_root / "csrc" / "cpu").glob("*.cpp"))]
    objects = [folder / f"{source.stem}.o" for source in sources]
    include = [f"-I{source_root / 'csrc'}", f"-I{ROOT / 'tests' / 'native'}"]
    jobs = [
        subprocess.Popen([COMPILER, *FLAGS, *flags, *include, "-c", str(s), "-o", str(o)])
        for s, o in zip(sources, objects, strict=True)
    ]
    assert [job.wait() for job in jobs] == [0] * len(jobs)
    program = folder / "test_lstm"
    test = ROOT / "tests" / "native" / "test_lstm.cpp"
    link = [COMPILER, *FLAGS, *flags, *include, str(test), *map(str, objects)]
    subprocess.run([*link, "-pthread", "-o", str(program)], check=True)
    return subprocess.run([str(program)], capture_output=True, text=True, check=False)


def test_the_kernels_agree_with_a_double_reference_and_touch_nothing_else(tmp_path):
    finished = build_and_run(
        tmp_path, "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"
    )
    print(finished.stdout)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "all passed" in finished.stdout
