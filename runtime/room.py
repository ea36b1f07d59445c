"""Find the files of sensorseq that prediction needs, and copy them into the runtime package."""

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MEMBERS = sorted((ROOT / "sensorseq" / "prediction" / "members").glob("[a-z]*.py"))
ROOTS = ("sensorseq.prediction.loading", "sensorseq.prediction.serving")
ROOTS += tuple(f"sensorseq.prediction.members.{path.stem}" for path in MEMBERS)  # found at run time
OWN = ("__init__.py", "__main__.py", "_signal.py")  # the runtime's own files, in this folder


def room() -> dict[Path, set[str]]:
    """Return the files of `ROOTS` and of all their imports, each with the libraries it imports."""
    waiting, libraries = list(ROOTS), {}
    while waiting:
        module = waiting.pop()
        path = file_of(module)
        if path is None or path in libraries or module == "sensorseq":
            continue
        names = list(_imported(ast.parse(path.read_text("utf-8")).body))
        ours = [name for name in names if name.startswith("sensorseq.")]
        libraries[path] = {name.split(".")[0] for name in names} - sys.stdlib_module_names
        waiting += [module.rpartition(".")[0], *ours, *(name.rpartition(".")[0] for name in ours)]
    return libraries


def file_of(name: str) -> Path | None:
    """Return the file of a module, or None if no module has this name."""
    path = ROOT.joinpath(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file if file.exists() else None


def _imported(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Yield the names that a module imports at import time."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imported(getattr(node, "body", []))


def copied(text: str) -> str:
    """Return the source of a file, with imports renamed and annotations left unevaluated."""
    text = re.sub(r"^(\s*(?:from|import) )sensorseq\b", r"\1sensorseq_runtime", text, flags=re.M)
    docstring = re.match(r'(?:"""[\s\S]*?"""\n)?', text)
    assert docstring is not None
    at, future = docstring.end(), "from __future__ import annotations\n"
    return text if future in text else f"{text[:at]}{future}{text[at:]}"


def copy(folder: Path) -> list[str]:
    """Write the package `sensorseq_runtime` into a folder; return the names of all packages."""
    package = folder / "sensorseq_runtime"
    for path in room():
        target = package / path.relative_to(ROOT / "sensorseq")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(copied(path.read_text("utf-8")), "utf-8")
    for name in OWN:
        (package / name).write_text((ROOT / "runtime" / name).read_text("utf-8"), "utf-8")
    folders = {path.parent.relative_to(folder) for path in package.rglob("*.py")}
    return sorted(".".join(each.parts) for each in folders)
