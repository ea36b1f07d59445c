"""CONTRIBUTING.md is one page, and every file and package that it names exists."""

import re

from checkout import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PACKAGE = ROOT / "sensorseq"


def test_the_page_has_at_most_150_lines():
    assert len(PAGE.splitlines()) <= 150


def test_every_path_in_the_text_exists():
    paths = re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:py|md|h|cpp))`", PAGE)
    assert len(paths) > 20
    missing = [p for p in paths if not ((ROOT / p).exists() or (PACKAGE / p).exists())]
    assert missing == []


def files_of(row):
    """Return the files that a row of the table names, those in its folders included."""
    paths = re.findall(r"`([\w./-]*(?:/|\.\w+))`", row)
    places = [ROOT / path if path.startswith("csrc/") else PACKAGE / path for path in paths]
    files = [file for place in places for file in ([place] if place.is_file() else place.glob("*"))]
    return [file for file in files if file.suffix in (".py", ".h", ".cuh", ".cpp", ".cu")]


def test_each_step_happens_in_the_files_that_the_table_names():
    """Each function and class in a row is defined in one of the row's files."""
    table = PAGE.partition("## From a file to a decision")[2].partition("\n## ")[0]
    rows = [row for row in table.splitlines() if row.startswith("|")][2:]
    assert len(rows) > 10
    for row in rows:
        files = files_of(row)
        assert files, row
        text = "\n".join(file.read_text("utf-8") for file in files)
        for name in re.findall(r"`(\w+)`", row):
            assert re.search(rf"^(def|class) {name}\b|^    def {name}\b", text, re.M), (name, row)


def paths_in_the_tree():
    """Return the path at the beginning of each line of the tree, with the folders it is in."""
    tree = re.search(r"## The tree\n\n```text\n(.*?)```", PAGE, re.S)[1]
    folders, paths = [], set()
    for indent, name in re.findall(r"^((?:  ){0,2})([\w-]+(?:/|\.py)) ", tree, re.M):
        folders[len(indent) // 2 :] = [name]
        paths.add("".join(folders))
    return paths


def test_the_tree_names_every_folder_and_every_file_at_the_top():
    folders = [path.parent for path in PACKAGE.rglob("__init__.py")]
    folders += [path for path in (ROOT / "csrc").iterdir() if path.is_dir()]
    wanted = {f"{path.relative_to(ROOT).as_posix()}/" for path in folders}
    wanted |= {f"sensorseq/{path.name}" for path in PACKAGE.glob("[a-z]*.py")}
    paths = paths_in_the_tree()
    assert wanted - paths == set()
    assert {path for path in paths if not (ROOT / path).exists()} == set()


def test_the_layers_are_those_that_imports_are_held_to():
    rules = (ROOT / "tests" / "house" / "test_architecture.py").read_text("utf-8")
    order = re.search(r'ORDER = """(.*?)"""', rules, re.S)[1]
    assert order.split() == re.search(r"```text\n(errors .*?)```", PAGE, re.S)[1].split()
