"""Text files of results, and what the names of their columns mean."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from sensorseq.errors import ArgumentError, InputError, check_choice, nearest_known
from sensorseq.fluctuation.logs.event_file import is_event_file, read_scalars

ROLES = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "grad_norm", "epoch")
STEP = "step"  # tells the rows of one epoch apart; no column of a report

_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TRAIN = {"train", "training"}
_VALIDATION = {"val", "valid", "validation", "eval", "evaluation", "dev"}
_TEST = {"test", "testing"}
_STEPS = {"step", "steps", "batch", "iter", "iteration", "iterations"}
_MEANINGS = {
    "loss": ("loss", "cross_entropy", "cross_entropy_loss", "nll_loss"),
    "accuracy": (
        "acc",
        "accuracy",
        "binary_accuracy",
        "categorical_accuracy",
        "sparse_categorical_accuracy",
        "multiclass_accuracy",
    ),
    "learning_rate": ("lr", "learning_rate"),
    "grad_norm": ("grad_norm", "gradient_norm"),
}
_MEANING_OF = {word: role for role, words in _MEANINGS.items() for word in words}


def role_of(name: str) -> str | None:
    """Return what a column is by its name: one of `ROLES`, `STEP`, or None.

    Capitals, and whether words are joined by ``_ - . /`` or a space, make no difference. A word for
    the part may stand anywhere; without one it is the training part. ``epoch`` beside other words
    is left out. A name with ``test``, ``step``, ``batch`` or ``iteration`` is no result of an
    epoch.

    >>> [role_of(name) for name in ("train_loss_epoch", "eval/loss", "train_loss_step", "test_acc")]
    ['loss', 'val_loss', None, None]
    """
    words = _words(name)
    if words in (["epoch"], ["train", "epoch"]):
        return "epoch"
    if words and words[-1] in _STEPS and set(words[:-1]) <= {"global", "training", "train"}:
        return STEP
    said = set(words)
    if said & (_TEST | _STEPS) or (said & _TRAIN and said & _VALIDATION):
        return None
    rest = "_".join(word for word in words if word not in _TRAIN | _VALIDATION | {"epoch"})
    if words[:1] == ["lr"]:  # as lr-Adam, lr-SGD/pg1
        rest = "lr"
    role = _MEANING_OF.get(rest)
    if role is None or not said & _VALIDATION:
        return role
    return f"val_{role}" if role in ("loss", "accuracy") else None


def is_of_test(name: str) -> bool:
    """Return whether a column speaks of a test part, which is never judged."""
    return bool(_TEST & set(_words(name)))


def recognise(
    names: Iterable[str], columns: Mapping[str, str | None], where: str
) -> dict[str, str]:
    """Return what each column is, for those that are something: name to role.

    `columns` is what the user says, role to name or to None for "there is none"; it comes before
    the rules. `where` is the file, or "history", for the messages: ArgumentError for an unknown
    role or name, InputError where two names could be one judged column.
    """
    names = list(dict.fromkeys(names))
    given = dict(columns)
    used = [name for name in given.values() if name is not None]
    if len(set(map(str, used))) < len(used):
        raise ArgumentError(f"columns={given}: one column cannot be two things.")
    for role, own in given.items():
        check_choice("columns: role", role, ROLES)
        if own is not None and own not in names:
            nearest = nearest_known(own, names)
            hint = f" Did you mean {nearest!r}?" if nearest else ""
            raise ArgumentError(
                f"columns: {role} is to be {own!r}, but {where} has no such column.{hint}"
                f" There are {listed(names)}."
            )
    found: dict[str, str] = {name: role for role, name in given.items() if name is not None}
    candidates: dict[str, list[str]] = {}
    for name in names:
        meant = role_of(name)
        if meant is not None and meant not in given and name not in found:
            candidates.setdefault(meant, []).append(name)
    for role, of_role in candidates.items():
        if len(of_role) == 1:
            found[of_role[0]] = role
        elif role in ("learning_rate", "grad_norm", STEP):
            found.update({of_role[0]: role} if role == STEP else {})
        else:
            raise InputError(
                f"{where}: {role} could be {' or '.join(map(repr, of_role))}. Say which with"
                f' columns={{"{role}": "{of_role[0]}"}} (--column {role}={of_role[0]}).'
            )
    return found


def listed(names: Iterable[str], most: int = 12) -> str:
    """Return names as a list to read, shortened when it is long."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return (", ".join(known[:most]) or "nothing") + more


def _words(name: str) -> list[str]:
    words = re.split(r"[^a-z0-9]+", _CAPITAL.sub("_", name).lower())
    return list(dict.fromkeys(word for word in words if word))


_EMPTY = {"", "na", "n/a", "none", "null"}
_SEPARATORS = ",;\t"
_EVENTS = "*.tfevents.*"


@dataclass
class Table:
    """Rows under the names of whoever wrote them, without an entry where nothing was recorded."""

    rows: list[dict[str, Any]]  # in the order they were written
    places: list[str]  # what each is called in messages, such as "line 7"
    nan_is_empty: bool = False  # whether NaN is what "not recorded" looks like, too
    losses_are_means: bool = False  # whether a training loss is the mean since the one before it
    notes: list[str] = field(default_factory=list)  # what was not taken as it stands


def read_path(path: Path) -> Table:
    """Read a file, or the folder of one run; an InputError names the line, row or byte at fault."""
    if path.is_dir():
        metrics = path / "metrics.csv"  # Lightning's CSVLogger
        return _read_text(metrics) if metrics.is_file() else read_event_files(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder.")
    return read_event_files(path) if is_event_file(path) else _read_text(path)


def _read_text(path: Path) -> Table:
    """Read a table, JSON if it begins with a bracket, else lines of entries."""
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
            if not any(entries) or entries == names:  # a resumed log has two heads
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
    content = _parse_json(path, text)
    table = Table([], [])
    if isinstance(content, dict) and isinstance(content.get("log_history"), list):
        # transformers.Trainer: a loss is the mean of its steps; the last row sums the run up.
        log = content["log_history"]
        content = [row for row in log if not (isinstance(row, dict) and "train_runtime" in row)]
        table.losses_are_means = True
    elif isinstance(content, dict) and all(isinstance(v, list) for v in content.values()):
        if len({len(values) for values in content.values()}) > 1:
            lengths = ", ".join(f"{name} {len(values)}" for name, values in content.items())
            raise InputError(f"{path}: columns differ in length: {lengths}.")
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


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InputError(f"{path} is no table: it is nested too deeply.") from error
    except ValueError as error:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            raise InputError(f"{path} is not JSON: {error}.") from error


def read_event_files(path: Path) -> Table:
    """Read an event file, or the folder of one run; folders in it name the part, as train/.

    A tag in a folder is called ``folder/tag``. Files of one folder are read in the order of their
    names, which hold the time; where a step comes again, the later one and what follows counts.
    """
    files = {"": [path]}
    if path.is_dir():
        files = {"": sorted(path.glob(_EVENTS))}
        for folder in sorted(part for part in path.iterdir() if part.is_dir()):
            files[f"{folder.name}/"] = sorted(folder.glob(_EVENTS))
        if not any(files.values()):
            levels = (path.glob(f"{above}/{_EVENTS}") for above in ("*/*", "*/*/*"))
            deeper = next(chain.from_iterable(levels), None)
            hint = f" Give the folder of one run, such as {deeper.parent}." if deeper else ""
            raise InputError(f"{path} has no event files of TensorBoard.{hint}")
    series: dict[str, dict[int, float]] = {}
    again: set[str] = set()
    for prefix, paths in files.items():
        for tag, step, value in chain.from_iterable(map(read_scalars, paths)):
            name = prefix + tag
            points = series.setdefault(name, {})
            if points.get(step, value) != value:
                again.add(name)
                for later in [s for s in points if s >= step]:
                    del points[later]
            points[step] = value
    rows: dict[int, dict[str, Any]] = {}
    for name, points in series.items():
        for step, value in points.items():
            rows.setdefault(step, {STEP: step})[name] = value
    if not rows:
        raise InputError(f"{path} has no scalars.")
    table = Table([rows[step] for step in sorted(rows)], [f"step {step}" for step in sorted(rows)])
    if again:
        table.notes.append(
            f"{path}: there more than once, as where a run is resumed, so that the later counts:"
            f" steps of {listed(sorted(again), most=4)}."
        )
    return table
