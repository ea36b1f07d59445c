"""The steps as scikit-learn objects: fit, transform, fit_resample."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from sensorseq.errors import SignalError, WindowError
from sensorseq.preprocessing._checks import (
    RandomState,
    check_positive,
    check_random_state,
    check_rate,
)
from sensorseq.preprocessing.balance import balance_indices
from sensorseq.preprocessing.keyed_scale import (
    KeyedScaler,
    fit_scaler_per,
    transform_by,
    transform_windows,
)
from sensorseq.preprocessing.resample import resample_recording
from sensorseq.preprocessing.scale import Scaler
from sensorseq.preprocessing.window import check_window_choices, window_recordings
from sensorseq.recording import Recording
from sensorseq.windows import WindowSet


class ChannelScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Scale each channel by statistics of the windows it was fitted on.

    Takes arrays of shape (n_windows, n_timesteps, n_channels), or (n_windows, n_timesteps) for one
    channel, or a WindowSet. Of a WindowSet with a split only the training part is learned from.

    Parameters
    ----------
    kind : str or None, default="standard"
        ``"standard"``, ``"robust"``, ``"min_max"``, ``"max_abs"``, ``"quantile"`` or
        ``"physical"``, see `sensorseq.preprocessing.scale.fit_scaler`.
    per : {"all", "recording", "group"}, default="all"
        What has statistics of its own, see `sensorseq.preprocessing.keyed_scale.KeyedScaler`. All
        but ``"all"`` takes a WindowSet, which tells the recording and the group of each window.
    rated : mapping of channel name to float, or sequence of float, optional
        For ``kind="physical"``: what each channel is divided by. Names need a WindowSet.

    Attributes
    ----------
    scaler_ : Scaler or KeyedScaler
        The statistics as a value that can be stored.
    channel_center_, channel_scale_ : ndarray of shape (n_channels,)
        What is subtracted, then divided by. For ``per="all"`` alone.
    constant_channels_ : tuple of int
        Positions of channels that were constant; they are centred, and scaled by 1.
    channel_mean_ : ndarray of shape (n_channels,)
        The same as `channel_center_`; for ``kind="standard"``.
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
        """Learn the statistics.

        Parameters
        ----------
        X : array-like of shape (n_windows, n_timesteps[, n_channels]) or WindowSet
            Training windows.
        y : None
            Not used.
        lengths : array-like of shape (n_windows,), optional
            Valid steps of each window; a WindowSet brings its own.
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
        """Fit, then transform the same windows."""
        return self.fit(X, y, lengths=lengths, **fit_params).transform(X, lengths=lengths)

    def transform(self, X: Any, lengths: ArrayLike | None = None) -> Any:
        """Return X scaled; steps at and beyond `lengths` are 0.

        Parameters
        ----------
        X : array-like of shape (n_windows, n_timesteps[, n_channels]) or WindowSet
            Windows; a WindowSet comes back as one, marked as scaled in its provenance.
        lengths : array-like of shape (n_windows,), optional
            Valid steps of each window.
        """
        check_is_fitted(self)
        if isinstance(X, WindowSet):
            _refuse_scaled(X)
            provenance = {**X.provenance, "scaled": self.scaler_.kind or "none"}
            return replace(X, X=transform_windows(self.scaler_, X), provenance=provenance)
        return transform_by(self.scaler_, self._check(X, lengths, reset=False), lengths)

    def inverse_transform(self, X: Any, lengths: ArrayLike | None = None) -> Any:
        """Undo `transform`; per recording or group, for those that were fitted."""
        check_is_fitted(self)
        if isinstance(X, WindowSet):
            provenance = {key: value for key, value in X.provenance.items() if key != "scaled"}
            unscaled = transform_windows(self.scaler_, X, inverse=True)
            return replace(X, X=unscaled, provenance=provenance)
        values = self._check(X, lengths, reset=False)
        return transform_by(self.scaler_, values, lengths, inverse=True)

    def _check(self, X: Any, lengths: Any, *, reset: bool) -> NDArray[np.floating]:
        # Padding may be NaN: with lengths, fit_scaler and transform look at the valid steps alone.
        accept: dict[str, Any] = {
            "dtype": [np.float64, np.float32],
            "ensure_all_finite": lengths is None,
        }
        ndim = 3 if getattr(X, "ndim", 2) == 3 else 2
        if not reset and ndim != self._window_ndim:
            raise SignalError(
                f"X has {ndim} dimensions, but ChannelScaler was fitted on windows with"
                f" {self._window_ndim}; a single channel is X[:, :, np.newaxis]."
            )
        values: NDArray[np.floating]
        if ndim == 2:
            values = validate_data(self, X, reset=reset, **accept)
        else:
            values = check_array(X, allow_nd=True, **accept)
            if reset:
                self.n_features_in_ = values.shape[2]
        self._window_ndim = ndim
        return values


class Resampler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Bring recordings to one even rate; gaps cut them into pieces.

    Parameters
    ----------
    sample_rate_hz : float
        Target rate in Hz.
    max_gap_s : float, optional
        Longest hole, in seconds, to interpolate across; by default ten sample periods of the input.
    """

    def __init__(self, sample_rate_hz: float, max_gap_s: float | None = None) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.max_gap_s = max_gap_s

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Iterable[Recording], y: Any = None) -> Self:
        """Check the arguments; there is nothing to learn."""
        check_rate("sample_rate_hz", self.sample_rate_hz)
        if self.max_gap_s is not None:
            check_positive("max_gap_s", self.max_gap_s)
        return self

    def transform(self, X: Iterable[Recording]) -> list[Recording]:
        """Return the pieces of all recordings, in order; see `resample_recording`."""
        return [
            piece
            for recording in X
            for piece in resample_recording(recording, self.sample_rate_hz, self.max_gap_s)
        ]


class Windower(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Cut evenly sampled recordings into windows.

    Parameters
    ----------
    window_s : float
        Length of a window in seconds.
    hop_s : float, optional
        Seconds between window starts; `window_s` by default.
    label_rule, min_purity, short, phase, random_state, drop_unlabelled
        Which label a window has, what becomes of short pieces, and where the first window begins;
        see `sensorseq.preprocessing.window.window_recordings`.
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

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Iterable[Recording], y: Any = None) -> Self:
        """Check the arguments; there is nothing to learn."""
        check_positive("window_s", self.window_s)
        if self.hop_s is not None:
            check_positive("hop_s", self.hop_s)
        check_window_choices(self.label_rule, self.min_purity, self.short, self.phase)
        check_random_state(self.random_state)
        return self

    def transform(self, X: Iterable[Recording]) -> WindowSet:
        """Return the windows of all recordings; see `window_recordings`."""
        return window_recordings(
            X,
            self.window_s,
            self.hop_s,
            label_rule=self.label_rule,
            min_purity=self.min_purity,
            short=self.short,
            phase=self.phase,
            random_state=self.random_state,
            drop_unlabelled=self.drop_unlabelled,
        )


class ClassBalancer(BaseEstimator):  # type: ignore[misc]
    """Drop or repeat windows until every class has equally many; for training windows alone.

    Works on windows of any shape, and in imbalanced-learn's pipeline.

    Parameters
    ----------
    strategy : {"undersample", "oversample"}, default="undersample"
        See `sensorseq.preprocessing.balance.balance_indices`.
    random_state : int, Generator, RandomState or None
        Decides which windows; equal seeds, equal choice.

    Attributes
    ----------
    sample_indices_ : ndarray of shape (n_chosen,), int64
        Positions of the chosen windows in what was given.
    groups_, lengths_ : ndarray of shape (n_chosen,) or None
        `groups` and `lengths` of the chosen windows.
    """

    __metadata_request__fit_resample: ClassVar = {"groups": True, "lengths": True}

    def __init__(self, strategy: str = "undersample", random_state: RandomState = None) -> None:
        self.strategy = strategy
        self.random_state = random_state

    def fit_resample(
        self,
        X: Any,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> tuple[Any, NDArray[Any]]:
        """Return the chosen windows and their labels.

        Parameters
        ----------
        X : array-like of shape (n_windows, ...) or WindowSet
            A WindowSet brings its own labels, groups and lengths. Of one with a split only the
            training part is balanced; the rest stays.
        y : array-like of shape (n_windows,)
            Labels.
        groups, lengths : array-like of shape (n_windows,), optional
            Groups to drop or repeat windows of in turns; valid steps.

        Returns
        -------
        X_resampled : ndarray of shape (n_chosen, ...) or WindowSet
        y_resampled : ndarray of shape (n_chosen,)
        """
        if isinstance(X, WindowSet):
            y, groups, lengths = (X.y if y is None else y), X.groups, X.lengths
        if y is None:
            raise WindowError("balancing needs labels; y is None.")
        labels = np.asarray(y)
        if len(labels) != len(X):
            raise WindowError(f"X has {len(X)} windows, y {len(labels)} labels.")
        rows = np.arange(len(labels))
        if isinstance(X, WindowSet) and X.split is not None:
            rows = np.flatnonzero(X.split == "train")
        chosen = balance_indices(
            labels[rows],
            None if groups is None else np.asarray(groups)[rows],
            self.strategy,
            self.random_state,
        )
        others = np.setdiff1d(np.arange(len(labels)), rows)
        kept = np.sort(np.concatenate([rows[chosen], others]))
        self.sample_indices_ = kept
        self.groups_ = None if groups is None else np.asarray(groups)[kept]
        self.lengths_ = None if lengths is None else np.asarray(lengths)[kept]
        chosen_X = X.take(kept) if isinstance(X, WindowSet) else np.asarray(X)[kept]
        return chosen_X, labels[kept]


def _refuse_scaled(windows: WindowSet) -> None:
    if "scaled" in windows.provenance:
        raise WindowError(
            f"these windows are scaled already ({windows.provenance['scaled']}); scale once."
        )
