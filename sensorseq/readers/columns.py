"""Turn named columns of one file into a Recording, with the checks all table formats share."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq._signal import all_finite
from sensorseq.errors import RecordingError, did_you_mean
from sensorseq.preprocessing import regrid
from sensorseq.recording import Channel, LabelSpan, Recording

Columns = dict[str, NDArray[np.float64] | None]  # None: no numbers

TIME_COLUMNS = ("time", "time_s")
"""Names tried first for the time column when none is given."""
_TIME_NAME = re.compile(r"(time|timestamp|stamp|t)([_ ]?[(\[]?(s|ms|us|µs|ns)[)\]]?)?", re.I)


def find_time_column(path: Path, names: Iterable[str], time_column: str | None) -> str:
    """Return the name of the time column; an error names the most similar column."""
    there = list(names)
    if time_column is None:
        usual = [name for name in TIME_COLUMNS if name in there]
        usual = usual or [name for name in there if is_time_name(name)]
        if len(usual) == 1:
            return usual[0]
        found = "has no column" if not usual else "has both columns"
        joined = " or ".join(TIME_COLUMNS) if not usual else " and ".join(usual)
        raise RecordingError(
            f"{path}: {found} {joined} (columns: {_listed(there)}). Give the time column with"
            " time_column." + _without_header(there)
        )
    if time_column in there:
        return time_column
    hint = did_you_mean(time_column, there, "time_column={!r}")
    raise RecordingError(
        f"{path}: no column {time_column!r}; it has {_listed(there)}.{hint}{_without_header(there)}"
    )


def is_time_name(name: str) -> bool:
    """Return whether a column is named like time stamps, with or without a unit."""
    return _TIME_NAME.fullmatch(name) is not None


def check_timestamps(
    path: Path,
    timestamps_s: NDArray[np.float64],
    time_column: str,
    *,
    repair_stamps: bool = False,
) -> NDArray[np.float64]:
    """Return the time stamps if none is missing and they strictly increase.

    With `repair_stamps`, sort them and merge equal ones instead. An error names the row, counted
    from 1 below the header.
    """
    where = f"in time column {time_column!r}"
    is_finite = all_finite(timestamps_s)
    if not is_finite and (untimed := np.flatnonzero(np.isnan(timestamps_s))).size:
        raise RecordingError(
            f"{path}, row {untimed[0] + 1}: no time stamp {where}; fill it in, or remove the"
            f" {untimed.size} row(s) without one."
        )
    if not is_finite:
        infinite = np.flatnonzero(np.isinf(timestamps_s))
        raise RecordingError(
            f"{path}, row {infinite[0] + 1}: {timestamps_s[infinite[0]]} {where}; time stamps must"
            " be finite seconds."
        )
    if repair_stamps:
        return np.unique(timestamps_s)
    if not (timestamps_s[1:] > timestamps_s[:-1]).all():
        wrong = np.flatnonzero(np.diff(timestamps_s) <= 0)
        row = int(wrong[0]) + 2
        before, now = timestamps_s[row - 2], timestamps_s[row - 1]
        same = now == before
        raise RecordingError(
            f"{path}, row {row}: time {'repeats' if same else 'goes back'} {where}"
            f" ({before:.9g} s, then {now:.9g} s; {wrong.size} such row(s)). "
            + (
                "Keep one row for each time stamp."
                if same
                else "Sort the rows by time, or cut the file where the clock was reset."
            )
            + " Or use repair_stamps, which sorts rows and merges equal time stamps."
        )
    return timestamps_s


@dataclass
class FileContent:
    """The content of a file with one recording.

    NaN is a missing sample; `labels`, one for each sample, become label spans.
    """

    columns: Columns
    timestamps_s: NDArray[np.float64]
    time_name: str
    labels: Sequence[str | None] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    clock: dict[str, Any] = field(default_factory=dict)  # the facts of `Stamps`


def make_recording(
    path: Path,
    content: FileContent,
    *,
    recording_id: str,
    group: str,
    label: str | None,
    units: Mapping[str, str] | None,
    repair_stamps: bool,
) -> Recording:
    """Make the recording of one file; errors name file and row."""
    timestamps_s, time_name, labels = content.timestamps_s, content.time_name, content.labels
    columns = {name: values for name, values in content.columns.items() if values is not None}
    if not columns:
        raise RecordingError(f"{path}: no column of numbers besides {time_name!r}.")
    if not len(timestamps_s):
        raise RecordingError(f"{path}: has a header but no samples.")
    check_timestamps(path, timestamps_s, time_name, repair_stamps=repair_stamps)
    for name, values in columns.items():
        if not all_finite(values) and (infinite := np.flatnonzero(np.isinf(values))).size:
            raise RecordingError(
                f"{path}, row {infinite[0] + 1}, column {name!r}: {values[infinite[0]]} is not a"
                " measurement; leave the field empty if the sample is missing."
            )
    if labels is not None and len(labels) != len(timestamps_s):
        raise RecordingError(
            f"{path}: {len(labels)} labels for {len(timestamps_s)} samples; the label column needs"
            " one entry for each sample, which may be empty."
        )
    units = {**content.units, **(units or {})}
    for name in units:
        if name not in columns:
            raise RecordingError(
                f"{path}: a unit is given for {name!r}; the channels are {_listed(columns)}."
            )
    dropped = [name for name, values in content.columns.items() if values is None]
    attributes: dict[str, object] = {"dropped_columns": dropped} if dropped else {}
    if content.clock:
        attributes["clock"] = content.clock
    table: NDArray[np.floating] = np.column_stack(list(columns.values()))
    if repair_stamps:
        if labels is not None:
            labels = _labels_in_order(path, labels, timestamps_s)
        repaired = regrid.repair_stamps(timestamps_s, table)
        timestamps_s, table = repaired.timestamps_s, repaired.values
        attributes["repaired_stamps"] = repaired.counts
    try:
        return Recording(
            table,
            timestamps_s,
            tuple(Channel(name, units.get(name, "")) for name in columns),
            recording_id,
            group,
            label,
            attributes,
            () if labels is None else spans_of_labels(labels, timestamps_s),
        )
    except RecordingError as error:
        raise RecordingError(f"{path}: {error}") from error


def spans_of_labels(
    labels: Sequence[str | None], timestamps_s: NDArray[np.float64]
) -> tuple[LabelSpan, ...]:
    """Return a span for each run of equal labels; None and blanks are no label.

    A span ends at the time of the next sample; the last one ends a median sample period after the
    last sample.
    """
    if not len(labels):
        return ()
    names = np.array([(label or "").strip() for label in labels], object)
    period_s = float(np.median(np.diff(timestamps_s))) if len(labels) > 1 else 1.0
    ends_s = np.append(timestamps_s, timestamps_s[-1] + period_s)
    edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    return tuple(
        LabelSpan(float(ends_s[first]), float(ends_s[stop]), names[first])
        for first, stop in pairwise(edges)
        if names[first]
    )


def _labels_in_order(
    path: Path, labels: Sequence[str | None], timestamps_s: NDArray[np.float64]
) -> list[str | None]:
    """Return the labels that remain when rows are sorted and equal time stamps merged."""
    order = np.argsort(timestamps_s, kind="stable").tolist()
    kept: list[str | None] = []
    for at, row in enumerate(order):
        before = order[at - 1] if at else row
        if not at or timestamps_s[row] > timestamps_s[before]:
            kept.append(labels[row])
        elif labels[row] != kept[-1]:
            raise RecordingError(
                f"{path}, row {row + 1}: has label {labels[row]!r}, but row {before + 1} has label"
                f" {kept[-1]!r} at the same time; correct one of them."
            )
    return kept


def check_names(path: Path, names: Iterable[str], there: list[str]) -> None:
    """Raise for a column that a table lacks, and name the most similar one."""
    for name in names:
        if name not in there:
            hint = did_you_mean(name, there)
            raise RecordingError(f"{path}: no column {name!r}; it has {_listed(there)}.{hint}")


def check_label_column(
    path: Path, names: Iterable[str], label_column: str | None, time_name: str, label: str | None
) -> None:
    """Raise unless the label column exists, is not the time, and is the only source of labels."""
    if label_column is None:
        return
    there = list(names)
    if label_column not in there:
        hint = did_you_mean(label_column, there, "label_column={!r}")
        raise RecordingError(
            f"{path}: no column {label_column!r} for the labels; it has {_listed(there)}.{hint}"
        )
    if label_column == time_name:
        raise RecordingError(f"{path}: {label_column!r} is the time column, not the labels.")
    if label is not None:
        raise RecordingError(
            f"{path}: its folder or manifest gives the label {label!r}, and"
            f" label_column={label_column!r} labels its samples; use only one of them."
        )


def is_missing(values: NDArray[np.float64]) -> bool:
    """Return whether a column has rows, but no number in any of them."""
    return bool(len(values) and np.isnan(values[0]) and np.isnan(values).all())


def texts_of_numbers(values: NDArray[Any]) -> list[str | None]:
    """Return numeric labels as texts; NaN is no label."""
    return [
        None if value != value else f"{value:g}" if value == int(value) else repr(value)
        for value in values.tolist()
    ]


def numbers_of_texts(path: Path, name: str, texts: list[str | None]) -> NDArray[np.float64] | None:
    """Return a column of texts as numbers; None if none of them is a number.

    An error names the row if some entries are numbers and others are words.
    """
    numbers = np.full(len(texts), np.nan)
    words: list[int] = []
    n_numbers = 0
    for row, text in enumerate(texts):
        if text is None or not text.strip():
            continue
        number = _as_float(text)
        if number is None:
            words.append(row)
        else:
            numbers[row] = number
            n_numbers += 1
    if not n_numbers:
        return None
    if words:
        raise RecordingError(
            f"{path}, row {words[0] + 1}, column {name!r}: {texts[words[0]]!r} is not a number;"
            " leave the field empty if the sample is missing."
        )
    return numbers


def _as_float(text: str) -> float | None:
    if "_" in text:  # only Python reads 1_000 as a number
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _listed(names: Iterable[str], most: int = 12) -> str:
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _without_header(names: list[str]) -> str:
    if names and all(_as_float(name) is not None for name in names):
        return " The first line holds numbers: add a header line with the column names."
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        return " The fields do not seem to be separated by commas."
    return ""
