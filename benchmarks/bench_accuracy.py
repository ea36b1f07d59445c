"""Measures the accuracy and cost of each method on real recordings.

    bench_accuracy.py --borealtc FOLDER --resume               # everything; hours of one core
    bench_accuracy.py --sets A,watch --methods defaults --seeds 0 --resume --borealtc FOLDER
    bench_accuracy.py --develop --methods defaults,boosting    # reads no test part
    bench_accuracy.py --table                                  # results/accuracy.json

Every fit is one line of results/accuracy_rows.jsonl, written as soon as the fit ends. A run can be
stopped at any time and continued with ``--resume``, which skips the fits that are in the file.
Without ``--resume``, all fits are run again and the new lines replace the old ones. The file is
kept in git, so that methods that did not change need not run again. ``--table`` runs nothing.
Missing sets and methods are reported.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn
import torch
from accuracy import data
from accuracy.methods import METHODS, MOTORS, OURS, AbsentError, Runner
from accuracy.table import incomplete, summarize
from accuracy.work_file import Key, WorkFile, missing, scores
from common.arguments import make_parser
from common.measured_code import MeasuredCode
from common.results_file import RESULTS, begin, write_results
from common.timing import environment
from common.waiting import refuse_sleeping_threads
from readme_table import accuracy_table

from sensorseq.errors import EnvironmentProblemError

WORK = RESULTS / "accuracy_rows.jsonl"
SEEDS = (0, 1, 2)


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = make_parser(__doc__)
    words = parser.add_argument
    words("--sets", type=_names, help=f"comma-separated: {', '.join(data.SETS)}")
    words("--methods", type=_names, default=list(METHODS), help=f"of {', '.join(METHODS)}")
    words("--seeds", type=_numbers, default=list(SEEDS), help="seeds of our methods; default 0,1,2")
    words("--resume", action="store_true", help="skip the fits in the work file")
    words("--develop", action="store_true", help="folds inside the first training part only")
    words("--table", action="store_true", help="run nothing; write the results and print them")
    words("--work", type=Path, default=WORK, help="the work file (JSON lines)")
    words("--results", type=Path, default=RESULTS, help="folder of the results")
    words(
        "--threads", type=int, default=1, help="threads of torch and all other libraries; default 1"
    )
    words("--borealtc", type=Path, help="folder of the BorealTC set")
    words("--seglearn", type=Path, help="where seglearn is, if it is not installed")
    words("--aeon", type=Path, help="where aeon is, if it is not installed")
    words("--aeon-python", help="interpreter that can import aeon and numba; default this one")
    return parser


def _names(text: str) -> list[str]:
    return [name for name in text.replace(" ", "").split(",") if name]


def _numbers(text: str) -> list[int]:
    try:
        return [int(name) for name in _names(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected numbers, as 0,1,2") from None


def chosen_sets(names: list[str] | None, *, develop: bool) -> tuple[list[str], list[str]]:
    """Return the sets to run and the omitted sets, whose test parts must not be read."""
    sets = data.choose(names or list(data.SEARCH if develop else data.SETS))
    if develop:
        closed = [name for name in sets if name not in data.SEARCH]
        if closed:
            raise ValueError(
                f"settings are not chosen on {', '.join(closed)}; --develop takes"
                f" {', '.join(data.SEARCH)}"
            )
        return sets, []
    kept = [name for name in sets if name not in data.DEVELOP_ONLY]
    return kept, [name for name in sets if name in data.DEVELOP_ONLY]


def plan(
    name: str, folds: list[data.Fold], methods: Sequence[str], seeds: Sequence[int], part: str
) -> list[Key]:
    """Return the fits of a set in order; peers' methods run with the first seed only."""
    return [
        Key(name, part, fold.split, fold.fold, method, seed)
        for fold in folds
        for method in methods
        if method != "motors" or name in MOTORS
        for seed in (seeds if method in OURS else seeds[:1])
    ]


def run(options: argparse.Namespace, work: WorkFile, code: MeasuredCode) -> int:
    """Run the missing fits; return how many failed."""
    part = "develop" if options.develop else "test"
    places = data.Places(options.borealtc, options.seglearn, options.aeon)
    sets, closed = chosen_sets(options.sets, develop=options.develop)
    for name in closed:
        print(f"skipped: {name}: only for --develop; its test part is not read", file=sys.stderr)
    rows, failed = work.read(), 0
    with Runner(options.threads, options.aeon_python) as runner:
        methods = _present(options.methods, runner)
        for name in sets:
            try:
                windows, folds = data.load(name, places)
            except EnvironmentProblemError as error:
                print(f"absent: {name}: {error}", file=sys.stderr)
                continue
            if options.develop:
                folds = data.develop(windows, folds)
            n_folds, by_key = len(folds), {(fold.split, fold.fold): fold for fold in folds}
            keys = plan(name, folds, methods, options.seeds, part)
            todo = missing(keys, rows, resume=options.resume)
            print(f"{name}: {len(keys)} fits, {len(keys) - len(todo)} known", file=sys.stderr)
            for count, key in enumerate(todo, 1):
                fold = by_key[key.split, key.fold]
                train, test = windows.take(fold.train), windows.take(fold.test)
                started = time.perf_counter()
                try:
                    outcome = runner.run(key.method, train, test, key.seed)
                except AbsentError as error:
                    print(f"left out: {' '.join(map(str, key))}: {error}", file=sys.stderr)
                    continue
                except Exception as error:  # one method's failure must not end hours of other fits
                    failed += 1
                    message = f"{type(error).__name__}: {error}"
                    print(f"failed: {' '.join(map(str, key))}: {message}", file=sys.stderr)
                    continue
                row: dict[str, Any] = {
                    **key._asdict(),
                    **scores(test.y, outcome.predicted),
                    **outcome.judged,
                    "n_train": len(train),
                    "n_folds": n_folds,
                    "fit_s": round(outcome.fit_s, 4),
                    "predict_s": round(outcome.predict_s, 4),
                    "description": runner.describe(key.method),
                    "load_average": round(os.getloadavg()[0], 2),
                    "threads": options.threads,
                    "torch": torch.__version__,
                    **code.stamp(),
                }
                if runner.uses_aeon(key.method):
                    row |= runner.aeon.versions()
                code.check(work.path.parent)
                work.append(row)
                rows[key] = row
                print(
                    f"[{count}/{len(todo)}] {name} {key.split}.{key.fold} {key.method}"
                    f" seed {key.seed}: {100 * row['accuracy']:.1f} %"
                    f" [{100 * row['balanced_accuracy']:.1f}],"
                    f" {time.perf_counter() - started:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
    return failed


def _present(methods: Sequence[str], runner: Runner) -> list[str]:
    present = []
    for method in methods:
        reason = runner.why_absent(method)
        if reason:
            print(f"absent: {method}: {reason}", file=sys.stderr)
        else:
            present.append(method)
    return present


def write_table(options: argparse.Namespace, work: WorkFile, code: MeasuredCode) -> None:
    """Print the tables and write results/accuracy.json."""
    rows = work.read()
    part = "develop" if options.develop else "test"
    summary = summarize(rows, part, options.methods)
    used = [row for key, row in rows.items() if key.part == part]
    facts = environment() | {
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        **{
            name: sorted({str(row[name]) for row in used if name in row})
            for name in ("aeon", "numba")
        },
        "measured": {
            name: sorted({str(row[name]) for row in used}) for name in ("threads", "torch")
        },
        "methods": {row["method"]: row["description"] for row in used},
    }
    lacking = incomplete(summary)
    print(accuracy_table({"rows": summary, "environment": facts}))
    print(*(f"missing: {words}" for words in lacking), sep="\n")
    partial = bool(options.develop or not summary or lacking)
    write_results(
        "accuracy",
        summary,
        code=code,
        partial=partial,
        folder=options.results,
        facts=facts,
        measured=used,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fits, or write the table."""
    parser = command_line()
    options = parser.parse_args(arguments)
    unknown = [name for name in options.methods if name not in METHODS]
    if unknown:
        parser.error(f"no such method: {', '.join(unknown)}; known: {', '.join(METHODS)}")
    work = WorkFile(options.work)
    if options.table:
        code = begin(__file__, partial=options.develop, folder=options.results)
        write_table(options, work, code)
        return 0
    refuse_sleeping_threads()
    try:
        chosen_sets(options.sets, develop=options.develop)
    except ValueError as error:
        parser.error(str(error))
    code = begin(__file__, folder=options.work.parent)
    torch.set_num_threads(options.threads)
    try:
        failed = run(options, work, code)
    except KeyboardInterrupt:
        print("\nstopped; finished fits are kept, and --resume skips them", file=sys.stderr)
        return 130
    if failed:
        print(f"{failed} fits failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
