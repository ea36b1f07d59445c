"""Checks that the tests notice small faults, for changes that delete or merge tests.

    mutants.py draw MUTANTS.json [REGEX]      # draws forty faults, none that matches REGEX
    mutants.py run MUTANTS.json RESULTS.json  # runs the package's tests against each fault

Draw the faults (mutants) once, and run the same file on each commit. A mutant is found again by its
line, its function and the neighboring lines, and is "gone" if its line no longer exists. The tests
of sensorseq/X are in tests/X; for files outside the packages, tests/test_*.py and tests/house run.
All tests run with the marks of `make test`. The first failing test kills the mutant. Faults are
planted in a clone of the commit, with the compiled extensions of this tree.
"""

import ast
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COUNT, SEED = 40, 63
LIMIT_S = 300  # limit on processor time; the limit on wall-clock time is ten times as long
MARKS = re.findall('-m "(not .+?)"', (ROOT / "Makefile").read_text())[0]
PAIRS = "Lt LtE|Gt GtE|Eq NotEq|Is IsNot|In NotIn|Add Sub|Mult Div|And Or|Break Continue"
SWAP = {a: getattr(ast, b) for p in PAIRS.split("|") for a, b in (p.split(), p.split()[::-1])}
MESSAGES = (ast.Raise, ast.Assert, ast.JoinedStr)
NO_CODE = ("annotation", "returns", "decorator_list", "keywords.strict", "keywords.stacklevel")
KEYS = ("file", "function", "before", "line", "after", "becomes")
Mutant = dict[str, str]


def computing(node: ast.AST, function: str = "") -> Iterator[tuple[Any, str]]:
    """Yield each node below a node, with the name of the function or class that contains it.

    Annotations, messages and other code whose change no test can notice are left out.
    """
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            name = f"{field}.{child.arg}" if isinstance(child, ast.keyword) else field
            if name in NO_CODE or isinstance(child, MESSAGES) or not isinstance(child, ast.AST):
                continue
            if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
                named = isinstance(child, ast.FunctionDef | ast.ClassDef)
                inside = f"{function}.{child.name}" if named else function
                yield child, inside
                yield from computing(child, inside)


def changes(node: Any) -> Iterator[tuple[Any, ast.AST]]:
    """Yield the faults of a node: the node to replace, and its replacement."""
    swapped = SWAP.get(type(getattr(node, "op", [*getattr(node, "ops", []), node][0])).__name__)
    match node:
        case ast.Compare(ops=[_]) if swapped:
            yield node, ast.Compare(node.left, [swapped()], node.comparators)
        case ast.BinOp() if swapped:
            yield node, ast.BinOp(node.left, swapped(), node.right)
        case ast.BoolOp() if swapped:
            yield node, ast.BoolOp(swapped(), node.values)
        case ast.Break() | ast.Continue() if swapped:
            yield node, swapped()
        case ast.UnaryOp():
            yield node, node.operand
        case ast.Constant(value=bool(x)):
            yield node, ast.Constant(not x)
        case ast.Constant(value=int(x)) if x < 100:
            yield node, ast.Constant(x + 1)
    tests = [node.test] if isinstance(node, ast.If | ast.IfExp) else getattr(node, "ifs", [])
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Compare | ast.BoolOp):
        tests = [node.value]
    for test in tests:
        yield from ((test, ast.UnaryOp(ast.Not(), test)), (test, ast.Constant(True)))


def mutants_of(path: Path, root: Path) -> Iterator[tuple[int, Mutant]]:
    """Yield every mutant of a file, with its line number."""
    text = path.read_text("utf-8")
    lines = ["", *text.split("\n"), ""]
    for node, function in computing(ast.parse(text)) if text.isascii() else ():
        for old, new in changes(node):
            line = lines[n := old.lineno]
            if n == old.end_lineno:
                changed = line[: old.col_offset] + ast.unparse(new) + line[old.end_col_offset :]
                texts = [part.strip() for part in (lines[n - 1], line, lines[n + 1], changed)]
                of = [path.relative_to(root).as_posix(), function, *texts]
                yield n, dict(zip(KEYS, of, strict=True))


def package_of(mutant: Mutant) -> str:
    """Return the package below sensorseq, or "" for a file outside the packages."""
    return mutant["file"].split("/")[1] if mutant["file"].count("/") > 1 else ""


def place_of(mutant: Mutant, root: Path) -> tuple[Path, int] | None:
    """Return a mutant's file and line number in a tree whose lines may have moved."""
    places = []
    package = package_of(mutant)
    for path in (root / "sensorseq" / package).glob("**/*.py" if package else "*.py"):
        if mutant["line"] in path.read_text("utf-8"):
            for n, candidate in mutants_of(path, root):
                same = [
                    candidate[key] == mutant[key] for key in ("function", "before", "after", "file")
                ]
                if any(same[:3]) and all(
                    candidate[key] == mutant[key] for key in ("line", "becomes")
                ):
                    places.append((sum(same), same, -n, path))
    return (max(places)[3], -max(places)[2]) if places else None


def draw(leave_out: str) -> list[Mutant]:
    """Draw mutants from each package in proportion to its number of lines that have a mutant."""
    lines: dict[str, dict[tuple[Path, int], list[Mutant]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted((ROOT / "sensorseq").rglob("*.py")):
        for n, mutant in mutants_of(path, ROOT):
            if not re.search(leave_out, "{file}:{function}: {before} {line}".format(**mutant)):
                lines[package_of(mutant)][path, n].append(mutant)
    total = sum(map(len, lines.values()))
    shares = {package: COUNT * len(of) / total for package, of in lines.items()}
    by_remainder = sorted(shares, key=lambda package: int(shares[package]) - shares[package])
    by_remainder = by_remainder[: COUNT - sum(map(int, shares.values()))]
    rng = random.Random(SEED)
    drawn = []
    for package, of in sorted(lines.items()):
        chosen = [(at, rng.choice(of[at])) for at in rng.sample(sorted(of), len(of))]
        unique = (mutant for at, mutant in chosen if place_of(mutant, ROOT) == at)
        drawn += [next(unique) for _ in range(int(shares[package]) + (package in by_remainder))]
    return drawn


def run_tests(root: Path, *tests: str) -> tuple[str, str]:
    """Return the fate of a mutant, and the first test that failed."""
    paths = ":".join(str(root / part) for part in ("", "tests/support", "benchmarks"))
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", "-m", MARKS]
    command += [f"--timeout={10 * LIMIT_S}", "--timeout-method=thread", *tests]
    with tempfile.TemporaryFile("w+") as log:
        code = subprocess.run(
            command,
            cwd=root,
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S)),
        ).returncode
        log.seek(0)
        output = log.read()
    if code in (-signal.SIGXCPU, -signal.SIGKILL) or "+ Timeout +" in output:
        return "took too long", ""
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.M)
    return ("killed", failed[1] if failed else "") if code else ("survived", "")


def run(mutants: list[Mutant], results: Path) -> None:
    """Write the fate of each mutant as soon as its tests end; keep the earlier results."""
    fates = json.loads(results.read_text()) if results.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "sensorseq"
        subprocess.run(["git", "clone", "--quiet", "--shared", str(ROOT), str(root)], check=True)
        for library in (ROOT / "sensorseq").glob("*.so"):
            shutil.copy(library, root / "sensorseq")
        for mutant in mutants[len(fates) :]:
            fate, test = "gone", ""
            if place := place_of(mutant, root):
                path, n = place
                text = path.read_text("utf-8")
                lines = text.split("\n")
                lines[n - 1] = lines[n - 1].replace(mutant["line"], mutant["becomes"])
                path.write_text("\n".join(lines), "utf-8")
                package = package_of(mutant)
                patterns = [f"tests/{package}"] if package else ["tests/test_*.py", "tests/house"]
                found = [entry for pattern in patterns for entry in root.glob(pattern)]
                tests = sorted(str(entry.relative_to(root)) for entry in found)
                fate, test = run_tests(root, *tests)
                path.write_text(text, "utf-8")
                if test and run_tests(root, test)[0] != "survived":
                    fate = "fails without it"
            fates.append(mutant | {"fate": fate, "test": test})
            results.write_text(json.dumps(fates, indent=1))
            print(fate, mutant["file"], mutant["becomes"], test, sep=" | ", flush=True)
    print(Counter(entry["fate"] for entry in fates))


if __name__ == "__main__":
    do, file, *arguments = sys.argv[1:]
    if do == "draw":
        Path(file).write_text(json.dumps(draw(*arguments or ["$^"]), indent=1))
    else:
        run(json.loads(Path(file).read_text()), Path(arguments[0]))
