"""Compares the layout of the recurrent kernels, which ptxas does not print, with a table."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.native

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("shared_memory.json")
COMPILER = os.environ.get("CXX", "g++")


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler {COMPILER!r}")
    program = tmp_path_factory.mktemp("shared") / "print_shared"
    source = ROOT / "tests" / "native" / "cuda" / "print_shared.cpp"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", f"-I{ROOT / 'csrc'}"]
    subprocess.run([COMPILER, *flags, str(source), "-o", str(program)], check=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout


def test_clusters_threads_and_shared_memory_of_every_variant_are_those_of_the_table(printed):
    # after an intended change, store the text of `printed` as the table
    assert json.loads(printed) == json.loads(TABLE.read_text())


def test_every_variant_fits_a_multiprocessor(printed):
    for name, kernel in json.loads(printed).items():
        assert kernel["bytes"] <= 227 * 1024, name
        assert kernel["threads"] <= 1024, name
        assert kernel["ctas"] <= 16, name


def test_two_ctas_of_the_widest_forward_pass_share_a_multiprocessor(printed):
    # The 132 multiprocessors are in groups of at most 18. With one CTA each, they would run only 15
    # clusters of 8 CTAs at a time, and a batch of 128 (16 clusters) would take two rounds.
    registers, shared, reserved = 64 * 1024, 228 * 1024, 1024
    for what in ("C=1", "C=7", "projected"):
        kernel = json.loads(printed)[f"forward<2, 256> {what}"]
        assert 2 * (kernel["bytes"] + reserved) <= shared, what
        assert 2 * kernel["threads"] * 256 <= registers, (
            what
        )  # the most registers that a thread can have
