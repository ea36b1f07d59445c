"""Resample signals and recordings without aliasing, without delay, and never across a gap."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq._signal import all_finite
from sensorseq.base.checks import check_integer, check_rate, check_signal
from sensorseq.errors import ArgumentError, RecordingError, SignalError
from sensorseq.io.blocks import blocks, folder_of
from sensorseq.preprocessing.held import held_in, hold, kinds_of_slow
from sensorseq.preprocessing.polyphase import (
    ATTENUATION_DB,
    change_rate,
    check_attenuation,
    make_filter,
)
from sensorseq.preprocessing.regrid import LATE, regrid, regrid_pieces
from sensorseq.recording import Recording
from sensorseq.stamps.period import even_stamps

__all__ = ["StreamResampler", "regrid", "resample", "resample_recording"]

_LEAST_RATIO, _MOST_RATIO = Fraction(1, 2**32), 2**20  # limits of the ratio of rates


def resample(
    signal: ArrayLike,
    sample_rate_hz: float,
    target_rate_hz: float,
    *,
    attenuation_db: float = ATTENUATION_DB,
) -> NDArray[np.floating]:
    """Resample every channel with a windowed-sinc low-pass filter, without delay.

    The filter passes frequencies below 0.8 of the lower of the two Nyquist frequencies, and
    attenuates frequencies above that Nyquist frequency by `attenuation_db`. The signal is mirrored
    at its ends, so a constant stays constant up to the edges. At 90 dB, the mirrored signal affects
    only outputs within about thirty samples (at the lower rate) of an edge.

    Parameters
    ----------
    signal : array-like of shape (n_samples, n_channels), float32 or float64
        Signal that is evenly sampled and free of NaN; use `regrid` for uneven timestamps or missing
        samples.
    sample_rate_hz, target_rate_hz : float
        Rates in Hz, above zero; any ratio is allowed, even an irrational one.
    attenuation_db : float, default=90
        Attenuation from 20 to 150 dB. The filter's length grows in proportion to the attenuation.
        At 90 dB, aliases are below the resolution of a 16-bit sensor.

    Returns
    -------
    ndarray of shape (ceil(n_samples * target_rate_hz / sample_rate_hz), n_channels)
        The resampled signal, in the dtype of `signal` (float64 for integers). Sample 0 keeps its
        time.

    References
    ----------
    .. [1] R. Crochiere, L. Rabiner, *Multirate Digital Signal Processing*, 1983.
    .. [2] J. O. Smith, *Digital Audio Resampling*, https://ccrma.stanford.edu/~jos/resample/
       (for ratios that are not a simple fraction: a filter table with linear interpolation).
    """
    values = check_signal(signal)
    check_attenuation(attenuation_db)
    ratio = rate_ratio(sample_rate_hz, target_rate_hz)
    resampled = change_rate(values, ratio, attenuation_db)
    # Every sample contributes to some output, so finite outputs imply finite samples.
    if not all_finite(resampled):
        _check_finite(values, first_sample=0)
    return resampled


class StreamResampler:
    """`resample` for a signal that arrives in chunks.

    The concatenated results of `push` and `flush` are bit-identical to the result of `resample` for
    the complete signal, no matter how the signal is divided into chunks.

    Parameters
    ----------
    sample_rate_hz, target_rate_hz : float
        Rates in Hz, above zero.
    n_channels : int
        Number of channels of every chunk.
    attenuation_db : float, default=90
        As in `resample`. The latency grows in proportion to the attenuation.
    held : sequence of int, default=()
        Channels whose values are held until the next one, and therefore not filtered.

    Attributes
    ----------
    latency_s : float
        Lookahead in seconds: when the last sample at or before t + `latency_s` arrives, the output
        for time t is returned. At 90 dB, the lookahead is about thirty samples of the lower rate.

    Raises
    ------
    SignalError
        If a rate is not positive and finite.
    ArgumentError
        If `n_channels` is below 1, or `attenuation_db` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq.preprocessing.resample import StreamResampler, resample
    >>> signal = np.random.default_rng(0).normal(size=(1000, 2))
    >>> stream = StreamResampler(100.0, 20.0, n_channels=2)
    >>> parts = [stream.push(signal[i : i + 7]) for i in range(0, 1000, 7)] + [stream.flush()]
    >>> bool((np.concatenate(parts) == resample(signal, 100.0, 20.0)).all())
    True
    """

    def __init__(
        self,
        sample_rate_hz: float,
        target_rate_hz: float,
        n_channels: int,
        *,
        attenuation_db: float = ATTENUATION_DB,
        held: Sequence[int] = (),
    ) -> None:
        ratio = rate_ratio(sample_rate_hz, target_rate_hz)
        self.sample_rate_hz = float(sample_rate_hz)
        self.target_rate_hz = float(target_rate_hz)
        self.n_channels = check_integer("n_channels", n_channels, 1, 2**20)
        self._filter = make_filter(ratio, self.n_channels, check_attenuation(attenuation_db))
        self._held = list(held)
        self._restart()
        self._dtype: np.dtype[np.floating] = np.dtype(np.float64)
        latency_samples = self._filter.latency_samples if self._filter is not None else 0.0
        self.latency_s = latency_samples / self.sample_rate_hz

    def push(self, samples: ArrayLike) -> NDArray[np.floating]:
        """Process the next samples and return the outputs that do not depend on later samples.

        Parameters
        ----------
        samples : array-like of shape (n_samples, n_channels), float32 or float64
            Any number of samples, even none; all chunks of a signal must have the same dtype.

        Returns
        -------
        ndarray of shape (n_outputs, n_channels)
            The outputs, in the dtype of `samples`.

        Raises
        ------
        SignalError
            If a sample is NaN or infinite, or the chunk has a different dtype or number of
            channels. The chunk is then ignored.
        """
        values = check_signal(samples)
        if values.shape[1] != self.n_channels:
            raise SignalError(
                f"the chunk has {values.shape[1]} channel(s), but the stream has {self.n_channels}."
            )
        if self._n_received and values.dtype != self._dtype:
            raise SignalError(
                f"the chunk has dtype {values.dtype}, but the signal has {self._dtype}; convert it,"
                " or end the signal with flush."
            )
        _check_finite(values, first_sample=self._n_received)
        self._dtype = values.dtype
        self._n_received += len(values)
        return (
            values.copy() if self._filter is None else self._hold(self._filter.push(values), values)
        )

    def flush(self) -> NDArray[np.floating]:
        """Return the remaining outputs, and start a new signal."""
        if self._filter is None:
            self._restart()
            return np.empty((0, self.n_channels), self._dtype)
        last = self._filter.flush().astype(self._dtype, copy=False)
        last = self._hold(last, np.empty((0, self.n_channels)))
        self._restart()
        return last

    def _restart(self) -> None:
        self._n_received = self._n_returned = 0
        self._last = np.empty((0, len(self._held)))  # the newest values of the held channels

    def _hold(
        self, resampled: NDArray[np.floating], received: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """Replace the resampled values of held channels."""
        if self._held:
            self._last = np.concatenate([self._last, received[:, self._held]])
            first = self._n_received - len(self._last)
            step = self.sample_rate_hz / self.target_rate_hz
            self._n_returned += len(resampled)
            steps = np.arange(self._n_returned - len(resampled), self._n_returned + 1)
            at = (steps * step + LATE).astype(np.int64) - first
            resampled[:, self._held] = self._last[np.minimum(at[:-1], len(self._last) - 1)]
            self._last = self._last[min(at[-1], len(self._last) - 1) :]
        return resampled


def resample_recording(
    recording: Recording,
    sample_rate_hz: float,
    max_gap_s: float | None = None,
    *,
    attenuation_db: float = ATTENUATION_DB,
    held: Sequence[str] | None = None,
) -> list[Recording]:
    """Resample one recording to an even rate; return its pieces between gaps, in time order.

    Each value of the channels `held` is kept until the next one, however long that is. By default,
    these are slow channels of small whole numbers; see `kinds_of_slow`.

    Each piece keeps the id, group and label of the recording, and its time on the recording's
    clock. If there is no time at which all channels are known, the result is empty.
    ``attributes["resampled"]`` of a piece contains the fields of a `RegriddedPiece`;
    ``attributes["slow"]`` contains the kinds of slow channels. `regrid` describes the method and
    `max_gap_s`.
    """
    name = f"recording {recording.recording_id!r}"
    rate = check_rate("sample_rate_hz", sample_rate_hz)
    x = recording.values
    empty = np.empty(0, np.int64)
    if not recording.is_complete:
        there = np.zeros(recording.n_channels, bool)
        for at, stop in blocks(len(x), x, n_columns=x.shape[1]):
            there |= ~np.isnan(x[at:stop]).all(axis=0)
        empty = np.flatnonzero(~there)
    if recording.n_samples and empty.size:
        channel = recording.channel_names[int(empty[0])]
        raise RecordingError(
            f"{name}: channel {channel!r} has no valid sample; leave out the channel or the"
            " recording."
        )
    kinds = kinds_of_slow(recording)
    holding = held_in(kinds, held)
    names = [name for name in recording.channel_names if name in holding]
    recording = hold(recording, names)
    try:
        pieces = regrid_pieces(
            recording.timestamps_s,
            recording.values,
            rate,
            max_gap_s,
            attenuation_db=attenuation_db,
            held=[recording.channel_names.index(name) for name in names],
            sample_period_s=recording.sample_period_s,
        )
    except SignalError as error:
        raise RecordingError(f"{name}: {error}") from error
    return [
        replace(
            recording,
            values=piece.values,
            timestamps_s=even_stamps(
                piece.start_s, rate, len(piece.values), folder_of(piece.values)
            ),
            attributes={**recording.attributes, "resampled": piece.facts, "slow": kinds},
        )
        for piece in pieces
    ]


def rate_ratio(sample_rate_hz: float, target_rate_hz: float) -> Fraction:
    """Return the number of outputs per input sample."""
    rate = check_rate("sample_rate_hz", sample_rate_hz)
    target = check_rate("target_rate_hz", target_rate_hz)
    ratio = Fraction(target) / Fraction(rate)
    if not _LEAST_RATIO <= ratio <= _MOST_RATIO:
        raise ArgumentError(
            f"target_rate_hz={target:g} is {float(ratio):.3g} times sample_rate_hz={rate:g};"
            " the ratio must be between 2^-32 and 2^20."
        )
    return ratio


def _check_finite(values: NDArray[np.floating], first_sample: int) -> None:
    if all_finite(values):
        return
    row, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
    raise SignalError(
        f"signal is {values[row, column]} at sample {first_sample + row}, channel {column};"
        " resampling needs every sample. Fill missing samples with `regrid` or"
        " `resample_recording`."
    )
