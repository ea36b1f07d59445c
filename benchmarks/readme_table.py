"""Write the figures of `results/*.json` into the README, between its `bench` markers.

`python benchmarks/readme_table.py` rewrites; a test holds the README to the files.
"""

import json
import re
import statistics
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(<!-- bench:cpu -->\n).*?(<!-- /bench -->)", re.DOTALL)


def cpu_table() -> str:
    """Summarise `results/cpu.json`: geometric mean and lowest ratio for each case."""
    results = json.loads((ROOT / "benchmarks" / "results" / "cpu.json").read_text())
    environment, rows = results["environment"], results["rows"]
    lines = ["| | threads | geometric mean | lowest | shapes |", "|---|---|---|---|---|"]
    for what in ("inference", "training"):
        for threads in sorted({row["threads"] for row in rows}):
            ratios = [r["ratio"] for r in rows if (r["what"], r["threads"]) == (what, threads)]
            mean = statistics.geometric_mean(ratios)
            lines.append(
                f"| {what} | {threads} | {mean:.2f}x | {min(ratios):.2f}x | {len(ratios)} |"
            )
    lines.append("")
    lines.append(
        f"Above 1x sensorseq is faster. {environment['processor']}, {environment['cores']} cores,"
        f" {environment['isa']}, torch {environment['torch']}."
    )
    return "\n".join(lines) + "\n"


def with_tables(readme: str) -> str:
    """Return the README's text with the tables renewed."""
    return MARKED.sub(lambda match: match[1] + cpu_table() + match[2], readme)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_tables(path.read_text()))
