"""TrainedRanges: ranges of the training windows, with which other windows are compared."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.text import html_table, likely_unit, plural, times
from sensorseq.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_VALUES = 250_000  # number of values that are processed together; their 2 MB fit into a cache
# Margins and sizes were chosen on the development recordings of benchmarks/bench_outside.py.
# Number of bands, and minimum number of steps in a window for which a spectrum is computed.
N_BANDS, FEWEST_BAND_STEPS = 8, 32
NO_RANGES = (
    "the model does not have the ranges of its training windows, because it was imported. Fit it"
    " again."
)
FEWEST_STEPS = 8  # shortest window whose spread is used
_VALUES, _SPREAD, _SHARE, _BANDS = 0, 1, 2, slice(3, 3 + N_BANDS)
# The margin of values is a fraction of their range; the other margins are in decades.
_MARGINS = np.array([0.5, 1.0, 0.5, *[1.0] * N_BANDS])[:, None]
_STILL = -4.0  # a channel is constant if log10 of its spread relative to training is at most this
_ROUNDING = 1e-12  # rounding error of a spread, relative to the values
STUCK, OUT_OF_RANGE = "constant", ("spread", "values")  # reasons that indicate a failed channel
_LEAST_POWER = 1e-6  # smaller fractions of power are replaced by this value


@dataclass(frozen=True, eq=False)
class OutsideWindows:
    """A comparison of windows with a model's training windows; print it to see a summary.

    Attributes
    ----------
    reasons : ndarray of shape (n, n_channels), str
        The first reason that applies, of ``"constant"`` (the channel was never constant in
        training), ``"spread"``, ``"values"``, ``"share"`` (the spread relative to the other
        channels) and ``"spectrum"``. Empty if no reason applies.
    ratio : ndarray of shape (n, n_channels), float64
        Standard deviation relative to training; NaN if unknown.
    channels : tuple of str
        Names of the channels.
    """

    reasons: NDArray[np.str_]
    ratio: Floats
    channels: tuple[str, ...]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Array of shape (n,) that is True for the windows outside the ranges."""
        return np.asarray((self.reasons != "").any(axis=1))

    @property
    def n_outside(self) -> int:
        """The number of windows outside the ranges."""
        return int(self.mask.sum())

    def __str__(self) -> str:
        n = len(self.reasons)
        if not self.n_outside:
            return f"All {n} windows lie within what the model was trained on."
        counts = (self.reasons != "").sum(axis=0)
        order = [c for c in np.argsort(-counts, kind="stable").tolist() if counts[c]]
        parts = [self._describe_channel(c) for c in order[:2]]
        if more := len(order) - len(parts):
            parts.append(f"and {plural(more, 'more channel')}")
        which = f"{self.n_outside} of {n} windows" if n > 1 else "The window"
        lie = "lies" if self.n_outside == 1 else "lie"
        return f"{which} {lie} outside what the model was trained on: {'; '.join(parts)}."

    def __repr__(self) -> str:
        return f"<OutsideWindows: {self.n_outside} of {len(self.reasons)}>"

    def _repr_html_(self) -> str:
        """Return an HTML table: how many windows are outside each channel's ranges, and why."""
        rows = [
            [name, str(int((self.reasons[:, c] != "").sum())), ", ".join(kinds)]
            for c, name in enumerate(self.channels)
            if (kinds := sorted(set(self.reasons[:, c].tolist()) - {""}))
        ]
        return html_table(str(self), ["channel", "windows outside", "by"], rows)

    def _describe_channel(self, c: int) -> str:
        """Describe how many windows are outside a channel's ranges, and why most of them are."""
        is_odd = self.reasons[:, c] != ""
        kinds, counts = np.unique(self.reasons[is_odd, c], return_counts=True)
        kind, unit = str(kinds[np.argmax(counts)]), ""
        ratio = float(np.sqrt(np.mean(self.ratio[is_odd, c] ** 2)))
        change = {
            "constant": "is constant, which it never was in training",
            "spread": "varies more or less than it ever did in training",
            "values": "has values far from the training values",
            "share": "varies more or less than in training, compared with the other channels",
            "spectrum": "has a different spectrum than in training, perhaps due to its sample rate",
        }[kind]
        if kind == "share" and ratio < 1.01 * 10**_STILL:
            change = "is constant while others vary, which never happened in training"
        elif kind in ("spread", "values", "share") and max(ratio, 1 / ratio) > 10:
            change = f"varies {times(float(f'{ratio:.2g}'), 'as much as', 'less than')} in training"
            unit = likely_unit(ratio, "training had")
        n = int(counts.sum())
        return f"channel {self.channels[c]!r} {change} ({plural(n, 'window')}){unit}"


def report_outside(
    outside: OutsideWindows | None, say: Callable[[str], None], *, strict: bool
) -> None:
    """Write a warning if windows are unlike the training windows, or raise an error if `strict`."""
    if outside is not None and outside.n_outside:
        if strict:
            raise InputError(f"{outside} Leave out --strict to use these windows anyway.")
        say(f"warning: {outside}")


def join_outside(parts: Sequence[OutsideWindows]) -> OutsideWindows:
    """Concatenate results for the same channels."""
    reasons = np.concatenate([part.reasons for part in parts])
    ratio = np.concatenate([part.ratio for part in parts])
    return OutsideWindows(reasons, ratio, parts[0].channels)


def join_sensors_outside(
    by_sensor: Mapping[str, tuple[OutsideWindows, Union[slice, NDArray[np.int64]]]],
    channels: Mapping[str, Sequence[str]],
    n_windows: int,
) -> OutsideWindows:
    """Join the results of sensors; `by_sensor` has the result and window indices of each sensor."""
    reasons, ratio = [], []
    names: list[str] = []
    for sensor, of_sensor in channels.items():
        reasons.append(np.full((n_windows, len(of_sensor)), "", "U8"))
        ratio.append(np.full((n_windows, len(of_sensor)), np.nan))
        if sensor in by_sensor:
            outside, rows = by_sensor[sensor]
            reasons[-1][rows], ratio[-1][rows] = outside.reasons, outside.ratio
        names += names_of_sensor(sensor, of_sensor)
    return OutsideWindows(
        np.concatenate(reasons, axis=1), np.concatenate(ratio, axis=1), tuple(names)
    )


def names_of_sensor(sensor: str, channels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a sensor's channels, after the name of the sensor if it has one."""
    return tuple(f"{sensor}: {channel}" if sensor else channel for channel in channels)


@dataclass(frozen=True, eq=False)
class TrainedRanges:
    """The minimum and maximum of each measure over the training windows, or NaN if unknown.

    `low` and `high` have shape (3 + bands, n_channels). Their rows are the values; log10 of the
    standard deviation divided by `scale`; this logarithm minus its mean over the other channels;
    and log10 of each band's fraction of the power. `scale`, of shape (n_channels,), is the root
    mean square of the standard deviation over the training windows.
    """

    low: Floats
    high: Floats
    scale: Floats

    @classmethod
    def learn(cls, X: NDArray[Any], lengths: Ints) -> "TrainedRanges":
        """Return the ranges of unscaled windows (n, t, c), given their numbers of valid steps."""
        squares, peak, count = np.zeros(X.shape[2]), np.zeros(X.shape[2]), 0
        for rows, length in _blocks(lengths, X.shape[2]):
            part = X[rows, :length].astype(np.float64)
            peak = np.maximum(peak, abs(part).max(axis=(0, 1)))
            if part.shape[1] >= FEWEST_STEPS:
                squares += part.var(axis=1).sum(axis=0)
                count += len(part)
        scale = np.sqrt(squares / max(count, 1))
        scale[scale < _ROUNDING * peak] = 0.0
        unknown = np.full((len(_MARGINS), X.shape[2]), np.nan)
        return cls(unknown, unknown, scale).widened(X, lengths)

    def widened(self, X: NDArray[Any], lengths: Ints) -> "TrainedRanges":
        """Return the ranges, extended to include further windows."""
        low, high = self.low, self.high
        for _, least, most in self._measured(X, lengths):
            low = np.fmin(low, np.fmin.reduce(least, axis=0))
            high = np.fmax(high, np.fmax.reduce(most, axis=0))
        return TrainedRanges(low, high, self.scale)

    def compare(self, X: NDArray[Any], lengths: Ints, channels: Sequence[str]) -> OutsideWindows:
        """Find windows (n, t, c) outside the ranges, with reasons."""
        margins = np.broadcast_to(_MARGINS, self.low.shape).copy()
        margins[_VALUES] *= self.high[_VALUES] - self.low[_VALUES]
        margins[_VALUES] += 1e-6 * np.maximum(abs(self.low[_VALUES]), abs(self.high[_VALUES]))
        low, high = self.low - margins, self.high + margins
        reasons = np.full((len(X), X.shape[2]), "", "<U8")
        ratio = np.full(reasons.shape, np.nan)
        for rows, least, most in self._measured(X, lengths):
            beyond = np.maximum(low - least, most - high)  # NaN if there is nothing to compare
            is_odd = beyond > 0
            spread, share = least[:, _SPREAD], beyond[:, _SHARE]
            is_still = (spread <= _STILL) & (self.low[_SPREAD] > _STILL)
            # Report "share" only for the channel whose share deviates most, because this channel
            # also shifts the shares of the other channels.
            is_explained = (is_odd[:, :_SHARE].any(axis=1) | is_still).any(axis=1)
            is_farthest = share >= np.fmax.reduce(share, axis=1, keepdims=True) - 1e-9
            for reason, where in (
                ("spectrum", is_odd[:, _BANDS].any(axis=1)),
                ("share", is_odd[:, _SHARE] & is_farthest & ~is_explained[:, None]),
                ("values", is_odd[:, _VALUES]),
                ("spread", is_odd[:, _SPREAD]),
                ("constant", is_still),
            ):
                reasons[rows] = np.where(where, reason, reasons[rows])
            ratio[rows] = 10**spread
        return OutsideWindows(reasons, ratio, tuple(channels))

    def are_mostly(self, is_stuck: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask (n,) of windows where most channels that varied in training are stuck."""
        return np.asarray(is_stuck.sum(axis=1) > (self.low[_SPREAD] > _STILL).sum() / 2)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays for a model file."""
        return {f"ranges.{name}": array for name, array in vars(self).items()}

    @classmethod
    def restore(
        cls, arrays: Mapping[str, NDArray[Any]], n_channels: int | None = None
    ) -> "TrainedRanges | None":
        """Rebuild the ranges from `arrays`; return None if `arrays` contains no ranges."""
        if not any(name.startswith("ranges.") for name in arrays):
            return None
        low, high, scale = (arrays[f"ranges.{name}"] for name in ("low", "high", "scale"))
        shape = len(_MARGINS), len(scale) if n_channels is None else n_channels
        if (low.shape, high.shape, scale.shape) != (shape, shape, shape[1:]):
            raise ValueError(f"the ranges of training windows have shape {low.shape}, not {shape}")
        if {low.dtype, high.dtype, scale.dtype} != {np.dtype(np.float64)}:
            raise ValueError("the ranges of training windows do not have type float64")
        rises = (low <= high) | (np.isnan(low) & np.isnan(high))
        if not rises.all() or np.isinf([*low, *high]).any() or not (scale >= 0).all():
            raise ValueError("the ranges of training windows are not finite, or low is above high")
        return cls(low, high, scale)

    def _measured(self, X: NDArray[Any], lengths: Ints) -> Iterator[tuple[Ints, Floats, Floats]]:
        """Yield blocks of window indices with the minimum and maximum of each measure.

        Minimum and maximum both have shape (n, 3 + bands, c).
        """
        moves = self.scale > 0
        for rows, length in _blocks(lengths, X.shape[2]):
            part = X[rows, :length].astype(np.float64)
            least = np.full((len(rows), *self.low.shape), np.nan)
            if part.shape[1] >= FEWEST_STEPS and moves.any():
                spread = part[:, :, moves].std(axis=1) / self.scale[moves]
                logs = np.log10(np.maximum(spread, 10**_STILL))
                least[:, _SPREAD, moves] = logs
                if (n := logs.shape[1]) > 1:
                    others = (logs.sum(axis=1, keepdims=True) - logs) / (n - 1)
                    least[:, _SHARE, moves] = logs - others
                if part.shape[1] >= FEWEST_BAND_STEPS:
                    bands = _bands(part[:, :, moves])
                    least[:, _BANDS, moves] = np.where(logs[:, None] > _STILL, bands, np.nan)
            most = least.copy()
            least[:, _VALUES], most[:, _VALUES] = part.min(axis=1), part.max(axis=1)
            yield rows, least, most


def _blocks(lengths: Ints, n_channels: int) -> Iterator[tuple[Ints, int]]:
    """Yield indices of windows of equal length that are processed together, and their length."""
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        size = max(1, BLOCK_VALUES // (length * n_channels))
        for at in range(0, len(rows), size):
            yield rows[at : at + size], length


def _bands(part: Floats) -> Floats:
    """Return log10 of each band's fraction of the power, as an array (n, bands, c)."""
    moving = part - part.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(moving * np.hanning(part.shape[1] + 1)[:-1, None], axis=1)[:, 1:-1]
    power = np.array_split(np.abs(spectrum) ** 2, N_BANDS, axis=1)
    bands = np.stack([band.sum(axis=1) for band in power], axis=1)
    shares = bands / np.maximum(bands.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    logs: Floats = np.log10(np.maximum(shares, _LEAST_POWER))
    return logs
