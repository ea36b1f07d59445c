"""Where results go: `results/<table>.json`, with the environment and the commit."""

import json
import subprocess
from pathlib import Path
from typing import Any

from sensorseq.benchmark import environment

RESULTS = Path(__file__).resolve().parent / "results"


def write_results(table: str, rows: list[dict[str, Any]], *, partial: bool, **more: Any) -> None:
    """Write one table, unless it is only part of it, which must not replace the whole."""
    if partial:
        print(f"a part only: results/{table}.json is left as it was")
        return
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=RESULTS.parent,
    ).stdout.strip()
    facts = {**environment(), **more, "commit": commit}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{table}.json"
    path.write_text(json.dumps({"environment": facts, "rows": rows}, indent=1) + "\n")
    print(f"wrote results/{table}.json")
