"""Runs each part of this folder for `make harden`; writes results/harden.json and a table.

A part is a program whose last line of output is a JSON summary with `trials`, `failures` and
further counts. Missing parts and parts that do not finish in time are reported.
`python benchmarks/harden/run.py [PART ...]` runs some parts and keeps the rows of the others.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
sys.path[:0] = [str(ROOT), str(FOLDER.parent)]

from common.results_file import RESULTS, begin, write_results  # noqa: E402

# command, number of trials or seconds, limit in minutes, and description
PARTS = {
    "ASan, UBSan": ("sanitizers.py asan --seconds", 180, 7, "operators get random arguments"),
    "TSan": ("sanitizers.py tsan --seconds", 120, 6, "operators are called from two threads"),
    "parsers": ("parsers.py --seconds", 15, 12, "changed files of every kind are read"),
    "kills": (
        "kills.py --kills",
        200,
        5,
        "prepare, train and writers are killed at random moments",
    ),
    "full disks": ("full_disk.py", None, 3, "the disk fills at a random moment"),
    "prepared files": (
        "parsers.py prepared pieces --seconds",
        50,
        5,
        "changed prepared files are read",
    ),
    "live lines": (
        "live_input.py --seconds",
        60,
        3,
        "drawn and changed lines of streams are cut into blocks",
    ),
    "streams": ("streams.py --seconds", 120, 4, "drawn streams are cut and compared with logs"),
    "exports": (
        "exports_agree.py --models",
        150,
        12,
        "drawn models are compared with their exports",
    ),
    "memory": ("flat_memory.py", None, 3, "fits, predictions, reports and streams are repeated"),
}


def run(name, share=1.0):
    """Run a part, or a fraction of its trials; return the part's row."""
    command, amount, most_minutes, about = PARTS[name]
    program, *options = command.split()
    options += [] if amount is None else [str(max(1, round(share * amount)))]
    row = {"part": name, "about": about, "state": "absent", "trials": 0, "failures": 0}
    if not (FOLDER / program).exists():
        return row
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / program), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=60 * most_minutes)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):  # including its children
            os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        row["state"] = f"not done in {most_minutes} minutes"
    row["seconds"] = round(time.monotonic() - began)
    lines = (output or "").strip().splitlines()
    try:
        summary = json.loads(lines[-1])
    except (IndexError, ValueError):
        if row["state"] == "absent":
            row["state"] = f"ended with {process.returncode} and no summary"
        return row
    row["trials"] = summary["trials"]
    row["failures"] = summary["failures"]
    row["state"] = "passed" if not row["failures"] and not process.returncode else "failed"
    row["summary"] = summary
    return row


def table(rows):
    """Return the rows as a Markdown table."""
    lines = ["| part | what is done | trials | failures | result |", "|---|---|---|---|---|"]
    for row in rows:
        what = "; ".join(map(str, row.get("summary", {}).get("what", ())))
        state = f"{row['state']}: {what}" if what else row["state"]
        figures = f"{row['trials']:,} | {row['failures']:,} | {state}"
        lines.append(f"| {row['part']} | {row['about']} | {figures} |")
        parts = row.get("summary", {}).get("parts", {})
        for name, part in parts.items():
            n = part if isinstance(part, int) else part.get("cases", part.get("calls", 0))
            findings = (
                {} if isinstance(part, int) else part.get("findings", part.get("reports", {}))
            )
            n_found = sum(findings.values()) if isinstance(findings, dict) else len(findings)
            reason = "" if isinstance(part, int) else part.get("absent", "")
            shown = "" if isinstance(part, int) else f"{n_found:,}"
            lines.append(f"| | {name} | {n:,} | {shown} | {reason} |")
    return "\n".join(lines)


def write_table(rows):
    """Write the table into the README.md of this folder, if the results are for this checkout."""
    if RESULTS != ROOT / "benchmarks" / "results":
        return
    readme = FOLDER / "README.md"
    head, _, after = readme.read_text().partition("<!-- results -->")
    tail = after.partition("<!-- /results -->")[2]
    readme.write_text(f"{head}<!-- results -->\n{table(rows)}\n<!-- /results -->{tail}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the trials of each part")
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    options = parser.parse_args()
    for name in set(options.parts) - set(PARTS):
        parser.error(f"unknown part {name!r}; known: {', '.join(PARTS)}")
    code = begin(__file__)
    path, rows = RESULTS / "harden.json", {}
    if path.exists():
        rows = {row["part"]: row for row in json.loads(path.read_text())["rows"]}
    for name in PARTS:
        if name in options.parts:
            rows[name] = run(name, options.share) | code.stamp()
            row = rows[name]
            print(f"{name}: {row['trials']} trials, {row['failures']} failures, {row['state']}")
        elif name not in rows:
            rows[name] = {"part": name, "about": PARTS[name][3], "state": "not run"}
            rows[name] |= {"trials": 0, "failures": 0}
        known = [rows[n] for n in PARTS if n in rows]
        write_results("harden", known, code=code, partial=False, quiet=True)
    write_table([rows[name] for name in PARTS])
    return int(any(rows[name]["state"] != "passed" for name in options.parts))


if __name__ == "__main__":
    sys.exit(main())
