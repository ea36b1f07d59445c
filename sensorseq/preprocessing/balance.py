"""Give every class as many windows as the others; for training windows alone."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import WindowError, check_choice
from sensorseq.preprocessing._checks import RandomState, check_random_state

STRATEGIES = ("undersample", "oversample")


def balance_indices(
    y: ArrayLike,
    groups: ArrayLike | None = None,
    strategy: str = "undersample",
    random_state: RandomState = None,
) -> NDArray[np.int64]:
    """Choose windows such that every class has equally many.

    Balance the training part alone, after the split: copies on both sides of a split would be a
    leak, and a balanced validation part no longer says how the robot fares.

    Parameters
    ----------
    y : array-like of shape (n_windows,)
        Labels.
    groups : array-like of shape (n_windows,), optional
        Windows are dropped or copied in turns over the groups of a class, so that one long
        recording does not come to stand for its class.
    strategy : {"undersample", "oversample"}, default="undersample"
        undersample: as many of each class as the rarest has, without repeats. oversample: as many
        as the most frequent has; every window stays, and of one class none is copied twice more
        often than another.
    random_state : int, Generator, RandomState or None
        Decides which; equal seeds, equal choice.

    Returns
    -------
    ndarray of shape (n_chosen,), int64
        Sorted positions, to index X of any shape, y, lengths and groups with.

    Raises
    ------
    WindowError
        If there is no window, or `groups` is of another length.
    ArgumentError
        If `strategy` or `random_state` is unknown.
    """
    check_choice("strategy", strategy, STRATEGIES)
    rng = check_random_state(random_state)
    labels = np.asarray(y)
    if labels.ndim != 1 or not labels.size:
        raise WindowError(f"y has shape {labels.shape}; expected (n_windows,), at least one.")
    group = np.zeros(len(labels), np.int64) if groups is None else np.asarray(groups)
    if group.shape != labels.shape:
        raise WindowError(
            f"groups has shape {group.shape}; {len(labels)} windows need ({len(labels)},)."
        )
    classes, class_index = np.unique(labels, return_inverse=True)
    counts = np.bincount(class_index)
    chosen: list[NDArray[np.int64]] = []
    for index in range(len(classes)):
        members = np.flatnonzero(class_index == index)
        in_turns = _deal_in_turns(members, group[members], rng)
        if strategy == "undersample":
            chosen.append(in_turns[: counts.min()])
        else:
            copies, extra = divmod(int(counts.max()), len(members))
            chosen += [np.tile(members, copies), in_turns[:extra]]
    return np.sort(np.concatenate(chosen))


def _deal_in_turns(
    members: NDArray[np.int64], group: NDArray[Any], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the members in random order, one of each group before the second of any."""
    members = rng.permutation(np.stack([members, np.unique(group, return_inverse=True)[1]]), axis=1)
    window, group_index = members
    order = np.argsort(group_index, kind="stable")
    sizes = np.bincount(group_index)
    turn = np.empty(len(window), np.int64)  # how many of its group come before a window
    turn[order] = np.arange(len(window)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    in_turns: NDArray[np.int64] = window[np.argsort(turn, kind="stable")]
    return in_turns
