"""CONTRIBUTING.md is one page, and every file and package that it names exists."""

import re

from checkout import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
ROOMS = ("", "sensorseq", "csrc")  # paths in the page are relative to these folders


def test_the_page_has_at_most_150_lines():
    assert len(PAGE.splitlines()) <= 150


def test_every_path_in_the_text_exists():
    paths = re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:py|md|h|cpp))`", PAGE)
    assert len(paths) > 20
    folders = [ROOT / room for room in (*ROOMS, "sensorseq/preprocessing/windowing", ".venv/bin")]
    missing = [path for path in paths if not any((folder / path).exists() for folder in folders)]
    assert missing == []


def test_the_tree_names_every_package():
    tree = re.search(r"## The tree\n\n```text\n(.*?)```", PAGE, re.S)[1]
    named = set(re.findall(r"([\w-]+)/ ", tree))
    packages = {path.parent.name for path in (ROOT / "sensorseq").rglob("__init__.py")}
    assert packages - {*named, "sensorseq"} == set()


def test_the_layers_are_those_that_imports_are_held_to():
    rules = (ROOT / "tests" / "house" / "test_architecture.py").read_text("utf-8")
    order = re.search(r'ORDER = """(.*?)"""', rules, re.S)[1]
    assert order.split() == re.search(r"```text\n(errors .*?)```", PAGE, re.S)[1].split()
