"""What prediction rests on needs numpy and no other library."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOTS = """features.blocks io.model_file preprocessing.cutting preprocessing.provenance
           preprocessing.resample.live_clock preprocessing.resample.signal
           preprocessing.scale.keyed sequence.learn sequence.timeline"""
HEAVY = """h5py jinja2 markupsafe pandas pyarrow pydantic safetensors scipy sklearn threadpoolctl
           torch"""


def imported_first(body):
    """Yield the names that a module imports when it is imported."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        else:
            yield from imported_first(getattr(node, "body", []) if not is_function(node) else [])


def is_function(node):
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def file_of(name):
    """Return the file of a module; of a name in one, None."""
    path = ROOT.joinpath(*name.split("."))
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return found if found.exists() else None


def room():
    """Return the files that the modules import, and the foreign libraries of each."""
    waiting = [f"sensorseq.{name}" for name in ROOTS.split()]
    foreign = {}
    while waiting:
        name = waiting.pop()
        path = file_of(name)
        if path is None or path in foreign:
            continue
        names = list(imported_first(ast.parse(path.read_text("utf-8")).body))
        own = [one for one in names if one.startswith("sensorseq.")]
        foreign[path] = {one.split(".")[0] for one in names} - sys.stdlib_module_names
        waiting += [name.rpartition(".")[0], *own, *(one.rpartition(".")[0] for one in own)]
    return foreign


def test_its_files_import_numpy_alone():
    foreign = room()
    assert len(foreign) > 40
    others = {path: names - {"numpy", "sensorseq"} for path, names in foreign.items()}
    assert {path: names for path, names in others.items() if names} == {}


def test_importing_it_loads_no_other_library():
    modules = ", ".join(f"sensorseq.{name}" for name in ROOTS.split())
    code = f"import sys, {modules}; print(*sys.modules.keys() & set({HEAVY.split()}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_its_files_need_nothing_newer_than_python_3_9():
    """Annotations may, as they are not evaluated there."""
    found = [
        f"{path.name}:{node.lineno}: {ast.unparse(node)}"
        for path in room()
        for tree in [ast.parse(path.read_text("utf-8"))]
        for node in ast.walk(tree)
        if is_newer(node) and node not in notes_of(tree)
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
