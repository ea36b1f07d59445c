"""Reruns, with different roundings, every test that trains: ``make test-rounding``.

    run_rounding.py --minutes 60           # repeat until it reports that it is done
    run_rounding.py --only test_probe      # only files with this in their name

The first pass moves nothing and records which tests train, themselves or in their fixtures. Each of
these tests then runs with 5 seeds, and also with 5 seeds on each other instruction set. A test runs
with 30 seeds instead of 5 if rounding, but not a rerun, changed a number in its assertions by more
than a thousandth. A test also gets 30 seeds if it asserts a verdict, a cause or a repair, because
these may change although no number does. The results of a test are kept until its file, the package
or the shared code of the tests changes.
"""

import argparse
import ast
import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from rounding_moves import read_log

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "rounding"
WORK = FOLDER / "rows.jsonl"
SEEDS, MOVED_SEEDS = range(1, 6), range(6, 31)
AGAIN = "none again"
MOVED = 1e-3  # relative change of a number; smaller changes are rounding errors of float32
JUDGED = re.compile(
    r"verdict|grade|causes|repair|confirmed|proof|\.passed|failures\(|statuses\(|within_budget"
)
SHARED = ("sensorseq", "csrc", "tests/support", "tests/rounding", "tests/conftest.py")
PYTEST = ("--numprocesses=auto", "--maxprocesses=8", "--dist=worksteal", "-q", "--tb=short")


def main() -> int:
    """Run missing passes until the time is up; return 0 if all are done and no outcome changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="begin no pass after this time")
    parser.add_argument("--only", default="", help="only test files with this in their name")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    FOLDER.mkdir(parents=True, exist_ok=True)
    isas = instruction_sets()
    keys = file_keys(options.only)
    while True:
        rows = read_rows(keys)
        left = next(missing(rows, keys, isas), None)
        if left is None:
            return report(rows, isas)
        if time.monotonic() > end:
            print("not done: run this again to continue")
            return 1
        run(*left)


def instruction_sets() -> list[str]:
    """Return the instruction set in use, and the others that this processor has."""
    program = "from sensorseq.ops import _extension as e; print(e.cpu_isa(), *e.cpu_isas())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return list(dict.fromkeys(done.stdout.split()))


def file_keys(only: str) -> dict[str, str]:
    """Return, for each test file, a digest of the file and the shared code of the tests."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *SHARED]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    shared = hashlib.sha256()
    for name in sorted(names.split()):
        with contextlib.suppress(FileNotFoundError):  # a deleted file is still listed
            shared.update(name.encode() + (ROOT / name).read_bytes())
    files = [path for top in ("tests", "benchmarks") for path in (ROOT / top).rglob("test_*.py")]
    return {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(
            shared.digest() + path.read_bytes()
        ).hexdigest()[:16]
        for path in sorted(files)
        if only in path.name and "peers" not in path.parts
    }


def read_rows(keys: dict[str, str]) -> dict[tuple[str, str], dict[str, dict]]:
    """Return the rows of unchanged files, keyed by (instruction set, seed) and then by test."""
    rows: dict[tuple[str, str], dict[str, dict]] = defaultdict(dict)
    if WORK.exists():
        for line in WORK.read_text().splitlines():
            row = json.loads(line)
            if row["key"] == keys.get(row["test"].split("::")[0]):
                rows[row["isa"], row["seed"]][row["test"]] = row
    return rows


def missing(rows, keys, isas):
    """Yield the missing passes: instruction set, seed, and tests (files for a complete run)."""
    plain_rows = rows[isas[0], "none"]
    covered = {test.split("::")[0] for test in plain_rows}
    if unknown := sorted(keys.keys() - covered):
        yield isas[0], "none", unknown, keys
    trained = {test for test, row in plain_rows.items() if row["trainings"]}
    for seed in map(str, SEEDS):
        if left := trained - rows[isas[0], seed].keys():
            yield isas[0], seed, sorted(left), keys
    first, again = rows[isas[0], "1"], rows[isas[0], AGAIN]
    moved = {test for test in trained if has_moved(plain_rows[test], first[test])}
    if left := moved - again.keys():
        yield isas[0], AGAIN, sorted(left), keys
    moved = {test for test in moved if has_moved(plain_rows[test], first[test], again[test])}
    moved |= judging(trained)
    for isa, seeds, tests in (
        (isas[0], MOVED_SEEDS, moved),
        *((isa, SEEDS, trained) for isa in isas[1:]),
    ):
        for seed in map(str, seeds):
            if left := tests - rows[isa, seed].keys():
                yield isa, seed, sorted(left), keys


def has_moved(first: dict, second: dict, again: dict | None = None) -> bool:
    """Return whether rounding, but not the rerun `again`, changed numbers in the assertions."""
    a, b, c = first["figures"], second["figures"], (again or first)["figures"]
    if not len(a) == len(b) == len(c):
        return True

    def differ(x: float, y: float) -> bool:
        return abs(x - y) > MOVED * max(abs(x), abs(y))

    return any(differ(x, y) and not differ(x, z) for x, y, z in zip(a, b, c, strict=True))


def judging(tests: set[str]) -> set[str]:
    """Return the tests whose source lines contain a verdict, a cause or a repair."""
    named = {}
    for name in {test.split("::")[0] for test in tests}:
        text = (ROOT / name).read_text("utf-8")
        named[name] = {
            node.name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef)
            and JUDGED.search(ast.get_source_segment(text, node) or "")
        }
    return {
        test for test in tests if test.split("[")[0].split("::")[-1] in named[test.split("::")[0]]
    }


def run(isa: str, seed: str, tests: list[str], keys: dict[str, str]) -> None:
    """Run one pass and store its results, even if it is interrupted."""
    files = sorted({test.split("::")[0] for test in tests})
    print(f"\n{isa}, rounding {seed}: {len(tests)} {'files' if seed == 'none' else 'tests'}")
    pass_rows, chosen = FOLDER / "pass.jsonl", FOLDER / "tests.txt"
    log = Path(f"{pass_rows}.log")
    for stale in (pass_rows, log):
        stale.unlink(missing_ok=True)
    chosen.write_text("\n".join(tests))
    words = ["--rounding", "none" if seed == AGAIN else seed, "--rounding-rows", str(pass_rows)]
    words += ["--rounding-only", str(chosen)] if seed != "none" else []
    is_seen = seed in ("none", "1", AGAIN)
    if is_seen:
        words += ["-o", "enable_assertion_pass_hook=true"]
    environment = {
        **os.environ,
        "SENSORSEQ_CPU_ISA": isa,
        # pytest would reuse bytecode written with another value of enable_assertion_pass_hook
        "PYTHONPYCACHEPREFIX": str(FOLDER / "bytecode" / ("seen" if is_seen else "plain")),
    }
    command = [sys.executable, "-m", "pytest", *PYTEST, *words, "tests/conftest.py", *files]
    is_whole = False
    try:
        is_whole = subprocess.run(command, cwd=ROOT, env=environment).returncode in (0, 1, 5)
    finally:
        n_kept = keep(isa, seed, pass_rows, log, keys)
    if seed == "none" and is_whole:
        with WORK.open("a") as file:  # files with only slow tests would otherwise have no row
            for name in files:
                row = {"test": f"{name}::", "outcome": "passed", "trainings": 0, "moved": 0}
                row |= {"figures": [], "isa": isa, "seed": seed, "key": keys[name]}
                file.write(json.dumps(row) + "\n")
    elif not n_kept:
        raise SystemExit("this pass has no results; see above")


def keep(isa, seed, pass_rows, log, keys) -> int:
    """Join the rows of a pass with its log, and append them to the work file."""
    noted: dict[str, Counter] = defaultdict(Counter)  # counts by test or fixture
    for what, test, fixture, count in read_log(log):
        noted[fixture or test][what] += count
    lines = pass_rows.read_text().splitlines() if pass_rows.exists() else ()
    with WORK.open("a") as file:
        for line in lines:
            row = json.loads(line)
            counts = sum((noted[name] for name in (row["test"], *row.pop("fixtures"))), Counter())
            # a step of a torch optimizer counts as a training run if weights were also drawn
            trainings = counts["trained"] + (counts["stepped"] if counts["drawn"] else 0)
            row |= {"trainings": trainings, "moved": counts["moved"]}
            key = keys[row["test"].split("::")[0]]
            file.write(json.dumps(row | {"isa": isa, "seed": seed, "key": key}) + "\n")
    return len(lines)


def report(rows, isas) -> int:
    """Print the counts, and each test whose outcome changed, with the command to repeat it."""
    plain_rows = rows[isas[0], "none"]
    trained = [test for test, row in plain_rows.items() if row["trainings"]]
    print(f"\n{len(plain_rows)} tests, {len(trained)} of them train")
    for test in (test for test, row in plain_rows.items() if row["outcome"] == "failed"):
        print(f"fails without a rounding, too: {test}")
    changed = []
    for isa in isas:
        passes = {
            seed: of_tests
            for (row_isa, seed), of_tests in rows.items()
            if row_isa == isa and seed.isdigit() and of_tests
        }
        runs = [row for of_tests in passes.values() for row in of_tests.values()]
        print(
            f"{isa}: {len(passes)} seeds, {len(runs)} runs of tests,"
            f" {sum(row['trainings'] for row in runs)} trainings"
        )
        changed += [row for row in runs if row["outcome"] != plain_rows[row["test"]]["outcome"]]
    still = sorted(
        {
            row["test"]
            for of_tests in rows.values()
            for row in of_tests.values()
            if row["seed"].isdigit() and row["test"] in trained and not row["moved"]
        }
    )
    for test in still:
        print(f"trains, but nothing moved: {test}")
    for row in sorted(changed, key=lambda row: (row["test"], row["isa"], int(row["seed"]))):
        print(
            f"{row['outcome']}: SENSORSEQ_CPU_ISA={row['isa']} .venv/bin/python -m pytest"
            f" tests/conftest.py --rounding {row['seed']} '{row['test']}'"
        )
    print(f"{len({row['test'] for row in changed})} tests changed their outcome")
    return 1 if changed or still else 0


if __name__ == "__main__":
    sys.exit(main())
