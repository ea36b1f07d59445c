"""scikit-learn objects that resample, filter, cut, scale and balance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from sensorseq.base.checks import (
    RandomState,
    check_not_empty,
    check_rate,
    refuse_beside_windows,
)
from sensorseq.errors import ArgumentError, SignalError, WindowError, noting
from sensorseq.preprocessing.held import held_channels, kinds_of_slow
from sensorseq.preprocessing.polyphase import ATTENUATION_DB
from sensorseq.preprocessing.resample import resample_recording
from sensorseq.preprocessing.scale import Scaler, fit_scaler
from sensorseq.preprocessing.steps import Step, StepChain
from sensorseq.preprocessing.steps.chain import make_steps
from sensorseq.preprocessing.windowing.balance import balance_indices
from sensorseq.preprocessing.windowing.cut import window_recordings
from sensorseq.recording import Channel, Recording
from sensorseq.windows import WindowSet


class Resampler(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Resample recordings to one constant rate and cut them at gaps, as `PreparePipeline` does.

    Parameters
    ----------
    sample_rate_hz : float
        Target rate in Hz.
    max_gap_s : float, optional
        Longest gap to interpolate across, in seconds; by default, ten sample periods of the input.
    attenuation_db : float, default=90
        As in `sensorseq.preprocessing.resample.resample`.

    Attributes
    ----------
    held_ : list of str
        Channels whose values are held until the next one; see `resample_recording`.
    """

    def __init__(
        self,
        sample_rate_hz: float,
        max_gap_s: float | None = None,
        attenuation_db: float = ATTENUATION_DB,
    ) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.max_gap_s = max_gap_s
        self.attenuation_db = attenuation_db

    def fit(self, X: Sequence[Recording], y: Any = None) -> Self:
        """Find the channels to hold.

        Parameters
        ----------
        X : list of Recording
            Training recordings.
        y : None
            Not used.
        """
        self.held_ = held_channels({str(at): kinds_of_slow(each) for at, each in enumerate(X)})
        return self

    def transform(self, X: Sequence[Recording]) -> list[Recording]:
        """Return the pieces of all recordings, in order; see `resample_recording`.

        Parameters
        ----------
        X : list of Recording
            Recordings, which may have uneven timestamps and missing samples (NaN).

        Returns
        -------
        list of Recording
            Pieces that are evenly sampled and free of NaN. A recording with gaps gives several
            pieces; a recording without any time at which all channels are known gives none.

        Raises
        ------
        ArgumentError, SignalError
            If an argument is invalid.
        RecordingError
            If a channel has no valid sample, or `max_gap_s` is shorter than a sample period.
        """
        check_is_fitted(self)
        how = {**self.get_params(deep=False), "held": self.held_}
        return [piece for recording in X for piece in resample_recording(recording, **how)]


class ChannelScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Scale each channel by statistics of the windows given to `fit`.

    The input is an array of shape (n_windows, n_timesteps, n_channels), or (n_windows, n_timesteps)
    for one channel, or a WindowSet. If a WindowSet has a split, only its training part is used for
    fitting.

    Parameters
    ----------
    kind : str or None, default="standard"
        standard: mean 0 and variance 1. robust: median 0 and interquartile range 1 (the divisor is
        the standard deviation if the quartiles are equal, as for a motor that is mostly at rest).
        physical: divided by `rated`; nothing is fitted. Quartiles use at most 200,000 steps, which
        are drawn evenly if there are more.
    rated : mapping of channel name to float, or sequence of float, optional
        For ``kind="physical"``: the divisor of each channel, above zero and in the channel's unit.
        Names require a WindowSet.

    Attributes
    ----------
    scaler_ : Scaler
        The statistics as an object that can be stored.
    channel_center_, channel_scale_ : ndarray of shape (n_channels,)
        The value that is subtracted from each channel, and the channel's divisor.
    constant_channels_ : tuple of int
        Indices of channels that were constant; they are centered and scaled by 1.
    n_features_in_ : int
        Number of timesteps for 2-D input, otherwise number of channels.
    """

    __metadata_request__fit: ClassVar = {"lengths": True}
    __metadata_request__transform: ClassVar = {"lengths": True}
    __metadata_request__inverse_transform: ClassVar = {"lengths": True}

    def __init__(
        self,
        kind: str | None = "standard",
        rated: Mapping[str, float] | Sequence[float] | None = None,
    ) -> None:
        self.kind = kind
        self.rated = rated

    def fit(self, X: Any, y: Any = None, lengths: ArrayLike | None = None) -> Self:
        """Compute the statistics of the training windows.

        Parameters
        ----------
        X : array-like of shape (n_windows, n_timesteps[, n_channels]) or WindowSet
            Training windows.
        y : None
            Not used.
        lengths : array-like of shape (n_windows,), optional
            Number of valid steps of each window; a WindowSet has its own lengths.

        Raises
        ------
        SignalError
            If a valid step is NaN or infinite, or there is no valid step.
        ArgumentError
            If `kind` is unknown, or `rated` does not match the channels.
        """
        if isinstance(X, WindowSet):
            _refuse_scaled(X)
            train = X if X.split is None else X.part("train")
            self.n_features_in_, self._window_ndim = X.n_channels, 3
            self.scaler_: Scaler = fit_scaler(
                train.X, train.lengths, self.kind, rated=self.rated, channels=train.channels
            )
        else:
            values = self._check(X, lengths, reset=True)
            self.scaler_ = fit_scaler(values, lengths, self.kind, rated=self.rated)
        self.constant_channels_ = self.scaler_.constant_channels
        self.channel_center_ = self.scaler_.channel_center
        self.channel_scale_ = self.scaler_.channel_scale
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
            Windows. For a WindowSet, the result is also a WindowSet, which is marked as scaled in
            its provenance.
        lengths : array-like of shape (n_windows,), optional
            Number of valid steps of each window.

        Returns
        -------
        ndarray of the same shape as X, or WindowSet
            The scaled windows, as float32 if X is float32, otherwise as float64.

        Raises
        ------
        SignalError
            If the number of dimensions or channels of X differs from that in `fit`, or a valid step
            is NaN or infinite.
        WindowError
            If a WindowSet is already scaled.
        """
        check_is_fitted(self)
        if isinstance(X, WindowSet):
            _refuse_scaled(X)
            provenance = {**X.provenance, "scaled": self.scaler_.kind or "none"}
            scaled = self.scaler_.transform(X.X, X.lengths)
            return replace(X, X=scaled, provenance=provenance)
        return self.scaler_.transform(self._check(X, lengths, reset=False), lengths)

    def inverse_transform(self, X: Any, lengths: ArrayLike | None = None) -> Any:
        """Undo `transform`.

        Parameters
        ----------
        X, lengths
            As in `transform`.

        Raises
        ------
        SignalError
            If X does not match the windows that were used in `fit`.
        """
        check_is_fitted(self)
        if isinstance(X, WindowSet):
            provenance = {key: value for key, value in X.provenance.items() if key != "scaled"}
            unscaled = self.scaler_.inverse_transform(X.X, X.lengths)
            return replace(X, X=unscaled, provenance=provenance)
        return self.scaler_.inverse_transform(self._check(X, lengths, reset=False), lengths)

    def _check(self, X: Any, lengths: Any, *, reset: bool) -> NDArray[np.floating]:
        # If lengths are given, padding may be NaN, because only the valid steps are read.
        return check_window_array(self, X, reset=reset, ensure_all_finite=lengths is None)


def check_window_array(
    transformer: Any, X: Any, *, reset: bool, **accept: Any
) -> NDArray[np.floating]:
    """Return windows (n, t) or (n, t, c) as floats; check that they have as many axes as in fit."""
    ndim = 3 if getattr(X, "ndim", 2) == 3 else 2
    name = type(transformer).__name__
    if not reset and ndim != getattr(transformer, "_window_ndim", ndim):
        raise SignalError(
            f"X has {ndim} dimensions, but {name} was fitted on windows with"
            f" {transformer._window_ndim}; for a single channel use X[:, :, np.newaxis]."
        )
    transformer._window_ndim = ndim
    accept["dtype"] = [np.float64, np.float32]
    values: NDArray[np.floating]
    if ndim == 2:
        values = validate_data(transformer, X, reset=reset, **accept)
        return values
    values = check_array(X, allow_nd=True, **accept)
    check_not_empty(values)
    if reset:
        transformer.n_features_in_ = values.shape[2]
    n_fitted = getattr(transformer, "n_features_in_", values.shape[2])
    if values.shape[2] != n_fitted:
        raise SignalError(f"X has {values.shape[2]} channels, but {name} was fitted on {n_fitted}.")
    return values


def _refuse_scaled(windows: WindowSet) -> None:
    if "scaled" in windows.provenance:
        raise WindowError(
            f"these windows are already scaled ({windows.provenance['scaled']}); scale only once."
        )


class SignalSteps(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Apply filters and features to recordings, or to windows one by one.

    If possible, apply the steps before cutting windows, so that filters can use the samples before
    and after a window. Windows that are filtered one by one have edge effects. Nothing is fitted,
    so nothing can leak.

    Parameters
    ----------
    steps : sequence of Step or dict, optional
        Steps in the order in which they are applied; see `sensorseq.preprocessing.steps`. None
        leaves values unchanged.
    sample_rate_hz : float, optional
        Sample rate of windows that are given as arrays; recordings and a WindowSet have their own
        rates.

    Attributes
    ----------
    steps_ : tuple of Step
        The steps as objects.
    n_features_in_ : int
        Number of timesteps for 2-D input, otherwise number of channels; not set for recordings.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq.preprocessing import SignalSteps
    >>> rate = SignalSteps([{"kind": "difference"}], sample_rate_hz=100.0)
    >>> rate.fit_transform(np.array([[1.0, 2.0, 4.0]]))
    array([[0., 1., 2.]])
    """

    def __init__(
        self,
        steps: Sequence[Step | Mapping[str, Any]] | None = None,
        sample_rate_hz: float | None = None,
    ) -> None:
        self.steps = steps
        self.sample_rate_hz = sample_rate_hz

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the steps against the channels; there is nothing to learn.

        Parameters
        ----------
        X : list of Recording, WindowSet, or array of shape (n_windows, n_timesteps[, n_channels])
            Data that will be transformed.
        y : None
            Not used.

        Raises
        ------
        ArgumentError, ConfigurationError
            If an entry is not a step, or is invalid. A note on the error names the entry.
        SignalError
            If `sample_rate_hz` is not a positive rate.
        """
        self.steps_ = make_steps(self.steps)
        if self.sample_rate_hz is not None:
            check_rate("sample_rate_hz", self.sample_rate_hz)
        chain = StepChain(self.steps_)
        if isinstance(X, WindowSet):
            self.n_features_in_, self._window_ndim = X.n_channels, 3
            chain.output_channels(tuple(map(Channel, X.channels)))
        elif _are_recordings(X):
            for recording in X:
                chain.output_channels(recording.channels)
        else:
            check_window_array(self, X, reset=True)
        return self

    def transform(self, X: Any) -> Any:
        """Return the result of all steps, in the form of the input.

        Windows of one channel, (n, t), are returned as (n, t) if the result has one channel,
        otherwise as (n, t, c).

        Parameters
        ----------
        X : list of Recording, WindowSet, or array of shape (n_windows, n_timesteps[, n_channels])
            Data in the form used in `fit`. Recordings must be evenly sampled; the channels of an
            array are named channel_0, channel_1 and so on.

        Returns
        -------
        list of Recording, WindowSet, or ndarray of shape (n_windows, n_timesteps, n_outputs)
            The transformed data.

        Raises
        ------
        ArgumentError
            If a step names a missing channel, or `sample_rate_hz` is not given for an array.
        SignalError, RecordingError
            If samples are missing or unevenly spaced, or X does not match the input of `fit`.
        WindowError
            If windows of a WindowSet are padded.
        """
        check_is_fitted(self, "steps_")
        chain = StepChain(self.steps_)
        if _are_recordings(X):
            return [chain.apply(recording) for recording in X]
        if not isinstance(X, WindowSet):
            values = check_window_array(self, X, reset=False)
            windows = values[:, :, np.newaxis] if values.ndim == 2 else values
            if not self.steps_:
                return values.copy()
            names = tuple(f"channel_{i}" for i in range(windows.shape[2]))
            made = self._apply_to_each(windows, names, self.sample_rate_hz)
            return made[:, :, 0] if values.ndim == 2 and made.shape[2] == 1 else made
        if (np.asarray(X.lengths) < X.n_timesteps).any():
            raise WindowError(
                "windows are padded (lengths below n_timesteps); apply the steps to the recordings"
                " before cutting windows."
            )
        if not self.steps_:
            return X
        rate = X.sample_rate_hz if self.sample_rate_hz is None else self.sample_rate_hz
        made = self._apply_to_each(X.X, X.channels, rate)
        channels = chain.output_channels(tuple(map(Channel, X.channels)))
        names = tuple(channel.name for channel in channels)
        return replace(X, X=made, channels=names, sample_rate_hz=rate)

    def _apply_to_each(
        self, windows: NDArray[np.floating], names: Sequence[str], rate: float | None
    ) -> NDArray[np.floating]:
        if rate is None:
            raise ArgumentError("the windows have no sample rate; give sample_rate_hz.")
        chain = StepChain(self.steps_)
        made = [
            chain.apply(Recording.evenly_sampled(values, rate, names, f"window {row}"), rate).values
            for row, values in enumerate(windows)
        ]
        n_outputs = len(chain.output_channels(tuple(map(Channel, names))))
        return np.reshape(made, (*windows.shape[:2], n_outputs))


def _are_recordings(X: Any) -> bool:
    if isinstance(X, Recording):
        raise ArgumentError("X is one recording; give a list of recordings.")
    return (
        isinstance(X, list | tuple) and bool(X) and all(isinstance(item, Recording) for item in X)
    )


class Windower(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Cut evenly sampled recordings into windows, as `PreparePipeline` does.

    Parameters
    ----------
    window_s : float
        Length of a window in seconds.
    hop_s : float, optional
        Seconds between window starts; `window_s` by default.
    label_rule : {"whole", "majority", "centre", "last"}, default="whole"
        How to label the windows of a recording with label spans. whole: windows are cut inside each
        span, from its first sample on, so that no window has two labels or unlabeled samples. The
        other rules cut the recording as if it had no spans, and choose a label for each window.
        majority: the most frequent label; see `min_purity`. centre: the label of the middle sample.
        last: the label of the last sample, which is current when the window is complete. All rules
        agree for recordings with one label.
    min_purity : float, default=0.5
        Only for majority: minimum fraction of a window's samples that must have the window's label,
        above 0 and up to 1. Windows with a lower fraction, or with a tie between the most frequent
        labels, are dropped.
    short : {"drop", "pad", "error"}, default="drop"
        How to handle a piece (or, for whole, a label span) that is shorter than a window. pad: make
        one window that is padded with zeros; `lengths` contains its number of valid samples.
    """

    def __init__(
        self,
        window_s: float,
        hop_s: float | None = None,
        label_rule: str = "whole",
        min_purity: float | None = None,
        short: str = "drop",
    ) -> None:
        self.window_s = window_s
        self.hop_s = hop_s
        self.label_rule = label_rule
        self.min_purity = min_purity
        self.short = short

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any = None) -> Self:
        """Do nothing, because there is nothing to learn.

        Parameters
        ----------
        X, y : object, optional
            Not used.
        """
        return self

    def transform(self, X: Iterable[Recording]) -> WindowSet:
        """Return the windows of all recordings; see `window_recordings`.

        Parameters
        ----------
        X : iterable of Recording
            Evenly sampled recordings, as returned by `Resampler`.

        Returns
        -------
        WindowSet
            The windows, ordered by recording and then by time.

        Raises
        ------
        ArgumentError
            If an argument is invalid.
        RecordingError
            If a recording is unevenly sampled, has gaps, or differs from the others in channels or
            rate.
        WindowError
            If no recording is as long as a window, or a class loses all its windows.
        """
        return window_recordings(X, **self.get_params(deep=False))


class ClassBalancer(BaseEstimator):  # type: ignore[misc]
    """Drop or repeat training windows until all classes have the same number of windows.

    The same windows are chosen as by ``PreparePipeline(balance=strategy)``. This class works on
    windows of any shape, and in the pipeline of imbalanced-learn.

    Parameters
    ----------
    strategy : {"undersample", "oversample"}, default="undersample"
        undersample: every class gets as many windows as the rarest class, without repeats.
        oversample: every class gets as many windows as the most frequent class; every window is
        kept, and the copies are spread evenly over the windows of a class.
    random_state : int, Generator, RandomState or None
        Seed of the choice; the same seed gives the same choice.
    max_per_recording : int or float, optional
        Maximum number of windows that one recording may contribute to a class, including copies: a
        number (int), or a fraction of the class's final windows (float above 0, up to 1.0). A
        recording with more windows loses some of them, even when oversampling. If a class cannot
        reach the target count under this limit, every class is reduced to the count that all can
        reach, and a warning names the class. Counts are therefore always equal, and the limit
        always applies. This parameter requires the recording of each window, from a WindowSet or as
        `recording_id` in `fit_resample`.

    Attributes
    ----------
    sample_indices_ : ndarray of shape (n_chosen,), int64
        Sorted indices of the chosen windows in the input; copies of a window have its index.
    """

    __metadata_request__fit_resample: ClassVar = {"groups": True, "recording_id": True}

    def __init__(
        self,
        strategy: str = "undersample",
        random_state: RandomState = None,
        *,
        max_per_recording: float | None = None,
    ) -> None:
        self.strategy = strategy
        self.random_state = random_state
        self.max_per_recording = max_per_recording

    def fit_resample(
        self,
        X: Any,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        recording_id: ArrayLike | None = None,
    ) -> tuple[Any, NDArray[Any]]:
        """Return the chosen windows and their labels.

        Parameters
        ----------
        X : array-like of shape (n_windows, ...) or WindowSet
            The windows. If a WindowSet has a split, only its training part is balanced; the other
            parts stay unchanged.
        y : array-like of shape (n_windows,), optional
            Labels; a WindowSet has its own labels, groups and recordings.
        groups : array-like of shape (n_windows,), optional
            The group of each window. The groups take turns when windows are dropped or repeated.
        recording_id : array-like of shape (n_windows,), optional
            The recording of each window, for `max_per_recording`.

        Returns
        -------
        X_resampled : ndarray of shape (n_chosen, ...) or WindowSet
        y_resampled : ndarray of shape (n_chosen,)

        Raises
        ------
        WindowError
            If there are no labels, or a WindowSet has a split but no training windows. Validation
            and test parts are never balanced.
        ArgumentError
            If an argument is invalid, or duplicates what a WindowSet already has.
        """
        if not isinstance(X, WindowSet):
            check_consistent_length(X, y)
            self.sample_indices_ = rows = self._chosen(y, groups, recording_id)
            return np.asarray(X)[rows], np.asarray(y)[rows]
        refuse_beside_windows(y=y, groups=groups, recording_id=recording_id)
        train = np.arange(len(X)) if X.split is None else np.flatnonzero(X.split == "train")
        of_train = [None if of is None else of[train] for of in (X.y, X.groups, X.recording_id)]
        with noting("in the training part, which alone is balanced", WindowError):
            chosen = train[self._chosen(*of_train)]
        others = np.setdiff1d(np.arange(len(X)), train)
        self.sample_indices_ = rows = np.sort(np.concatenate([chosen, others]))
        made = {"strategy": self.strategy, "before_split": X.split is None}
        balanced = replace(X.take(rows), provenance={**X.provenance, "balanced": made})
        return balanced, np.asarray(balanced.y)

    def _chosen(self, y: Any, groups: Any, recording_id: Any) -> NDArray[np.int64]:
        """Return the indices of the chosen windows."""
        return balance_indices(
            y,
            groups,
            self.strategy,
            self.random_state,
            recording_id=recording_id,
            max_per_recording=self.max_per_recording,
        )
