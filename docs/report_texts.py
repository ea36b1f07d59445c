"""Write docs/fluctuation_reports.md from the runs in docs/fluctuation_reports.jsonl.

Each line of that file is a run: its title, its true cause, and its report as a dictionary.
"""

import json
from pathlib import Path

from sensorseq import FluctuationReport

HERE = Path(__file__).parent
RUNS, PAGE = HERE / "fluctuation_reports.jsonl", HERE / "fluctuation_reports.md"
HEAD = """# Three reports

This page shows `print(clf.fluctuation_)` for three runs of the benchmark
([Causes](benchmarks.md#causes)). The benchmark finds the true cause of each run by resetting
the settings and the data of the run one by one and training again. `docs/report_texts.py` writes
this page, and a test checks that the page is up to date.
To see how a report decides, read [Is my training curve abnormal?](fluctuation.md)
"""


def write_page() -> str:
    """Return the text of the page."""
    parts = [HEAD]
    for number, line in enumerate(RUNS.read_text("utf-8").splitlines(), 1):
        run = json.loads(line)
        report = FluctuationReport.from_dict(run["report"])
        parts.append(f"## {number}. {run['title']}\n\n{run['truth']}\n\n```text\n{report}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(write_page(), "utf-8")
