"""The native core under AddressSanitizer and UBSan, without torch and without Python."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-O1", "-g", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Compile a test with the core under sanitizers; the core is compiled once."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler {COMPILER!r}")
    folder = tmp_path_factory.mktemp("native")
    include = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests' / 'native'}"]
    sources = [*sorted((ROOT / "csrc" / "cpu").glob("*.cpp")), ROOT / "csrc" / "train_epoch.cpp"]
    objects = [folder / f"{source.stem}.o" for source in sources]
    command = [COMPILER, *FLAGS, *SANITIZERS, *include]
    jobs = [
        subprocess.Popen([*command, "-c", str(s), "-o", str(o)])
        for s, o in zip(sources, objects, strict=True)
    ]
    assert [job.wait() for job in jobs] == [0] * len(jobs)

    def link(name):
        source = ROOT / "tests" / "native" / f"{name}.cpp"
        program = folder / name
        link = [*command, str(source), *map(str, objects), "-pthread", "-o", str(program)]
        subprocess.run(link, check=True)
        return program

    return link


def run(program):
    finished = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    print(finished.stdout)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "all passed" in finished.stdout


def test_the_kernels_agree_with_a_double_reference_and_touch_nothing_else(build):
    run(build("test_lstm"))


def test_the_epoch_engine_goes_down_the_slope_of_its_loss_and_touches_nothing_else(build):
    run(build("test_train_epoch"))
