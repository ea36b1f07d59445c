"""Read training histories of all kinds, from memory or files, into one row for each epoch."""

import csv
import io
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq.base.text import listed
from sensorseq.diagnosis.log_names import (
    ROLES,
    STEP,
    Row,
    count_epochs,
    is_inverse,
    is_of_test,
    left_out,
    recognize,
    role_in_output,
    roles_of,
    split_parts,
)
from sensorseq.diagnosis.metrics import COLUMNS, NEEDED
from sensorseq.errors import (
    ArgumentError,
    EnvironmentProblemError,
    InputError,
    refusing,
    repeated,
    warn_caller,
)
from sensorseq.history import History

_AROUND_RECORD = 16  # bytes around each record: its length and two checksums


def is_event_file(path: Path) -> bool:
    """Recognize an event file by its name, or by the length field of its first record."""
    if ".tfevents." in path.name:
        return True
    with path.open("rb") as file:
        return file.read(8)[2:] == bytes(6)


def read_scalars(path: Path) -> Iterator[tuple[str, int, float]]:
    """Yield tag, step and value of each scalar in a TensorBoard event file, in order.

    An InputError names the byte at which a bad record begins.
    """
    try:
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise EnvironmentProblemError(
            f'{path}: event files need tensorboard: pip install "sensorseq[tensorboard]"'
        ) from error

    def scalar_of(value: Any) -> float | None:
        if value.WhichOneof("value") == "simple_value":
            return float(value.simple_value)
        if value.WhichOneof("value") != "tensor":
            return None
        if any(
            dim.size != 1 for dim in value.tensor.tensor_shape.dim
        ):  # not a scalar, such as a histogram
            return None
        number = make_ndarray(value.tensor)
        return float(number.item()) if number.dtype.kind in "fiu" else None

    offset = 0
    with refusing(InputError, f"{path} is damaged, or is not a TensorBoard event file"):
        for data in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(data)
            for value in event.summary.value:
                number = scalar_of(value)
                if number is not None:
                    yield value.tag, event.step, number
            offset += _AROUND_RECORD + len(data)
    if offset != path.stat().st_size:  # the library treats a damaged record as the end of the file
        raise InputError(
            f"{path}, byte {offset}: the record is truncated or damaged; the writer may have been"
            " killed, or the copy is incomplete."
        )


_EMPTY = {"", "na", "n/a", "none", "null"}
_SEPARATORS = ",;\t"
_EVENTS = "*.tfevents.*"
_MOST_EPOCHS = 50_000


@dataclass
class LogTable:
    """Rows with the column names of the program that wrote them; missing values have no entry."""

    rows: list[dict[str, Any]]  # in the order in which they were written
    places: list[str]  # the name of each row in messages, such as "line 7"
    nan_is_empty: bool = False  # True if NaN may also mean "not recorded"
    losses_are_means: bool = False  # True if a training loss is the mean since the previous entry
    notes: list[str] = field(default_factory=list)  # sentences about skipped or changed entries


def read_path(path: Path) -> LogTable:
    """Read a file or the folder of one run; an InputError names the faulty line, row or byte."""
    if path.is_dir():
        metrics = path / "metrics.csv"  # written by Lightning's CSVLogger
        return _read_text(metrics) if metrics.is_file() else read_event_files(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.")
    return read_event_files(path) if is_event_file(path) else _read_text(path)


def _read_text(path: Path) -> LogTable:
    """Read a text file: JSON if it begins with a bracket, otherwise a table."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a readable log: {error}.") from error
    return _read_json(path, text) if text.lstrip()[:1] in ("[", "{") else _read_lines(path, text)


def _read_lines(path: Path, text: str) -> LogTable:
    """Read a table with a header line; commas, semicolons or tabs separate the entries."""
    head = text.lstrip("\r\n").partition("\n")[0]
    separator = max(_SEPARATORS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        lines = [(reader.line_num, [entry.strip() for entry in entries]) for entries in reader]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}.") from error
    names = next((entries for _, entries in lines if any(entries)), [])
    if (twice := repeated(names)) is not None:
        raise InputError(f"{path} has the column {twice!r} twice.")
    table = LogTable([], [])
    for line, entries in lines:
        if not any(entries) or entries == names:  # a resumed log repeats the header
            continue
        if len(entries) != len(names):
            raise InputError(
                f"{path}, line {line}: {len(entries)} entries for {len(names)} columns."
            )
        pairs = zip(names, entries, strict=True)
        table.rows.append({name: e for name, e in pairs if e.lower() not in _EMPTY})
        table.places.append(f"line {line}")
    if not table.rows:
        raise InputError(f"{path} has no rows of results below a header line.")
    return table


def _read_json(path: Path, text: str) -> LogTable:
    """Read JSON: an array of rows, one row per line, an object of columns, or a `log_history`."""
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise InputError(f"{path} is not a table: it is nested too deeply.") from error
    except ValueError as error:
        try:
            content = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            raise InputError(f"{path} is not JSON: {error}.") from error
    is_transformers = isinstance(content, dict) and isinstance(content.get("log_history"), list)
    if is_transformers:
        # the losses in a `log_history` are means over steps; its last row summarizes the run
        log = content["log_history"]
        content = [row for row in log if not (isinstance(row, dict) and "train_runtime" in row)]
    elif isinstance(content, dict) and all(isinstance(v, list) for v in content.values()):
        if len({len(values) for values in content.values()}) > 1:
            lengths = ", ".join(f"{name} {len(values)}" for name, values in content.items())
            raise InputError(f"{path}: columns differ in length: {lengths}.")
        content = _rows_of(content)
    if not isinstance(content, list) or not all(isinstance(row, Mapping) for row in content):
        raise InputError(
            f"{path} is not a table of results: expected an array of objects, or an object of"
            " columns."
        )
    if not content:
        raise InputError(f"{path} has no rows of results.")
    rows = [{k: v for k, v in row.items() if v is not None} for row in content]
    places = [f"row {number}" for number in range(1, len(content) + 1)]
    return LogTable(rows, places, losses_are_means=is_transformers)


def read_event_files(path: Path) -> LogTable:
    """Read an event file or the folder of one run, which may have subfolders for parts (train/).

    Files are read in the order of their names, which contain the time. If a step occurs again with
    a different value, the new entry replaces the earlier entry and the entries of all later steps.
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
            raise InputError(f"{path} has no TensorBoard event files.{hint}")
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
    steps = sorted(rows)
    notes = []
    if again:
        notes = [
            f"{path}: steps of {listed(sorted(again), most=4)} occur more than once, as in a"
            " resumed run or a second fit in one folder; the later values count."
        ]
    return LogTable([rows[step] for step in steps], [f"step {step}" for step in steps], notes=notes)


# the entries of one epoch by name, each with its step, in the order written
_Group = dict[str, list[tuple[float | None, Any]]]
_LOSSES = ("loss", "val_loss")
_COUNT_ROWS = 'To count rows instead: columns={"epoch": None} (--column epoch=none).'


@dataclass(frozen=True)
class ReadHistory:
    """A history with one row for each epoch and this package's column names."""

    rows: list[dict[str, Any]]  # unrecognized columns keep their own names
    names: dict[str, str]  # maps our name for each recognized column to the source's name
    file: str | None  # None if read from memory

    @contextmanager
    def naming_it(self) -> Iterator[None]:
        """Add the file name and the recognized columns to an error about values."""
        try:
            yield
        except ArgumentError as error:
            if self.file is None:
                raise
            renamed = ", ".join(f"{role} <- {name}" for role, name in self.names.items())
            message = str(error).removeprefix("history: ")
            raise InputError(f"{self.file}: {message} (Read: {renamed}.)") from error


def read_history(history: Any, columns: Mapping[str, str | None] | None = None) -> ReadHistory:
    """Read any history that `FluctuationReport.from_history` accepts, and warn about anomalies.

    >>> read_history({"acc": [0.5, 0.7], "val_acc": [0.4, 0.6]}).names
    {'accuracy': 'acc', 'val_accuracy': 'val_acc'}
    """
    if columns is not None and not isinstance(columns, Mapping):
        raise ArgumentError(f'columns={columns!r}; expected a mapping such as {{"loss": "cost"}}.')
    columns = dict(columns or {})
    if isinstance(history, str | PathLike):
        file: str | None = str(history)
        table = read_path(Path(history))
    else:
        file, table = None, _read_object(history, columns)
    where = file or "history"
    split_rows, columns, parts = split_parts(table.rows, columns)
    named = list(dict.fromkeys(name for row in split_rows for name in row if row[name] is not None))
    nan_is_empty = table.nan_is_empty
    recorded = [
        {n: v for n, v in row.items() if v is not None and (_is_real(v) or not nan_is_empty)}
        for row in split_rows
    ]
    roles = recognize(named, columns, where, recorded)
    if file and not any(role in NEEDED for role in roles.values()):
        raise InputError(
            f"{where} has {listed(named) or 'nothing'}. None is recognized as one of"
            f" {', '.join(NEEDED)}; name one with columns= (--column val_loss=...)."
        )
    _ask_for_one_output(where, recorded, roles, columns)
    places = zip(split_rows, table.places, strict=True)
    inverse = {name for name, role in roles.items() if is_inverse(role, name)}
    rows = [_read_row(row, roles, inverse, file, place) for row, place in places]
    if parts and not any("epoch" in row or STEP in row for row in rows):
        for row, epoch in zip(rows, count_epochs(parts), strict=True):
            row["epoch"] = float(epoch)
    means = {role for role in ("loss", "accuracy") if columns.get(role) is not None}
    means |= {"loss"} if table.losses_are_means else set()
    name_of = {role: name for name, role in roles.items()}
    notes = [_counts_as_validation(where, roles, columns)]
    unused = left_out({name: roles.get(name) for name in named}, columns)
    notes += [
        f"{where}: {name} is not used. If it is {'1 - ' * is_inverse(role, name)}{role}, give"
        f' columns={{"{role}": "{name}"}}'
        f" (--column {role}={name})."
        for name, role in unused.items()
    ]
    if not isinstance(history, History):  # the rows of a History are its epochs
        rows, dropped = gather_epochs(
            rows,
            table.places,
            where=where,
            names=name_of,
            means=means,
            nan_is_empty=nan_is_empty,
        )
        notes += dropped
    if file and len(rows) > _MOST_EPOCHS:
        raise InputError(
            f"{file} has {len(rows)} epochs; at most {_MOST_EPOCHS} can be judged. Are they steps?"
        )
    for note in filter(None, (*table.notes, *notes)):
        warn_caller(note)
    used = {role for row in rows for role in row}
    shown = {role: f"1 - {name}" if name in inverse else name for role, name in name_of.items()}
    names = {role: shown[role] for role in ROLES if role in name_of.keys() & used}
    return ReadHistory(rows, names, file)


def _ask_for_one_output(
    where: str, rows: Sequence[Row], roles: Mapping[str, str], columns: Mapping[str, str | None]
) -> None:
    """Raise an error if a loss is a sum, maybe weighted, of the losses of several outputs."""
    names = dict.fromkeys(name for row in rows for name in row if name not in roles)
    outputs = {name: role_in_output(name) for name in names}
    losses = {role: name for name, role in roles.items() if role in _LOSSES}
    for role, total in losses.items():
        parts = [name for name, (of_role, output) in outputs.items() if of_role == role and output]
        summed = [] if role in columns or len(parts) < 2 else _summands(rows, parts, total)
        if len(summed) < 2:
            continue
        chosen = {of: n for n, (of, output) in outputs.items() if output == outputs[summed[0]][1]}
        ways = [
            f"columns={json.dumps(way)} ({' '.join(f'--column {r}={n}' for r, n in way.items())})"
            for way in (chosen, losses)
        ]
        raise InputError(
            f"{where}: {total} is a sum of {listed(summed)}. Judge one of them with {ways[0]}, or"
            f" the sum with {ways[1]}."
        )


def _summands(rows: Sequence[Row], parts: Sequence[str], total: str) -> list[str]:
    """Return the columns whose weighted sum is `total` in each row; empty if there are none."""
    used = [*parts, total]
    try:
        values = [[float(row[name]) for name in used] for row in rows if row.keys() >= {*used}]
    except (TypeError, ValueError, OverflowError):
        return []
    table = np.array([row for row in values if all(map(math.isfinite, row))])
    if len(table) < len(used) + 2:
        return []
    weights = np.linalg.lstsq(table[:, :-1], table[:, -1], rcond=None)[0]
    rest = np.abs(table[:, :-1] @ weights - table[:, -1])
    if rest.mean() > 3e-4 * table[:, -1].max():  # the digits of a log are rounded
        return []
    return [name for name, weight in zip(parts, weights, strict=True) if weight > 0.01]


def _counts_as_validation(
    where: str, roles: Mapping[str, str], columns: Mapping[str, str | None]
) -> str:
    """Return a sentence about test columns that are used as validation; empty if there are none."""
    tests = [name for name in roles if is_of_test(name) and name not in columns.values()]
    if not tests:
        return ""
    api = ", ".join(f'"{roles[name]}": None' for name in tests)
    cli = " ".join(f"--column {roles[name]}=none" for name in tests)
    return (
        f"{where}: test results are used as validation, for lack of other columns: {listed(tests)}."
        f" To ignore them, give columns={{{api}}} ({cli})."
    )


def _read_object(history: Any, columns: Mapping[str, str | None]) -> LogTable:
    inner = getattr(history, "history", None)
    if isinstance(inner, Mapping) and not isinstance(history, Mapping):
        history = inner
    noun, is_pandas = "epoch", False
    if isinstance(history, Mapping):
        rows = _read_mapping(history, columns)
    elif hasattr(history, "columns"):
        noun, is_pandas = "row", hasattr(history, "iloc")
        rows = _rows_of({str(name): history[name] for name in history.columns})
    else:
        entries = list(history) if isinstance(history, Iterable) else [history]
        if not all(isinstance(row, Mapping) for row in entries):
            raise ArgumentError(
                f"history is a {type(history).__name__}; expected a History, a mapping of lists"
                " (for Keras: its History object's .history) or a list of rows."
            )
        rows = [{str(name): v for name, v in row.items()} for row in entries]
    places = [f"{noun} {number}" for number in range(1, len(rows) + 1)]
    return LogTable(rows, places, nan_is_empty=is_pandas)


def _rows_of(columns: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, values, strict=True)) for values in rows]


def _read_mapping(
    history: Mapping[Any, Any], columns: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    """Convert lists to rows: the columns that are judged, and others of the same length."""
    lists = {
        str(name): list(values)
        for name, values in history.items()
        if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping)
    }
    unused = {role for role, name in columns.items() if name is None}
    roles = roles_of(lists, columns)
    lengths = {
        name: len(values)
        for name, values in lists.items()
        if name in columns.values() or roles[name] in {*COLUMNS} - unused
    }
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ArgumentError(
            f"columns of history differ in length: {sizes}. Fill epochs without a value with None."
        )
    if not lengths and history:
        return [dict.fromkeys(map(str, history))]  # the error that follows lists these names
    n_epochs = max(lengths.values(), default=0)
    return _rows_of({name: values for name, values in lists.items() if len(values) == n_epochs})


def _read_row(
    row: Mapping[str, Any],
    roles: Mapping[str, str],
    inverse: Collection[str],
    file: str | None,
    place: str,
) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for name, value in row.items():
        role = roles.get(name)
        if role is None:
            # An unused column with the name of a role would be mistaken for that role's column.
            if name not in (*ROLES, STEP):
                read[name] = value
        elif value is not None:
            try:
                number = float(value)
                # a percentage is refused later, as the number that the log contains
                read[role] = 1 - number if name in inverse and number <= 1 else number
            except (TypeError, ValueError, OverflowError) as error:
                kind = ArgumentError if file is None else InputError
                raise kind(
                    f"{file or 'history'}: {name} of {place} is {value!r}; expected a number."
                ) from error
    return read


# From rows to epochs: a log may have several rows for one epoch, repeat epochs, or skip epochs.


def gather_epochs(
    rows: Sequence[Row],
    places: Sequence[str],
    *,
    where: str,
    names: Mapping[str, str],
    means: Collection[str] = (),
    nan_is_empty: bool = False,
) -> tuple[list[Row], list[str]]:
    """Return one row for each epoch, in order, and sentences about dropped or changed entries.

    Of several runs, such as folds, only the last run counts. If an epoch appears again after a
    later epoch, the run was resumed there, and the earlier entries of that epoch and of all later
    epochs are dropped. A missing epoch gets an empty row; a fractional epoch, such as 1.5, belongs
    to the epoch in progress. A training loss that is logged several times in an epoch, or before
    the last step of the epoch, is a batch loss: it is averaged if it is among `means`, and dropped
    otherwise. Without an epoch column, each step counts as an epoch, or each row if the steps do
    not increase from row to row. With `nan_is_empty`, NaN means "not recorded", but NaN values at
    the end of a loss count as divergence if there are more of them than in any earlier gap.
    """
    # a test at the end of the run is not judged
    kept = [at for at, row in enumerate(rows) if not _has_test_alone(row)]
    rows, places = [rows[at] for at in kept], [places[at] for at in kept]
    rows, notes = _last_run(rows, where)
    by_epoch = any(_is_real(row.get("epoch", math.nan)) for row in rows)
    steps = [row.get(STEP, math.nan) for row in rows]
    recorded = [step for step in steps if _is_real(step)]
    if by_epoch:
        keys = _read_epochs(rows, where)
    # a step column that does not increase contains the number of steps per epoch
    elif recorded[:1] < recorded[-1:] and recorded == sorted(recorded):
        keys = _fill_missing_keys(steps)
        rows = [{name: value for name, value in row.items() if name != STEP} for row in rows]
    else:
        return _without_gaps(rows, nan_is_empty), notes
    groups, again, begun = _group_by_epoch(rows, keys, nan_is_empty)
    for name in ("loss", "accuracy"):
        is_of_batches = _is_within_epochs if by_epoch else _is_denser_than_validation
        if name not in means and is_of_batches(name, groups):
            notes.append(
                f"{where}: {names[name]} has values of single steps, not the {name} of an epoch,"
                f' and is not used. To use their mean, give columns={{"{name}":'
                f' "{names[name]}"}} (--column {name}={names[name]}).'
            )
            for group in groups.values():
                group.pop(name, None)
    gathered, repeated, several = _merge_entries(groups, means)
    if again | repeated:
        numbers = listed((f"{key:g}" for key in sorted(again | repeated)), most=8)
        repeats = f"{where}: {'epoch' if by_epoch else 'step'} {numbers} occurred more than once"
        if begun and by_epoch:
            notes.append(
                f"{repeats}: the log contains {len(begun) + 1} runs, such as folds or a second fit."
                f" The last run, from {places[begun[-1]]} on, counts. {_COUNT_ROWS}"
            )
        elif not again and len(repeated) > max(len(groups) // 2, 1):
            notes.append(
                f"{repeats}, side by side, as in rows of several batches, parts or runs; the last"
                " row of each epoch counts. A column of steps, parts (train, val) or runs would"
                " distinguish the rows."
            )
        else:
            notes.append(f"{repeats}, as in a resumed run; the later entries count.")
    notes += [
        f"{where}: {names[name]} was measured several times per epoch; the last value is used."
        for name in sorted(several)
    ]
    if by_epoch:
        ordered = _fill_missing_epochs(gathered, where)
    else:  # rows that contain only other columns are not epochs
        ordered = [row for row in gathered.values() if not row.keys().isdisjoint(COLUMNS)]
    return _without_gaps(ordered, nan_is_empty), notes


def _has_test_alone(row: Row) -> bool:
    names = {name for name, value in row.items() if _is_real(value)}
    return names.isdisjoint(COLUMNS) and any(map(is_of_test, names))


def _merge_entries(
    groups: Mapping[float, _Group], means: Collection[str]
) -> tuple[dict[float, Row], set[float], set[str]]:
    """Return rows by epoch, the repeated epochs, and the columns with several values per epoch."""
    gathered: dict[float, Row] = {}
    again: set[float] = set()
    several: set[str] = set()
    for key, group in sorted(groups.items()):
        row = gathered[key] = {}
        for name, entries in group.items():
            row[name] = entries[-1][1]
            if len(entries) < 2 or name not in COLUMNS:
                continue
            steps = [step for step, _ in entries]
            rises = (a is not None and b is not None and a < b for a, b in pairwise(steps))
            if not all(rises):
                again.add(key)
            elif name in means:
                row[name] = sum(value for _, value in entries) / len(entries)
            else:
                several.add(name)
    return gathered, again, several


def _read_epochs(rows: list[Row], where: str) -> list[float]:
    """Return the epoch of each row; a row without an epoch gets the next known epoch."""
    raw = _fill_missing_keys([row.get("epoch", math.nan) for row in rows])
    for epoch in raw:
        if epoch < 0 or math.isinf(epoch):
            raise InputError(f"{where}: epoch {epoch:g} is negative or infinite. {_COUNT_ROWS}")
    if all(epoch == int(epoch) for epoch in raw):
        return raw
    return [max(1.0, float(math.ceil(epoch))) for epoch in raw]


def _fill_missing_keys(keys: list[float]) -> list[float]:
    """Replace each missing key by the next known key, or by the last known key at the end."""
    following = [key for key in keys if _is_real(key)][-1]
    completed = []
    for key in reversed(keys):
        following = key if _is_real(key) else following
        completed.append(following)
    return completed[::-1]


def _last_run(rows: list[Row], where: str) -> tuple[list[Row], list[str]]:
    """If a column such as ``fold`` distinguishes several runs, keep the last run and add a note."""
    epochs = [row.get("epoch", math.nan) for row in rows]
    measured = [frozenset(row.keys() & set(COLUMNS)) for row in rows]
    keys = list(zip(epochs, measured, strict=True))
    if not all(map(_is_real, epochs)) or len(set(keys)) == len(keys):
        return rows, []
    in_all = [name for name in rows[0] if all(name in row for row in rows)]
    for name in (name for name in in_all if name not in (*ROLES, STEP)):
        runs: dict[str, list[int]] = {}
        for at, row in enumerate(rows):
            runs.setdefault(str(row[name]), []).append(at)
        are_apart = all(len({keys[at] for at in run}) == len(run) for run in runs.values())
        starts = {min(epochs[at] for at in run) for run in runs.values()}
        n_epochs = min(len({epochs[at] for at in run}) for run in runs.values())
        # if the runs begin at different epochs, they are parts of one resumed run
        if are_apart and len(runs) > 1 and len(starts) == 1 and n_epochs > 1:
            last = str(rows[-1][name])
            note = (
                f"{where}: epochs occurred more than once: {name} distinguishes {len(runs)} runs"
                f" ({listed(runs, most=5)}). The last run, {name} {last}, counts. {_COUNT_ROWS}"
            )
            return [rows[at] for at in runs[last]], [note]
    return rows, []


def _group_by_epoch(
    rows: list[Row], keys: list[float], nan_is_empty: bool
) -> tuple[dict[float, _Group], set[float], list[int]]:
    """Group the entries by epoch.

    Also return the epochs that a resumed run overwrote, and the rows at which a new run began.
    """
    groups: dict[float, _Group] = {}
    overwritten: set[float] = set()
    begun: list[int] = []
    newest = -math.inf
    for at, (row, key) in enumerate(zip(rows, keys, strict=True)):
        values = {
            name: value
            for name, value in row.items()
            if name not in ("epoch", STEP) and (_is_real(value) or not nan_is_empty)
        }
        measured = values.keys() & set(COLUMNS)
        if key < newest and not groups.get(key, {}).keys().isdisjoint(measured):
            for later in [k for k in groups if k >= key]:
                overwritten.add(later)
                del groups[later]
            begun += [] if groups else [at]
        newest = key
        group = groups.setdefault(key, {})
        for name, value in values.items():
            entries = group.setdefault(name, [])
            if nan_is_empty:  # a NaN counts only if the epoch has no other value
                entries[:] = [entry for entry in entries if _is_real(entry[1])]
            entries.append((row.get(STEP), value))
        for name in set(_LOSSES) & row.keys() - values.keys():
            group.setdefault(name, [(row.get(STEP), math.nan)])
    return groups, overwritten, begun


def _is_denser_than_validation(name: str, groups: Mapping[float, _Group]) -> bool:
    """Detect a column of batch values: it has at least twice as many steps as validation."""
    n_steps, n_validated = (
        sum(not group.keys().isdisjoint(names) for group in groups.values())
        for names in ((name,), ("val_loss", "val_accuracy"))
    )
    return n_steps >= 2 * n_validated > 0


def _is_within_epochs(name: str, groups: Mapping[float, _Group]) -> bool:
    """Test whether a column was logged at steps within epochs rather than at the ends of epochs."""
    for group in groups.values():
        every_step = [s for column in COLUMNS for s, _ in group.get(column, ()) if s is not None]
        steps = {step for step, _ in group.get(name, ()) if step is not None}
        if steps and (len(steps) > 1 or max(every_step) - max(steps) > 1):
            return True
    return False


def _fill_missing_epochs(gathered: dict[float, Row], where: str) -> list[Row]:
    first, last = 0 if 0 in gathered else 1, int(max(gathered, default=0))
    if last - first > 20 * len(gathered) + 1000:
        raise InputError(f"{where}: epochs go up to {last} in {len(gathered)} rows. {_COUNT_ROWS}")
    return [
        {"epoch": number, **gathered.get(epoch, {})}
        for number, epoch in enumerate(range(first, last + 1), 1)
    ]


def _without_gaps(rows: list[Row], nan_is_empty: bool) -> list[Row]:
    if not nan_is_empty:
        return rows
    kept: set[tuple[int, str]] = set()
    for name in _LOSSES:
        recorded = [-1, *(i for i, row in enumerate(rows) if _is_real(row.get(name, math.nan)))]
        end = recorded[-1] + 1
        longest = max((after - before - 1 for before, after in pairwise(recorded)), default=0)
        if len(rows) - end > longest:
            kept |= {(i, name) for i in range(end, len(rows))}
    return [
        {name: v for name, v in row.items() if _is_real(v) or (i, name) in kept}
        for i, row in enumerate(rows)
    ]


def _is_real(value: Any) -> bool:
    return not (isinstance(value, float) and math.isnan(value))
