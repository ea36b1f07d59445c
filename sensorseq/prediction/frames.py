"""Channel names of DataFrames and WindowSets, and the column order of DataFrames."""

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from sensorseq.errors import InputError, did_you_mean, repeated


def column_names(X: Any, name: str = "X") -> list[str] | None:
    """Return the column names of a DataFrame, or None for anything else.

    Increasing integers do not count as names. Other names must be strings, or an error is raised.
    """
    names = list(getattr(X, "columns", ()))
    if not names or all(isinstance(column, str) for column in names):
        return names or None
    if not all(isinstance(column, Integral) for column in names) or names != sorted(set(names)):
        odd = next(column for column in names if not isinstance(column, str))
        raise InputError(
            f"{name} has the column {odd!r}, whose name is not a string, so the columns cannot"
            " be ordered by name. Use strings for all column names, or pass an array."
        )
    return None


def known_names(channels: Sequence[str] | None) -> list[str] | None:
    """Return the channel names, or None if they are the numbered default names of `WindowSet`."""
    if channels is None or list(channels) == [f"channel_{i}" for i in range(len(channels))]:
        return None
    return list(channels)


def check_same_channels(
    channels: Sequence[str] | None, names: Sequence[str], name: str = "X"
) -> None:
    """Raise an error if the names or the order of channels differ between windows and a model."""
    trained, actual = known_names(channels), known_names(names)
    if trained is None or actual is None or len(trained) != len(actual) or trained == actual:
        return
    order = " The order differs." if sorted(trained) == sorted(actual) else ""
    raise InputError(
        f"{name} has the channels {', '.join(actual)}, but the model was trained on"
        f" {', '.join(trained)}.{order} Select the channels in the order of training."
    )


def align(
    parts: Iterable[Any], known: Sequence[str] | None, name: str
) -> tuple[list[Any], list[str] | None]:
    """Put the columns of all DataFrames in the same order; return the parts and the column names.

    The order follows `known`. Without `known`, or if `known` contains only default names, the
    first DataFrame determines the order. The names are None if no part is a DataFrame.
    """
    parts = list(parts)
    for i, part in enumerate(parts):
        _check_time_order(part, f"{name}[{i}]")
    named = [(i, column_names(part, f"{name}[{i}]")) for i, part in enumerate(parts)]
    frames = [(i, names) for i, names in named if names is not None]
    if not frames:
        return parts, None
    first, columns = frames[0]
    owner = "the model"
    if known is None or (known_names(known) is None and sorted(known) != sorted(columns)):
        known, owner = columns, f"{name}[{first}]"
    ordered = [in_order(part, known, f"{name}[{i}]", owner) for i, part in enumerate(parts)]
    return ordered, list(known)


def refuse_panel(X: Any, name: str, y: Any = None) -> None:
    """Raise an InputError if X is one DataFrame with the rows of several windows.

    If there is a label in `y` for each row, the rows are windows.
    """
    has_levels = getattr(getattr(X, "index", None), "nlevels", 1) > 1
    if has_levels and (y is None or len(y) != len(X)):
        raise InputError(
            f"{name} is one table, whose index names the window of each row. Give a list of"
            f" windows: [window for _, window in {name}.groupby(level=0, sort=False)]."
        )


def _check_time_order(part: Any, name: str) -> None:
    """Raise an error if a DataFrame has an index of times or numbers that ever goes back."""
    index: Any = getattr(part, "index", None)
    if not hasattr(index, "is_monotonic_increasing") or index.is_monotonic_increasing:
        return
    keys: Any = list(index)
    if isinstance(keys[0], str):  # only texts that are times or numbers have an order
        for dtype in ("float64", "datetime64[ns]"):
            try:
                keys = np.array(keys, dtype)
                break
            except ValueError:
                continue
        else:
            return
    at = next((i for i in range(1, len(keys)) if keys[i] < keys[i - 1]), None)
    if at is not None:
        raise InputError(
            f"{name} has the index {index[at]} in row {at}, after {index[at - 1]}, but its rows"
            " must be in the order of time. Sort them with sort_index(), or drop an index that has"
            " no meaning with reset_index(drop=True)."
        )


def in_order(X: Any, known: Sequence[str], name: str, owner: str) -> Any:
    """Return a DataFrame with its columns in the order of `known`; return anything else unchanged.

    Messages refer to the DataFrame as `name`, and to the object with the known names as `owner`.
    """
    names = column_names(X, name)
    if names is None:
        return X
    duplicate = repeated(names)
    if duplicate is not None:
        raise InputError(
            f"{name} has the column {duplicate!r} more than once; rename or drop one of them."
        )
    if names == list(known):
        return X
    missing = [column for column in known if column not in names]
    more = [column for column in names if column not in known]
    if missing:
        raise InputError(
            f"{name} lacks the column {missing[0]!r} of {owner} (missing: {len(missing)} of"
            f" {len(known)}).{did_you_mean(missing[0], more)} Give every DataFrame the same"
            " columns, in any order."
        )
    if more:
        raise InputError(
            f"{name} has the column {more[0]!r}, which {owner} lacks ({len(more)} such column(s))."
            " From all DataFrames, drop every column that is not a channel."
        )
    return X[list(known)]
