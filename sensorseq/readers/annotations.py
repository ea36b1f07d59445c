"""Labels from programs that annotate recordings: read, put on the recording's clock, written."""

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from sensorseq.errors import RecordingError, check_choice
from sensorseq.readers.suffixes import suffix_of
from sensorseq.recording import UNITS, LabelSpan, Recording, sample_period

PER_RECORDING = "{recording}"
"""Stands in a manifest's name for the name of each recording, if each has a table of its own."""
COLUMNS = ("start", "end")
"""Columns of times in the log's own stamps or in seconds since its start."""
TIME_ORIGINS = {
    "intervals": ("its time stamps", "seconds from its start"),
    "label studio": ("its time stamps", "milliseconds since 1970", "numbers of rows"),
    "dates": ("milliseconds since 1970",),
    "stamps": ("its time stamps",),
}
"""What the times of labels from elsewhere may be."""
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # in front of an uploaded file's name
_CLOCK_TIME = re.compile(r"(\d+):(\d\d):(\d\d(?:[.,]\d+)?)$")
_KIND = "times"  # key of a task's data, with a key of `TIME_ORIGINS`
_NAMES = ("label", "ts")  # of the tags in a labeling configuration
_DIGITS = 6
_YEAR_2000_S = 946_684_800  # time stamps from then on are dates
_ROUNDED_S = 0.002  # by which a duration may differ, as times are rounded to milliseconds


def label_studio_rows(table: Path, root: Path) -> list[dict[str, str]]:
    """Return the regions in a JSON export of Label Studio as rows of a manifest.

    Files are sought by their names below `root`, also without the prefix of an upload.
    """
    try:
        tasks = json.loads(table.read_bytes())
        files = {
            path.name: str(path.relative_to(root))
            for path in sorted(root.rglob("*"))
            if suffix_of(path)
        }
        return [row for task in tasks for row in _rows_of_task(table, task, files)]
    except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise RecordingError(
            f"{table}: cannot be read as a JSON export of Label Studio ({error})."
        ) from error


def _rows_of_task(
    table: Path, task: Mapping[str, Any], files: Mapping[str, str]
) -> Iterator[dict[str, str]]:
    at = f"task {task.get('id', '?')}"
    data = task.get("data", task)
    given = [text for text in data.values() if isinstance(text, str)]
    names = [name for name in map(_file_name, given) if suffix_of(Path(name))]
    found = [
        files[name] for one in names for name in (one, _UPLOADED.sub("", one)) if name in files
    ]
    if not found:
        raise RecordingError(
            f"{table}, {at}: no file {(names or given or ['?'])[0]!r} among the recordings; give"
            " the folder that has it."
        )
    kind = str(data.get(_KIND) or "label studio")
    check_choice(f"{table}, {at}: {_KIND}", kind, TIME_ORIGINS)
    done = [one for one in task.get("annotations", ()) if not one.get("was_cancelled")]
    if len(done) > 1:
        raise RecordingError(f"{table}, {at}: has {len(done)} annotations; export one of them.")
    results = [one.get("value", {}) for each in done for one in each["result"]]
    if "annotations" not in task:  # the short export
        results = [one for own in task.values() if isinstance(own, list) for one in own]
    row = {"at": at, "path": found[0], "kind": kind}
    if not results:
        yield {**row, "label": ""}
    for value in results:
        labels = value.get("timeserieslabels") or value.get("choices") or []
        if len(labels) != 1:
            raise RecordingError(f"{table}, {at}: a region has {len(labels)} labels; give it one.")
        times = {name: str(value[name]) for name in COLUMNS if name in value}
        yield {**row, "label": str(labels[0]), **times}


def _file_name(text: str) -> str:
    address = urlsplit(text)
    local = parse_qs(address.query).get("d", [address.path])[0]
    return unquote(local).replace("\\", "/").rpartition("/")[2]


def tabbed_rows(table: Path, path: str) -> list[dict[str, str]]:
    """Return the intervals of one recording, as Audacity and ELAN export them, as rows."""
    try:
        lines = list(csv.reader(table.read_text("utf-8-sig").splitlines(), delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"{table}: cannot be read as a table of labels ({error}).") from error
    rows: list[dict[str, str]] = []
    for number, fields in enumerate(lines, start=1):
        times = [time_s for one in fields[:-1] if (time_s := _seconds(one)) is not None]
        clocks = [_seconds(one) or 0.0 for one in fields if _CLOCK_TIME.match(one.strip())]
        times = clocks if len(clocks) > 1 else times
        if len(times) < 2:
            if number == 1 or not any(fields) or fields[0] == "\\":
                continue  # a header, an empty line, or the frequencies of a label
            raise RecordingError(
                f"{table}, line {number}: has no start and end between tabs before its label."
            )
        start_s, end_s, *others = times
        if others and abs(others[0] - (end_s - start_s)) > _ROUNDED_S:
            raise RecordingError(
                f"{table}, line {number}: {others[0]:g} s is not the duration from {start_s:g} s to"
                f" {end_s:g} s; export start, end and label alone."
            )
        label = fields[-1].strip()
        row = {"path": path, "label": label, "start": repr(start_s), "end": repr(end_s)}
        rows.append({"at": f"line {number}", **row})
    if not rows:
        raise RecordingError(f"{table}: has no labels.")
    return rows


def _seconds(text: str) -> float | None:
    if found := _CLOCK_TIME.match(text.strip()):
        hours, minutes, seconds = (float(part.replace(",", ".")) for part in found.groups())
        return (hours * 60 + minutes) * 60 + seconds
    try:
        return float(text)
    except ValueError:
        return None


def raw_times(where: str, texts: Iterable[str]) -> tuple[list[float], bool]:
    """Return times as they stand, and True if they are dates, as milliseconds since 1970."""
    times, are_dates = [], False
    for text in texts:
        try:
            times.append(float(text))
        except ValueError:
            try:
                date = datetime.fromisoformat(text)
            except ValueError as error:
                raise RecordingError(
                    f"{where}: {text!r} is neither a number nor a date."
                ) from error
            are_dates = True
            times.append((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() * 1e3)
    return times, are_dates


def on_clock(spans: Iterable[LabelSpan], recording: Recording, kind: str) -> tuple[LabelSpan, ...]:
    """Return label spans, whose times are those of a `kind` of `TIME_ORIGINS`, in seconds.

    They are what lets all spans lie in the recording.

    Raises
    ------
    RecordingError
        If nothing does, or if several do that differ.
    """
    spans = tuple(spans)
    t, clock = recording.timestamps_s, clock_of(recording)
    times = np.array([[span.start_s, span.end_s] for span in spans])
    period_s = sample_period(t) if len(t) > 1 else 1.0
    fitting = {}
    for origin in TIME_ORIGINS[kind]:
        seconds = _as_seconds(times, origin, t, clock)
        if (
            seconds is not None
            and t[0] - period_s <= seconds.min()
            and (seconds.max() <= t[-1] + 2 * period_s)
        ):
            fitting[origin] = seconds
    different: list[str] = []
    for origin, seconds in fitting.items():
        if all(np.abs(seconds - fitting[one]).max() > period_s / 2 for one in different):
            different.append(origin)
    ends = f"from {times.min():.10g} to {times.max():.10g}"
    if not different:
        raise RecordingError(
            f"labels {ends} lie outside the recording, which covers {t[0]:.6f} s to {t[-1]:.6f} s,"
            f" as {' and as '.join(TIME_ORIGINS[kind])}."
        )
    if len(different) > 1:
        raise RecordingError(
            f"labels {ends} can be {' or '.join(different)}. Write them into a manifest as start_s"
            " and end_s, in seconds on the recording's clock; or, if they are time stamps in an"
            f" export of Label Studio, write {_KIND!r}: 'stamps' into the data of the task."
        )
    return tuple(
        LabelSpan(max(start_s, float(t[0])), end_s, span.label)
        for span, (start_s, end_s) in zip(spans, fitting[different[0]].tolist(), strict=True)
    )


def clock_of(recording: Recording) -> dict[str, Any]:
    """Return the facts about a recording's time stamps."""
    clock: Any = recording.attributes.get("clock", {})
    return dict(clock)


def _ticks_and_origin(clock: Mapping[str, Any]) -> tuple[float, float]:
    """Return the units of a log's own time stamps per second, and their time at 0 s."""
    unit = clock.get("unit", "s")
    ticks = clock.get("sample_rate_hz") or UNITS.get(unit, UNITS["ms"])
    return float(ticks), clock.get("origin_ns", 0) / UNITS["ns"]


def _as_seconds(times: Any, origin: str, t: Any, clock: Mapping[str, Any]) -> Any:
    ticks, origin_s = _ticks_and_origin(clock)
    if origin == "seconds from its start":
        return t[0] + times
    if origin == "milliseconds since 1970":
        return times / UNITS["ms"] - origin_s if t[0] + origin_s > _YEAR_2000_S else None
    if origin == "its time stamps":
        return times / ticks - origin_s
    if (times == np.floor(times)).all() and times.min() >= 0 and times.max() <= len(t):
        return np.interp(times, np.arange(len(t)), t)
    return None


def as_label_studio(
    path: Path, spans: Iterable[tuple[float, float, str, float]], clock: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a task of Label Studio with a prediction of (start_s, end_s, label, probability).

    Times are written in the unit of the log's time stamps; dates as milliseconds since 1970.
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
    score = math.fsum(one["score"] for one in results) / max(1, len(results))  # type: ignore[misc]
    prediction = {"model_version": "sensorseq", "score": round(score, _DIGITS), "result": results}
    return {"data": {"csv": path.name, _KIND: "stamps"}, "predictions": [prediction]}
