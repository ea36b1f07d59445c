"""Split windows into parts by group or by time, and describe how balanced the split is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import (
    RandomState,
    check_per_window,
    check_positive,
    check_random_state,
    check_real,
)
from sensorseq.base.text import percent
from sensorseq.errors import ArgumentError, SplitError
from sensorseq.windows import PARTS, rows_of

_KICKS = 30  # how often the best assignment is randomly perturbed and then improved
_MANY_GROUPS = 64  # with more groups, moves of single groups suffice, and swaps cost too much


def split_by_group(
    y: ArrayLike | None,
    groups: ArrayLike,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    random_state: RandomState = None,
    known: ArrayLike | None = None,
) -> NDArray[np.str_]:
    """Assign whole groups to train, validation and test, with every class in each part.

    For every class, each part should receive the fraction of the class's windows that `fractions`
    gives. A randomized search looks for the assignment of whole groups that comes closest to these
    fractions. The function returns the part of each window. `known` contains the part of each
    window whose part is already decided, and ``""`` for other windows. A group stays in the part of
    its first decided window; only groups without a decided window are assigned. A `SplitError` is
    raised if a class has fewer groups than there are parts, or if no assignment with every class in
    every part was found.
    """
    shares = check_fractions(fractions)
    rng = check_random_state(random_state)
    used = np.flatnonzero(shares)
    check_enough_groups(y, groups, fractions)
    classes, counts, group_index = count_windows(y, groups)
    part = _known_part(known, group_index, len(counts), used)
    is_open = part < 0
    held = np.zeros((len(used), len(classes)), np.int64)
    np.add.at(held, part[~is_open], counts[~is_open])
    penalty = _missing_penalties(np.ones((len(used), len(classes)), bool))
    shares = shares[used] / shares[used].sum()
    assignment = GroupAssignment(counts[is_open], shares, penalty, rng, held)
    if is_open.any():
        part[is_open] = assignment.search()
    missing = assignment.missing(part[is_open])
    if missing.size:
        where, what = missing[0]
        raise SplitError(
            f"found no assignment of whole groups that has class {classes[what]!r} in"
            f" {PARTS[used[where]]} and every other class in every part. Record more groups with"
            " these classes, or set a part's fraction to 0."
        )
    return np.array(PARTS)[used[part[group_index]]]


def check_enough_groups(y: ArrayLike | None, groups: ArrayLike, fractions: Sequence[float]) -> None:
    """Raise a SplitError if a class has fewer groups than there are parts."""
    used = np.flatnonzero(check_fractions(fractions))
    classes, counts, _ = count_windows(y, groups)
    n_groups = np.count_nonzero(counts, axis=0)
    rare = int(np.argmin(n_groups))
    if n_groups[rare] < len(used):
        whose = "" if y is None else f"class {classes[rare]!r}: "
        raise SplitError(
            f"{whose}{n_groups[rare]} group(s) are too few for {len(used)} parts"
            f" ({', '.join(PARTS[part] for part in used)}), each of which needs at least one."
            " Record more groups, use smaller groups, leave the class out, set a part's fraction to"
            " 0, or split each recording by time."
        )


def _known_part(
    known: ArrayLike | None, group_index: NDArray[np.int64], n_groups: int, used: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the index in `used` of each group's decided part, or -1 if its part is undecided."""
    part = np.full(n_groups, -1)
    if known is not None:
        names = np.array(PARTS)[used]
        place = np.argmax(np.asarray(known)[:, np.newaxis] == names, axis=1)
        # Assign in reverse order, so that the first row of each group prevails.
        rows = np.flatnonzero(np.isin(known, names))[::-1]
        part[group_index[rows]] = place[rows]
    return part


def holdout_by_group(
    y: ArrayLike | None,
    groups: ArrayLike | None,
    fraction: float,
    random_state: RandomState = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out whole groups; return the indices of the training and the validation windows.

    About `fraction` of the windows are held out for validation. Every class stays in the training
    part; a class with only one group (or only one window, if there are no groups) is not in the
    validation part. Without groups, single windows are drawn; windows of one recording can then be
    in both parts, which inflates the validation score.
    """
    check_real("fraction", fraction, 0.0, 1.0)
    rng = check_random_state(random_state)
    if groups is None:
        if y is None:
            raise ArgumentError("y and groups are both missing; give at least one of them.")
        held_out = _draw_windows(np.asarray(y), fraction, rng)
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)
    _, counts, group_index = count_windows(y, groups)
    if fraction == 0:
        return np.arange(len(group_index)), np.empty(0, np.int64)
    n_groups = np.count_nonzero(counts, axis=0)
    required = np.stack([np.ones(len(n_groups), bool), n_groups > 1])
    assignment = GroupAssignment(
        counts, np.array([1 - fraction, fraction]), _missing_penalties(required), rng
    )
    part = assignment.search()
    if not part.any() or (assignment.missing(part)[:, 0] == 0).any():
        if len(counts) == 1:
            raise SplitError(
                "all windows are in one group, so none can be held out for validation. Give your"
                " own validation data, set the validation fraction to 0, or record more"
                " groups."
            )
        raise SplitError(
            f"none of {len(counts)} group(s) can be held out for validation without removing a"
            " class from training, because each has a class that no other group has. Give your"
            " own validation data, set the validation fraction to 0, or record more"
            " groups."
        )
    held_out = part[group_index] == 1
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def check_fractions(fractions: Sequence[float]) -> NDArray[np.float64]:
    """Return the fractions of train, validation and test.

    An error is raised if the fractions are invalid or the training fraction is 0.
    """
    try:
        shares = np.asarray(fractions, np.float64)
    except (TypeError, ValueError):
        shares = np.empty(0)
    if shares.shape != (3,) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ArgumentError(
            f"fractions={fractions!r} must be three numbers (train, validation, test) of 0 or"
            " more that sum to 1."
        )
    if not shares[0]:
        raise ArgumentError(f"fractions={tuple(fractions)!r} leaves no windows to train on.")
    return shares


def count_windows(
    y: ArrayLike | None, groups: ArrayLike
) -> tuple[list[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Return the classes, the window counts (group, class), and the group index of each window."""
    group = np.asarray(groups)
    label = np.zeros(group.shape, np.int64) if y is None else np.asarray(y)
    if group.ndim != 1 or not group.size or label.shape != group.shape:
        raise SplitError(
            f"groups has shape {group.shape} and y has shape {label.shape}; both need shape"
            " (n_windows,), with at least one window."
        )
    names, group_index = np.unique(group, return_inverse=True)
    classes, class_index = np.unique(label, return_inverse=True)
    counts = np.zeros((len(names), len(classes)), np.int64)
    np.add.at(counts, (group_index, class_index), 1)
    return classes.tolist(), counts, group_index


@dataclass(eq=False)
class GroupAssignment:
    """Searches for an assignment of groups that gives each part its fraction of every class.

    `counts` (n_groups, n_classes) are numbers of windows; every class must have windows. The cost
    of an assignment is the squared deviation from `fractions`, summed over parts and classes, plus
    `penalty` (n_parts, n_classes) for each class that a part lacks, and a large penalty for a part
    without windows. `held` (n_parts, n_classes) counts the windows that are already in the parts.
    """

    counts: NDArray[np.int64]
    fractions: NDArray[np.float64]
    penalty: NDArray[np.float64]
    rng: np.random.Generator
    held: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.held is None:
            self.held = np.zeros((len(self.fractions), self.counts.shape[1]), np.int64)
        self._total = self.counts.sum(axis=0) + self.held.sum(axis=0)
        # Put classes on the first axis, along which summing the costs is fast.
        self._counts = np.ascontiguousarray(self.counts.T)
        self._penalty = np.ascontiguousarray(self.penalty.T)
        self._held = np.ascontiguousarray(self.held.T)

    def search(self, n_kicks: int = _KICKS, swap_up_to: int = _MANY_GROUPS) -> NDArray[np.int64]:
        """Improve a greedy assignment by random perturbations; return the best assignment.

        There are `n_kicks` perturbations (2 for more than 64 groups); pairs of groups are swapped
        if there are at most `swap_up_to` groups.
        """
        n_groups = len(self.counts)
        best = self._assign_greedily()
        self._improve(best, swap_up_to)
        best_cost = self._cost_of(best)
        for _ in range(n_kicks if n_groups <= _MANY_GROUPS else 2):
            part = best.copy()
            shaken = self.rng.choice(n_groups, min(n_groups, 2 + n_groups // 8), replace=False)
            part[shaken] = self.rng.integers(0, len(self.fractions), len(shaken))
            self._improve(part, swap_up_to)
            if (new_cost := self._cost_of(part)) < best_cost - 1e-12:
                best, best_cost = part, new_cost
        return best

    def missing(self, part: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the (part, class) pairs without windows."""
        return np.argwhere(self._shared(part).T == 0)

    def _shared(self, part: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the windows of each class in each part (n_classes, n_parts)."""
        shared = self._held.copy()
        np.add.at(shared.T, part, self.counts)
        return shared

    def _cost(
        self, shared: NDArray[Any], fractions: NDArray[np.float64], penalty: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the cost of window counts `shared` (n_classes, ...) for these fractions."""
        off = (shared.T / self._total).T - fractions
        absent = shared == 0
        cost = (off * off + penalty * absent).sum(axis=0)
        return cost + 1e3 * absent.all(axis=0)  # type: ignore[no-any-return]

    def _cost_in_parts(self, shared: NDArray[Any]) -> NDArray[np.float64]:
        """Return the cost of each part for window counts `shared` (n_classes, n_parts)."""
        return self._cost(shared, self.fractions, self._penalty)

    def _cost_of(self, part: NDArray[np.int64]) -> float:
        return float(self._cost_in_parts(self._shared(part)).sum())

    def _assign_greedily(self) -> NDArray[np.int64]:
        """Assign groups one by one, each to the part where this group lowers the cost most."""
        counts, n_parts = self._counts, len(self.fractions)
        shared = self._held.copy()
        part = np.empty(len(self.counts), np.int64)
        size = self.counts.sum(axis=1) * self.rng.uniform(0.7, 1.3, len(part))
        for group in np.argsort(-size):
            joined = shared + counts[:, group, np.newaxis]
            change = self._cost_in_parts(joined) - self._cost_in_parts(shared)
            change += self.rng.uniform(0, 1e-9, n_parts)  # choose randomly among equally good parts
            part[group] = np.argmin(change)
            shared[:, part[group]] += counts[:, group]
        return part

    def _improve(self, part: NDArray[np.int64], swap_up_to: int) -> None:
        """Move single groups, then swap pairs, while this lowers the cost; `part` is modified."""
        counts, groups = self._counts, np.arange(len(self.counts))
        by_part = self._penalty[:, np.newaxis]
        for _ in range(4 * len(groups) + 16):
            shared = self._shared(part)
            now = self._cost_in_parts(shared)
            without = shared[:, part] - counts
            fractions, penalty = self.fractions[part], self._penalty[:, part]
            left = self._cost(without, fractions, penalty) - now[part]
            joined = self._cost(
                shared[:, np.newaxis] + counts[..., np.newaxis], self.fractions, by_part
            )
            change = left[:, np.newaxis] + joined - now
            change[groups, part] = 0
            group, to = np.unravel_index(np.argmin(change), change.shape)
            if change[group, to] < -1e-12:
                part[group] = to
                continue
            if len(groups) > swap_up_to:
                return
            traded = without[..., np.newaxis] + counts[:, np.newaxis]
            cost = self._cost(traded, fractions[:, np.newaxis], penalty[..., np.newaxis])
            change = cost + cost.T - now[part][:, np.newaxis] - now[part]
            change[part[:, np.newaxis] == part] = 0
            first, second = np.unravel_index(np.argmin(change), change.shape)
            if change[first, second] >= -1e-12:
                return
            part[first], part[second] = part[second], part[first]


def _missing_penalties(required: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return penalties for missing classes that outweigh any imbalance.

    The penalties are highest in the training part, which is part 0.
    """
    missing = np.where(np.arange(len(required)) == 0, 1e6, 10.0)[:, np.newaxis]
    return np.where(required, missing, 0.0)


def _draw_windows(
    y: NDArray[np.generic], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw windows to hold out: a fraction of each class, but never all of its windows."""
    classes, class_index = np.unique(y, return_inverse=True)
    counts = np.bincount(class_index, minlength=len(classes))
    exact = counts * fraction
    take = np.floor(exact).astype(np.int64)
    # Round up the counts with the largest remainders to reach the total; break ties randomly.
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
    known: ArrayLike | None = None,
) -> NDArray[np.str_]:
    """Assign the windows of every recording to train, validation and test in order of time.

    Use this split if there are too few recordings to hold out some of them. The score then applies
    to later times of known runs, not to new runs. Windows before a border between parts get ``""``
    if they overlap a window after the border, or are closer to such a window than the embargo (by
    default one window length, because signals are correlated). Parts before a border are therefore
    smaller than requested. If `y` is given, every part must have every class. `known` contains the
    part of each window whose part is already decided, and ``""`` for other windows. In each
    recording, either all windows or no windows must have a decided part.
    """
    shares = check_fractions(fractions)
    recording, starts = check_times(recording_id, start_s)
    reach = check_reach(window_s, embargo_s)
    label = check_per_window("y", y, len(starts), SplitError, "start_s")
    label = np.zeros(len(starts), np.int64) if label is None else label
    rank, n_ranks = _ranks(recording, starts)
    part_index = np.searchsorted(np.cumsum(shares)[:2], (rank + 0.5) / n_ranks, side="right")
    # A middle part with a fraction of 0 receives no windows, but rounding may put windows into a
    # last part with a fraction of 0.
    part_index = np.minimum(part_index, np.flatnonzero(shares)[-1])
    part: NDArray[np.str_] = np.array(PARTS)[part_index]
    # Leave out windows before a border, not after it, so that the test part, which often has the
    # fewest windows, keeps all of them.
    for index in (1, 0):
        later = np.isin(part, PARTS[index + 1 :])
        part[(part == PARTS[index]) & near_in_time(recording, starts, later, reach)] = ""
    if known is not None:
        part = np.where(np.asarray(known) == "", part, known)
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
    """Cut every recording, in order of time, into blocks with nearly the same number of windows.

    Windows with equal starts, such as copies, are in the same block. If a recording has fewer
    windows than there are blocks, some of its blocks are empty.
    """
    rank, n_ranks = _ranks(recording_id, start_s)
    return (rank * n_blocks) // n_ranks


def folds_in_time(
    y: NDArray[Any], groups: NDArray[Any], starts: NDArray[np.float64], n_folds: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return folds in time, as pairs of window indices to fit and to test on.

    The windows of each group and class are divided into time intervals, and each fold tests on one
    interval. `starts` are in units of the window length. A fold leaves out windows that are closer
    than a window length to a tested window. The last fold tests on the latest windows.
    """
    codes = [np.unique(part, return_inverse=True)[1] for part in (groups, y)]
    group_and_class = codes[0] * (1 + int(codes[1].max())) + codes[1]
    block = time_blocks(group_and_class, starts, n_folds)
    folds = []
    for number in range(n_folds):
        tested = block == number
        near = near_in_time(groups, starts, tested, 2.0)
        folds.append((np.flatnonzero(~tested & ~near), np.flatnonzero(tested)))
    return folds


def near_in_time(
    recording_id: NDArray[Any],
    start_s: NDArray[np.float64],
    marked: NDArray[np.bool_],
    reach_s: float,
) -> NDArray[np.bool_]:
    """Return a mask of the windows near a marked window of the same recording.

    A window is near if its start is less than `reach_s` from the start of a marked window.
    """
    near = np.zeros(len(start_s), bool)
    # Timestamps in seconds since 1970, about 1.7e9 s, are rounded to 2.4e-7 s.
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


def check_times(
    recording_id: ArrayLike, start_s: ArrayLike
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the recording and start of each window; raise an error if a start is unknown."""
    recording, starts = np.asarray(recording_id), np.asarray(start_s)
    if recording.ndim != 1 or not recording.size or starts.shape != recording.shape:
        raise SplitError(
            f"recording_id has shape {recording.shape} and start_s has shape {starts.shape}; both"
            " need shape (n_windows,), with at least one window."
        )
    if starts.dtype.kind not in "fiu":
        raise SplitError(f"start_s has dtype {starts.dtype}; it must contain seconds as numbers.")
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
    """Return the minimum distance between the starts of windows in two parts.

    The distance is the window length plus the embargo.
    """
    length = check_positive("window_s", window_s)
    if embargo_s is None:
        return 2 * length
    return length + check_real("embargo_s", embargo_s, 0.0)


def _ranks(
    recording_id: NDArray[Any], start_s: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each window's rank by start in its recording, and the recording's number of ranks."""
    rank, n_ranks = np.empty(len(start_s), np.int64), np.empty(len(start_s), np.int64)
    for rows in rows_of(recording_id):
        distinct, rank[rows] = np.unique(start_s[rows], return_inverse=True)
        n_ranks[rows] = len(distinct)
    return rank, n_ranks


def describe_split(
    y: NDArray[Any] | None,
    groups: NDArray[Any],
    split: NDArray[np.str_],
    fractions: Sequence[float],
) -> dict[str, Any]:
    """Return counts of windows and groups by part and class, and the imbalance, as JSON values.

    ``deviation`` is the largest difference, over parts and classes, between a part's fraction of a
    class's windows and its target fraction in ``wanted``; ``where`` is the part and class with this
    difference. Without labels, the only class is ``""``.
    """
    label = np.full(split.shape, "") if y is None else y
    kept = split != ""
    wanted = dict(zip(PARTS, check_fractions(fractions).tolist(), strict=True))
    parts = [name for name in PARTS if wanted[name] > 0 or (split == name).any()]
    classes = np.unique(label)
    n_windows: dict[str, dict[str, int]] = {}
    n_groups: dict[str, dict[str, int]] = {}
    share = {}
    for name in parts:
        masks = {
            class_name: (split == name) & (label == class_name) for class_name in classes.tolist()
        }
        n_windows[name] = {str(class_name): int(mask.sum()) for class_name, mask in masks.items()}
        n_groups[name] = {
            str(class_name): len(np.unique(groups[mask])) for class_name, mask in masks.items()
        }
        for class_name, mask in masks.items():
            if total := int((kept & (label == class_name)).sum()):
                share[name, class_name] = int(mask.sum()) / total
    off = {
        (name, class_name): abs(value - wanted[name]) for (name, class_name), value in share.items()
    }
    part, class_name = max(off, key=lambda key: off[key])
    of = "the windows" if class_name == "" else f"class {class_name}"
    imbalance = (
        f"Largest imbalance: {percent(share[part, class_name], 0)} of {of} are in {part}"
        f" ({percent(wanted[part], 0)} requested)."
    )
    if off[part, class_name] < 0.005:
        whole = "the windows" if class_name == "" else "every class"
        imbalance = f"Every part has the requested fraction of {whole}."
    return {
        "n_windows": n_windows,
        "n_groups": n_groups,
        "n_left_out": int((~kept).sum()),
        "deviation": off[part, class_name],
        "where": [part, class_name],
        "wanted": {name: wanted[name] for name in parts},
        "is_given": True,
        "imbalance": imbalance,
    }
