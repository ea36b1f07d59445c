"""Read labels of annotation programs, convert times to a recording's clock, and export labels."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from sensorseq.base.text import parse_number
from sensorseq.errors import RecordingError, refusing
from sensorseq.readers.suffixes import suffix_of
from sensorseq.recording import LabelSpan, Recording
from sensorseq.stamps.names import UNITS
from sensorseq.stamps.period import sample_period
from sensorseq.stamps.read import clock_of, date_of

PER_RECORDING = "{recording}"
"""The placeholder for the name of the recording in a name pattern for label tables."""
COLUMNS = ("start", "end")
"""Manifest columns with times: timestamps in the log's unit, or dates with a time zone."""
SPAN_CLOCKS = ("stamps", "dates", "start", "rows")
"""Clocks for the times of labels from other programs: the log's timestamps in their own unit,
milliseconds since 1970, seconds from the start of the log, or row numbers from 0."""
_READ_AS = {
    "stamps": "They were read as the log's own timestamps. In a manifest, write seconds as start_s"
    " and end_s; in the data of a Label Studio task, write 'times': 'rows' for row numbers.",
    "dates": "They were read as dates; check their time zone.",
    "start": "They were read as seconds from the start of the log.",
    "rows": "They were read as row numbers.",
}
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # prefix of the name of an uploaded file
_CLOCK_TIME = re.compile(r"(\d+):(\d\d):(\d\d(?:[.,]\d+)?)$")
_KIND = "times"  # key in a task's data whose value is one of `SPAN_CLOCKS`
_NAMES = ("label", "ts")  # names of the tags in a labeling configuration
_DIGITS = 6
_ROUNDED_S = 0.002  # tolerance for durations in seconds, because times are rounded to milliseconds


def label_studio_rows(table: Path, root: Path) -> list[dict[str, str]]:
    """Return the regions in a JSON export of Label Studio as rows of a manifest.

    Files below `root` are found by the end of their paths, with or without the prefix that Label
    Studio adds to uploaded files.
    """
    files = [path.relative_to(root) for path in sorted(root.rglob("*")) if suffix_of(path)]
    with refusing(RecordingError, f"{table}: cannot be read as a JSON export of Label Studio"):
        tasks = json.loads(table.read_bytes())
        rows = [row for task in tasks for row in _rows_of_task(table, task, files)]
    task_of: dict[str, str] = {}
    for row in rows:
        if task_of.setdefault(row["path"], row["at"]) != row["at"]:
            raise RecordingError(
                f"{table}: {task_of[row['path']]} and {row['at']} both label {row['path']}."
                " If the tasks are for different files, give the files different names; otherwise,"
                " export only one of the tasks."
            )
    if not rows:
        raise RecordingError(f"{table}: has no tasks with labels.")
    return rows


def _rows_of_task(
    table: Path, task: Mapping[str, Any], files: Sequence[Path]
) -> Iterator[dict[str, str]]:
    at = f"task {task.get('id', '?')}"
    data = task.get("data", task)
    texts = [_path_in(text) for text in data.values() if isinstance(text, str)]
    named = [parts for parts in texts if suffix_of(Path(parts[-1]))]
    paths = sorted({path for parts in named for path in _files_at(parts, files)})
    if len(paths) != 1:
        names = (
            " and ".join(map(str, paths)) or f"none ({'/'.join((named or texts or [('?',)])[0])})"
        )
        raise RecordingError(
            f"{table}, {at}: must name exactly one recording, but names {names}; name one file in"
            " the task, and give the folder that contains this file."
        )
    kind = str(data.get(_KIND) or "stamps")
    if kind not in SPAN_CLOCKS:
        raise RecordingError(
            f"{table}, {at}: {_KIND!r} is {kind!r}, not {' or '.join(map(repr, SPAN_CLOCKS))}."
        )
    annotations = [
        annotation
        for annotation in task.get("annotations", ())
        if not annotation.get("was_cancelled")
    ]
    if len(annotations) > 1:
        raise RecordingError(
            f"{table}, {at}: has {len(annotations)} annotations; export only one of them."
        )
    results = [
        result.get("value", {}) for annotation in annotations for result in annotation["result"]
    ]
    if "data" not in task:  # in the short form, the labels are in fields of the task
        results = [value for field in task.values() if isinstance(field, list) for value in field]
    marks = [(value, value.get("timeserieslabels") or value.get("choices")) for value in results]
    marks = [(value, labels) for value, labels in marks if labels is not None]
    if not marks:
        raise RecordingError(
            f"{table}, {at}: {paths[0]} has no label; annotate it, or leave the task out of the"
            " export."
        )
    for value, labels in marks:
        if len(labels) != 1:
            raise RecordingError(
                f"{table}, {at}: a region has {len(labels)} labels; give each region one label."
            )
        times = {name: str(value[name]) for name in COLUMNS if value.get(name) is not None}
        row = {"at": at, "path": str(paths[0]), "kind": kind, "label": str(labels[0])}
        yield row | times


def _path_in(text: str) -> tuple[str, ...]:
    """Return the names of the folders and the file in a path or URL."""
    address = urlsplit(text)
    local = parse_qs(address.query).get("d", [address.path])[0]
    return tuple(unquote(local).replace("\\", "/").strip("/").split("/"))


def _files_at(parts: tuple[str, ...], files: Sequence[Path]) -> list[Path]:
    """Return the files whose paths have the longest end in common with a given path."""
    best: list[Path] = []
    for name in (parts[-1], _UPLOADED.sub("", parts[-1])):
        names = (*parts[:-1], name)
        for n in range(1, len(names) + 1):
            agreeing = [path for path in files if path.parts[-n:] == names[-n:]]
            if not agreeing:
                break
            best = agreeing
        if best:
            return best
    return best


def tabbed_rows(table: Path, path: str) -> list[dict[str, str]]:
    """Return the intervals that Audacity or ELAN exported for one recording, as manifest rows.

    The start, the end and possibly the duration are in seconds or hours:minutes:seconds; the label
    follows these times.
    """
    try:
        text = table.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{table}: cannot be read as a table of labels ({error}).") from error
    rows: list[dict[str, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = [field.strip() for field in line.split("\t")]
        is_header = number == 1 and not re.search(r"\d", line)
        if is_header or not any(fields) or fields[0] == "\\":
            continue  # skip a header, a blank line, or a frequency range
        places = [
            (at, time_s)
            for at, field in enumerate(fields)
            if (time_s := _seconds(field)) is not None
        ]
        clocks = [(at, time_s) for at, time_s in places if _CLOCK_TIME.match(fields[at])]
        times = [time_s for _, time_s in (clocks if len(clocks) > 1 else places)]
        after = fields[places[-1][0] + 1 :] if places else []
        if not 2 <= len(times) <= 3 or len(after) != 1:
            raise RecordingError(
                f"{table}, line {number}: must contain a start and an end in seconds, followed by"
                " one label, separated by tabs."
            )
        start_s, end_s, *durations_s = times
        if durations_s and abs(durations_s[0] - (end_s - start_s)) > _ROUNDED_S:
            raise RecordingError(
                f"{table}, line {number}: {durations_s[0]:g} s is not the duration from"
                f" {start_s:g} s to {end_s:g} s; export only start, end and label."
            )
        row = {"at": f"line {number}", "path": path, "kind": "start", "label": after[0]}
        rows.append(row | {"start": repr(start_s), "end": repr(end_s)})
    if not rows:
        raise RecordingError(f"{table}: has no labels.")
    return rows


def _seconds(text: str) -> float | None:
    if match := _CLOCK_TIME.match(text):
        hours, minutes, seconds = (float(part.replace(",", ".")) for part in match.groups())
        return (hours * 60 + minutes) * 60 + seconds
    return parse_number(text, ".")


def raw_time(where: str, text: str, decimal: str) -> tuple[float, bool]:
    """Return a time, and whether it was a date; dates are converted to milliseconds since 1970."""
    if (number := parse_number(text, decimal)) is not None:
        return number, False
    try:
        date = datetime.fromisoformat(text)
    except ValueError as error:
        raise RecordingError(f"{where}: {text!r} is neither a number nor a date.") from error
    if date.tzinfo is None:
        raise RecordingError(
            f"{where}: the date {text!r} has no time zone. Add the zone after the time, such as"
            " +02:00, or add Z if the dates of the log have no zone."
        )
    return date.timestamp() * UNITS["ms"], True


def on_clock(
    spans: Iterable[LabelSpan], recording: Recording, span_clock: str
) -> tuple[LabelSpan, ...]:
    """Return label spans with their times converted from one of `SPAN_CLOCKS` to seconds.

    If the recording's timestamps are dates, spans with the clock ``"stamps"`` may also be in
    milliseconds since 1970.

    Raises
    ------
    RecordingError
        If a span is outside the recording.
    """
    spans = tuple(spans)
    t, (ticks, origin_s) = recording.timestamps_s, _ticks_and_origin(clock_of(recording.attributes))
    times = np.array([[span.start_s, span.end_s] for span in spans])
    period_s = sample_period(t) if len(t) > 1 else 1.0
    as_dates = times / UNITS["ms"] - origin_s
    candidates = [
        {
            "stamps": times / ticks - origin_s,
            "dates": as_dates,
            "start": t[0] + times,
            "rows": np.interp(times, np.arange(len(t)), t, right=np.inf),
        }[span_clock]
    ]
    if span_clock == "stamps" and date_of(recording.attributes, recording.timestamps_s):
        candidates.append(as_dates)
    for seconds in candidates:
        if t[0] - period_s <= seconds.min() and seconds.max() <= t[-1] + 2 * period_s:
            return tuple(
                LabelSpan(max(start_s, float(t[0])), end_s, span.label)
                for span, (start_s, end_s) in zip(spans, seconds.tolist(), strict=True)
            )
    ends = f"{candidates[0].min():.6f} s to {candidates[0].max():.6f} s"
    raise RecordingError(
        f"labels from {ends} are outside the recording, which covers {t[0]:.6f} s to {t[-1]:.6f} s."
        f" {_READ_AS[span_clock]}"
    )


def _ticks_and_origin(clock: Mapping[str, Any]) -> tuple[float, float]:
    """Return the ticks per second of a log's timestamps, and the stamp that corresponds to 0 s."""
    unit = clock.get("unit", "s")
    ticks = clock.get("sample_rate_hz") or UNITS.get(unit, UNITS["ms"])
    return float(ticks), clock.get("origin_ns", 0) / UNITS["ns"]


def as_label_studio(
    path: str, spans: Iterable[tuple[float, float, str, float]], clock: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a Label Studio task with (start_s, end_s, label, probability) spans as a prediction.

    Times are written in the unit of the log's timestamps, and dates as milliseconds since 1970.
    """
    ticks, origin_s = _ticks_and_origin(clock)
    results = [
        {
            "id": f"span{number}",
            "from_name": _NAMES[0],
            "to_name": _NAMES[1],
            "type": "timeserieslabels",
            "score": round(score, _DIGITS),
            "value": {
                "start": round((start_s + origin_s) * ticks, _DIGITS),
                "end": round((end_s + origin_s) * ticks, _DIGITS),
                "instant": False,
                "timeserieslabels": [label],
            },
        }
        for number, (start_s, end_s, label, score) in enumerate(spans)
    ]
    score = math.fsum(result["score"] for result in results) / max(1, len(results))  # type: ignore[misc]
    prediction = {"model_version": "sensorseq", "score": round(score, _DIGITS), "result": results}
    return {"data": {"csv": path, _KIND: "stamps"}, "predictions": [prediction]}
