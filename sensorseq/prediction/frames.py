"""Read DataFrames, whose columns are the channels."""

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

from sensorseq.errors import InputError, did_you_mean, repeated


def column_names(X: Any, name: str = "X") -> list[str] | None:
    """Return the column names of a DataFrame; None for anything else.

    Increasing numbers do not count as names; other numbers, and names that are not strings, raise
    an error.
    """
    names = list(getattr(X, "columns", ()))
    if not names or all(isinstance(column, str) for column in names):
        return names or None
    if not all(isinstance(column, Integral) for column in names) or names != sorted(set(names)):
        odd = next(column for column in names if not isinstance(column, str))
        raise InputError(
            f"{name} has the column {odd!r}; columns are put in order by names that are text. Name"
            " all of them, or give an array."
        )
    return None


def known_names(channels: Sequence[str] | None) -> list[str] | None:
    """Return channel names; None if `WindowSet` numbered the channels by default."""
    if channels is None or list(channels) == [f"channel_{i}" for i in range(len(channels))]:
        return None
    return list(channels)


def check_same_channels(
    channels: Sequence[str] | None, given: Sequence[str], name: str = "X"
) -> None:
    """Raise if windows have other channels than a model, or the same in another order."""
    wanted, own = known_names(channels), known_names(given)
    if wanted is None or own is None or len(wanted) != len(own) or wanted == own:
        return
    order = " The order differs." if sorted(wanted) == sorted(own) else ""
    raise InputError(
        f"{name} has the channels {', '.join(own)}, but the model was trained on"
        f" {', '.join(wanted)}.{order} Select the channels in the order of training."
    )


def align(
    parts: Iterable[Any], known: Sequence[str] | None, name: str
) -> tuple[list[Any], list[str] | None]:
    """Put the columns of all DataFrames in one order; return the parts and the names, or None.

    The order is that of `known`, by default of the first DataFrame. Numbered channels have no names
    to compare with.
    """
    parts = list(parts)
    named = [(i, column_names(part, f"{name}[{i}]")) for i, part in enumerate(parts)]
    frames = [(i, own) for i, own in named if own is not None]
    if not frames:
        return parts, None
    first, own = frames[0]
    owner = "the model"
    if known is None or (known_names(known) is None and sorted(known) != sorted(own)):
        known, owner = own, f"{name}[{first}]"
    ordered = [in_order(part, known, f"{name}[{i}]", owner) for i, part in enumerate(parts)]
    return ordered, list(known)


def in_order(X: Any, known: Sequence[str], name: str, owner: str) -> Any:
    """Return a DataFrame with its columns in the order of `known`; anything else unchanged.

    Errors call the DataFrame `name`, and the object with the known names `owner`.
    """
    names = column_names(X, name)
    if names is None:
        return X
    twice = repeated(names)
    if twice is not None:
        raise InputError(f"{name} has the column {twice!r} more than once; rename or drop one.")
    if names == list(known):
        return X
    missing = [column for column in known if column not in names]
    more = [column for column in names if column not in known]
    if missing:
        raise InputError(
            f"{name} lacks the column {missing[0]!r} of {owner} (missing: {len(missing)} of"
            f" {len(known)}).{did_you_mean(missing[0], more)} Give every frame the same columns, in"
            " any order."
        )
    if more:
        raise InputError(
            f"{name} has the column {more[0]!r}, which {owner} lacks ({len(more)} such column(s))."
            " Drop from every frame what is not a channel."
        )
    return X[list(known)]
