"""Bring signals and recordings to another rate: anti-aliased, undelayed, never across a gap."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import RecordingError, SignalError
from sensorseq.preprocessing._checks import check_rate, check_signal
from sensorseq.preprocessing.polyphase import resample_by_ratio
from sensorseq.preprocessing.regrid import regrid
from sensorseq.recording import Recording

__all__ = ["regrid", "resample", "resample_recording"]


def resample(
    signal: ArrayLike, sample_rate_hz: float, target_rate_hz: float
) -> NDArray[np.floating]:
    """Resample every channel with a windowed-sinc low-pass filter, without delay.

    The filter passes what lies below 0.8 of the lower of the two Nyquist frequencies and takes
    90 dB from what lies above that frequency. The signal is mirrored at its ends, so a constant
    stays that constant up to the edges. Thirty samples of the lower rate from an edge and nearer,
    the mirror image is in the result.

    Parameters
    ----------
    signal : array-like of shape (n_samples, n_channels), float32 or float64
        Evenly spaced and free of NaN; `regrid` serves uneven stamps and missing samples.
    sample_rate_hz, target_rate_hz : float
        Rates in Hz, above zero; any ratio will do, also an irrational one.

    Returns
    -------
    ndarray of shape (ceil(n_samples * target_rate_hz / sample_rate_hz), n_channels)
        Same dtype as `signal` (float64 for integers). Sample 0 keeps its time.

    Raises
    ------
    SignalError
        If `signal` holds NaN or infinity, or a rate is not positive and finite.

    References
    ----------
    .. [1] R. Crochiere, L. Rabiner, *Multirate Digital Signal Processing*, 1983.
    .. [2] J. O. Smith, *Digital Audio Resampling*, https://ccrma.stanford.edu/~jos/resample/
       (ratios without a small fraction: a table of the filter, a line between its entries).
    """
    values = check_signal(signal)
    bad = np.argwhere(~np.isfinite(values))
    if bad.size:
        row, column = (int(i) for i in bad[0])
        raise SignalError(
            f"signal is {values[row, column]} at sample {row}, channel {column}; resample needs"
            " every sample. `regrid` and `resample_recording` fill what is missing."
        )
    rate = check_rate("sample_rate_hz", sample_rate_hz)
    target = check_rate("target_rate_hz", target_rate_hz)
    return resample_by_ratio(values, Fraction(target) / Fraction(rate), max_drift=1e-6)


def resample_recording(
    recording: Recording, sample_rate_hz: float, max_gap_s: float | None = None
) -> list[Recording]:
    """Resample one recording to an even rate; gaps cut it into pieces.

    Parameters
    ----------
    recording : Recording
        Its stamps may be uneven and samples may be missing (NaN).
    sample_rate_hz : float
        Target rate in Hz. Going down is anti-aliased; going up adds no bandwidth.
    max_gap_s : float, optional
        Longest hole, in seconds, that is interpolated across; see `regrid`. By default ten sample
        periods of the recording.

    Returns
    -------
    list of Recording
        In order of time; each keeps `recording_id`, `group`, `label` and its place on the
        recording's clock. Empty when no instant is covered by every channel.

    Raises
    ------
    RecordingError
        If a channel has no valid sample or `max_gap_s` is shorter than a sample period.

    See Also
    --------
    regrid : The same on arrays; says how.
    """
    name = f"recording {recording.recording_id!r}"
    rate = check_rate("sample_rate_hz", sample_rate_hz)
    empty = np.flatnonzero(np.isnan(recording.values).all(axis=0))
    if recording.n_samples and empty.size:
        channel = recording.channel_names[int(empty[0])]
        raise RecordingError(
            f"{name}: channel {channel!r} has no valid sample; leave the channel or the"
            " recording out."
        )
    try:
        pieces = regrid(recording.timestamps_s, recording.values, rate, max_gap_s)
    except SignalError as error:
        raise RecordingError(f"{name}: {error}") from error
    return [
        replace(recording, values=values, timestamps_s=start_s + np.arange(len(values)) / rate)
        for start_s, values in pieces
    ]
