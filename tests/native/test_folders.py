"""The folders of csrc: each file is in one, and a folder includes only what stands below it."""

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
SUFFIXES = (".h", ".cuh", ".cpp", ".cu")
# the folders that a folder's files may include besides those of their own folder
BELOW = {
    "base": set(),
    "isa": {"base"},
    "lstm": {"base"},
    "cpu": {"base", "isa", "lstm"},
    "cuda": {"base", "lstm"},
    "signal": {"base", "isa"},
    "c_api": {"base", "isa", "lstm", "cpu", "signal"},
    "bind": {"base", "lstm", "cpu", "signal", "c_api"},
}
FRAMEWORK = re.compile(r"\b(torch/|ATen|c10|pybind11|Python\.h|numpy/)")
INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)


def sources():
    """Return the path of each file below csrc, and its text."""
    paths = sorted(path for path in CSRC.rglob("*") if path.suffix in SUFFIXES)
    return {path.relative_to(CSRC): path.read_text("utf-8") for path in paths}


def test_nothing_is_at_the_top_of_csrc():
    assert {path.name for path in CSRC.iterdir()} == set(BELOW)
    assert all(path.is_dir() for path in CSRC.iterdir())


def test_the_order_of_the_folders_has_no_circle():
    seen = set()
    for folder, below in BELOW.items():
        assert below <= seen, folder
        seen.add(folder)


@pytest.mark.parametrize("folder", BELOW)
def test_a_folder_includes_only_folders_below_it(folder):
    included = {
        (str(path), name)
        for path, text in sources().items()
        for name in INCLUDE.findall(text)
        if path.parts[0] == folder
    }
    assert included
    assert {(path, name) for path, name in included if not (CSRC / name).is_file()} == set()
    assert {Path(name).parts[0] for _, name in included} - {folder} == BELOW[folder]


def test_only_bind_includes_a_framework():
    naming = {path for path, text in sources().items() if FRAMEWORK.search(text)}
    assert naming
    assert {path for path in naming if path.parts[0] != "bind"} == set()
