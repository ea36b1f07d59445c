"""Writes the options of readers and preparation into the functions that accept them.

An option is defined once, as a field of `ReadOptions` or `PreparationOptions` with its entry in the
docstring. This script copies the option to signatures, between the comments

    # options: NAMES
    # end of options

The script also copies the option to the docstrings of these functions, and to calls in their bodies
(between "# options" and "# end of options"). It copies the classifier's defaults to
`diagnosis/defaults.py`. NAMES are options or groups in `GROUPS`, in the order of the parameters. If
the first comment contains "(None by default)", all defaults are None, which means "not given".

    python scripts/write_signatures.py          # after an option was changed
    python scripts/write_signatures.py --check  # fails if a file is out of date
"""

import argparse
import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import MISSING, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sensorseq.options import NAMES, ReadOptions  # noqa: E402
from sensorseq.preprocessing.options import (  # noqa: E402
    OPTIONS,
    PIPELINE_OPTIONS,
    PreparationOptions,
)

PACKAGE = ROOT / "sensorseq"
CLASSIFIER = PACKAGE / "estimator" / "classifier.py"
DEFAULTS = PACKAGE / "diagnosis" / "defaults.py"
COMMAND = f"python {Path(__file__).relative_to(ROOT).as_posix()}"

GROUPS = {
    "READ_OPTIONS": [name for name in NAMES if name not in ("salvage", "scratch")],
    "PIPELINE_OPTIONS": PIPELINE_OPTIONS,
    "OPTIONS": OPTIONS,
}
FIELDS = {each.name: each for each in fields(PreparationOptions)}
# Parameters that accept more types than their fields.
TYPES = {
    ("prepare", "split"): "Sequence[float] | str | None",
    ("__init__", "random_state"): "RandomState",
}

_BEGIN = re.compile(r"^ +# options(?P<none> \(None by default\))?(: (?P<names>[\w ]+))?$", re.M)
_END = re.compile(r" *# end of options")
_ENTRY = re.compile(r"(\w[\w, ]*)(?: :.*)?")


def divide(docstring: str) -> tuple[str, dict[str, str], str]:
    """Split a docstring into its beginning, the entries of the parameters by name, and the rest.

    An entry for several parameters is stored under the name of the first.
    """
    head, title, section = docstring.partition("Parameters\n----------\n")
    entries: dict[str, str] = {}
    lines = section.splitlines(keepends=True)
    name = ""
    while lines and (lines[0].startswith(" ") or _ENTRY.fullmatch(lines[0].rstrip())):
        line = lines.pop(0)
        name = name if line.startswith(" ") else re.split(r"\W", line)[0]
        entries[name] = entries.get(name, "") + line.rstrip() + "\n"
    return head + title, entries, "".join(lines)


READ_ENTRIES = divide(inspect.getdoc(ReadOptions) or "")[1]
_OWN_ENTRIES = divide(inspect.getdoc(PreparationOptions) or "")[1]
# In preparation, `sample_rate_hz` is the rate after resampling. In readers, it is the rate of files
# without timestamps.
_RATE = {"sample_rate_hz": _OWN_ENTRIES["sample_rate_hz"]}
ENTRIES = {
    name: entry
    for name, entry in (READ_ENTRIES | _OWN_ENTRIES | READ_ENTRIES | _RATE).items()
    if name in FIELDS
}


def parameter(function: str, name: str, none_by_default: bool) -> str:
    """Return an option as it is written in a signature."""
    option = FIELDS[name]
    default = None if none_by_default else option.default
    typed = option.type if isinstance(option.type, type) else str(option.type)
    text = typed if isinstance(typed, str) else typed.__name__
    text = re.sub(r"\b(collections\.abc|typing)\.", "", text)
    if default is None and not text.endswith("| None"):
        text += " | None"
    text = TYPES.get((function, name), text)
    return f"{name}: {text}," if default is MISSING else f"{name}: {text} = {_literal(default)},"


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def defaults() -> str:
    """Return the source of the table of the classifier's defaults, taken from its signature."""
    tree = ast.parse(CLASSIFIER.read_text("utf-8"))
    first = next(
        n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "__init__"
    )
    pairs = zip(first.args.kwonlyargs, first.args.kw_defaults, strict=True)
    values = {arg.arg: ast.literal_eval(value) for arg, value in pairs if value is not None}
    lines = [
        '"""The defaults of SensorLSTMClassifier, for modules that work without torch.',
        "",
        f"Written by `{COMMAND}` from the signature of the class.",
        '"""',
        "",
        "from collections.abc import Mapping",
        "from typing import Any",
        "",
        "DEFAULTS: Mapping[str, Any] = {",
        *(f'    "{name}": {_literal(value)},' for name, value in values.items()),
        "}",
    ]
    return "\n".join(lines) + "\n"


class SourceFile:
    """A source file with blocks of options, and the text that the tables define for it."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.edits: list[tuple[int, int, list[str]]] = []  # first and last line, and the new lines

    def written(self) -> str:
        """Return the text with every block and docstring written from the tables."""
        tree = ast.parse("\n".join(self.lines))
        parent = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        names: Sequence[str] = ()
        for first, line in enumerate(self.lines, 1):
            if (begin := _BEGIN.fullmatch(line)) is None:
                continue
            last = next(i for i in range(first, len(self.lines)) if _END.fullmatch(self.lines[i]))
            around = [node for node in functions if node.lineno <= first <= (node.end_lineno or 0)]
            function = max(around, key=lambda node: node.lineno)
            if begin["names"]:  # the signature; the calls below it have the same options
                names = [
                    option
                    for name in begin["names"].split()
                    for option in GROUPS.get(name, (name,))
                ]
                new = [parameter(function.name, name, bool(begin["none"])) for name in names]
                owner = parent[function] if function.name == "__init__" else function
                before = [text.split(":")[0].strip() for text in self.lines[first:last]]
                self._document(owner, names, {*names, *before})
            else:
                new = [f"{name}={name}," for name in names]
            indent = line[: -len(line.lstrip())]
            self.edits.append((first, last, [indent + text for text in new]))
        for first, last, new in sorted(self.edits, reverse=True):
            self.lines[first:last] = new
        return "\n".join(self.lines) + "\n"

    def _document(self, node: ast.AST, names: Sequence[str], replaced: Collection[str]) -> None:
        """Replace entries of a docstring with the options' entries."""
        assert isinstance(node, ast.FunctionDef | ast.ClassDef)
        text, docstring = ast.get_docstring(node), node.body[0]
        if text is None:
            return
        head, entries, tail = divide(text)
        table = ENTRIES if "window_s" in names else READ_ENTRIES
        chosen = [entry for name, entry in table.items() if name in names]
        at = next((i for i, name in enumerate(entries) if name in replaced), len(entries))
        if "options" in entries:
            at = list(entries).index("options") + 1
        before = [entry for name, entry in list(entries.items())[:at] if name not in replaced]
        after = [entry for name, entry in list(entries.items())[at:] if name not in replaced]
        new = "".join([head, *before, *chosen, *after, tail]).rstrip("\n")
        indent = " " * docstring.col_offset
        lines = textwrap.indent(f'"""{new}\n"""', indent).splitlines()
        assert docstring.end_lineno is not None
        self.edits.append((docstring.lineno - 1, docstring.end_lineno, lines))


def stale() -> dict[Path, str]:
    """Return the new text of each file that is out of date.

    Raises a ValueError if an option has no entry in the docstring of its class.
    """
    for name in FIELDS:
        if not any(re.match(rf"(\w+, )*{name}\b", entry) for entry in ENTRIES.values()):
            raise ValueError(f"{name} has no entry in the docstring of its class.")
    texts = {path: path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    wanted = {
        path: SourceFile(text).written() for path, text in texts.items() if _BEGIN.search(text)
    }
    wanted[DEFAULTS] = defaults()
    return {path: text for path, text in wanted.items() if text != texts.get(path)}


def main() -> int:
    """Write or check all files and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="Fail if a file is outdated.")
    check = parser.parse_args().check
    changed = stale()
    for path, text in changed.items():
        print(f"{path.relative_to(ROOT)}{': run `' + COMMAND + '`' if check else ' written'}")
        if not check:
            path.write_text(text, "utf-8")
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
