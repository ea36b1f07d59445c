"""Rows of a log to one row per epoch: a log may need several, repeat some, or miss some."""

import math
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from typing import Any

from sensorseq.errors import InputError
from sensorseq.fluctuation.logs.files import STEP, is_of_test, listed
from sensorseq.fluctuation.statistics.columns import COLUMNS

Row = dict[str, Any]  # without an entry where nothing was recorded
# Entries of one epoch by name, each with its step, in the order they were written.
_Group = dict[str, list[tuple[float | None, Any]]]
_LOSSES = ("loss", "val_loss")
_NO_EPOCH = 'columns={"epoch": None} (--column epoch=none)'


def gather_epochs(
    rows: Iterable[Row],
    *,
    where: str,
    names: Mapping[str, str],
    means: Collection[str] = (),
    nan_is_empty: bool = False,
) -> tuple[list[Row], list[str]]:
    """Return one row for each epoch, in order, and sentences on what was not taken as it stands.

    Rows of one epoch are put together. Where an epoch comes again after a later one, the run was
    resumed there: what was written before of this epoch and of later ones is dropped. Epochs
    without a row get one without entries, so that the place in the list is the number of the epoch;
    epochs counted from 0 are counted from 1. An epoch in parts, such as 1.5, belongs to the one
    that it is a part of. A training loss with several steps in an epoch, or with one that is not
    its last, is that of single batches; it is dropped but for `means`. Without an epoch the steps
    are the epochs, and without steps that grow from row to row, the rows.

    Parameters
    ----------
    rows : iterable of dict
        With names of ours, numbers where the name is a judged one, an epoch or a step.
    where : str
        The file, or "history", for messages.
    names : mapping of str to str
        Our names to those of the log, for messages.
    means : collection of str
        Columns of which several values in an epoch are averaged.
    nan_is_empty : bool
        Whether NaN is what "not recorded" looks like, as in pandas. NaN at the end of a loss, for
        longer than there was any gap before, is a loss that is not a number all the same.

    Raises
    ------
    InputError
        If an epoch is no number from 0 on, or far more than there are rows.
    """
    rows = [row for row in rows if not _is_of_test_alone(row)]
    by_epoch = any(_is_real(row.get("epoch", math.nan)) for row in rows)
    steps = [row.get(STEP, math.nan) for row in rows]
    known = [step for step in steps if _is_real(step)]
    if by_epoch:
        keys = _read_epochs(rows, where)
    elif known[:1] < known[-1:] and known == sorted(known):  # a count of steps per epoch is not
        keys = _complete(steps)
        rows = [{name: value for name, value in row.items() if name != STEP} for row in rows]
    else:
        return _without_gaps(rows, nan_is_empty), []
    groups, again = _group(rows, keys, nan_is_empty)
    notes = []
    for name in ("loss", "accuracy"):
        is_of_batches = _is_within_epochs if by_epoch else _is_denser_than_validation
        if name not in means and is_of_batches(name, groups):
            notes.append(
                f"{where}: {names[name]} has values of single steps, which are no {name} of an"
                f' epoch, and is not used. To have their mean, say columns={{"{name}":'
                f' "{names[name]}"}} (--column {name}={names[name]}).'
            )
            for group in groups.values():
                group.pop(name, None)
    gathered: dict[float, Row] = {}
    several: set[str] = set()
    for key, group in sorted(groups.items()):
        row = gathered[key] = {}
        for name, entries in group.items():
            row[name] = entries[-1][1]
            if len(entries) < 2:
                continue
            written = [step for step, _ in entries]
            grows = (a is not None and b is not None and a < b for a, b in pairwise(written))
            if not all(grows):
                again.add(key)
            elif name in means:
                row[name] = sum(value for _, value in entries) / len(entries)
            elif name in COLUMNS:
                several.add(name)
    if again:
        spelt = listed((f"{key:g}" for key in sorted(again)), most=8)
        notes.append(
            f"{where}: there more than once, as where a run is resumed, so that the later counts:"
            f" {'epoch' if by_epoch else 'step'} {spelt}."
        )
    notes += [
        f"{where}: {names[name]} was measured several times an epoch; the last is used."
        for name in sorted(several)
    ]
    if by_epoch:
        ordered = _fill(gathered, where)
    else:  # what else was noted at steps of its own is no epoch
        ordered = [row for row in gathered.values() if not row.keys().isdisjoint(COLUMNS)]
    return _without_gaps(ordered, nan_is_empty), notes


def _is_of_test_alone(row: Row) -> bool:
    real = [name for name, value in row.items() if _is_real(value)]
    return any(map(is_of_test, real)) and not any(name in COLUMNS for name in real)


def _read_epochs(rows: list[Row], where: str) -> list[float]:
    """Return the epoch of each row; a row without one is of the next row that has one."""
    raw = _complete([row.get("epoch", math.nan) for row in rows])
    for epoch in raw:
        if epoch < 0 or math.isinf(epoch):
            raise InputError(
                f"{where}: epoch {epoch:g} is no number from 0 on. Ignore the column with"
                f" {_NO_EPOCH} to count the rows instead."
            )
    if all(epoch == int(epoch) for epoch in raw):
        return raw
    return [max(1.0, float(math.ceil(epoch))) for epoch in raw]


def _complete(keys: list[float]) -> list[float]:
    """Return keys with each missing one replaced by the next, at the end by the last."""
    following = [key for key in keys if _is_real(key)][-1]
    completed = []
    for key in reversed(keys):
        following = key if _is_real(key) else following
        completed.append(following)
    return completed[::-1]


def _group(
    rows: list[Row], keys: list[float], nan_is_empty: bool
) -> tuple[dict[float, _Group], set[float]]:
    """Return the entries by epoch, and the epochs that were overwritten by a resumed run."""
    groups: dict[float, _Group] = {}
    overwritten: set[float] = set()
    newest = -math.inf
    for row, key in zip(rows, keys, strict=True):
        there = {
            name: value
            for name, value in row.items()
            if name not in ("epoch", STEP) and (_is_real(value) or not nan_is_empty)
        }
        if key < newest and not groups.get(key, {}).keys().isdisjoint(there):
            for later in [k for k in groups if k >= key]:
                overwritten.add(later)
                del groups[later]
        newest = key
        group = groups.setdefault(key, {})
        for name, value in there.items():
            entries = group.setdefault(name, [])
            if nan_is_empty:  # NaN was kept only while there was nothing else
                entries[:] = [entry for entry in entries if _is_real(entry[1])]
            entries.append((row.get(STEP), value))
        for name in set(_LOSSES) & row.keys() - there.keys():
            group.setdefault(name, [(row.get(STEP), math.nan)])
    return groups, overwritten


def _is_denser_than_validation(name: str, groups: Mapping[float, _Group]) -> bool:
    """Return whether a column has so many more steps than validation that they are no epochs."""
    n_own, n_validated = (
        sum(not group.keys().isdisjoint(names) for group in groups.values())
        for names in ((name,), ("val_loss", "val_accuracy"))
    )
    return n_own >= 2 * n_validated > 0


def _is_within_epochs(name: str, groups: Mapping[float, _Group]) -> bool:
    """Return whether a column was noted at steps within epochs instead of after them."""
    for group in groups.values():
        known = [s for own in COLUMNS for s, _ in group.get(own, ()) if s is not None]
        steps = {step for step, _ in group.get(name, ()) if step is not None}
        if steps and (len(steps) > 1 or max(known) - max(steps) > 1):
            return True
    return False


def _fill(gathered: dict[float, Row], where: str) -> list[Row]:
    if not gathered:
        return []
    first = 0 if 0 in gathered else 1
    last = int(max(gathered))
    if last - first > 20 * len(gathered) + 1000:
        raise InputError(
            f"{where}: its epochs go up to {last}, in {len(gathered)} rows. If these are no"
            f" epochs, ignore the column with {_NO_EPOCH}."
        )
    return [
        {"epoch": number, **gathered.get(epoch, {})}
        for number, epoch in enumerate(range(first, last + 1), 1)
    ]


def _without_gaps(rows: list[Row], nan_is_empty: bool) -> list[Row]:
    """Return rows without the NaN that stand for nothing."""
    if not nan_is_empty:
        return rows
    kept: set[tuple[int, str]] = set()
    for name in _LOSSES:
        there = [-1, *(i for i, row in enumerate(rows) if _is_real(row.get(name, math.nan)))]
        end = there[-1] + 1
        if len(rows) - end > max(
            (after - before - 1 for before, after in pairwise(there)), default=0
        ):
            kept |= {(i, name) for i in range(end, len(rows))}
    return [
        {name: v for name, v in row.items() if _is_real(v) or (i, name) in kept}
        for i, row in enumerate(rows)
    ]


def _is_real(value: Any) -> bool:
    return not (isinstance(value, float) and math.isnan(value))
