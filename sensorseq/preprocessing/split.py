"""Split windows into parts without dividing a group."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, SplitError
from sensorseq.preprocessing._checks import RandomState, check_random_state
from sensorseq.windows import PARTS

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
