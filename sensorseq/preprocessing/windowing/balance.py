"""Balance training windows by choosing the same number from every class, or by weights."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import (
    RandomState,
    check_per_window,
    check_random_state,
)
from sensorseq.errors import ArgumentError, WindowError, check_choice

FEW_RECORDINGS = 5
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
    """Return the sorted indices (n_chosen,) of windows, with the same number from every class.

    Balance only the training part, after the split; see `ClassBalancer` for `strategy` and
    `max_per_recording`. Windows are dropped or copied in rotation over the `groups` of a class (by
    default `recording_id`), so that one long recording does not dominate its class.
    """
    check_choice("strategy", strategy, STRATEGIES)
    rng = check_random_state(random_state)
    labels = _check_labels(y)
    recording = check_per_window("recording_id", recording_id, len(labels), WindowError, "y")
    group = check_per_window("groups", groups, len(labels), WindowError, "y")
    if group is None:
        group = np.zeros(len(labels), np.int64) if recording is None else recording
    classes, class_index = np.unique(labels, return_inverse=True)
    counts = np.bincount(class_index)
    repeat = strategy == "oversample"
    cap = wanted = int(counts.max() if repeat else counts.min())
    if max_per_recording is not None:
        is_share = isinstance(max_per_recording, float | np.floating) and 0 < max_per_recording <= 1
        is_count = isinstance(max_per_recording, int | np.integer) and max_per_recording >= 1
        if not (is_share or is_count) or isinstance(max_per_recording, bool):
            raise ArgumentError(
                f"max_per_recording={max_per_recording!r} is neither a number of rows (an integer"
                " of at least 1) nor a fraction of rows (a float above 0, up to 1.0)."
            )
        if recording is None:
            raise ArgumentError(
                f"max_per_recording={max_per_recording!r} needs recording_id, the recording of"
                " each window."
            )
        sizes = [
            np.unique(recording[class_index == index], return_counts=True)[1]
            for index in range(len(classes))
        ]
        wanted, cap = _reachable_count(sizes, wanted, max_per_recording, repeat, classes.tolist())
    chosen: list[NDArray[np.int64]] = []
    for index in range(len(classes)):
        members = np.flatnonzero(class_index == index)
        # The order is random, but each group has one window before any group has a second window.
        group_index = np.unique(group[members], return_inverse=True)[1]
        window, group_index = rng.permutation(np.stack([members, group_index]), axis=1)
        in_turns: NDArray[np.int64] = window[np.argsort(copy_numbers(group_index), kind="stable")]
        of_recording = np.zeros(len(members)) if recording is None else recording[in_turns]
        chosen.append(_take_capped(in_turns, of_recording, wanted, cap))
    return np.sort(np.concatenate(chosen))


def draw_in_rounds(
    rows: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw rows without replacement; start another round whenever all rows are used up."""
    rounds = [rng.permutation(rows) for _ in range(-(-count // len(rows)))]
    return np.concatenate(rounds or [rows[:0]])[:count]


def _check_labels(y: ArrayLike) -> NDArray[Any]:
    labels = np.asarray(y)
    if labels.ndim != 1 or not labels.size:
        raise WindowError(
            f"y has shape {labels.shape}; expected (n_windows,), with at least one window."
        )
    return labels


def _reachable_count(
    sizes: list[NDArray[np.int64]],
    wanted: int,
    most: float,
    repeat: bool,
    classes: list[Any],
) -> tuple[int, int]:
    """Return the count that every class can reach, at most `wanted`, and the limit per recording.

    `sizes` contains, for each class, the number of windows of each recording.
    """

    def reach(size: NDArray[np.int64], cap: int) -> int:
        return len(size) * cap if repeat else int(np.minimum(size, cap).sum())

    if not isinstance(most, float | np.floating):
        cap = min(int(most), 2**62)
        within = [reach(size, cap) for size in sizes]
        reached, short = min(wanted, *within), int(np.argmin(within))
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
                f" may contribute at most a fraction of {most:g} of the rows of the class. Make"
                " more recordings, or use a larger max_per_recording."
            )
    if reached < wanted:
        warnings.warn(
            f"max_per_recording={most!r}: class {classes[short]!r} with its"
            f" {len(sizes[short])} recording(s) cannot reach {wanted} windows; every class gets"
            f" {reached}.",
            stacklevel=3,
        )
    return reached, cap


def copy_numbers(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the earlier occurrences of each row: 0 for a window itself; 1, 2, ... for copies."""
    order = np.argsort(rows, kind="stable")
    _, first, counts = np.unique(rows[order], return_index=True, return_counts=True)
    number = np.empty(len(rows), np.int64)
    number[order] = np.arange(len(rows)) - np.repeat(first, counts)
    return number


def _take_capped(
    in_turns: NDArray[np.int64], recording: NDArray[Any], wanted: int, cap: int
) -> NDArray[np.int64]:
    """Take `wanted` rows in rotation over recordings, at most `cap` rows of each recording.

    A round takes each row once, so the numbers of copies of a recording's rows differ by at most 1.
    """
    recording_index = np.unique(recording, return_inverse=True)[1]
    left = np.full(recording_index.max() + 1, cap)
    taken: list[NDArray[np.int64]] = []
    missing = wanted
    turn = copy_numbers(recording_index)
    while missing:
        allowed = np.flatnonzero(turn < left[recording_index])[:missing]
        taken.append(in_turns[allowed])
        missing -= len(allowed)
        left -= np.bincount(recording_index[allowed], minlength=len(left))
    return np.concatenate(taken)


def balanced_weights(counts: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return ``n / (k * count)`` for n windows of k classes; an empty class has weight 1.

    The mean weight over all windows is 1, and every class counts equally (G. King, L. Zeng,
    *Logistic Regression in Rare Events Data*, 2001).
    """
    present = counts > 0
    balanced = counts.sum() / (present.sum() * np.maximum(counts, np.where(present, 0, 1)))
    return np.where(present, balanced, 1.0)


def weights_of_few_recordings(
    groups: ArrayLike, class_index: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Return weights (n_windows,) that balance the classes; None if there are many recordings.

    Here, a recording consists of the windows of one class in one of the `groups`. If classes have
    at most `FEW_RECORDINGS` recordings on average, the lengths of the recordings are a poor
    estimate of how common a class is.
    """
    group_index = np.unique(np.asarray(groups), return_inverse=True)[1]
    counts = np.bincount(class_index)
    n_recordings = len(np.unique(group_index * len(counts) + class_index))
    if n_recordings > FEW_RECORDINGS * (counts > 0).sum():
        return None
    return balanced_weights(counts)[class_index]
