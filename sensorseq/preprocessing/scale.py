"""Scale each channel by statistics of training windows or a recording, or by its rated value."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Optional

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq import _signal
from sensorseq.base.checks import as_windows, check_lengths, raise_not_finite
from sensorseq.errors import (
    ArgumentError,
    InputError,
    SignalError,
    check_choice,
    did_you_mean,
    refusing,
)
from sensorseq.io.blocks import Rows, blocks, evenly_drawn
from sensorseq.preprocessing.steps.base import check_complete
from sensorseq.recording import Recording

NORMALIZE = ("recording",)
DRAWN_STEPS = 200_000  # largest number of steps used for quantiles
_SUMMED = 1 << 16  # samples per partial sum


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """Mean, population standard deviation, minimum and maximum of each channel, as float64."""

    n_steps: int
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def largest(self) -> NDArray[np.float64]:
        """The largest magnitude of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def is_constant(self) -> NDArray[np.bool_]:
        """True for each channel that is constant up to rounding."""
        with np.errstate(over="ignore"):
            spread = self.high - self.low
        constant: NDArray[np.bool_] = spread <= 10 * np.finfo(np.float64).eps * self.largest
        return constant


class ChannelMoments:
    """Statistics of windows added in blocks; the division into blocks does not affect the result.

    Each time step is read once. Even an offset of 1e8 does not reduce the precision: each channel's
    first value is subtracted, and statistics of groups of 512 time steps are merged (T. F. Chan, G.
    H. Golub, R. J. LeVeque, *Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances*, 1979).
    """

    def __init__(self) -> None:
        self._moments: _signal.Moments | None = None

    def add(self, X: ArrayLike, lengths: ArrayLike | None = None) -> None:
        """Add the valid steps of a block of windows; later steps are not read."""
        windows = as_windows(X)
        steps = check_lengths(windows, lengths)
        if self._moments is None:
            self._moments = _signal.Moments(windows.shape[2])
        position = self._moments.add(windows, steps)
        if position >= 0:
            raise_not_finite(windows, position)

    def statistics(self) -> ChannelStatistics:
        """Return the statistics of all blocks added so far."""
        n_steps, mean, m2, low, high = (
            (0, *np.zeros((4, 0))) if self._moments is None else self._moments.summarize()
        )
        if not n_steps:
            raise SignalError("no window has a valid step, so no scaler can be fitted.")
        return ChannelStatistics(n_steps, mean, np.sqrt(m2 / n_steps), low, high)


KINDS = ("standard", "robust")  # the kinds fitted on windows
PHYSICAL = "physical"  # the kind that divides by given rated values


@dataclass(frozen=True, eq=False)
class Scaler:
    """Statistics of each channel, for the mapping (x - channel_center) / channel_scale.

    `kind` is one of `KINDS` or `PHYSICAL`; None leaves values unchanged. `constant_channels` were
    constant in the training windows and carry no information for a network; their scale is 1.
    """

    kind: str | None
    channel_center: NDArray[np.float64]
    channel_scale: NDArray[np.float64]
    constant_channels: tuple[int, ...] = ()

    @classmethod
    def identity(cls, n_channels: int) -> "Scaler":
        """Return a scaler that leaves `n_channels` channels unchanged."""
        return cls(None, np.zeros(n_channels), np.ones(n_channels))

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.channel_center)

    def transform(self, X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.floating]:
        """Return X (n_windows, n_timesteps[, n_channels]) scaled, computed in float64.

        Steps at and beyond `lengths` become 0. The result is float32 if X is float32, otherwise
        float64.
        """
        return self._apply(X, lengths)[0]

    def transform_to_float32(
        self, X: ArrayLike, lengths: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Return X scaled in float64 and rounded once to float32, without a copy in float64.

        A value outside the range of float32 raises an error.
        """
        scaled, overflown = self._apply(X, lengths, np.float32)
        if overflown >= 0:
            at = np.unravel_index(overflown, as_windows(X).shape)
            row, step, channel = map(int, at)
            raise SignalError(
                f"X is {as_windows(X)[at]:g} in window {row}, step {step}, channel {channel}, which"
                " is outside the range of float32 after scaling."
            )
        return scaled

    def inverse_transform(
        self, X: ArrayLike, lengths: ArrayLike | None = None
    ) -> NDArray[np.floating]:
        """Undo `transform`."""
        return self._apply(X, lengths, inverse=True)[0]

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the fields as numeric arrays (`kind` as UTF-8 bytes)."""
        fields: dict[str, NDArray[Any]] = {
            "kind": np.frombuffer((self.kind or "none").encode(), np.uint8).copy(),
            "channel_center": self.channel_center,
            "channel_scale": self.channel_scale,
        }
        if self.constant_channels:
            fields["constant_channels"] = np.array(self.constant_channels, np.uint32)
        return fields

    @classmethod
    @refusing(InputError, "the stored scaling is damaged")
    def from_dict(cls, fields: Mapping[str, Any]) -> "Scaler":
        """Restore a scaler from the result of `to_dict`.

        Inconsistent arrays raise a `SignalError`.
        """
        stored = bytes(np.asarray(fields["kind"], np.uint8)).decode()
        kind = check_choice("kind", stored, (*KINDS, PHYSICAL, "none"))
        center = np.asarray(fields["channel_center"], np.float64)
        scale = np.asarray(fields["channel_scale"], np.float64)
        constant = tuple(np.asarray(fields.get("constant_channels", ()), np.int64).tolist())
        if (
            center.ndim != 1
            or any(not 0 <= channel < len(center) for channel in constant)
            or scale.shape != center.shape
        ):
            raise SignalError("the stored statistics of a scaler are inconsistent.")
        return cls(None if kind == "none" else kind, center, scale, constant)

    def _apply(
        self,
        X: ArrayLike,
        lengths: ArrayLike | None,
        dtype: type[np.float32] | None = None,
        *,
        inverse: bool = False,
    ) -> tuple[NDArray[Any], int]:
        """Return the scaled windows and the first position that overflows `dtype`, or -1."""
        windows = as_windows(X)
        if windows.shape[2] != self.n_channels:
            raise SignalError(
                f"X has {windows.shape[2]} channels, but the scaler was fitted on"
                f" {self.n_channels}."
            )
        given_lengths = check_lengths(windows, lengths)
        out = np.empty(windows.shape, dtype or windows.dtype)
        by: tuple[Any, Any] = (self.channel_center, self.channel_scale)
        if self.kind is None:
            by = (None, None)
        not_finite, overflown = _signal.scale_windows(windows, given_lengths, *by, inverse, out)
        if not_finite >= 0:
            raise_not_finite(windows, not_finite)
        return out.reshape(np.shape(X)), overflown


def fit_scaler(
    X: ArrayLike,
    lengths: ArrayLike | None = None,
    kind: str | None = "standard",
    *,
    rated: Mapping[str, float] | Sequence[float] | None = None,
    channels: Sequence[str] | None = None,
) -> Scaler:
    """Fit a scale for each channel to the valid steps of training windows.

    Pass only training windows, because statistics of validation or test windows would inflate the
    scores. `kind` and `rated` are described in `ChannelScaler`. A constant channel is listed in
    `constant_channels`; it is centered and scaled by 1. Steps beyond `lengths` are not read and may
    be NaN.
    """
    windows = as_windows(X)
    blocks = [(windows, check_lengths(windows, lengths))]
    return fit_scaler_to_blocks(lambda: blocks, kind, rated=rated, channels=channels)


def rated_scaler(
    rated: Mapping[str, float] | Sequence[float] | None,
    n_channels: int,
    channels: Sequence[str] | None = None,
) -> Scaler:
    """Return a scaler that divides each channel by its rated value, given in the channel's unit.

    A scaled value of 1 then means the rated value on every robot and in every data set, and zero
    stays zero. Every channel needs a rated value above zero; 1.0 leaves the channel unchanged.
    """
    if rated is None:
        raise ArgumentError(
            f"kind={PHYSICAL!r} needs rated, the value of each channel that is scaled to 1, as in"
            " rated={'current': 20.0}."
        )
    if isinstance(rated, Mapping):
        if channels is None:
            raise ArgumentError(
                "rated is given by name, but the channels have no names here; give a WindowSet,"
                " channels, or rated as a list in the order of the channels."
            )
        names = [str(name) for name in channels]
        for name in rated:
            if name not in names:
                raise ArgumentError(
                    f"rated names {name!r}, which is not a channel.{did_you_mean(name, names)}"
                    f" Channels: {', '.join(names)}."
                )
        missing = [name for name in names if name not in rated]
        if missing:
            raise ArgumentError(
                f"rated has no value for {', '.join(missing)}; give a value for every channel, or"
                " 1.0 to keep the unit of a channel."
            )
        values = [rated[name] for name in names]
    else:
        values, names = list(rated), [f"channel {i}" for i in range(n_channels)]
        if len(values) != n_channels:
            raise ArgumentError(f"rated has {len(values)} values for {n_channels} channels.")
    for name, value in zip(names, values):
        try:
            usable = bool(0 < value < 2**63)
        except TypeError:
            usable = False
        if not usable:
            raise ArgumentError(f"rated is {value!r} for {name}; it must be a number above zero.")
    return Scaler(PHYSICAL, np.zeros(n_channels), np.array(values, np.float64))


def draw_of(kind: str | None, n_steps: int) -> dict[str, Any]:
    """Return the provenance entry for a scaler that is fitted to only some of the time steps."""
    if kind != "robust" or n_steps <= DRAWN_STEPS:
        return {}
    return {"quantiles_from": {"n_steps": DRAWN_STEPS, "of": n_steps}}


def scaler_of(
    statistics: ChannelStatistics, kind: str | None, steps: NDArray[np.float64] | None = None
) -> Scaler:
    """Return a scaler of the given kind from statistics; ``"robust"`` also needs `steps`."""
    if kind is None:
        return Scaler.identity(len(statistics.mean))
    if steps is None:
        return _without_constants(statistics, kind, statistics.mean, statistics.deviation)
    lower, center, upper = np.quantile(steps, (0.25, 0.5, 0.75), axis=0)
    scale = np.where(upper - lower == 0, statistics.deviation, upper - lower)
    return _without_constants(statistics, kind, center, scale)


def _without_constants(
    statistics: ChannelStatistics,
    kind: str,
    center: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> Scaler:
    """Return a scaler that lists the constant channels and divides no channel by zero."""
    wild = np.flatnonzero(~np.isfinite(scale))
    if wild.size:
        channel = int(wild[0])
        raise SignalError(
            f"channel {channel} of X ranges from {statistics.low[channel]:g} to"
            f" {statistics.high[channel]:g}, which is too wide a range for computing its scale."
            " Correct the channel's unit."
        )
    constant = statistics.is_constant | (scale == 0)  # the squared spread may underflow to 0
    center = np.where(constant, statistics.low, center)
    scale = np.where(constant, 1.0, scale)
    return Scaler(kind, center, scale, constant_channels=tuple(np.flatnonzero(constant).tolist()))


Block = tuple[NDArray[np.floating], Optional[NDArray[np.int64]]]  # windows and their lengths


def fit_scaler_to_blocks(
    blocks: Callable[[], Iterable[Block]],
    kind: str | None = "standard",
    *,
    rated: Mapping[str, float] | Sequence[float] | None = None,
    channels: Sequence[str] | None = None,
) -> Scaler:
    """Fit a scaler that is bit-identical to the result of `fit_scaler` for all blocks together.

    `blocks` returns pairs of windows (n, n_timesteps, n_channels) and lengths. Only one block is in
    memory at a time. Each block is read once, or twice for robust, which draws time steps in the
    second reading.
    """
    if kind is not None:
        check_choice("kind", kind, (*KINDS, PHYSICAL))
    if kind == PHYSICAL and channels is not None:
        return rated_scaler(rated, len(channels), channels)
    if kind != PHYSICAL and rated is not None:
        raise ArgumentError(f"rated is only for kind={PHYSICAL!r}, but kind is {kind!r}.")
    moments = ChannelMoments()
    for windows, lengths in blocks():
        if kind == PHYSICAL:
            return rated_scaler(rated, windows.shape[2])
        moments.add(windows, lengths)
    statistics = moments.statistics()
    steps = _drawn_steps(blocks, statistics.n_steps) if kind == "robust" else None
    return scaler_of(statistics, kind, steps)


def _drawn_steps(blocks: Callable[[], Iterable[Block]], n_steps: int) -> NDArray[np.float64]:
    """Return `DRAWN_STEPS` evenly drawn valid steps, or all valid steps if there are fewer."""
    drawn, done = [], 0
    for windows, given_lengths in blocks():
        lengths = check_lengths(windows, given_lengths)
        if lengths is None:
            lengths = np.full(len(windows), windows.shape[1])
        ends = done + np.cumsum(lengths)
        stop = done + int(lengths.sum())
        rows = evenly_drawn(done, stop, n_steps, DRAWN_STEPS)
        at = np.searchsorted(ends, rows, side="right")
        drawn.append(windows[at, rows - (ends - lengths)[at]].astype(np.float64))
        done = stop
    return np.concatenate(drawn) + 0.0  # turns -0.0 into 0.0, so that equal values have equal bits


def normalize_pieces(pieces: list[Recording]) -> list[Recording]:
    """Scale each channel of a recording's pieces to mean 0 and standard deviation 1.

    The statistics cover all pieces together. A constant channel becomes 0.
    """
    for piece in pieces:
        check_complete(piece)
    if not any(piece.n_samples for piece in pieces):
        return pieces
    try:
        scaler = scaler_of(_statistics_of_pieces(pieces), "standard")
    except SignalError as error:
        raise SignalError(f"recording {pieces[0].recording_id!r}: {error}") from error
    scaled = []
    for piece in pieces:
        rows = Rows.like(piece.values, piece.values.dtype, piece.n_channels)
        for block in _blocks_of_pieces([piece]):
            rows.append(scaler.transform(block[np.newaxis])[0])
        scaled.append(replace(piece, values=rows.as_array()))
    return scaled


def _statistics_of_pieces(pieces: list[Recording]) -> ChannelStatistics:
    """Compute statistics of all samples with numpy, because the runtime lacks `ChannelMoments`."""
    n_samples = sum(piece.n_samples for piece in pieces)
    read = partial(_blocks_of_pieces, pieces)
    first = next(read())[0].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # `scaler_of` raises an error for overflow
        mean = first + sum((block - first).sum(axis=0) for block in read()) / n_samples
        squares = sum(((block - mean) ** 2).sum(axis=0) for block in read())
    low = np.min([block.min(axis=0) for block in read()], axis=0)
    high = np.max([block.max(axis=0) for block in read()], axis=0)
    return ChannelStatistics(n_samples, mean, np.sqrt(squares / n_samples), low, high)


def _blocks_of_pieces(pieces: list[Recording]) -> Iterator[NDArray[np.floating]]:
    # With blocks of fixed length, sums have the same terms for arrays in memory and on disk.
    for piece in pieces:
        x = piece.values
        for at, stop in blocks(len(x), x, step=_SUMMED):
            yield x[at:stop]
