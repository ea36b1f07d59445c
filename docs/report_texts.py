"""Write docs/fluctuation_reports.md from the runs in docs/fluctuation_reports.jsonl.

Each line of that file is a run: its title, its true cause, and its report as a dictionary.
"""

import json
from pathlib import Path

from sensorseq import FluctuationReport

HERE = Path(__file__).parent
RUNS, PAGE = HERE / "fluctuation_reports.jsonl", HERE / "fluctuation_reports.md"
HEAD = """# Two reports

`print(clf.fluctuation_)` for two runs of the benchmark, which finds the true cause of a run by
resetting its settings and data one by one and training again ([Causes](benchmarks.md#causes)).
[Is my training curve abnormal?](fluctuation.md) explains how a report decides.
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
