"""Writes files of results, `results/<table>.json`, with the environment and the commit."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from common.timing import environment

RESULTS = Path(__file__).resolve().parents[1] / "results"


def write_results(
    table: str,
    rows: list[dict[str, Any]],
    *,
    partial: bool,
    folder: Path = RESULTS,
    facts: dict[str, Any] | None = None,
    quiet: bool = False,
    **more: Any,
) -> None:
    """Write a table unless it is `partial`, because a part must not replace the complete table."""
    if partial:
        print(f"partial results: results/{table}.json is unchanged")
        return
    facts = {**(environment() if facts is None else facts), **more, "commit": commit()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{table}.json"
    beside = path.with_suffix(".part")  # the old file stays complete if the run is interrupted
    beside.write_text(as_text(facts, rows))
    beside.replace(path)
    if not quiet:
        print(f"wrote {folder.name}/{path.name}, {len(rows)} rows")


def keep_measurement(path: Path, measurement: dict[str, Any], **more: Any) -> None:
    """Store a program's measurement in a file under the measurement's name; keep the other rows."""
    kept = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    kept |= more
    kept["rows"][measurement["measurement"]] = {**measurement, "commit": commit()}
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(kept, indent=1) + "\n")
    beside.replace(path)


def as_text(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return a table as JSON with one row per line."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    return f'{{"environment": {json.dumps(facts)},\n"rows": [\n{lines}\n]}}\n'


def commit() -> str:
    """Return the commit from SENSORSEQ_COMMIT, the git command or git's files."""
    named = os.environ.get("SENSORSEQ_COMMIT")
    if named:
        return named
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=False,
            cwd=RESULTS.parent,
        ).stdout.strip()
    except OSError:
        described = ""
    return described or commit_in(RESULTS.parents[1] / ".git") or "unknown"


def commit_in(folder: Path) -> str:
    """Return the checked-out commit, read from git's files; empty if there is none."""
    try:
        head = (folder / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head[:7]
        name = head.removeprefix("ref: ")
        if (folder / name).exists():
            return (folder / name).read_text().strip()[:7]
        packed = (folder / "packed-refs").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split()[0][:7] for line in packed if line.endswith(f" {name}")), "")
