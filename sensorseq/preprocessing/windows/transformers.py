"""scikit-learn objects that cut, balance and augment windows."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from sensorseq.checks import (
    RandomState,
    check_integer,
    check_per_window,
    check_positive,
    check_positive_or_none,
    check_random_state,
    refuse_beside_windows,
)
from sensorseq.errors import ArgumentError, WindowError
from sensorseq.preprocessing.resample.transformer import RecordingTransformer
from sensorseq.preprocessing.windows.augment import (
    Augmentation,
    augment_repeats,
    channel_sd_of,
    copy_numbers,
)
from sensorseq.preprocessing.windows.balance import balance_indices
from sensorseq.preprocessing.windows.cut import check_window_choices, window_recordings
from sensorseq.recording import Recording
from sensorseq.windows import PARTS, WindowSet


class Windower(RecordingTransformer):
    """Cut evenly sampled recordings into windows.

    Parameters
    ----------
    window_s : float
        Length of a window in seconds.
    hop_s : float, optional
        Seconds between window starts; `window_s` by default.
    label_rule : {"whole", "majority", "centre", "last"}, default="whole"
        The label of a window of a recording with label spans. whole: windows are cut inside each
        span, from its first sample on, so that none has two labels or unlabeled samples. The other
        rules cut the recording as if it had no spans and choose a label for each window. majority:
        the most frequent label, see `min_purity`. centre: the label of the middle sample. last: the
        label of the last sample, which is current when the window is complete. All rules agree for
        recordings with one label.
    min_purity : float, default=0.5
        Only for majority: share of the window's samples that must have its label, above 0 to 1.
        Windows with a lower share, or with equal shares of two labels, are dropped.
    short : {"drop", "pad", "error"}, default="drop"
        How to handle a piece, or under whole a label span, that is shorter than a window. pad: make
        one window filled up with zeros, with the number of samples in `lengths`.
    phase : {"grid", "random"}, default="grid"
        Start of the first window of a piece or span. grid: its first sample. random: up to a hop
        later, as far as a window still fits, so that each training uses other cuts of the signal.
        Use grid for validation and test, so that scores differ only by the model.
    random_state : int, Generator, RandomState or None
        For ``phase="random"``. The offset depends only on this seed, the recording's id and the
        start of the piece, not on other recordings or their order.
    drop_unlabelled : bool, default=True
        False keeps windows for which the rule finds no label, with the label ``""``, for prediction
        but not for training. If no recording has a label, this has no effect, and `y` is None.
    """

    def __init__(
        self,
        window_s: float,
        hop_s: float | None = None,
        label_rule: str = "whole",
        min_purity: float | None = None,
        short: str = "drop",
        phase: str = "grid",
        random_state: RandomState = None,
        drop_unlabelled: bool = True,
    ) -> None:
        self.window_s = window_s
        self.hop_s = hop_s
        self.label_rule = label_rule
        self.min_purity = min_purity
        self.short = short
        self.phase = phase
        self.random_state = random_state
        self.drop_unlabelled = drop_unlabelled

    def _check_arguments(self) -> None:
        check_positive("window_s", self.window_s)
        check_positive_or_none("hop_s", self.hop_s)
        check_window_choices(self.label_rule, self.min_purity, self.short, self.phase)
        check_random_state(self.random_state)

    def transform(self, X: Iterable[Recording]) -> WindowSet:
        """Return the windows of all recordings; see `window_recordings`.

        Parameters
        ----------
        X : iterable of Recording
            Evenly sampled, as returned by `Resampler`.

        Returns
        -------
        WindowSet
            In the order of the recordings, then of time.

        Raises
        ------
        RecordingError
            If a recording is uneven, has gaps, or differs from the others in channels or rate.
        WindowError
            If no recording is as long as a window, or a class loses all its windows.
        """
        return window_recordings(X, **self.get_params(deep=False))


class ClassBalancer(BaseEstimator):  # type: ignore[misc]
    """Drop or repeat training windows until every class has equally many.

    Works on windows of any shape, and in imbalanced-learn's pipeline.

    Parameters
    ----------
    strategy : {"undersample", "oversample"}, default="undersample"
        undersample: every class gets as many windows as the rarest class, without repeats.
        oversample: as many as the most frequent class; every window is kept, and the copies are
        spread evenly over the windows of a class.
    random_state : int, Generator, RandomState or None
        Seed of the choice; equal seeds give equal choices.
    max_per_recording : int or float, optional
        Most rows that one recording may contribute to a class, copies included: a number (int), or
        a share of the class's final rows (float above 0, up to 1.0). A recording with more windows
        loses some, even when oversampling. If a class cannot reach the target count under this
        limit, every class is reduced to the count that all can reach, and a warning names that
        class, so that equal counts and the limit always hold. Needs the recording of each window,
        from a WindowSet or as `recording_id` in `fit_resample`.
    augmentation : Augmentation, optional
        For ``"oversample"``: how to change repeated windows. The first of each stays unchanged.
        Without it, windows are repeated exactly.

    Attributes
    ----------
    sample_indices_ : ndarray of shape (n_chosen,), int64
        Positions of the chosen windows in the input.
    copy_numbers_ : ndarray of shape (n_chosen,), int64
        0 for a window itself, from 1 for its copies.
    groups_, lengths_ : ndarray of shape (n_chosen,) or None
        `groups` and `lengths` of the chosen windows.
    """

    __metadata_request__fit_resample: ClassVar = {
        "groups": True,
        "lengths": True,
        "recording_id": True,
    }

    def __init__(
        self,
        strategy: str = "undersample",
        random_state: RandomState = None,
        *,
        max_per_recording: float | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.strategy = strategy
        self.random_state = random_state
        self.max_per_recording = max_per_recording
        self.augmentation = augmentation

    def fit_resample(
        self,
        X: Any,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        recording_id: ArrayLike | None = None,
    ) -> tuple[Any, NDArray[Any]]:
        """Return the chosen windows and their labels.

        Parameters
        ----------
        X : array-like of shape (n_windows, ...) or WindowSet
            A WindowSet has its own labels, groups, lengths and recordings. If it has a split, only
            the training part is balanced; the rest stays unchanged.
        y : array-like of shape (n_windows,)
            Labels.
        groups, lengths : array-like of shape (n_windows,), optional
            Groups from which windows are dropped or repeated in rotation; valid steps.
        recording_id : array-like of shape (n_windows,), optional
            For `max_per_recording`.

        Returns
        -------
        X_resampled : ndarray of shape (n_chosen, ...) or WindowSet
        y_resampled : ndarray of shape (n_chosen,)

        Raises
        ------
        WindowError
            If there are no labels, shapes disagree, or X is a WindowSet with a split but without
            training windows: validation and test are never balanced.
        ArgumentError
            If an argument is invalid, or duplicates what a WindowSet already has.
        """
        if self.augmentation is not None and self.strategy == "undersample":
            raise ArgumentError(
                "augmentation changes repeated windows, but strategy='undersample' repeats none;"
                " use strategy='oversample', or an Augmenter after it."
            )
        inputs = _ResampleInput.of(X, y, groups, lengths, recording_id, "balanced")
        if inputs.y is None:
            raise WindowError("balancing needs labels, but y is None.")
        rows = inputs.train
        rng = check_random_state(self.random_state)
        chosen = balance_indices(
            inputs.y[rows],
            _take_rows(inputs.groups, rows),
            self.strategy,
            rng,
            recording_id=_take_rows(inputs.recording_id, rows),
            max_per_recording=self.max_per_recording,
        )
        not_train = np.setdiff1d(np.arange(len(inputs.y)), rows)
        kept = np.sort(np.concatenate([rows[chosen], not_train]))
        made = {"strategy": self.strategy, "before_split": inputs.is_unsplit}
        return inputs.resampled(self, kept, self.augmentation, rng, {"balanced": made})


class Augmenter(BaseEstimator):  # type: ignore[misc]
    """Add randomly changed copies of training windows, similar to other runs of the robot.

    Works in imbalanced-learn's pipeline; see `sensorseq.preprocessing.windows.augment_windows`.

    Parameters
    ----------
    augmentation : Augmentation, optional
        Kinds and strengths of the changes; `Augmentation.standard` by default.
    n_copies : int, default=1
        Copies of each window, in addition to the window itself.
    random_state : int, Generator, RandomState or None
        Equal seeds give equal copies.

    Attributes
    ----------
    sample_indices_ : ndarray of shape (n_rows,), int64
        Position in the input of each row's window, or of the window that it copies; sorted.
    copy_numbers_, groups_, lengths_
        As in `ClassBalancer`. A copy has the values of its window, and in a WindowSet also its
        recording and start, so that a check for leakage recognizes it.
    """

    __metadata_request__fit_resample: ClassVar = {"groups": True, "lengths": True}

    def __init__(
        self,
        augmentation: Augmentation | None = None,
        n_copies: int = 1,
        random_state: RandomState = None,
    ) -> None:
        self.augmentation = augmentation
        self.n_copies = n_copies
        self.random_state = random_state

    def fit_resample(
        self,
        X: Any,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> tuple[Any, NDArray[Any] | None]:
        """Return the windows with their copies, and the labels of both.

        Parameters
        ----------
        X, y, groups, lengths
            As in `ClassBalancer.fit_resample`; labels are optional.

        Returns
        -------
        X_resampled : ndarray or WindowSet
        y_resampled : ndarray of shape (n_rows,) or None

        Raises
        ------
        WindowError, SignalError
            If shapes disagree, a valid step is not finite, or X is a WindowSet with a split but
            without training windows: validation and test are never augmented.
        ArgumentError
            If an argument is invalid, or duplicates what a WindowSet already has.
        """
        n_copies = check_integer("n_copies", self.n_copies)
        inputs = _ResampleInput.of(X, y, groups, lengths, None, "augmented")
        how = Augmentation.standard() if self.augmentation is None else self.augmentation
        times = np.ones(len(inputs.X), np.int64)
        times[inputs.train] += n_copies
        rows = np.repeat(np.arange(len(times)), times)
        rng = check_random_state(self.random_state)
        return inputs.resampled(self, rows, how, rng, {})


@dataclass(frozen=True)
class _ResampleInput:
    """The checked input of `fit_resample`, from arrays or a WindowSet."""

    X: Any
    y: NDArray[Any] | None
    groups: NDArray[Any] | None
    lengths: NDArray[Any] | None
    recording_id: NDArray[Any] | None
    train: NDArray[np.int64]

    @classmethod
    def of(
        cls, X: Any, y: Any, groups: Any, lengths: Any, recording_id: Any, to_be: str
    ) -> "_ResampleInput":
        named = {"groups": groups, "lengths": lengths, "recording_id": recording_id}
        if isinstance(X, WindowSet):
            refuse_beside_windows(**named)
            named = {name: getattr(X, name) for name in named}
            y = X.y if y is None else y
        else:
            X = np.asarray(X)
            if not X.ndim:
                raise WindowError(f"X={X!r} is not an array of windows.")
        labels = None if y is None else np.asarray(y)
        if labels is not None and len(labels) != len(X):
            raise WindowError(f"X has {len(X)} windows, but y has {len(labels)} labels.")
        arrays = {
            name: check_per_window(name, values, len(X), WindowError)
            for name, values in named.items()
        }
        train = np.arange(len(X))
        if isinstance(X, WindowSet) and X.split is not None:
            train = np.flatnonzero(X.split == "train")
            if not len(train) and len(X):
                parts = " and ".join(part for part in PARTS if part in X.split)
                raise WindowError(
                    f"these {len(X)} windows are in the {parts} part; only training windows may be"
                    f" {to_be}, because other parts must reflect real use."
                )
        return cls(X, labels, **arrays, train=train)

    @property
    def is_unsplit(self) -> bool:
        return isinstance(self.X, WindowSet) and self.X.split is None

    def resampled(
        self,
        fitted: Any,
        rows: NDArray[np.int64],
        augmentation: Augmentation | None,
        rng: np.random.Generator,
        made: dict[str, Any],
    ) -> tuple[Any, Any]:
        """Return the windows at `rows` and their labels; repeated ones are augmented."""
        windows = self.X.X if isinstance(self.X, WindowSet) else self.X
        lengths, values = _take_rows(self.lengths, rows), windows[rows]
        if augmentation is not None:
            how = {**augmentation.to_dict(), "before_split": self.is_unsplit}
            made = {**made, "augmented": how}
            sd = channel_sd_of(windows[self.train], _take_rows(self.lengths, self.train))
            if isinstance(self.X, WindowSet):
                augmentation = augmentation.with_indices(values.shape[2], self.X.channels)
            values = augment_repeats(values, rows, augmentation, rng, lengths, sd)
        fitted.sample_indices_ = rows
        fitted.copy_numbers_ = copy_numbers(rows)
        fitted.groups_ = _take_rows(self.groups, rows)
        fitted.lengths_ = lengths
        labels = _take_rows(self.y, rows)
        if not isinstance(self.X, WindowSet):
            return values, labels
        provenance = {**self.X.provenance, **made}
        return replace(self.X.take(rows), X=values, provenance=provenance), labels


def _take_rows(values: NDArray[Any] | None, rows: NDArray[np.int64]) -> Any:
    return None if values is None else values[rows]
