"""Center and scale the channels of a recording by its own statistics."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import SignalError
from sensorseq.io.scratch import Rows, blocks
from sensorseq.preprocessing.scale.scaler import ChannelStatistics, scaler_of
from sensorseq.preprocessing.steps.base import check_complete
from sensorseq.recording import Recording

NORMALIZE = ("recording",)
_SUMMED = 1 << 16  # samples per partial sum


def normalize_pieces(pieces: list[Recording]) -> list[Recording]:
    """Return the pieces of a recording with mean 0 and standard deviation 1 in each channel.

    The statistics are those of all pieces together. A constant channel becomes 0.
    """
    for piece in pieces:
        check_complete(piece)
    if not any(piece.n_samples for piece in pieces):
        return pieces
    try:
        scaler = scaler_of(_statistics(pieces), "standard")
    except SignalError as error:
        raise SignalError(f"recording {pieces[0].recording_id!r}: {error}") from error
    scaled = []
    for piece in pieces:
        rows = Rows.like(piece.values, piece.values.dtype, piece.n_channels)
        for block in _blocks([piece]):
            rows.append(scaler.transform(block[np.newaxis])[0])
        scaled.append(replace(piece, values=rows.as_array()))
    return scaled


def _statistics(pieces: list[Recording]) -> ChannelStatistics:
    """Return the statistics of all samples; by numpy, as the runtime lacks `ChannelMoments`."""
    n_samples = sum(piece.n_samples for piece in pieces)
    first = next(_blocks(pieces))[0].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # raised by `scaler_of`
        mean = first + sum((block - first).sum(axis=0) for block in _blocks(pieces)) / n_samples
        squares = sum(((block - mean) ** 2).sum(axis=0) for block in _blocks(pieces))
    low = np.min([block.min(axis=0) for block in _blocks(pieces)], axis=0)
    high = np.max([block.max(axis=0) for block in _blocks(pieces)], axis=0)
    return ChannelStatistics(n_samples, mean, np.sqrt(squares / n_samples), low, high)


def _blocks(pieces: list[Recording]) -> Iterator[NDArray[np.floating]]:
    # of a fixed length, so that sums have the same terms for arrays in memory and on disk
    for piece in pieces:
        x = piece.values
        for at, stop in blocks(len(x), x, step=_SUMMED):
            yield x[at:stop]
