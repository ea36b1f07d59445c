"""Give every class equally many windows; for training windows only."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, WindowError, check_choice
from sensorseq.preprocessing._checks import RandomState, check_random_state

STRATEGIES = ("undersample", "oversample")


def balance_indices(
    y: ArrayLike,
    groups: ArrayLike | None = None,
    strategy: str = "undersample",
    random_state: RandomState = None,
    *,
    recording_id: ArrayLike | None = None,
    max_per_recording: float | None = None,
) -> NDArray[np.int64]:
    """Choose windows so that every class has equally many.

    Balance only the training part, after the split: copies on both sides of a split are leakage,
    and a balanced validation part no longer reflects how the robot performs.

    Parameters
    ----------
    y : array-like of shape (n_windows,)
        Labels.
    groups : array-like of shape (n_windows,), optional
        Windows are dropped or copied from the groups of a class in rotation, so that one long
        recording does not dominate its class. `recording_id` by default.
    strategy : {"undersample", "oversample"}, default="undersample"
        undersample: every class gets as many windows as the rarest has, without repeats.
        oversample: as many as the most frequent has; every window is kept, and the copies are
        spread evenly over the windows of a class.
    random_state : int, Generator, RandomState or None
        Decides which windows; equal seeds give equal choices.
    recording_id : array-like of shape (n_windows,), optional
        The recording of each window; for `max_per_recording`.
    max_per_recording : int or float, optional
        Most rows that one recording may contribute to a class, copies included: a number (int), or
        a share of the class's final rows (float above 0, up to 1.0). A recording with more windows
        loses some, even when oversampling. If a class cannot reach the target count under this
        limit, every class is reduced to what all can reach, and a warning names that class, so
        that equal counts and the limit always hold.

    Returns
    -------
    ndarray of shape (n_chosen,), int64
        Sorted positions, for indexing X, y, lengths and groups.

    Raises
    ------
    WindowError
        If there is no window, `groups` or `recording_id` has another length, or a class has too few
        recordings for the share.
    ArgumentError
        If `strategy`, `random_state` or `max_per_recording` is invalid.

    Warns
    -----
    UserWarning
        If the limit makes every class smaller than `strategy` would.
    """
    check_choice("strategy", strategy, STRATEGIES)
    rng = check_random_state(random_state)
    labels = _check_labels(y)
    recording = _check_per_window("recording_id", recording_id, len(labels))
    group = _check_per_window("groups", groups, len(labels))
    if group is None:
        group = np.zeros(len(labels), np.int64) if recording is None else recording
    classes, class_index = np.unique(labels, return_inverse=True)
    counts = np.bincount(class_index)
    repeat = strategy == "oversample"
    wanted = int(counts.max() if repeat else counts.min())
    cap: int | None = None
    if max_per_recording is not None:
        check_max_per_recording(max_per_recording)
        if recording is None:
            raise ArgumentError(
                f"max_per_recording={max_per_recording!r} needs recording_id, the recording of"
                " each window."
            )
        sizes = [
            np.unique(recording[class_index == index], return_counts=True)[1]
            for index in range(len(classes))
        ]
        wanted, cap = _reachable(sizes, wanted, max_per_recording, repeat, classes.tolist())
    chosen: list[NDArray[np.int64]] = []
    for index in range(len(classes)):
        members = np.flatnonzero(class_index == index)
        in_turns = _deal_in_turns(members, group[members], rng)
        if cap is not None:
            assert recording is not None
            chosen.append(_take_capped(in_turns, recording[in_turns], wanted, cap))
        else:
            copies, extra = divmod(wanted, len(members))
            chosen += [np.tile(members, copies), in_turns[:extra]]
    return np.sort(np.concatenate(chosen))


def draw_balanced(
    y: ArrayLike,
    n_per_class: int,
    groups: ArrayLike | None = None,
    random_state: RandomState = None,
) -> NDArray[np.int64]:
    """Draw equally many windows of each class in random order, again for each epoch.

    Unlike a fixed choice by `balance_indices`, this uses all windows of a large class over time.

    Parameters
    ----------
    y : array-like of shape (n_windows,)
        Labels of training windows.
    n_per_class : int
        Windows to draw of each class. No window is repeated before all windows of its class have
        been drawn.
    groups : array-like of shape (n_windows,), optional
        Every group of a class is drawn from once before any is drawn from again; windows of a group
        are equally likely. Without groups, all windows of the class are equally likely.
    random_state : int, Generator, RandomState or None
        A Generator continues from epoch to epoch; an int draws the same windows each time.

    Returns
    -------
    ndarray of shape (n_classes * n_per_class,), int64
        Positions in random order, with repeats if a class has fewer windows.

    Raises
    ------
    WindowError
        If there is no window, or `groups` has another length.
    ArgumentError
        If `n_per_class` is not an integer of at least 1, or `random_state` is unknown.
    """
    labels = _check_labels(y)
    group = _check_per_window("groups", groups, len(labels))
    rng = check_random_state(random_state)
    if not _is_count(n_per_class):
        raise ArgumentError(f"n_per_class={n_per_class!r} is not an integer of at least 1.")
    drawn = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        drawn.append(
            draw_in_rounds(
                members, int(n_per_class), rng, None if group is None else group[members]
            )
        )
    return rng.permutation(np.concatenate(drawn))


def draw_in_rounds(
    rows: NDArray[np.int64],
    count: int,
    rng: np.random.Generator,
    group: NDArray[Any] | None = None,
) -> NDArray[np.int64]:
    """Draw rows without replacement in as many rounds as needed, rotating over their groups."""
    rounds = -(-count // len(rows))
    if group is None:
        drawn = [rng.permutation(rows) for _ in range(rounds)]
    else:
        drawn = [_deal_in_fair_turns(rows, group, rng) for _ in range(rounds)]
    return np.concatenate(drawn or [rows[:0]])[:count]


def check_max_per_recording(value: Any) -> None:
    """Raise unless `value` is a number of rows (int) or a share of rows (float)."""
    if isinstance(value, float | np.floating) and 0 < value <= 1:
        return
    if not _is_count(value):
        raise ArgumentError(
            f"max_per_recording={value!r} is neither a number of rows (an integer of at least 1)"
            " nor a share of rows (a float above 0, up to 1.0)."
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 1


def _check_labels(y: ArrayLike) -> NDArray[Any]:
    labels = np.asarray(y)
    if labels.ndim != 1 or not labels.size:
        raise WindowError(f"y has shape {labels.shape}; expected (n_windows,), at least one.")
    return labels


def _check_per_window(name: str, values: ArrayLike | None, n_windows: int) -> NDArray[Any] | None:
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != (n_windows,):
        raise WindowError(
            f"{name} has shape {array.shape}; {n_windows} windows need ({n_windows},)."
        )
    return array


def _reachable(
    sizes: list[NDArray[np.int64]],
    wanted: int,
    most: float,
    repeat: bool,
    classes: list[Any],
) -> tuple[int, int]:
    """Return the most windows every class can have, up to `wanted`, and the limit per recording.

    `sizes` holds, for each class, how many windows each of its recordings has.
    """

    def reach(size: NDArray[np.int64], cap: int) -> int:
        return len(size) * cap if repeat else int(np.minimum(size, cap).sum())

    if not isinstance(most, float | np.floating):
        within = [reach(size, int(most)) for size in sizes]
        reached, short = min(wanted, *within), int(np.argmin(within))
        cap = int(most)
    else:
        short = -1
        for reached in range(wanted, -1, -1):
            cap = int(np.floor(float(most) * reached + 1e-9))
            lacking = [k for k, size in enumerate(sizes) if reach(size, cap) < reached]
            if not lacking:
                break
            short = lacking[0] if short < 0 else short
        if reached == 0:
            short = int(np.argmin([len(size) for size in sizes]))
            raise WindowError(
                f"class {classes[short]!r} has {len(sizes[short])} recording(s), too few if each"
                f" may contribute at most a share of {most:g} of its rows; record more, or use a"
                " larger max_per_recording."
            )
    if reached < wanted:
        warnings.warn(
            f"max_per_recording={most!r}: class {classes[short]!r} with its"
            f" {len(sizes[short])} recording(s) cannot reach {wanted} windows; every class gets"
            f" {reached}.",
            stacklevel=3,
        )
    return reached, cap


def _take_capped(
    in_turns: NDArray[np.int64], recording: NDArray[Any], wanted: int, cap: int
) -> NDArray[np.int64]:
    """Take `wanted` rows in rotation over recordings, at most `cap` of each.

    No row is taken twice in a round, so copies of one recording's rows differ by at most one.
    """
    recording_index = np.unique(recording, return_inverse=True)[1]
    left = np.full(recording_index.max() + 1, cap)
    taken: list[NDArray[np.int64]] = []
    missing = wanted
    turn = _turns(recording_index)
    while missing:
        allowed = np.flatnonzero(turn < left[recording_index])[:missing]
        taken.append(in_turns[allowed])
        missing -= len(allowed)
        left -= np.bincount(recording_index[allowed], minlength=len(left))
    return np.concatenate(taken)


def _deal_in_turns(
    members: NDArray[np.int64], group: NDArray[Any], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the members in random order, one of each group before the second of any."""
    members = rng.permutation(np.stack([members, np.unique(group, return_inverse=True)[1]]), axis=1)
    window, group_index = members
    in_turns: NDArray[np.int64] = window[np.argsort(_turns(group_index), kind="stable")]
    return in_turns


def _deal_in_fair_turns(
    members: NDArray[np.int64], group: NDArray[Any], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Do the same, with the groups of each round in random order, independent of their sizes."""
    order = rng.permutation(len(members))
    turn = _turns(np.unique(group[order], return_inverse=True)[1])
    dealt: NDArray[np.int64] = members[order][np.lexsort((rng.random(len(members)), turn))]
    return dealt


def _turns(group_index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the rows of the same group before each row."""
    order = np.argsort(group_index, kind="stable")
    sizes = np.bincount(group_index)
    turn = np.empty(len(group_index), np.int64)
    turn[order] = np.arange(len(group_index)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return turn
