"""The protocols between a cluster's CTAs work in every order of warps and messages."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.native

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "native" / "cuda" / "test_cluster_protocol.cpp"
LAYOUT = ROOT / "csrc" / "cuda" / "layout.h"
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-O1"]
# faults in layout.h: a step waits for the wrong phase, or for the wrong number of bytes
FAULTS = (
    ("((step - 1) >> 1) & 1", "(step >> 1) & 1"),
    ("(V::kHidden - V::kUnits) * kTileRows", "V::kHidden * kTileRows"),
    ("V::kCtas * V::kUnits * kTileRows * 4", "(V::kCtas - 1) * V::kUnits * kTileRows * 4"),
)


def build(folder):
    """Compile the program; headers in `folder` take precedence over those of csrc."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler {COMPILER!r}")
    program = folder / "protocol"
    paths = [f"-I{p}" for p in (folder, ROOT / "csrc", ROOT / "tests" / "native")]
    subprocess.run([COMPILER, *FLAGS, *paths, str(SOURCE), "-o", str(program)], check=True)
    return program


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    return done


@pytest.fixture(scope="module")
def program(built_once):
    return built_once("protocol", build) / "protocol"


def test_every_order_of_warps_and_messages_is_right_and_planted_faults_are_found(program):
    done = run(program)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all passed" in done.stdout


@pytest.mark.slow
def test_every_order_of_a_cluster_of_four_is_right_over_more_steps(program):
    done = run(program, "long")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all passed" in done.stdout


def fails_with(old, new, folder):
    text = LAYOUT.read_text()
    assert text.count(old) == 1, f"layout.h has no {old!r}"
    (folder / "cuda").mkdir()
    (folder / "cuda" / "layout.h").write_text(text.replace(old, new))
    done = run(build(folder))
    return done.returncode == 1 and "FAILED: " in done.stdout


def test_a_fault_of_the_parity_is_found(tmp_path):
    assert fails_with(*FAULTS[0], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new"), FAULTS[1:])
def test_a_fault_of_the_bytes_that_arrive_is_found(old, new, tmp_path):
    assert fails_with(old, new, tmp_path)
