"""Writes files of results, `results/<table>.json`, with the environment and the code's digest."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.measured_code import MeasuredCode
from common.timing import environment

RESULTS = Path(
    os.environ.get("SENSORSEQ_RESULTS") or Path(__file__).resolve().parents[1] / "results"
)
STAMP = ("benchmark", "digest", "commit", "date", "processor")


def begin(script: str, *, partial: bool = False, folder: Path = RESULTS) -> MeasuredCode:
    """Return the code of a benchmark; exit at once if the end would refuse to write its results."""
    code = MeasuredCode.of(script)
    if not partial:
        code.check(folder)
    return code


def write_results(
    table: str,
    rows: list[dict[str, Any]],
    *,
    code: MeasuredCode,
    partial: bool,
    folder: Path = RESULTS,
    facts: dict[str, Any] | None = None,
    measured: Sequence[dict[str, Any]] | None = None,
    quiet: bool = False,
    **more: Any,
) -> None:
    """Write a table unless it is `partial`, because a part must not replace the complete table.

    If rows were measured by several runs, they have the stamps of their code. If the rows only
    summarize others, those are `measured`.
    """
    if partial:
        print(f"partial results: results/{table}.json is unchanged")
        return
    own = [row for row in rows if "commit" in row]
    stamps = stamps_of(own if measured is None else measured)
    code.check(folder, stamps)
    facts = {**(environment() if facts is None else facts), **more, **code.stamp()}
    if stamps:
        facts["measurements"] = stamps
    path = folder / f"{table}.json"
    _write(path, as_text(facts, rows))
    if not quiet:
        print(f"wrote {folder.name}/{path.name}, {len(rows)} rows")


def keep_measurement(
    path: Path, measurement: dict[str, Any], *, code: MeasuredCode, **more: Any
) -> None:
    """Store a program's measurement in a file under the measurement's name; keep the other rows."""
    code.check(path.parent)
    kept = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    kept |= more
    kept["rows"][measurement["measurement"]] = {**measurement, **code.stamp()}
    _write(path, json.dumps(kept, indent=1) + "\n")


def stamps_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the different stamps of rows."""
    stamps = [{name: row[name] for name in STAMP if name in row} for row in rows]
    return [stamp for at, stamp in enumerate(stamps) if stamp not in stamps[:at]]


def as_text(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return a table as JSON with one row per line."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    return f'{{"environment": {json.dumps(facts)},\n"rows": [\n{lines}\n]}}\n'


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")  # the old file stays complete if the run is interrupted
    beside.write_text(text)
    beside.replace(path)
