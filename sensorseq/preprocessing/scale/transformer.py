"""The scaler of channels as a scikit-learn transformer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from sensorseq.checks import check_not_empty
from sensorseq.errors import SignalError, WindowError
from sensorseq.preprocessing.scale.scaler import Scaler, fit_scaler
from sensorseq.windows import WindowSet


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
        to the normal distribution. physical: divided by `rated`; nothing is fitted. Quartiles and
        quantiles use at most 200,000 steps, drawn evenly if there are more.
    rated : mapping of channel name to float, or sequence of float, optional
        For ``kind="physical"``: the divisor of each channel, in its unit and above zero. Names need
        a WindowSet.

    Attributes
    ----------
    scaler_ : Scaler
        The statistics as an object that can be stored.
    channel_center_, channel_scale_ : ndarray of shape (n_channels,)
        The value subtracted from each channel, and its divisor.
    constant_channels_ : tuple of int
        Positions of channels that were constant; they are centered and scaled by 1.
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
        rated: Mapping[str, float] | Sequence[float] | None = None,
    ) -> None:
        self.kind = kind
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
            float32 for float32, else float64.

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
            If X does not match the fitted windows.
        """
        check_is_fitted(self)
        if isinstance(X, WindowSet):
            provenance = {key: value for key, value in X.provenance.items() if key != "scaled"}
            unscaled = self.scaler_.inverse_transform(X.X, X.lengths)
            return replace(X, X=unscaled, provenance=provenance)
        return self.scaler_.inverse_transform(self._check(X, lengths, reset=False), lengths)

    def _check(self, X: Any, lengths: Any, *, reset: bool) -> NDArray[np.floating]:
        # Padding may be NaN: with lengths, fit_scaler and transform read only the valid steps.
        return check_window_array(self, X, reset=reset, ensure_all_finite=lengths is None)


def check_window_array(
    transformer: Any, X: Any, *, reset: bool, **accept: Any
) -> NDArray[np.floating]:
    """Return windows (n, t) or (n, t, c) as floats, with as many axes as in fit."""
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
