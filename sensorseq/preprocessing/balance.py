"""Give every class as many windows as the others; for training windows alone."""

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
    """Choose windows such that every class has equally many.

    Balance the training part alone, after the split: copies on both sides of a split would be a
    leak, and a balanced validation part no longer says how the robot fares.

    Parameters
    ----------
    y : array-like of shape (n_windows,)
        Labels.
    groups : array-like of shape (n_windows,), optional
        Windows are dropped or copied in turns over the groups of a class, so that one long
        recording does not come to stand for its class. `recording_id` when not given.
    strategy : {"undersample", "oversample"}, default="undersample"
        undersample: as many of each class as the rarest has, without repeats. oversample: as many
        as the most frequent has; every window stays, and of one class none is copied twice more
        often than another.
    random_state : int, Generator, RandomState or None
        Decides which; equal seeds, equal choice.
    recording_id : array-like of shape (n_windows,), optional
        The recording of each window; for `max_per_recording`.
    max_per_recording : int or float, optional
        Rows that one recording may give to a class, copies counted: a number (int), or a share of
        the rows the class ends with (float above 0, up to 1.0). A recording of more windows then
        loses some even when oversampling. Where a class cannot reach what `strategy` wants under
        this cap, every class gets fewer, the most that all can reach, and a warning names that
        class: equal counts and the cap both hold, always.

    Returns
    -------
    ndarray of shape (n_chosen,), int64
        Sorted positions, to index X of any shape, y, lengths and groups with.

    Raises
    ------
    WindowError
        If there is no window, `groups` or `recording_id` is of another length, or a share leaves a
        class of too few recordings nothing.
    ArgumentError
        If `strategy`, `random_state` or `max_per_recording` makes no sense.

    Warns
    -----
    UserWarning
        If the cap makes every class smaller than `strategy` wants.
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
                f"max_per_recording={max_per_recording!r} needs recording_id, the recording of each"
                " window."
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
    """Draw equally many windows of each class in random order, anew for each epoch.

    Unlike `balance_indices` with a fixed choice, all windows of a large class come up in time.

    Parameters
    ----------
    y : array-like of shape (n_windows,)
        Labels of training windows.
    n_per_class : int
        Windows to draw of each class. No window comes a second time before all of its class have
        come.
    groups : array-like of shape (n_windows,), optional
        Every group of a class is drawn from once before any is drawn from again, and within a group
        each window is as likely as the others. Without groups, every window of the class is as
        likely.
    random_state : int, Generator, RandomState or None
        A Generator goes on from epoch to epoch; an int draws the same each time.

    Returns
    -------
    ndarray of shape (n_classes * n_per_class,), int64
        Positions in random order, repeats among them where a class has fewer windows.

    Raises
    ------
    WindowError
        If there is no window, or `groups` is of another length.
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
    """Draw rows without replacement, as often round as it takes; in turns over their groups."""
    rounds = -(-count // len(rows))
    if group is None:
        drawn = [rng.permutation(rows) for _ in range(rounds)]
    else:
        drawn = [_deal_in_fair_turns(rows, group, rng) for _ in range(rounds)]
    return np.concatenate(drawn or [rows[:0]])[:count]


def check_max_per_recording(value: Any) -> None:
    """Raise unless `value` is a number of rows (int) or a share of them (float)."""
    if isinstance(value, float | np.floating) and 0 < value <= 1:
        return
    if not _is_count(value):
        raise ArgumentError(
            f"max_per_recording={value!r} is neither a number of rows (an integer of at least 1)"
            " nor a share of them (a float above 0, up to 1.0)."
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
    """Return the most windows every class can have, up to `wanted`, and the cap that goes with it.

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
                f"class {classes[short]!r} has {len(sizes[short])} recording(s), which cannot make"
                f" up a class with at most {most:g} of its rows each; record more, or allow a"
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
    """Take rows in turns, round after round, until `wanted`; never more than `cap` of a recording.

    In each round no row comes twice, so rows of one recording are copied equally often, up to one.
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
    """Do the same, with the groups of each turn in random order whatever their sizes."""
    order = rng.permutation(len(members))
    turn = _turns(np.unique(group[order], return_inverse=True)[1])
    dealt: NDArray[np.int64] = members[order][np.lexsort((rng.random(len(members)), turn))]
    return dealt


def _turns(group_index: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of its group come before each row."""
    order = np.argsort(group_index, kind="stable")
    sizes = np.bincount(group_index)
    turn = np.empty(len(group_index), np.int64)
    turn[order] = np.arange(len(group_index)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return turn
