"""AllWindows: the windows of a fit that members may learn from, and their folds."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.features.ridge import Fold
from sensorseq.learners.learner import Folds, LearnerData
from sensorseq.prediction.checked_windows import Windows
from sensorseq.preprocessing.split import folds_in_time, near_in_time
from sensorseq.preprocessing.splitters import split_folds
from sensorseq.training import TrainingConfig, TrainingData
from sensorseq.training.batches import center_windows, valid_lengths

N_FOLDS = 3


class Stream(IntEnum):
    """The purpose of a seed; the values are spawn keys."""

    FOLDS = 101
    FEATURES = 102
    REFIT = 103
    COPIES = 104


def seed_of(entropy: int, stream: Stream, number: int = 0) -> np.random.SeedSequence:
    """Return a seed of a stream of a fit; all seeds are independent."""
    return np.random.SeedSequence(entropy, spawn_key=(int(stream), number))


@dataclass(frozen=True, eq=False)
class AllWindows:
    """The training windows, then the validation windows.

    `part` and the scaled `data` contain the windows that the networks may be trained on; `seen`
    contains all windows as prediction sees them. Validation windows that were given separately are
    only in `seen`; if there are any, `part` is None. If there is a held-out part, the first fold is
    tested on it. If `augment` is set, `changed` returns the windows of `data` as augmented in a
    given epoch. If only features are fitted, all fields describe the sample of windows to which the
    features are fitted. `entropy` seeds the fit's random streams.
    """

    part: Windows | None
    data: TrainingData
    seen: LearnerData
    config: TrainingConfig
    n_train: int
    entropy: int
    given_groups: NDArray[Any] | None = None
    folds: tuple[Fold, ...] = ()
    changed: Callable[[int], NDArray[Any]] | None = None

    @property
    def has_held_out(self) -> bool:
        """Whether the first fold is tested on the held-out part."""
        return bool(self.folds) and int(self.folds[0][1].min()) >= self.n_train

    @property
    def shares_groups(self) -> bool:
        """Whether some groups are on both sides of a fold, because the folds are cut in time."""
        groups = None if self.part is None else self.part.groups
        return groups is not None and any(
            np.intersect1d(groups[fit], groups[test]).size for fit, test in self.folds
        )

    @property
    def group_numbers(self) -> NDArray[np.int64]:
        """The number of the group of each window; windows without a group have their own."""
        n, first = len(self.seen.X), 0 if self.part is not None else self.n_train
        groups = self.given_groups if self.part is None else self.part.groups
        numbers = np.arange(n)
        if groups is not None:
            numbers[first:] = first + np.unique(groups, return_inverse=True)[1]
        return numbers

    def truth_of(
        self, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[Any] | None, NDArray[np.int64] | None]:
        """Return the classes and groups of windows, and their indices in X (None with `X_val`)."""
        groups, first, given_rows = self.given_groups, self.n_train, None
        if self.part is not None:
            groups, first, given_rows = self.part.groups, 0, self.part.rows
        groups = None if groups is None else groups[rows - first]
        if given_rows is not None:
            given_rows = given_rows[rows]
        return self.seen.class_index[rows], groups, given_rows

    def seed(self, stream: Stream, number: int = 0) -> np.random.SeedSequence:
        """Return a seed of a stream, which is independent of all other seeds."""
        return seed_of(self.entropy, stream, number)

    def with_copies(self, folds: Folds) -> tuple[LearnerData, Folds]:
        """Return the windows and folds with an augmented copy of each window to fit on."""
        seen, n = self.seen, len(self.seen.X)
        if self.changed is None:
            return seen, folds
        copies = center_windows(
            replace(self.data, X=torch.from_numpy(self.changed(0))), self.config
        ).X.cpu()
        n_more = seen.X.shape[1] - copies.shape[1]
        X = np.pad(copies.numpy(), ((0, 0), (0, n_more), (0, 0)))
        copied = seen.take(np.arange(len(X)))

        def twice(rows: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.concatenate([rows, n + rows[rows < len(X)]])

        pairs = [(twice(fit), test) for fit, test in folds.pairs]
        return seen.join(replace(copied, X=X)), Folds(pairs, twice(folds.rows), folds.in_time)


def seen_windows(
    data: TrainingData,
    apart: TrainingData | None,
    share: NDArray[np.float64] | None,
    config: TrainingConfig,
    n_train: int,
) -> LearnerData:
    """Return all windows as prediction sees them, with the separate windows `apart` at the end.

    `share` contains window weights that balance the classes if there are few recordings, or is
    None.
    """
    parts = [center_windows(data, config)]
    if apart is not None:
        parts.append(apart)
    n_steps = max(part.X.shape[1] for part in parts)
    arrays = [part.X.cpu().numpy() for part in parts]
    padded = [
        array
        if array.shape[1] == n_steps
        else np.pad(array, ((0, 0), (0, n_steps - array.shape[1]), (0, 0)))
        for array in arrays
    ]
    lengths = None
    if any(part.lengths is not None or part.X.shape[1] < n_steps for part in parts):
        lengths = np.concatenate([valid_lengths(part) for part in parts])
    target = np.concatenate([part.target.cpu().numpy() for part in parts])
    weight = np.ones(len(target))
    if data.weight is not None:
        weight[: len(data.weight)] = data.weight.cpu().numpy()
    if share is not None:
        weight *= share
    learn_rows = np.arange(n_train)
    X = np.concatenate(padded)
    return LearnerData(X, lengths, target, weight, config.n_outputs, learn_rows)


def make_folds(
    seen: LearnerData, part: Windows, n_train: int, entropy: int, *, several: bool
) -> list[Fold]:
    """Return folds; the first is tested on the held-out part, the others on training windows.

    If the held-out part consists of the ends of groups, or if no group can be left out, groups are
    cut in time.
    """
    n_windows, everything = len(seen.X), np.arange(len(seen.X))
    first: list[Fold] = []
    held_out = np.arange(n_train, n_windows)
    if len(held_out):
        first.append((np.arange(n_train), held_out))
    if not several:
        return _with_all_classes(seen, first)
    n_more, target = N_FOLDS - len(first), seen.class_index[:n_train]
    groups, starts = part.groups, part.starts
    train_groups = None if groups is None else groups[:n_train]
    of_groups = [
        (np.setdiff1d(everything, tested), tested)
        for _, tested in split_folds(target, train_groups, n_more, entropy)
    ]
    folds = _with_all_classes(seen, [*first, *of_groups])
    if groups is None or starts is None:
        return folds
    if folds and not np.intersect1d(groups[:n_train], groups[n_train:]).size:
        return folds
    in_time = []
    for _, tested in folds_in_time(target, groups[:n_train], starts[:n_train], n_more):
        is_tested = np.isin(np.arange(len(groups)), tested)
        near = is_tested | near_in_time(groups, starts, is_tested, 2.0)
        in_time.append((np.flatnonzero(~near), tested))
    return _with_all_classes(seen, [*first, *in_time])


def _with_all_classes(seen: LearnerData, folds: list[Fold]) -> list[Fold]:
    """Return the folds whose fit rows include every class."""
    return [
        (fit, test)
        for fit, test in folds
        if len(test) and len(np.unique(seen.class_index[fit])) == seen.n_classes
    ]
