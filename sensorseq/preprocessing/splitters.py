"""Splitters for cross-validation with scikit-learn, by whole groups or by blocks of time."""

import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import BaseCrossValidator, StratifiedGroupKFold, StratifiedKFold

from sensorseq.base.checks import (
    RandomState,
    check_integer,
    check_per_window,
    check_random_state,
    refuse_beside_windows,
)
from sensorseq.errors import ArgumentError, SplitError, check_choice
from sensorseq.preprocessing.split import (
    GroupAssignment,
    check_reach,
    check_times,
    count_windows,
    near_in_time,
    time_blocks,
)
from sensorseq.windows import WindowSet

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]
BY = ("group", "recording")
_KICKS = 150  # folds need a longer search than a split; the search takes 0.1 s for 60 groups
# Largest number of groups for which pairs are swapped, which takes a second or two; for more
# groups, moves of single groups bring the fractions within 0.1 % of their targets.
_SWAP_UP_TO = 600


def split_folds(target: NDArray[np.int64], groups: Any, n_folds: int, seed: int) -> list[Fold]:
    """Return up to `n_folds` folds of whole groups, stratified by class."""
    n_groups = n_folds if groups is None else len(np.unique(groups))
    n_folds = min(n_folds, n_groups, int(np.bincount(target).max()))
    if n_folds < 2:
        return []
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_folds, shuffle=True, random_state=seed % 2**32)
    # scikit-learn warns if a class has fewer windows than there are folds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folds = list(splitter.split(np.zeros(len(target)), target, groups))
    return [(fit, test) for fit, test in folds if len(fit) and len(test)]


class _Splitter(BaseCrossValidator):  # type: ignore[misc]
    """Base class of the splitters; by default, it requests `groups` in metadata routing."""

    __metadata_request__split: ClassVar = {"groups": True}
    n_splits: int

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds, which does not depend on the arguments.

        Parameters
        ----------
        X, y, groups : object, optional
            Not used; present for compatibility with scikit-learn.
        """
        return self.n_splits


class GroupBalancedKFold(_Splitter):
    """Folds of whole groups that divide the windows of every class nearly equally.

    The splitter uses the same randomized search over assignments of groups as `split_by_group`. It
    can be used alone or with `cross_validate` and `GridSearchCV` of scikit-learn.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    by : {"group", "recording"}, default="group"
        Whether to keep groups or recordings of a WindowSet whole. With "recording", recordings of
        one group can be in both the training and the test part, so the score applies to new runs of
        known robots. `groups` given to `split` always stay whole.
    random_state : int, Generator, RandomState or None, default=0
        The same seed gives the same folds. The folds depend on the sizes of the groups and on the
        order in which the groups first appear, but not on the names of the groups.

    Notes
    -----
    `cross_validate` and `GridSearchCV` pass ``groups=`` only to the splitter. For a classifier that
    holds out its own validation windows (`SensorLSTMClassifier`), enable metadata routing; then
    ``params={"groups": ...}`` reaches the splitter and every call of `fit`. scikit-learn needs
    arrays: give ``windows.X``, ``windows.y`` and ``windows.groups``, not the WindowSet.

    Examples
    --------
    >>> windows = WindowSet(np.zeros((8, 5, 1)), y=[0, 1] * 4, recording_id=list("aabbccdd"))
    >>> [test.tolist() for _, test in GroupBalancedKFold(2).split(windows)]
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """

    def __init__(self, n_splits: int = 5, by: str = "group", random_state: RandomState = 0) -> None:
        self.n_splits = n_splits
        self.by = by
        self.random_state = random_state

    def split(
        self, X: Any, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[Fold]:
        """Yield the sorted indices of the training and test windows of each fold.

        Parameters
        ----------
        X : array-like of shape (n_windows, ...) or WindowSet
            The windows; a WindowSet has its own labels and groups.
        y : array-like of shape (n_windows,), optional
            Labels to balance. If the labels are fractional numbers instead of classes, only the
            numbers of windows are balanced.
        groups : array-like of shape (n_windows,)
            Groups to keep whole.

        Yields
        ------
        train, test : ndarray of int64

        Raises
        ------
        SplitError
            If a class is in fewer groups than there are folds, or if no assignment with every class
            in every fold was found.
        """
        check_integer("n_splits", self.n_splits, 2)
        where = f"n_splits={self.n_splits} folds"
        sizes = _GroupSizes.of(X, y, groups, self.by)
        sizes.check_n_groups(self.n_splits, where)
        shares = np.full(self.n_splits, 1 / self.n_splits)
        penalty = np.full((self.n_splits, len(sizes.classes)), 10.0)
        rng = check_random_state(self.random_state)
        assignment = GroupAssignment(sizes.counts, shares, penalty, rng)
        part = assignment.search(_KICKS, _SWAP_UP_TO)
        missing = assignment.missing(part)
        if missing.size:
            raise SplitError(
                "found no assignment of whole groups that has class"
                f" {sizes.classes[missing[0, 1]]!r} and every other class in {where}. Record more"
                " groups with this class, or use fewer folds."
            )
        for fold in range(self.n_splits):
            tested = part[sizes.group_index] == fold
            yield np.flatnonzero(~tested), np.flatnonzero(tested)


class BlockedTimeSplit(_Splitter):
    """Folds in time: recordings are cut into blocks, and fold k tests on each recording's block k.

    Every window is tested once. Training windows that overlap a test window, or are closer to it
    than the embargo, are left out of the fold. The score applies to other times of known runs; for
    new runs use `GroupBalancedKFold`.

    Parameters
    ----------
    n_splits : int, default=5
        Number of blocks of each recording, at least 2. The blocks follow each other in time and
        have nearly the same number of windows.
    embargo_s : float, optional
        Minimum time between a training window and a test window, 0 s or more; by default, the
        length of a window.

    Notes
    -----
    scikit-learn passes neither start times nor recordings to `split`, so give scikit-learn the
    folds themselves: ``cv=list(BlockedTimeSplit(5).split(windows))``. Leaving out neighbors in time
    follows purged and embargoed cross-validation [1]_.

    References
    ----------
    .. [1] M. López de Prado, *Advances in Financial Machine Learning*, 2018, chapter 7.
    """

    def __init__(self, n_splits: int = 5, embargo_s: float | None = None) -> None:
        self.n_splits = n_splits
        self.embargo_s = embargo_s

    def split(
        self,
        X: Any,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        *,
        start_s: ArrayLike | None = None,
        window_s: float | None = None,
    ) -> Iterator[Fold]:
        """Yield the sorted indices of the training and test windows of each fold.

        Parameters
        ----------
        X : array-like of shape (n_windows, ...) or WindowSet
            The windows; a WindowSet has its own labels, recordings, starts and length.
        y : array-like of shape (n_windows,), optional
            Labels; if given, the training windows of every fold must contain every class.
        groups : array-like of shape (n_windows,), optional
            The recording of each window; not for a WindowSet.
        start_s : array-like of shape (n_windows,), optional
            Time of each window's first sample; not for a WindowSet.
        window_s : float, optional
            Length of a window in seconds. For a WindowSet, the default is the number of timesteps
            divided by the sample rate.

        Yields
        ------
        train, test : ndarray of int64

        Raises
        ------
        SplitError
            If no recording has as many windows as there are folds, or if a fold has no training
            windows, or no training windows of a class.
        """
        check_integer("n_splits", self.n_splits, 2)
        if isinstance(X, WindowSet):
            refuse_beside_windows(groups=groups, start_s=start_s)
            y = X.y if y is None else y
            groups, start_s = X.recording_id, X.start_s
            if window_s is None and X.sample_rate_hz is not None:
                window_s = X.n_timesteps / X.sample_rate_hz
        for name, value in (
            ("recordings (groups, or recording_id of a WindowSet)", groups),
            ("start_s", start_s),
            ("window_s (or sample_rate_hz of a WindowSet)", window_s),
        ):
            if value is None:
                raise ArgumentError(f"BlockedTimeSplit needs {name}.")
        recording, starts = check_times(groups, start_s)  # type: ignore[arg-type]
        reach = check_reach(window_s, self.embargo_s)  # type: ignore[arg-type]
        if len(starts) != len(X):
            raise SplitError(f"X has {len(X)} windows, but start_s has {len(starts)} values.")
        label = _labels(y, len(starts))
        block = time_blocks(recording, starts, self.n_splits)
        empty = np.setdiff1d(np.arange(self.n_splits), block)
        if empty.size:
            most = max(len(np.unique(starts[recording == name])) for name in np.unique(recording))
            raise SplitError(
                f"n_splits={self.n_splits} is too large, because the longest recording has {most}"
                " window(s); use fewer folds, or shorter windows."
            )
        for fold in range(self.n_splits):
            tested = block == fold
            train = np.flatnonzero(~tested & ~near_in_time(recording, starts, tested, reach))
            lacking = np.setdiff1d(label, label[train])
            if lacking.size:
                of = "" if y is None else f" of class {lacking.tolist()[0]!r}"
                raise SplitError(
                    f"fold {fold} of n_splits={self.n_splits} has no window{of} to train on,"
                    " because every such window is a test window or within"
                    f" {reach - float(window_s or 0):g} s of a test window. Use a shorter"
                    " embargo_s, a different number of folds, or longer recordings."
                )
            yield train, np.flatnonzero(tested)


class _GroupSizes:
    """Groups to assign, with their window counts by class."""

    def __init__(self, label: NDArray[Any], group: NDArray[Any]) -> None:
        self.classes, counts, index = count_windows(label, group)
        names, first = np.unique(group, return_index=True)
        order = np.argsort(first)  # the order of appearance, so that names have no effect
        self.names: list[Any] = names[order].tolist()
        self.counts = counts[order]
        self.group_index: NDArray[np.int64] = np.argsort(order)[index]

    @classmethod
    def of(cls, X: Any, y: Any, groups: Any, by: str) -> "_GroupSizes":
        check_choice("by", by, BY)
        if isinstance(X, WindowSet):
            refuse_beside_windows(groups=groups)
            y = X.y if y is None else y
            groups = X.groups if by == "group" else X.recording_id
        if groups is None:
            raise ArgumentError(
                "groups is missing, so windows of one recording would be used for both training and"
                " testing. Give groups, such as the recording of each window."
            )
        group = np.asarray(groups)
        if group.shape != (len(X),) or not len(X):
            raise SplitError(
                f"groups has shape {group.shape} for {len(X)} windows; expected ({len(X)},), with"
                " at least one window."
            )
        return cls(_labels(y, len(X)), group)

    def check_n_groups(self, needed: int, what_for: str) -> None:
        """Raise an error if a class is in fewer groups than needed."""
        n_groups = np.count_nonzero(self.counts, axis=0)
        rare = int(np.argmin(n_groups))
        if n_groups[rare] >= needed:
            return
        is_single = len(self.classes) == 1
        whose = "the windows are" if is_single else f"class {self.classes[rare]!r} is"
        if n_groups[rare] == 1:
            alone = self.names[int(np.argmax(self.counts[:, rare]))]
            raise SplitError(
                f"{whose} in only one group ({alone!r}), which cannot be used for both training and"
                " testing. Record more groups, use smaller groups, or leave the class out."
            )
        listed = ", ".join(
            f"{name} {count}" for name, count in zip(self.classes, n_groups, strict=True)
        )
        each = "" if is_single else f" Groups of each class: {listed}."
        raise SplitError(
            f"{whose} in {n_groups[rare]} groups, too few for {what_for}.{each} Use n_splits="
            f"{n_groups[rare]} or fewer, record more groups, use smaller groups, or leave the class"
            " out."
        )


def _labels(y: Any, n_windows: int) -> NDArray[Any]:
    """Return the class of each window, or one class for all if there are no classes to balance."""
    label = check_per_window("y", y, n_windows, SplitError)
    if label is None:
        return np.zeros(n_windows, np.int64)
    is_class = label.dtype.kind != "f" or bool((label == np.floor(label)).all())
    return label if is_class else np.zeros(n_windows, np.int64)
