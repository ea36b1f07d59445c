"""Learner: fits a member of one kind to windows, and once more for each fold."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.features import SummaryFeatures
from sensorseq.features.grow_trees import rank_statistics
from sensorseq.features.ridge import Fold
from sensorseq.features.stack import fit_stack
from sensorseq.features.summary import FEATURES
from sensorseq.prediction.members.member import Member

# Windows of at least this many steps are described by a spectrum, too. On development folds, it
# raised the accuracy on an IMU by 1 to 4 points in windows of 50 to 500 steps, but not of 32 steps.
SPECTRUM_STEPS = 64


@dataclass(frozen=True)
class LearnerData:
    """The scaled windows on which members are fitted.

    `weight` is the positive weight of each window in the loss. Thresholds and convolutions are
    chosen from the windows with the indices `learn_rows`, which are in the training part.
    """

    X: NDArray[Any]
    lengths: NDArray[np.int64] | None
    class_index: NDArray[np.int64]
    weight: NDArray[np.float64]
    n_classes: int
    learn_rows: NDArray[np.int64]
    _ranked: dict[bytes, NDArray[np.int64]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def learn_windows(self) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """The windows with the indices `learn_rows`, and their lengths."""
        rows = self.learn_rows
        return self.X[rows], None if self.lengths is None else self.lengths[rows]

    @cached_property
    def summary(self) -> SummaryFeatures:
        """The summary statistics that members read; of long windows, they include a spectrum."""
        windows = self.learn_windows
        narrow = SummaryFeatures(spectrum=True).fit(*windows)
        is_long = (narrow.n_steps_ or 0) >= SPECTRUM_STEPS
        return narrow if is_long else SummaryFeatures().fit(*windows)

    @cached_property
    def statistics(self) -> NDArray[np.float64]:
        """The summary statistics (n, f) of all windows, computed once for all members."""
        return self.summary.transform(self.X, self.lengths)

    def important_statistics(
        self, rows: NDArray[np.int64], most: int, *, spectrum: bool = True
    ) -> NDArray[np.int64]:
        """Return the sorted columns of the most important `statistics` of some windows.

        There are at most `most` columns; without `spectrum`, none of them describes it. Members
        that are fitted on the same windows share the ranking.
        """
        is_used = np.ones(self.summary.n_features_, bool)
        if not spectrum:
            is_used = np.arange(len(is_used)) % len(self.summary.names) < len(FEATURES)
        if is_used.sum() <= most:
            return np.flatnonzero(is_used)
        key = rows.tobytes()
        if key not in self._ranked:
            given = self.statistics[rows], self.class_index[rows], self.weight[rows]
            self._ranked[key] = rank_statistics(*given)
        ranked = self._ranked[key]
        return np.sort(ranked[is_used[ranked]][:most])

    def log_loss(self, scores: NDArray[np.float64], rows: NDArray[np.int64]) -> float:
        """Return the log-loss of scores (n, K) in some of the windows, with their best factor."""
        return fit_stack(scores[None, rows], self.class_index[rows], self.weight[rows])[1]

    def take(self, rows: NDArray[np.int64]) -> "LearnerData":
        """Return the windows with the indices `rows`, and adjust `learn_rows`."""
        lengths = None if self.lengths is None else self.lengths[rows]
        learn = np.flatnonzero(np.isin(rows, self.learn_rows))
        taken = self.X[rows], lengths, self.class_index[rows], self.weight[rows]
        return LearnerData(*taken, self.n_classes, learn)

    def join(self, other: "LearnerData") -> "LearnerData":
        """Return the windows of both data sets, with the `learn_rows` of `self`."""
        lengths = None
        if self.lengths is not None and other.lengths is not None:
            lengths = np.concatenate([self.lengths, other.lengths])
        X, class_index, weight = (
            np.concatenate([getattr(part, name) for part in (self, other)])
            for name in ("X", "class_index", "weight")
        )
        return LearnerData(X, lengths, class_index, weight, self.n_classes, self.learn_rows)


@dataclass(frozen=True)
class Folds:
    """The windows on which members are fitted and tested.

    `pairs` are the windows to fit on and to test on; the member that is kept is fitted on `rows`.
    If the folds are cut `in_time`, both sides of a fold share recordings, so that scores of the
    test windows are optimistic.
    """

    pairs: Sequence[Fold]
    rows: NDArray[np.int64]
    in_time: bool = False

    @property
    def tested(self) -> NDArray[np.int64]:
        """The windows that are tested in a fold."""
        return np.unique(np.concatenate([test_rows for _, test_rows in self.pairs]))


class FittedMember(NamedTuple):
    """A member, and its logits (n, K) for windows on which it was not fitted; NaN elsewhere."""

    member: Member
    logits: NDArray[np.float64]


class Learner(ABC):
    """Fits members of one kind.

    ``features="auto"`` uses the learners with an `auto_place`, in the order of these numbers.
    `reads_copies` is False if augmented copies of windows are not fitted, because they are changed
    after scaling, which moves zero.
    """

    auto_place: int | None = None
    reads_copies: bool = True

    def check(self, data: LearnerData) -> None:  # noqa: B027
        """Raise an error if the learner cannot read these windows; called before any training."""

    @abstractmethod
    def fit(self, data: LearnerData, folds: Folds, seed: np.random.SeedSequence) -> FittedMember:
        """Fit a member on the windows `folds.rows`, and once more for each fold."""
