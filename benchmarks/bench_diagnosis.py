"""Measures how often the report names a family of causes whose reset repairs the run.

bench_diagnosis.py --data calibration --borealtc FOLDER --work FOLDER   # resumes
bench_diagnosis.py --data test --borealtc FOLDER --work FOLDER
bench_diagnosis.py --data sick --borealtc FOLDER --work FOLDER    # healthy settings, sick data
bench_diagnosis.py --table --work FOLDER                                # results/diagnosis.json
bench_diagnosis.py --table    # the same, with the verdicts in results/diagnosis_rows.jsonl
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common.arguments import make_parser
from common.json_lines import read_lines
from common.measured_code import MeasuredCode
from common.results_file import RESULTS, begin, write_results
from diagnosis.generate import generate, read_rows
from diagnosis.score import answer, describe, judged, score, score_ranges, score_sick
from diagnosis.windows import LEAST_FRESH, SETS_OF

ROWS = "diagnosis_rows.jsonl"
NOT_KEPT = ("history", "report")  # not in the results, because the table does not need them


def lines_of(rows: Sequence[dict[str, Any]], learned: Sequence[dict[str, Any]] = ()) -> list[Any]:
    """Return the lines of the table from judged rows."""
    first, again = (
        {row["name"]: answer(row, k) for row in rows if len(row["answers"]) > k} for k in (0, 1)
    )
    return score(rows, first, learned, again)


def lines_of_sick(rows: Sequence[dict[str, Any]], learned: Sequence[dict[str, Any]]) -> list[Any]:
    """Return the lines of the table for runs with healthy settings and sick data."""
    return score_sick(rows, {row["name"]: answer(row, 0) for row in rows}, learned)


def judge_records(work: Path, borealtc: Path | None) -> list[dict[str, Any]]:
    """Judge the records of all parts again."""
    records = work / "records"
    rows = (row for part in SETS_OF for row in read_rows(work / f"{part}.jsonl").values())
    judged_rows = (judged(row, records, borealtc) for row in rows)
    return [row for row in judged_rows if row["n_fresh"] >= LEAST_FRESH]


def write_table(
    rows: Sequence[dict[str, Any]], code: MeasuredCode, *, keep: bool, folder: Path = RESULTS
) -> None:
    """Print the lines of every part, and write those of the test part."""
    calibration, test, sick = ([row for row in rows if row["part"] == part] for part in SETS_OF)
    for part, of_part, learned in (("calibration", calibration, ()), ("test", test, calibration)):
        print(f"{part}: {len(of_part)} runs")
        lines = lines_of(of_part, learned) if of_part else []
        print(*map(json.dumps, lines), sep="\n")
    of_data = lines_of_sick(sick, calibration) if sick else []
    print(*map(json.dumps, of_data), sep="\n")
    ranges = score_ranges(calibration)
    print(*map(json.dumps, ranges), sep="\n")
    if keep:
        facts = {"learned": describe(calibration), "judged": describe(test)}
        # the runs were trained by the code of their rows and judged by this code
        write_results(
            "diagnosis",
            [*lines, *of_data, *ranges],
            code=code,
            partial=False,
            folder=folder,
            measured=[*rows, code.stamp()],
            **facts,
        )
        kept = [{k: row[k] for k in row if k not in NOT_KEPT} for row in rows]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        (folder / ROWS).write_text(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate rows, or write the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", choices=tuple(SETS_OF), default="calibration")
    parser.add_argument("--borealtc", type=Path, help="folder of the BorealTC set")
    parser.add_argument("--work", type=Path, help="folder of rows and records")
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="number of the first draw")
    parser.add_argument("--table", action="store_true", help="run nothing; write the results")
    parser.add_argument("--show", action="store_true", help="run nothing; print the table alone")
    options = parser.parse_args(arguments)
    code = begin(__file__, partial=not options.table)
    torch.set_num_threads(1)
    if options.table or options.show:
        rows = list(read_lines(RESULTS / ROWS))
        if options.work is not None:
            rows = judge_records(options.work, options.borealtc)
        write_table(rows, code, keep=options.table)
        return 0
    if options.work is None:
        parser.error("--work is needed for new runs")
    draws = range(options.first, options.first + options.draws)
    generate(options.data, draws, options.work, options.borealtc, code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
