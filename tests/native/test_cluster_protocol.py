"""The protocols between a cluster's CTAs work in every order of warps and messages."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.native

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "native" / "cuda" / "test_cluster_protocol.cpp"
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-O1"]


def build(folder):
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler {COMPILER!r}")
    program = folder / "protocol"
    paths = [f"-I{p}" for p in (ROOT / "csrc", ROOT / "tests" / "native")]
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
