"""Does the report name the right family of causes? On runs whose single resets were all tried.

bench_diagnosis.py --data calibration --borealtc FOLDER --work FOLDER   # resumes
bench_diagnosis.py --data test --borealtc FOLDER --work FOLDER
bench_diagnosis.py --table --work FOLDER                                # results/diagnosis.json
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from common.results_file import write_results
from fluctuation.generate import generate, read_rows
from fluctuation.score import answer_of, describe, format_line, score


def write_table(work: Path, *, keep: bool) -> None:
    """Judge the records of the test again, and write the results."""
    learned = list(read_rows(work / "calibration.jsonl").values())
    records = work / "records"
    of_part = {
        "calibration": learned,
        "test": list(read_rows(work / "test.jsonl").values()),
    }
    for part, rows in of_part.items():
        if not rows:
            continue
        answers = {row["name"]: answer_of(row, records / f"{row['name']}.npz") for row in rows}
        again = {row["name"]: answer_of(row, records / f"{row['name']}-again.npz") for row in rows}
        lines = score(rows, answers, learned if part == "test" else (), again)
        print(f"{part}: {len(rows)} runs")
        for line in lines:
            print(format_line(line))
        if part == "test":
            facts = {"learned": describe(learned), "judged": describe(rows)}
            write_results("diagnosis", lines, partial=not keep, **facts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate rows, or write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="\n".join(__doc__.splitlines()[2:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", choices=("calibration", "test"), default="calibration")
    parser.add_argument("--borealtc", type=Path, help="folder of the BorealTC set")
    parser.add_argument("--work", type=Path, required=True, help="folder of rows and records")
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="number of the first draw")
    parser.add_argument("--table", action="store_true", help="run nothing; write the results")
    parser.add_argument("--show", action="store_true", help="run nothing; print the table alone")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.table or options.show:
        write_table(options.work, keep=options.table)
        return 0
    draws = range(options.first, options.first + options.draws)
    generate(options.data, draws, options.work, options.borealtc)
    return 0


if __name__ == "__main__":
    sys.exit(main())
