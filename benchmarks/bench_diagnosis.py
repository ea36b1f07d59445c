"""Measures how often the report names a family of causes whose reset repairs the run.

bench_diagnosis.py --data calibration --borealtc FOLDER --work FOLDER   # resumes
bench_diagnosis.py --data test --borealtc FOLDER --work FOLDER
bench_diagnosis.py --data sick --borealtc FOLDER --work FOLDER    # healthy settings, sick data
bench_diagnosis.py --table --work FOLDER                                # results/diagnosis.json
bench_diagnosis.py --level --first 200 --draws 40 --borealtc FOLDER --work FOLDER    # resumes
bench_diagnosis.py --level --table --work FOLDER                        # results/level.json
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common.arguments import make_parser
from common.json_lines import append_line, read_lines
from common.measured_code import MeasuredCode
from common.results_file import RESULTS, begin, write_results
from diagnosis.generate import generate, read_rows
from diagnosis.level import measure_draw, summarize
from diagnosis.score import describe, judged, score, score_sick
from diagnosis.windows import LEAST_FRESH, SETS_OF

ROWS, LEVELS = "diagnosis_rows.jsonl", "level.jsonl"
NOT_KEPT = ("history", "report")  # not in the results, because the table does not need them


def lines_of(rows: Sequence[dict[str, Any]], learned: Sequence[dict[str, Any]] = ()) -> list[Any]:
    """Return the lines of the table from judged rows."""
    first, again = (
        {row["name"]: row["answers"][k] for row in rows if len(row["answers"]) > k} for k in (0, 1)
    )
    return score(rows, first, learned, again)


def lines_of_sick(rows: Sequence[dict[str, Any]], learned: Sequence[dict[str, Any]]) -> list[Any]:
    """Return the lines of the table for runs with healthy settings and sick data."""
    return score_sick(rows, {row["name"]: row["answers"][0] for row in rows}, learned)


def write_table(
    work: Path,
    code: MeasuredCode,
    *,
    keep: bool,
    borealtc: Path | None = None,
    folder: Path = RESULTS,
) -> None:
    """Judge all records again, print the lines of every part, and write those of the test part."""
    records = work / "records"
    calibration, test, sick = (
        [
            row
            for record in read_rows(work / f"{part}.jsonl").values()
            if (row := judged(record, records, borealtc))["n_fresh"] >= LEAST_FRESH
        ]
        for part in SETS_OF
    )
    for part, rows, learned in (("calibration", calibration, ()), ("test", test, calibration)):
        print(f"{part}: {len(rows)} runs")
        lines = lines_of(rows, learned) if rows else []
        print(*map(json.dumps, lines), sep="\n")
    of_data = lines_of_sick(sick, calibration) if sick else []
    print(*map(json.dumps, of_data), sep="\n")
    if keep:
        lines = [*lines, *of_data]
        facts = {"learned": describe(calibration), "judged": describe(test)}
        rows = [*calibration, *test, *sick]
        # the runs were trained by the code of their rows and judged by this code
        measured = [*rows, code.stamp()]
        write_results(
            "diagnosis",
            lines,
            code=code,
            partial=False,
            folder=folder,
            measured=measured,
            **facts,
        )
        kept = [{k: row[k] for k in row if k not in NOT_KEPT} for row in rows]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        (folder / ROWS).write_text(text)


def measure_level(
    draws: Sequence[int],
    work: Path,
    borealtc: Path | None,
    code: MeasuredCode,
    *,
    only_tuned: bool,
) -> None:
    """Measure the missing draws and append one line per draw to the file in the folder."""
    done = {rows[0]["draw"] for rows in read_lines(work / LEVELS)}
    for number in draws:
        if number not in done and (
            rows := list(measure_draw(number, borealtc, only_tuned=only_tuned))
        ):
            append_line(work / LEVELS, [row | code.stamp() for row in rows])
            print(f"draw {number}: {len(rows)} runs", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate rows, or write the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", choices=tuple(SETS_OF), default="calibration")
    parser.add_argument("--borealtc", type=Path, help="folder of the BorealTC set")
    parser.add_argument("--work", type=Path, required=True, help="folder of rows and records")
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="number of the first draw")
    parser.add_argument("--table", action="store_true", help="run nothing; write the results")
    parser.add_argument("--show", action="store_true", help="run nothing; print the table alone")
    parser.add_argument("--level", action="store_true", help="measure report.level instead")
    parser.add_argument("--tuned", action="store_true", help="with --level: only tuned settings")
    options = parser.parse_args(arguments)
    code = begin(__file__, partial=not options.table)
    torch.set_num_threads(1)
    if options.level:
        if not (options.table or options.show):
            draws = range(options.first, options.first + options.draws)
            measure_level(draws, options.work, options.borealtc, code, only_tuned=options.tuned)
        rows = [row for of_draw in read_lines(options.work / LEVELS) for row in of_draw]
        lines = summarize(rows)
        print(*map(json.dumps, lines), sep="\n")
        facts = {"runs": len(rows), "draws": sorted({row["draw"] for row in rows})}
        partial = not options.table
        write_results("level", lines, code=code, partial=partial, measured=rows, **facts)
        return 0
    if options.table or options.show:
        write_table(options.work, code, keep=options.table, borealtc=options.borealtc)
        return 0
    draws = range(options.first, options.first + options.draws)
    generate(options.data, draws, options.work, options.borealtc, code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
