"""Scale each channel by statistics of the training windows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from sensorseq.errors import SignalError, check_choice

KINDS = ("standard", "robust", "min_max", "max_abs", "quantile")
N_QUANTILES = 1000
_TAIL = 1e-7  # quantile: what lies outside the training range becomes +-5.2, as in scikit-learn


@dataclass(frozen=True, eq=False)
class Scaler:
    """Statistics of each channel, and the map they define: (x - channel_center) / channel_scale.

    Made by `fit_scaler`; `to_dict` and `from_dict` take it into files and back.

    Parameters
    ----------
    kind : str or None
        One of `KINDS`; None leaves values as they are.
    channel_center, channel_scale : ndarray of shape (n_channels,), float64
        Scale is 1 for a constant channel.
    channel_quantiles : ndarray of shape (n_quantiles, n_channels), float64, optional
        For ``"quantile"`` alone: the training data's quantiles, equally spaced from 0 to 1, which
        become those of a standard normal distribution.
    """

    kind: str | None
    channel_center: NDArray[np.float64]
    channel_scale: NDArray[np.float64]
    channel_quantiles: NDArray[np.float64] | None = None

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.channel_center)

    def transform(self, X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.floating]:
        """Return X scaled, computed in float64.

        Parameters
        ----------
        X : array-like of shape (n_windows, n_timesteps, n_channels) or (n_windows, n_timesteps)
            The second form is one channel.
        lengths : array-like of shape (n_windows,), optional
            Valid steps; the others are 0 in the result, whatever they hold.

        Returns
        -------
        ndarray of the shape of `X`
            float32 for float32, else float64.

        Raises
        ------
        SignalError
            If `X` has another number of channels, a valid step is NaN or infinite, or `lengths` do
            not fit.
        """
        return self._map(X, lengths, self._forward)

    def inverse_transform(
        self, X: ArrayLike, lengths: ArrayLike | None = None
    ) -> NDArray[np.floating]:
        """Undo `transform`; with ``"quantile"`` up to what lay outside the training range.

        Parameters, result and errors are those of `transform`.
        """
        return self._map(X, lengths, self._backward)

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the fields as numeric arrays (`kind` as UTF-8 bytes), for any array file."""
        fields: dict[str, NDArray[Any]] = {
            "kind": np.frombuffer((self.kind or "none").encode(), np.uint8).copy(),
            "channel_center": self.channel_center,
            "channel_scale": self.channel_scale,
        }
        if self.channel_quantiles is not None:
            fields["channel_quantiles"] = self.channel_quantiles
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Scaler":
        """Make what `to_dict` describes.

        Raises
        ------
        ArgumentError
            If the kind is unknown.
        SignalError
            If the arrays do not fit each other.
        """
        kind = check_choice(
            "kind", bytes(np.asarray(fields["kind"], np.uint8)).decode(), (*KINDS, "none")
        )
        center = np.asarray(fields["channel_center"], np.float64)
        scale = np.asarray(fields["channel_scale"], np.float64)
        quantiles = fields.get("channel_quantiles")
        if quantiles is not None:
            quantiles = np.asarray(quantiles, np.float64)
        if (
            center.ndim != 1
            or scale.shape != center.shape
            or (quantiles is None) != (kind != "quantile")
            or (quantiles is not None and quantiles.shape[1:] != center.shape)
        ):
            raise SignalError("the stored statistics of a scaler do not fit each other.")
        return cls(None if kind == "none" else kind, center, scale, quantiles)

    def _map(self, X: ArrayLike, lengths: ArrayLike | None, apply: Any) -> NDArray[np.floating]:
        windows = _as_windows(X)
        if windows.shape[2] != self.n_channels:
            raise SignalError(
                f"X has {windows.shape[2]} channels, but the scaler was fitted on"
                f" {self.n_channels}."
            )
        valid = _valid_steps(windows, lengths)
        scaled = np.empty(windows.shape, np.result_type(windows.dtype, np.float32))
        for channel in range(self.n_channels):  # one at a time: float64 copies stay small
            steps = windows[:, :, channel].astype(np.float64)
            if valid is not None:
                steps[~valid] = self.channel_center[channel]  # may be NaN, and is not read
            if not np.isfinite(steps).all():
                _raise_not_finite(windows, valid, channel)
            mapped = apply(steps, channel)
            scaled[:, :, channel] = mapped if valid is None else np.where(valid, mapped, 0.0)
        return scaled.reshape(np.shape(X))

    def _forward(self, x: NDArray[np.float64], channel: int) -> NDArray[np.float64]:
        if not self._is_ranked(channel):
            centred: NDArray[np.float64] = x - float(self.channel_center[channel])
            return centred / float(self.channel_scale[channel])
        assert self.channel_quantiles is not None
        quantiles = self.channel_quantiles[:, channel]
        levels = np.linspace(0, 1, len(quantiles))
        # From both sides and averaged: a value that fills several quantiles maps to their middle.
        rising = np.interp(x, quantiles, levels)
        falling = np.interp(-x, -quantiles[::-1], -levels[::-1])
        normal: NDArray[np.float64] = ndtri(np.clip((rising - falling) / 2, _TAIL, 1 - _TAIL))
        return normal

    def _backward(self, x: NDArray[np.float64], channel: int) -> NDArray[np.float64]:
        if not self._is_ranked(channel):
            unscaled: NDArray[np.float64] = x * float(self.channel_scale[channel])
            return unscaled + float(self.channel_center[channel])
        assert self.channel_quantiles is not None
        quantiles = self.channel_quantiles[:, channel]
        values: NDArray[np.float64] = np.interp(
            ndtr(x), np.linspace(0, 1, len(quantiles)), quantiles
        )
        return values

    def _is_ranked(self, channel: int) -> bool:
        """Quantiles say nothing about a constant channel, which is only centred."""
        quantiles = self.channel_quantiles
        return quantiles is not None and bool(quantiles[0, channel] < quantiles[-1, channel])


def fit_scaler(
    X: ArrayLike, lengths: ArrayLike | None = None, kind: str | None = "standard"
) -> Scaler:
    """Learn a scale for each channel from the valid steps of training windows.

    Parameters
    ----------
    X : array-like of shape (n_windows, n_timesteps, n_channels) or (n_windows, n_timesteps)
        Training windows alone: statistics of others would leak into their score. The second form is
        one channel.
    lengths : array-like of shape (n_windows,), optional
        Valid steps of each window; what lies beyond is not read and may be NaN.
    kind : {"standard", "robust", "min_max", "max_abs", "quantile"} or None
        standard: mean 0, variance 1. robust: median 0, interquartile range 1 (the standard
        deviation where the quartiles coincide, as in a motor that mostly rests). min_max: 0 to 1.
        max_abs: largest magnitude 1, zero stays zero. quantile: up to 1000 quantiles become those
        of the normal distribution.

    Returns
    -------
    Scaler
        A constant channel is centred (not for max_abs) and scaled by 1.

    Raises
    ------
    SignalError
        If a valid step is NaN or infinite, no step is valid, or shapes disagree.
    ArgumentError
        If `kind` is unknown.

    Notes
    -----
    Statistics are float64; the variance is summed about the mean (two passes), so an offset of 1e8
    costs no digits.
    """
    if kind is not None:
        check_choice("kind", kind, KINDS)
    windows = _as_windows(X)
    valid = _valid_steps(windows, lengths)
    n_channels = windows.shape[2]
    center, scale = np.zeros(n_channels), np.ones(n_channels)
    quantiles = []
    for channel in range(n_channels):
        steps = windows[:, :, channel]
        x = (steps.ravel() if valid is None else steps[valid]).astype(np.float64)
        if not x.size:
            raise SignalError(
                "no window has a valid step, so there is nothing to learn a scale of."
            )
        if not np.isfinite(x).all():
            _raise_not_finite(windows, valid, channel)
        if kind is not None:
            center[channel], scale[channel] = _center_and_scale(x, kind)
        if kind == "quantile":
            levels = np.linspace(0, 1, max(2, min(N_QUANTILES, _n_valid(windows, valid))))
            # Interpolation can undo the order by one rounding.
            quantiles.append(np.maximum.accumulate(np.quantile(x, levels)))
    return Scaler(kind, center, scale, np.stack(quantiles, axis=1) if quantiles else None)


def _center_and_scale(x: NDArray[np.float64], kind: str) -> tuple[float, float]:
    low, high = float(x.min()), float(x.max())
    largest = max(abs(low), abs(high))
    if high - low <= 10 * np.finfo(np.float64).eps * largest:  # constant but for rounding
        return (0.0, largest or 1.0) if kind == "max_abs" else (low, 1.0)
    mean = float(x.mean())
    deviation = float(np.sqrt(np.mean((x - mean) ** 2)))
    if kind == "standard":
        return mean, deviation
    if kind == "robust":
        lower, median, upper = (float(q) for q in np.quantile(x, [0.25, 0.5, 0.75]))
        return median, (upper - lower) or deviation
    if kind == "min_max":
        return low, high - low
    if kind == "max_abs":
        return 0.0, largest
    return float(np.median(x)), 1.0


def _n_valid(windows: NDArray[np.floating], valid: NDArray[np.bool_] | None) -> int:
    return windows.shape[0] * windows.shape[1] if valid is None else int(np.count_nonzero(valid))


def _as_windows(X: ArrayLike) -> NDArray[np.floating]:
    windows = np.asarray(X)
    if windows.ndim == 2:
        windows = windows[:, :, np.newaxis]
    if windows.ndim != 3:
        raise SignalError(
            f"X has shape {windows.shape}; expected (n_windows, n_timesteps, n_channels), or"
            " (n_windows, n_timesteps) for one channel."
        )
    if windows.dtype.kind not in "fiub":
        raise SignalError(f"X of type {windows.dtype} holds no real numbers.")
    return windows if windows.dtype in (np.float32, np.float64) else windows.astype(np.float64)


def _valid_steps(
    windows: NDArray[np.floating], lengths: ArrayLike | None
) -> NDArray[np.bool_] | None:
    """Mask of shape (n_windows, n_timesteps), or None when every step is valid."""
    if lengths is None:
        return None
    steps = np.asarray(lengths)
    n_windows, n_timesteps = windows.shape[:2]
    if steps.shape != (n_windows,) or steps.dtype.kind not in "iu":
        raise SignalError(
            f"lengths of shape {steps.shape} and type {steps.dtype}; {n_windows} windows need"
            f" integers of shape ({n_windows},)."
        )
    outside = np.flatnonzero((steps < 0) | (steps > n_timesteps))
    if outside.size:
        row = int(outside[0])
        raise SignalError(f"lengths[{row}] is {steps[row]}; it must lie in 0..{n_timesteps}.")
    mask: NDArray[np.bool_] = np.arange(n_timesteps) < steps[:, np.newaxis]
    return None if mask.all() else mask


def _raise_not_finite(
    windows: NDArray[np.floating], valid: NDArray[np.bool_] | None, channel: int
) -> None:
    bad = ~np.isfinite(windows[:, :, channel])
    row, step = (int(i) for i in np.argwhere(bad if valid is None else bad & valid)[0])
    what = "NaN" if np.isnan(windows[row, step, channel]) else "inf"
    raise SignalError(
        f"X is {what} in window {row}, step {step}, channel {channel}. Fill missing samples before"
        " windows are cut (resample_recording), or shorten the window's entry in lengths."
    )
