"""Split windows into parts by group or by time, and describe how even the parts are."""

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, SplitError
from sensorseq.preprocessing._checks import (
    RandomState,
    check_per_window,
    check_positive,
    check_random_state,
)
from sensorseq.windows import PARTS

_WIDTH = 80
_KICKS = 30  # random perturbations of the best assignment, each improved again
_MANY_GROUPS = 64  # above this, single moves balance well enough, and swaps cost too much


def split_by_group(
    y: ArrayLike | None,
    groups: ArrayLike,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    random_state: RandomState = None,
) -> NDArray[np.str_]:
    """Assign whole groups to train, validation and test, with every class in each part.

    A randomised search over assignments of groups brings each part's share of each class, counted
    in windows, as close to `fractions` as whole groups allow.

    Parameters
    ----------
    y : array-like of shape (n_windows,) or None
        Labels; None when there are none to stratify by.
    groups : array-like of shape (n_windows,)
        Units to keep whole: recording, robot, day.
    fractions : sequence of 3 floats, default=(0.6, 0.2, 0.2)
        Target shares of train, validation and test, which sum to 1. A part of 0 stays empty.
    random_state : int, Generator, RandomState or None
        Equal seeds give equal splits.

    Returns
    -------
    ndarray of shape (n_windows,), str
        ``"train"``, ``"validation"`` or ``"test"``.

    Raises
    ------
    SplitError
        If a class has fewer groups than there are parts, or no assignment was found that gives
        every part every class.
    ArgumentError
        If `fractions` are not three shares that sum to 1, train above 0.
    """
    shares = check_fractions(fractions)
    rng = check_random_state(random_state)
    used = np.flatnonzero(shares)
    classes, counts, group_index = _count(y, groups)
    n_groups = np.count_nonzero(counts, axis=0)
    if (n_groups < len(used)).any():
        rare = int(np.argmin(n_groups))
        whose = "" if y is None else f"class {classes[rare]!r}: "
        raise SplitError(
            f"{whose}{n_groups[rare]} group(s) are too few for {len(used)} parts"
            f" ({', '.join(PARTS[part] for part in used)}), which need whole groups. Record more,"
            " use smaller groups, leave the class out, or set a part's fraction to 0."
        )
    required = np.ones((len(used), len(classes)), bool)
    part = assign_groups(counts, shares[used] / shares[used].sum(), _weighty(required), rng)
    missing = np.argwhere(share_out(counts, part, len(used)) == 0)
    if missing.size:
        where, what = missing[0]
        raise SplitError(
            f"found no assignment of whole groups with class {classes[what]!r} in"
            f" {PARTS[used[where]]} and every other class in every part. Record more groups with"
            " these classes, or set a part's fraction to 0."
        )
    return np.array(PARTS)[used[part[group_index]]]


def holdout_by_group(
    y: ArrayLike | None,
    groups: ArrayLike | None,
    fraction: float,
    random_state: RandomState = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out about `fraction` of the windows for validation, in whole groups.

    Every class stays in the training part; a class with only one group (without groups: one window)
    is not in the validation part.

    Parameters
    ----------
    y : array-like of shape (n_windows,) or None
        Labels to stratify by; None for numbers that are not classes.
    groups : array-like of shape (n_windows,) or None
        Units to keep whole. Without groups, single windows are drawn; windows of one recording can
        then be on both sides, which inflates the validation score.
    fraction : float
        Target share, from 0 (hold out none) to below 1.
    random_state : int, Generator, RandomState or None
        Equal seeds give equal parts.

    Returns
    -------
    train_indices, validation_indices : ndarray of int64
        Sorted. The second is empty for a fraction of 0, and without groups when no class has two
        windows.

    Raises
    ------
    SplitError
        If no group can be held out without taking a class from the training part.
    ArgumentError
        If `fraction` is outside its range.
    """
    if not 0 <= fraction < 1:
        raise ArgumentError(f"fraction={fraction!r} is not in 0..1 (1 excluded).")
    rng = check_random_state(random_state)
    if groups is None:
        if y is None:
            raise ArgumentError("y and groups are both missing; give at least one of them.")
        held_out = _draw_windows(np.asarray(y), fraction, rng)
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)
    _, counts, group_index = _count(y, groups)
    if fraction == 0:
        return np.arange(len(group_index)), np.empty(0, np.int64)
    n_groups = np.count_nonzero(counts, axis=0)
    required = np.stack([np.ones(len(n_groups), bool), n_groups > 1])
    part = assign_groups(counts, np.array([1 - fraction, fraction]), _weighty(required), rng)
    if not part.any() or (share_out(counts, part, 2)[0] == 0).any():
        if len(counts) == 1:
            raise SplitError(
                "all windows are in one group, so none can be held out for validation. Give your"
                " own validation data, hold out none (a validation fraction of 0), or record more"
                " groups."
            )
        raise SplitError(
            f"none of {len(counts)} group(s) can be held out for validation without removing a"
            " class from training: each has a class that no other has. Give your own validation"
            " data, hold out none (a validation fraction of 0), or record more groups."
        )
    held_out = part[group_index] == 1
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def check_fractions(fractions: Sequence[float]) -> NDArray[np.float64]:
    """Return the shares of train, validation and test if they are valid, with train above 0."""
    shares = np.asarray(fractions, np.float64)
    if shares.shape != (3,) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ArgumentError(
            f"fractions={tuple(fractions)!r} must be three shares (train, validation, test) of 0 or"
            " more that sum to 1."
        )
    if not shares[0]:
        raise ArgumentError(f"fractions={tuple(fractions)!r} leave no windows to train on.")
    return shares


def _count(
    y: ArrayLike | None, groups: ArrayLike
) -> tuple[list[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Return the classes, windows of each (group, class), and each window's group index."""
    group = np.asarray(groups)
    label = np.zeros(group.shape, np.int64) if y is None else np.asarray(y)
    if group.ndim != 1 or not group.size or label.shape != group.shape:
        raise SplitError(
            f"groups has shape {group.shape} and y has shape {label.shape}; both need"
            " (n_windows,), with at least one window."
        )
    names, group_index = np.unique(group, return_inverse=True)
    classes, class_index = np.unique(label, return_inverse=True)
    counts = np.zeros((len(names), len(classes)), np.int64)
    np.add.at(counts, (group_index, class_index), 1)
    return classes.tolist(), counts, group_index


def share_out(
    counts: NDArray[np.int64], part: NDArray[np.int64], n_parts: int
) -> NDArray[np.int64]:
    """Windows of each (part, class)."""
    shared = np.zeros((n_parts, counts.shape[1]), np.int64)
    np.add.at(shared, part, counts)
    return shared


class _Cost:
    """Squared deviation of parts from the target shares, summed over classes.

    `penalty` is added for a class missing in a part, and more for a part without windows.
    """

    def __init__(
        self,
        counts: NDArray[np.int64],
        fractions: NDArray[np.float64],
        penalty: NDArray[np.float64],
    ) -> None:
        self._total = counts.sum(axis=0)
        self._fractions = fractions
        self._penalty = penalty

    def __call__(self, shared: NDArray[np.int64], part: NDArray[np.int64]) -> NDArray[np.float64]:
        """Cost of rows `shared` (..., n_classes) as contents of parts `part` (...)."""
        off = shared / self._total - self._fractions[part][..., np.newaxis]
        absent = shared == 0
        cost = (off**2 + self._penalty[part] * absent).sum(axis=-1)
        return cost + 1e3 * absent.all(axis=-1)  # type: ignore[no-any-return]


def _weighty(required: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return penalties for missing classes that outweigh any share, most in train (part 0)."""
    missing = np.where(np.arange(len(required)) == 0, 1e6, 10.0)[:, np.newaxis]
    return np.where(required, missing, 0.0)


def assign_groups(
    counts: NDArray[np.int64],
    fractions: NDArray[np.float64],
    penalty: NDArray[np.float64],
    rng: np.random.Generator,
    n_kicks: int = _KICKS,
    swap_up_to: int = _MANY_GROUPS,
) -> NDArray[np.int64]:
    """Return a part for each group: a greedy assignment, repeatedly perturbed and improved.

    Parameters
    ----------
    counts : ndarray of shape (n_groups, n_classes)
        Windows of each group and class; no class is empty.
    fractions : ndarray of shape (n_parts,)
        Target share of each part.
    penalty : ndarray of shape (n_parts, n_classes)
        Cost of a class missing in a part; a deviation costs its square, at most 1.
    rng : Generator
        Decides between equally good assignments.
    n_kicks : int, default=30
        Number of perturbations of the best assignment; 2 for more than 64 groups.
    swap_up_to : int, default=64
        Largest number of groups for which pairs of groups are swapped.
    """
    cost, n_parts, n_groups = _Cost(counts, fractions, penalty), len(fractions), len(counts)

    def total(part: NDArray[np.int64]) -> float:
        return float(cost(share_out(counts, part, n_parts), np.arange(n_parts)).sum())

    best = _assign_greedily(counts, cost, n_parts, rng)
    _improve(best, counts, cost, n_parts, swap_up_to)
    best_cost = total(best)
    for _ in range(n_kicks if n_groups <= _MANY_GROUPS else 2):
        part = best.copy()
        shaken = rng.choice(n_groups, min(n_groups, 2 + n_groups // 8), replace=False)
        part[shaken] = rng.integers(0, n_parts, len(shaken))
        _improve(part, counts, cost, n_parts, swap_up_to)
        if (new_cost := total(part)) < best_cost - 1e-12:
            best, best_cost = part, new_cost
    return best


def draw_assignment(
    counts: NDArray[np.int64],
    fractions: NDArray[np.float64],
    penalty: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return the best of some random assignments: close to the shares, but different each time.

    `assign_groups`, with the same arguments, finds the same best assignment again and again.
    """
    cost, n_parts = _Cost(counts, fractions, penalty), len(fractions)
    n_trials = 20 if len(counts) <= 200 else 2  # each of many groups matters little
    trials = [
        _assign_greedily(counts, cost, n_parts, rng, large_first=False) for _ in range(n_trials)
    ]
    costs = [cost(share_out(counts, part, n_parts), np.arange(n_parts)).sum() for part in trials]
    return trials[int(np.argmin(costs))]


def _assign_greedily(
    counts: NDArray[np.int64],
    cost: _Cost,
    n_parts: int,
    rng: np.random.Generator,
    large_first: bool = True,
) -> NDArray[np.int64]:
    """Assign groups one by one to the part where they lower the cost most."""
    parts = np.arange(n_parts)
    shared = np.zeros((n_parts, counts.shape[1]), np.int64)
    part = np.empty(len(counts), np.int64)
    size = counts.sum(axis=1) if large_first else np.ones(len(counts))
    size = size * rng.uniform(0.7, 1.3, len(counts))
    for group in np.argsort(-size):
        change = cost(shared + counts[group], parts) - cost(shared, parts)
        change += rng.uniform(0, 1e-9, n_parts)  # equal parts in random order
        part[group] = np.argmin(change)
        shared[part[group]] += counts[group]
    return part


def _improve(
    part: NDArray[np.int64],
    counts: NDArray[np.int64],
    cost: _Cost,
    n_parts: int,
    swap_up_to: int,
) -> None:
    """Move single groups, then swap pairs, while that lowers the cost; changes `part`."""
    parts, groups = np.arange(n_parts), np.arange(len(counts))
    for _ in range(4 * len(counts) + 16):
        shared = share_out(counts, part, n_parts)
        now = cost(shared, parts)
        left = cost(shared[part] - counts, part) - now[part]
        joined = cost(
            shared + counts[:, np.newaxis], np.broadcast_to(parts, (len(counts), n_parts))
        )
        change = left[:, np.newaxis] + joined - now
        change[groups, part] = 0
        group, to = np.unravel_index(np.argmin(change), change.shape)
        if change[group, to] < -1e-12:
            part[group] = to
            continue
        if len(counts) > swap_up_to:
            return
        traded = shared[part][:, np.newaxis] - counts[:, np.newaxis] + counts[np.newaxis]
        traded_cost = cost(traded, np.broadcast_to(part[:, np.newaxis], traded.shape[:2]))
        change = traded_cost + traded_cost.T - now[part][:, np.newaxis] - now[part]
        change[part[:, np.newaxis] == part] = 0
        one, other = np.unravel_index(np.argmin(change), change.shape)
        if change[one, other] >= -1e-12:
            return
        part[one], part[other] = part[other], part[one]


def _draw_windows(
    y: NDArray[np.generic], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Mask of single windows to hold out: each class's share, at least one of each kept."""
    classes, class_index = np.unique(y, return_inverse=True)
    counts = np.bincount(class_index, minlength=len(classes))
    exact = counts * fraction
    take = np.floor(exact).astype(np.int64)
    # Add the largest remainders to reach the total; ties in random order.
    missing = round(float(exact.sum())) - int(take.sum())
    order = np.lexsort((rng.random(len(classes)), -(exact - take)))
    take[order[:missing]] += 1
    take = np.minimum(take, counts - 1)
    if fraction > 0 and not take.any() and (counts > 1).any():
        take[int(np.argmax(counts))] = 1
    held_out = np.zeros(len(y), bool)
    for index, count in enumerate(take):
        held_out[rng.permutation(np.flatnonzero(class_index == index))[:count]] = True
    return held_out


def split_by_time(
    recording_id: ArrayLike,
    start_s: ArrayLike,
    window_s: float,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    embargo_s: float | None = None,
    y: ArrayLike | None = None,
) -> NDArray[np.str_]:
    """Assign the windows of every recording to train, validation and test in order of time.

    Use it if there are too few recordings to hold some out: the score is then for later times of
    known runs, not for new runs. Windows of the earlier part that overlap one of the later part, or
    are closer to it than the embargo, are left out, so parts before a border are smaller than their
    share.

    Parameters
    ----------
    recording_id : array-like of shape (n_windows,)
        The recording each window was cut from.
    start_s : array-like of shape (n_windows,)
        Time of its first sample in seconds.
    window_s : float
        Length of a window in seconds.
    fractions : sequence of 3 floats, default=(0.6, 0.2, 0.2)
        Shares of each recording's windows for train, validation and test, which sum to 1. A part
        of 0 stays empty.
    embargo_s : float, optional
        Least time between the end of a window and the start of one in another part, 0 or more; one
        window by default, because signals stay correlated for a while.
    y : array-like of shape (n_windows,), optional
        Labels; if given, every part must have every class.

    Returns
    -------
    ndarray of shape (n_windows,), str
        ``"train"``, ``"validation"``, ``"test"``, or ``""`` for windows to leave out.

    Raises
    ------
    SplitError
        If shapes disagree, a start is not finite, or a part lacks windows or a class.
    ArgumentError
        If `fractions`, `window_s` or `embargo_s` are invalid.
    """
    shares = check_fractions(fractions)
    recording, starts = check_times(recording_id, start_s)
    reach = check_reach(window_s, embargo_s)
    label = check_per_window("y", y, len(starts), SplitError)
    label = np.zeros(len(starts), np.int64) if label is None else label
    rank, n_ranks = _ranks(recording, starts)
    part_index = np.searchsorted(np.cumsum(shares)[:2], (rank + 0.5) / n_ranks, side="right")
    # A share of 0 has no width between two borders, but rounding may miss the last border.
    part_index = np.minimum(part_index, np.flatnonzero(shares)[-1])
    part: NDArray[np.str_] = np.array(PARTS)[part_index]
    # Leave out windows before a border: test windows are the fewest and are all kept.
    for index in (1, 0):
        later = np.isin(part, PARTS[index + 1 :])
        part[(part == PARTS[index]) & near_in_time(recording, starts, later, reach)] = ""
    for name in np.array(PARTS)[shares > 0]:
        lacking = np.setdiff1d(label, label[part == name])
        if lacking.size or not (part == name).any():
            of = "" if y is None else f" of class {lacking.tolist()[0]!r}"
            raise SplitError(
                f"no window{of} remains for {name}: the recordings are too short for these parts"
                f" with {reach - window_s:g} s between them. Split by group, set a part's fraction"
                " to 0, use shorter windows or a shorter embargo_s, or longer recordings."
            )
    return part


def time_blocks(
    recording_id: NDArray[Any], start_s: NDArray[np.float64], n_blocks: int
) -> NDArray[np.int64]:
    """Cut every recording into blocks of equally many windows in order of time.

    Windows with equal starts, such as copies, are in one block. A recording with fewer windows than
    blocks has no window in some blocks.
    """
    rank, n_ranks = _ranks(recording_id, start_s)
    return (rank * n_blocks) // n_ranks


def near_in_time(
    recording_id: NDArray[Any],
    start_s: NDArray[np.float64],
    marked: NDArray[np.bool_],
    reach_s: float,
) -> NDArray[np.bool_]:
    """Return a mask of windows within `reach_s` of a marked one of their recording, by start."""
    near = np.zeros(len(start_s), bool)
    # Time stamps in seconds since 1970, about 1.7e9 s, are rounded to 2.4e-7 s.
    rounding = 1e-6 * reach_s + 4 * np.finfo(np.float64).eps * float(np.abs(start_s).max(initial=0))
    for rows in rows_of(recording_id):
        there = np.sort(start_s[rows[marked[rows]]])
        if there.size:
            after = np.searchsorted(there, start_s[rows])
            left = there[np.maximum(after - 1, 0)]
            right = there[np.minimum(after, len(there) - 1)]
            distance = np.minimum(np.abs(start_s[rows] - left), np.abs(right - start_s[rows]))
            near[rows] = distance < reach_s - rounding
    return near


def rows_of(recording_id: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Return the positions of the windows of each recording."""
    index = np.unique(recording_id, return_inverse=True)[1]
    order = np.argsort(index, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(index[order])) + 1)


def check_times(
    recording_id: ArrayLike, start_s: ArrayLike
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the recording and the start of each window if they are known for all."""
    recording, starts = np.asarray(recording_id), np.asarray(start_s)
    if recording.ndim != 1 or not recording.size or starts.shape != recording.shape:
        raise SplitError(
            f"recording_id has shape {recording.shape} and start_s has shape {starts.shape}; both"
            " need (n_windows,), with at least one window."
        )
    if starts.dtype.kind not in "fiu":
        raise SplitError(f"start_s has dtype {starts.dtype}; it must hold numbers of seconds.")
    starts = starts.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(starts))
    if wrong.size:
        row = int(wrong[0])
        raise SplitError(
            f"start_s[{row}] is {starts[row]} (recording {recording.tolist()[row]!r}); every window"
            " needs a finite start."
        )
    return recording, starts


def check_reach(window_s: float, embargo_s: float | None) -> float:
    """Return how far apart windows of two parts must start: a window and the embargo."""
    length = check_positive("window_s", window_s)
    if embargo_s is None:
        return 2 * length
    is_number = isinstance(embargo_s, int | float | np.number) and not isinstance(embargo_s, bool)
    if not (is_number and np.isfinite(embargo_s) and embargo_s >= 0):
        raise ArgumentError(f"embargo_s={embargo_s!r} is not a number of seconds, 0 or more.")
    return length + float(embargo_s)


def _ranks(
    recording_id: NDArray[Any], start_s: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rank of each window's start in its recording, and the number of starts."""
    rank, n_ranks = np.empty(len(start_s), np.int64), np.empty(len(start_s), np.int64)
    for rows in rows_of(recording_id):
        known, rank[rows] = np.unique(start_s[rows], return_inverse=True)
        n_ranks[rows] = len(known)
    return rank, n_ranks


@dataclass(frozen=True)
class SplitSummary:
    """Windows and groups of each (part, class); ``str`` is a table of at most 80 columns.

    Parameters
    ----------
    n_windows, n_groups : dict of str to dict of label to int
        By part, then class; without labels the only class is ``""``.
    n_left_out : int
        Windows in no part.
    deviation : float
        Largest difference, over parts and classes, between a part's share of a class's windows and
        its target share.
    where : tuple of (str, label)
        The part and the class with the largest difference.
    wanted : dict of str to float
        Target share of each part.
    is_given : bool
        Whether the target shares were given; otherwise they are the parts' shares of all windows.
    """

    n_windows: dict[str, dict[Any, int]]
    n_groups: dict[str, dict[Any, int]]
    n_left_out: int
    deviation: float
    where: tuple[str, Any]
    wanted: dict[str, float]
    is_given: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, and the sentence under ``"imbalance"``."""
        return {**asdict(self), "where": list(self.where), "imbalance": self.imbalance}

    @property
    def imbalance(self) -> str:
        """One sentence on the largest deviation."""
        part, label = self.where
        by_class = self.n_windows[part]
        total = sum(counts[label] for counts in self.n_windows.values())
        of = "the windows" if label == "" else f"class {label}"
        asked = "requested" if self.is_given else "of all windows"
        if self.deviation < 0.005:
            of_what = "the windows" if label == "" else "every class"
            return f"Every part has its share of {of_what}."
        return (
            f"Largest imbalance: {100 * by_class[label] / total:.0f} % of {of} are in {part}"
            f" ({100 * self.wanted[part]:.0f} % {asked})."
        )

    def __str__(self) -> str:
        parts = list(self.n_windows)
        names = list(self.n_windows[parts[0]])
        rows = [["class", *parts]]
        for name in names:
            cells = [f"{self.n_windows[p][name]} ({self.n_groups[p][name]})" for p in parts]
            rows.append([str(name) or "windows", *cells])
        widths = [max(len(row[i]) for row in rows) for i in range(len(parts) + 1)]
        widths[0] = min(widths[0], _WIDTH - sum(width + 2 for width in widths[1:]))
        lines = [
            "  ".join(
                [row[0][: widths[0]].ljust(widths[0])]
                + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            )
            for row in rows
        ]
        lines.append("windows (groups)" + f"; {self.n_left_out} left out" * bool(self.n_left_out))
        lines.append(textwrap.fill(self.imbalance, _WIDTH, subsequent_indent="  "))
        return "\n".join(lines)


def describe_split(
    y: ArrayLike | None,
    groups: ArrayLike | None,
    split: ArrayLike,
    fractions: Sequence[float] | None = None,
) -> SplitSummary:
    """Count the windows and groups of each part and class, and measure the imbalance.

    Parameters
    ----------
    y : array-like of shape (n_windows,) or None
        Labels.
    groups : array-like of shape (n_windows,) or None
        Groups; None counts every window as one.
    split : array-like of shape (n_windows,)
        ``"train"``, ``"validation"`` or ``"test"``; ``""`` for windows that are left out.
    fractions : sequence of 3 floats, optional
        Target shares of train, validation and test, as given to `split_by_group`. By default each
        class should be distributed like all windows.

    Raises
    ------
    SplitError
        If shapes disagree, a part is unknown, or every window is left out.
    ArgumentError
        If `fractions` are not three shares that sum to 1.
    """
    part = np.asarray(split, dtype=np.str_)
    label = np.full(part.shape, "") if y is None else np.asarray(y)
    group = np.arange(part.size) if groups is None else np.asarray(groups)
    if part.ndim != 1 or label.shape != part.shape or group.shape != part.shape:
        raise SplitError(
            f"split has shape {part.shape}, y has shape {label.shape} and groups has shape"
            f" {group.shape}; all need (n_windows,)."
        )
    unknown = sorted(set(part.tolist()) - {*PARTS, ""})
    if unknown:
        raise SplitError(f"split holds {unknown[0]!r}; expected {', '.join(PARTS)}, or ''.")
    kept = part != ""
    if not kept.any():
        raise SplitError("every window is left out; there is no split to describe.")
    wanted = dict(zip(PARTS, (kept & (part == name) for name in PARTS), strict=True))
    shares = {name: float(mask.sum() / kept.sum()) for name, mask in wanted.items()}
    if fractions is not None:
        shares = dict(zip(PARTS, check_fractions(fractions).tolist(), strict=True))
    parts = [name for name in PARTS if shares[name] > 0 or (part == name).any()]
    classes = np.unique(label)
    names = classes.tolist()
    n_windows, n_groups, off = {}, {}, {}
    for name in parts:
        here = [(part == name) & (label == one) for one in classes]
        n_windows[name] = {one: int(mask.sum()) for one, mask in zip(names, here, strict=True)}
        n_groups[name] = {
            one: len(np.unique(group[mask])) for one, mask in zip(names, here, strict=True)
        }
        for one, klass in zip(names, classes, strict=True):
            total = int((kept & (label == klass)).sum())
            if total:
                off[name, one] = abs(n_windows[name][one] / total - shares[name])
    where = max(off, key=lambda key: off[key])
    return SplitSummary(
        n_windows,
        n_groups,
        int((~kept).sum()),
        off[where],
        where,
        {name: shares[name] for name in parts},
        fractions is not None,
    )
