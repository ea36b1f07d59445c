"""Prediction and all of its imports need numpy and no other library."""

import ast
import functools
import subprocess
import sys

from checkout import ROOT, script, tree_of

HEAVY = """h5py jinja2 markupsafe pandas pyarrow pydantic safetensors scipy sklearn threadpoolctl
           torch"""
runtime = script(ROOT / "runtime" / "room.py")
room = functools.cache(runtime.room)


def test_its_files_import_numpy_alone():
    foreign = room()
    assert len(foreign) > 40
    others = {path: names - {"numpy", "sensorseq"} for path, names in foreign.items()}
    assert {path: names for path, names in others.items() if names} == {}


def test_importing_it_loads_no_other_library():
    modules = ", ".join(runtime.ROOTS)
    code = f"import sys, {modules}; print(*sys.modules.keys() & set({HEAVY.split()}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_its_files_need_nothing_newer_than_python_3_9():
    """Annotations may use newer syntax, because they are not evaluated in these files."""
    found = [
        f"{path.name}:{node.lineno}: {ast.unparse(node)}"
        for path in room()
        for tree in [tree_of(path)]
        for notes in [notes_of(tree)]
        for node in ast.walk(tree)
        if is_newer(node) and node not in notes
    ]
    assert found == []


def notes_of(tree):
    notes = (getattr(node, name, None) for node in ast.walk(tree) for name in NOTES)
    return {part for note in notes if note is not None for part in ast.walk(note)}


def is_newer(node):
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        name = ast.unparse(node.right).split("[")[0].split(".")[-1]
        return name in TYPES or (name[:1].isupper() and "_" not in name)
    if isinstance(node, ast.keyword):
        return node.arg in ("strict", "kw_only", "slots")
    return isinstance(node, ast.alias) and node.name in NEW


NOTES = ("annotation", "returns")
TYPES = {"None", "bool", "bytes", "dict", "float", "int", "list", "ndarray", "set", "str", "tuple"}
NEW = {"NotRequired", "Self", "assert_never", "pairwise", "tomllib"}


def test_the_copy_is_the_same_code_and_names_no_toolkit(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "room", room)
    runtime.copy(tmp_path)
    for path in room():
        text = path.read_text("utf-8")
        copy = (tmp_path / "sensorseq_runtime" / path.relative_to(ROOT / "sensorseq")).read_text()
        imports = [node for node in ast.walk(ast.parse(copy)) if isinstance(node, ast.ImportFrom)]
        assert not [node.module for node in imports if node.module.split(".")[0] == "sensorseq"]
        back = copy.replace("from __future__ import annotations\n", "", 1)
        assert back.replace("sensorseq_runtime", "sensorseq") == text.replace(
            "from __future__ import annotations\n", "", 1
        )
