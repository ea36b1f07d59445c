"""Text files of results: comma separated, and JSON."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sensorseq.errors import InputError

_EMPTY = {"", "na", "n/a", "none", "null"}
_SEPARATORS = ",;\t"


@dataclass
class Table:
    """Rows under the names of whoever wrote them, without an entry where nothing was recorded.

    Parameters
    ----------
    rows : list of dict
        In the order they were written.
    places : list of str
        What each is called in messages, such as ``"line 7"``.
    nan_is_empty : bool
        Whether NaN is what "not recorded" looks like, too.
    losses_are_means : bool
        Whether a training loss is the mean since the one before it.
    """

    rows: list[dict[str, Any]]
    places: list[str]
    nan_is_empty: bool = False
    losses_are_means: bool = False
    notes: list[str] = field(default_factory=list)


def read_text(path: Path) -> Table:
    """Read a table, JSON if it begins with a bracket, else lines of entries.

    Raises
    ------
    InputError
        Naming the line that cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no log that can be read here: {error}.") from error
    return _read_json(path, text) if text.lstrip()[:1] in ("[", "{") else _read_lines(path, text)


def _read_lines(path: Path, text: str) -> Table:
    """Read entries between commas, semicolons or tabs, below a line with their names."""
    head = text.lstrip("\r\n").partition("\n")[0]
    separator = max(_SEPARATORS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    names: list[str] = []
    table = Table([], [])
    try:
        for entries in reader:
            entries = [entry.strip() for entry in entries]
            if not any(entries) or entries == names:  # a log that was gone on with has two heads
                continue
            if not names:
                names = entries
                twice = next((name for name in names if names.count(name) > 1), None)
                if twice is not None:
                    raise InputError(f"{path} has the column {twice!r} twice.")
                continue
            place = f"line {reader.line_num}"
            if len(entries) != len(names):
                raise InputError(
                    f"{path}, {place}: {len(entries)} entries for {len(names)} columns."
                )
            pairs = zip(names, entries, strict=True)
            table.rows.append({name: e for name, e in pairs if e.lower() not in _EMPTY})
            table.places.append(place)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}.") from error
    if not table.rows:
        raise InputError(f"{path} has no rows of results below a line with their names.")
    return table


def _read_json(path: Path, text: str) -> Table:
    """Read an array of rows, a row in each line, columns, or a `log_history` with rows."""
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise InputError(f"{path} is no table: it is nested too deeply.") from error
    except ValueError as error:
        content = _read_json_lines(text)
        if content is None:
            raise InputError(f"{path} is not JSON: {error}.") from error
    table = Table([], [])
    if isinstance(content, dict) and isinstance(content.get("log_history"), list):
        # transformers.Trainer: a loss is the mean of its steps; the last row sums the run up.
        content = [
            row
            for row in content["log_history"]
            if not (isinstance(row, dict) and "train_runtime" in row)
        ]
        table.losses_are_means = True
    elif isinstance(content, dict) and all(isinstance(v, list) for v in content.values()):
        lengths = {len(values) for values in content.values()}
        if len(lengths) > 1:
            told = ", ".join(f"{name} {len(values)}" for name, values in content.items())
            raise InputError(f"{path}: columns differ in length: {told}.")
        columns = zip(*content.values(), strict=True)
        content = [dict(zip(content, values, strict=True)) for values in columns]
    if not isinstance(content, list) or not all(isinstance(row, Mapping) for row in content):
        raise InputError(
            f"{path} is no table of results: expected an array of objects, one for each epoch, or"
            " an object of columns."
        )
    if not content:
        raise InputError(f"{path} has no rows of results.")
    table.rows = [{k: v for k, v in row.items() if v is not None} for row in content]
    table.places = [f"row {number}" for number in range(1, len(content) + 1)]
    return table


def _read_json_lines(text: str) -> list[Any] | None:
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        return None
