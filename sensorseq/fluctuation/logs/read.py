"""read_history: whatever a run left behind to rows with our column names."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from sensorseq.errors import ArgumentError, InputError, warn_caller
from sensorseq.fluctuation.logs.epochs import gather_epochs
from sensorseq.fluctuation.logs.files import (
    ROLES,
    STEP,
    Table,
    listed,
    read_path,
    recognise,
    role_of,
)
from sensorseq.fluctuation.statistics.columns import COLUMNS, NEEDED, read_rows
from sensorseq.history import History

# Of skorch, transformers, Lightning and SummaryWriter.
_OF_TORCH = {"dur", "train_batch_count", "eval_loss", STEP}


@dataclass(frozen=True)
class ReadHistory:
    """A history with our column names, a row for each epoch.

    Parameters
    ----------
    rows : list of dict
        Rows with the columns that were recognised, and all others under their own names.
    names : dict of str to str
        What was recognised as what and used: our name to that of the source.
    file : str or None
        Where it was read from; None for what was in memory.
    origin : {"keras", "torch", "other", None}
        What wrote it, as far as its form tells; None for our own fits.
    """

    rows: list[dict[str, Any]]
    names: dict[str, str]
    file: str | None
    origin: str | None = None

    @contextmanager
    def naming_it(self) -> Iterator[None]:
        """Name the file, and what its columns were taken for, in an error about the values."""
        try:
            yield
        except ArgumentError as error:
            if self.file is None:
                raise
            renamed = ", ".join(f"{ours} <- {own}" for ours, own in self.names.items())
            message = str(error).removeprefix("history: ")
            raise InputError(f"{self.file}: {message} (Read: {renamed}.)") from error


def read_history(history: Any, columns: Mapping[str, str | None] | None = None) -> ReadHistory:
    """Read a history of any accepted kind.

    Parameters
    ----------
    history : object or path
        A `History`; a mapping of lists; a list of rows (skorch's ``net.history``); a DataFrame; an
        object with such a mapping as ``.history`` (Keras); or the name of a file or folder: entries
        between commas (Keras' and Lightning's CSVLogger), JSON (`History.to_json`, skorch, the
        ``trainer_state.json`` of transformers), event files of TensorBoard.
    columns : mapping of str to str or None, optional
        Which column is which, our name to theirs, where `names.role_of` cannot know; None for a
        column that is not to be used.

    Raises
    ------
    ArgumentError
        If `history` is nothing that can be read, or `columns` does not fit.
    InputError
        If a file cannot be read, two columns could be the same one, or a value is not a number.

    Warns
    -----
    UserWarning
        When epochs are there twice, or a training loss is that of single batches.

    Examples
    --------
    >>> read = read_history({"acc": [0.5, 0.7], "val_acc": [0.4, 0.6]})
    >>> read.names
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
    named = list(dict.fromkeys(name for row in table.rows for name in row if row[name] is not None))
    roles = recognise(named, columns, where)
    if file and not any(role in NEEDED for role in roles.values()):
        raise InputError(
            f"{where} has {listed(named)}. None is known as one of"
            f" {', '.join(NEEDED)}; say which is with columns= (--column val_loss=...)."
        )
    rows = [
        _read_row(row, roles, file, place)
        for row, place in zip(table.rows, table.places, strict=True)
    ]
    means = {role for role in ("loss", "accuracy") if columns.get(role) is not None}
    if table.losses_are_means:
        means.add("loss")
    own = {role: name for name, role in roles.items()}
    notes: list[str] = []
    if not isinstance(history, History):  # whose rows are its epochs
        rows, notes = gather_epochs(
            rows, where=where, names=own, means=means, nan_is_empty=table.nan_is_empty
        )
    for note in (*table.notes, *notes):
        warn_caller(note)
    used = {role for row in rows for role in row}
    names = {role: own[role] for role in ROLES if role in own.keys() & used}
    return ReadHistory(rows, names, file, _origin_of(history, table.rows, named))


def _origin_of(history: Any, rows: list[dict[str, Any]], names: list[str]) -> str | None:
    """Return what wrote a log, as far as its form tells."""
    if isinstance(history, History) or "duration_s" in names:
        return None
    if isinstance(getattr(history, "history", None), Mapping):
        return "keras"
    # Keras' CSVLogger counts from 0 and sorts its columns; its TensorBoard writes epoch_loss
    first, *rest = names or [""]
    is_csv = first == "epoch" and "loss" in rest[1:] and rest == sorted(rest)
    counts_from_0 = is_csv and str(rows[0].get(first)) in ("0", "0.0")
    if counts_from_0 or any(name.endswith("epoch_loss") for name in names):
        return "keras"
    return "torch" if _OF_TORCH & set(names) else "other"


def _read_object(history: Any, columns: Mapping[str, str | None]) -> Table:
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
        rows = [{str(name): v for name, v in row.items()} for row in read_rows(history)]
    places = [f"{noun} {number}" for number in range(1, len(rows) + 1)]
    return Table(rows, places, nan_is_empty=is_pandas)


def _rows_of(columns: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _read_mapping(
    history: Mapping[Any, Any], columns: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    """Return lists as rows: those that are judged, and all others that are as long."""
    lists = {
        str(name): list(values)
        for name, values in history.items()
        if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping)
    }
    unused = {role for role, name in columns.items() if name is None}
    lengths = {
        name: len(values)
        for name, values in lists.items()
        if name in columns.values() or role_of(name) in {*COLUMNS} - unused
    }
    if len(set(lengths.values())) > 1:
        spelt = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ArgumentError(
            f"columns of history differ in length: {spelt}. Fill epochs without a value with None."
        )
    if not lengths and history:
        return [dict.fromkeys(map(str, history))]  # told by name in the error that follows
    n_epochs = max(lengths.values(), default=0)
    return _rows_of({name: values for name, values in lists.items() if len(values) == n_epochs})


def _read_row(
    row: Mapping[str, Any], roles: Mapping[str, str], file: str | None, place: str
) -> dict[str, Any]:
    """Return a row under our names, with numbers for what is judged."""
    read: dict[str, Any] = {}
    for name, value in row.items():
        role = roles.get(name)
        if role is None:
            if name not in (*ROLES, STEP):  # one of these that is not used would be mistaken for it
                read[name] = value
        elif value is not None:
            try:
                read[role] = float(value)
            except (TypeError, ValueError, OverflowError) as error:
                kind = ArgumentError if file is None else InputError
                raise kind(
                    f"{file or 'history'}: {name} of {place} is {value!r}; expected a number."
                ) from error
    return read
