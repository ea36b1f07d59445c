"""What is done to windows, as scikit-learn objects: scale, balance, augment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from sensorseq.checks import (
    RandomState,
    check_integer,
    check_per_window,
    check_random_state,
    refuse_beside_windows,
)
from sensorseq.errors import ArgumentError, SignalError, WindowError
from sensorseq.memory import check_array_size, check_memory
from sensorseq.preprocessing.augment import (
    Augmentation,
    augment_repeats,
    channel_sd_of,
    copy_numbers,
)
from sensorseq.preprocessing.balance import balance_indices
from sensorseq.preprocessing.keyed_scale import KeyedScaler, fit_scaler_per, transform_by
from sensorseq.preprocessing.scale import Scaler
from sensorseq.windows import PARTS, WindowSet


class ChannelScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Scale each channel by statistics of the windows it was fitted on.

    Takes arrays of shape (n_windows, n_timesteps, n_channels), or (n_windows, n_timesteps) for one
    channel, or a WindowSet. If a WindowSet has a split, only its training part is used for fitting.

    Parameters
    ----------
    kind : str or None, default="standard"
        standard: mean 0, variance 1. robust: median 0, interquartile range 1 (the standard
        deviation if the quartiles are equal, as for a motor that is mostly at rest). min_max: 0 to
        1. max_abs: largest magnitude 1, zero stays zero. quantile: up to 1000 quantiles are mapped
        to the normal distribution. physical: divided by `rated`; nothing is fitted.
    per : {"all", "recording", "group"}, default="all"
        The unit that statistics are computed for, see
        `sensorseq.preprocessing.keyed_scale.KeyedScaler`. ``"recording"`` and ``"group"`` need a
        WindowSet.
    rated : mapping of channel name to float, or sequence of float, optional
        For ``kind="physical"``: the divisor of each channel, in its unit and above zero. Names need
        a WindowSet.

    Attributes
    ----------
    scaler_ : Scaler or KeyedScaler
        The statistics as an object that can be stored.
    channel_center_, channel_scale_ : ndarray of shape (n_channels,)
        The value subtracted from each channel, and its divisor. Only for ``per="all"``.
    constant_channels_ : tuple of int
        Positions of channels that were constant; they are centred and scaled by 1.
    channel_mean_ : ndarray of shape (n_channels,)
        The same as `channel_center_`; only for ``kind="standard"``.
    n_features_in_ : int
        Timesteps for 2-D input, channels otherwise.
    """

    __metadata_request__fit: ClassVar = {"lengths": True}
    __metadata_request__transform: ClassVar = {"lengths": True}
    __metadata_request__inverse_transform: ClassVar = {"lengths": True}

    def __init__(
        self,
        kind: str | None = "standard",
        per: str = "all",
        rated: Mapping[str, float] | Sequence[float] | None = None,
    ) -> None:
        self.kind = kind
        self.per = per
        self.rated = rated

    def fit(self, X: Any, y: Any = None, lengths: ArrayLike | None = None) -> Self:
        """Compute the statistics.

        Parameters
        ----------
        X : array-like of shape (n_windows, n_timesteps[, n_channels]) or WindowSet
            Training windows.
        y : None
            Not used.
        lengths : array-like of shape (n_windows,), optional
            Valid steps of each window; a WindowSet has its own.

        Raises
        ------
        SignalError
            If a valid step is NaN or infinite, there is no valid step, or `per` needs a WindowSet
            and an array is given.
        ArgumentError
            If `kind` or `per` is unknown, or `rated` does not match the channels.
        """
        if isinstance(X, WindowSet):
            _refuse_scaled(X)
            train = X if X.split is None else X.part("train")
            self.n_features_in_, self._window_ndim = X.n_channels, 3
            self.scaler_: Scaler | KeyedScaler = fit_scaler_per(
                self.per,
                train.X,
                train.lengths,
                self.kind,
                recording_id=train.recording_id,
                groups=train.groups,
                rated=self.rated,
                channels=train.channels,
            )
        else:
            values = self._check(X, lengths, reset=True)
            self.scaler_ = fit_scaler_per(self.per, values, lengths, self.kind, rated=self.rated)
        self.constant_channels_ = self.scaler_.constant_channels
        if isinstance(self.scaler_, Scaler):
            self.channel_center_ = self.scaler_.channel_center
            self.channel_scale_ = self.scaler_.channel_scale
            if self.kind == "standard":
                self.channel_mean_ = self.scaler_.channel_center
        return self

    def fit_transform(
        self, X: Any, y: Any = None, lengths: ArrayLike | None = None, **fit_params: Any
    ) -> Any:
        """Fit, then transform the same windows; see `fit` and `transform`.

        Parameters
        ----------
        X, y, lengths
            As in `fit`.
        **fit_params : dict
            Further arguments of `fit`.
        """
        return self.fit(X, y, lengths=lengths, **fit_params).transform(X, lengths=lengths)

    def transform(self, X: Any, lengths: ArrayLike | None = None) -> Any:
        """Return X scaled; steps at and beyond `lengths` are 0.

        Parameters
        ----------
        X : array-like of shape (n_windows, n_timesteps[, n_channels]) or WindowSet
            Windows; for a WindowSet, the result is one too, marked as scaled in its provenance.
        lengths : array-like of shape (n_windows,), optional
            Valid steps of each window.

        Returns
        -------
        ndarray of the shape of X, or WindowSet
            float32 for float32, else float64. With `per`, windows of a recording or group that was
            not fitted are scaled by their own statistics: give all its windows at once.

        Raises
        ------
        SignalError
            If X has another number of dimensions or channels than in `fit`, or a valid step is NaN
            or infinite.
        WindowError
            If a WindowSet is already scaled.
        """
        check_is_fitted(self)
        if isinstance(X, WindowSet):
            _refuse_scaled(X)
            provenance = {**X.provenance, "scaled": self.scaler_.kind or "none"}
            scaled = transform_by(self.scaler_, X.X, X.lengths, X)
            return replace(X, X=scaled, provenance=provenance)
        return transform_by(self.scaler_, self._check(X, lengths, reset=False), lengths)

    def inverse_transform(self, X: Any, lengths: ArrayLike | None = None) -> Any:
        """Undo `transform`; with `per`, only for fitted recordings or groups.

        Parameters
        ----------
        X, lengths
            As in `transform`.

        Raises
        ------
        SignalError
            If X does not match the fitted windows, or is from a recording or group that was not
            fitted.
        """
        check_is_fitted(self)
        if isinstance(X, WindowSet):
            provenance = {key: value for key, value in X.provenance.items() if key != "scaled"}
            unscaled = transform_by(self.scaler_, X.X, X.lengths, X, inverse=True)
            return replace(X, X=unscaled, provenance=provenance)
        values = self._check(X, lengths, reset=False)
        return transform_by(self.scaler_, values, lengths, inverse=True)

    def _check(self, X: Any, lengths: Any, *, reset: bool) -> NDArray[np.floating]:
        # Padding may be NaN: with lengths, fit_scaler and transform only use the valid steps.
        return check_window_array(self, X, reset=reset, ensure_all_finite=lengths is None)


def check_window_array(
    transformer: Any, X: Any, *, reset: bool, **accept: Any
) -> NDArray[np.floating]:
    """Return windows (n, t) or (n, t, c) as floats, of the kind the transformer was fitted on."""
    ndim = 3 if getattr(X, "ndim", 2) == 3 else 2
    name = type(transformer).__name__
    if not reset and ndim != getattr(transformer, "_window_ndim", ndim):
        raise SignalError(
            f"X has {ndim} dimensions, but {name} was fitted on windows with"
            f" {transformer._window_ndim}; for a single channel use X[:, :, np.newaxis]."
        )
    if isinstance(X, np.ndarray):
        check_array_size("X", X)
    transformer._window_ndim = ndim
    accept["dtype"] = [np.float64, np.float32]
    values: NDArray[np.floating]
    if ndim == 2:
        values = validate_data(transformer, X, reset=reset, **accept)
        return values
    values = check_array(X, allow_nd=True, **accept)
    if not values.shape[1] or not values.shape[2]:
        raise SignalError(f"X has shape {values.shape}: no timesteps or no channels.")
    if reset:
        transformer.n_features_in_ = values.shape[2]
    known = getattr(transformer, "n_features_in_", values.shape[2])
    if values.shape[2] != known:
        raise SignalError(f"X has {values.shape[2]} channels, but {name} was fitted on {known}.")
    return values


class ClassBalancer(BaseEstimator):  # type: ignore[misc]
    """Drop or repeat windows until every class has equally many; only for training windows.

    Works on windows of any shape, and in imbalanced-learn's pipeline.

    Parameters
    ----------
    strategy : {"undersample", "oversample"}, default="undersample"
        undersample: every class gets as many windows as the rarest has, without repeats.
        oversample: as many as the most frequent has; every window is kept, and the copies are
        spread evenly over the windows of a class.
    random_state : int, Generator, RandomState or None
        Decides which windows; equal seeds give equal choices.
    max_per_recording : int or float, optional
        Most rows that one recording may contribute to a class, copies included: a number (int), or
        a share of the class's final rows (float above 0, up to 1.0). A recording with more windows
        loses some, even when oversampling. If a class cannot reach the target count under this
        limit, every class is reduced to what all can reach, and a warning names that class, so
        that equal counts and the limit always hold. Needs the recording of each window, from a
        WindowSet or as `recording_id` in `fit_resample`.
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
        given = _Given.of(X, y, groups, lengths, recording_id, "balanced")
        if given.y is None:
            raise WindowError("balancing needs labels, but y is None.")
        rows = given.train
        rng = check_random_state(self.random_state)
        chosen = balance_indices(
            given.y[rows],
            _at(given.groups, rows),
            self.strategy,
            rng,
            recording_id=_at(given.recording_id, rows),
            max_per_recording=self.max_per_recording,
        )
        others = np.setdiff1d(np.arange(len(given.y)), rows)
        kept = np.sort(np.concatenate([rows[chosen], others]))
        made = {"strategy": self.strategy, "before_split": given.is_unsplit}
        return given.resampled(self, kept, self.augmentation, rng, {"balanced": made})


class Augmenter(BaseEstimator):  # type: ignore[misc]
    """Add randomly changed copies of every training window, similar to another run of the robot.

    Works in imbalanced-learn's pipeline; see `sensorseq.preprocessing.augment.augment_windows`.

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
        Position in the input of the window that each row is, or is a copy of; sorted.
    copy_numbers_, groups_, lengths_
        As in `ClassBalancer`. A copy has the values of its window, and in a WindowSet also its
        recording and start, so that a check for leakage recognises it.
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
        given = _Given.of(X, y, groups, lengths, None, "augmented")
        how = Augmentation.standard() if self.augmentation is None else self.augmentation
        n_bytes = 8 * (n_copies + 1) * len(given.train)
        check_memory(f"n_copies={n_copies}", {"the order": n_bytes}, "fewer copies")
        times = np.ones(len(given.X), np.int64)
        times[given.train] += n_copies
        rows = np.repeat(np.arange(len(times)), times)
        rng = check_random_state(self.random_state)
        return given.resampled(self, rows, how, rng, {})


@dataclass(frozen=True)
class _Given:
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
    ) -> "_Given":
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
        arrays = {name: check_per_window(name, v, len(X)) for name, v in named.items()}
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
        """Return the windows at `rows`, second and later ones of the same augmented, and labels."""
        windows = self.X.X if isinstance(self.X, WindowSet) else self.X
        lengths, values = _at(self.lengths, rows), windows[rows]
        if augmentation is not None:
            how = {**augmentation.to_dict(), "before_split": self.is_unsplit}
            made = {**made, "augmented": how}
            sd = channel_sd_of(windows[self.train], _at(self.lengths, self.train))
            if isinstance(self.X, WindowSet):
                augmentation = augmentation.with_indices(values.shape[2], self.X.channels)
            values = augment_repeats(values, rows, augmentation, rng, lengths, sd)
        fitted.sample_indices_ = rows
        fitted.copy_numbers_ = copy_numbers(rows)
        fitted.groups_ = _at(self.groups, rows)
        fitted.lengths_ = lengths
        labels = _at(self.y, rows)
        if not isinstance(self.X, WindowSet):
            return values, labels
        provenance = {**self.X.provenance, **made}
        return replace(self.X.take(rows), X=values, provenance=provenance), labels


def _at(values: NDArray[Any] | None, rows: NDArray[np.int64]) -> Any:
    return None if values is None else values[rows]


def _refuse_scaled(windows: WindowSet) -> None:
    if "scaled" in windows.provenance:
        raise WindowError(
            f"these windows are already scaled ({windows.provenance['scaled']}); scale only once."
        )
