"""Fit a scaler to blocks of training windows that do not fit in memory together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.preprocessing._window_arrays import as_windows, check_lengths, valid_steps
from sensorseq.preprocessing.moments import ChannelMoments
from sensorseq.preprocessing.scale import (
    KINDS,
    PHYSICAL,
    RANKED,
    Scaler,
    ranked_scaler_of,
    rated_scaler,
    scaler_of,
)

Block = NDArray[np.floating] | tuple[NDArray[np.floating], NDArray[np.int64] | None]


def fit_scaler_to_blocks(
    blocks: Callable[[], Iterable[Block]],
    kind: str | None = "standard",
    *,
    rated: Mapping[str, float] | Sequence[float] | None = None,
    channels: Sequence[str] | None = None,
) -> Scaler:
    """Fit the same scaler, bit for bit, as `fit_scaler` on all blocks together.

    standard, min_max and max_abs read each block once and hold one block at a time; robust and
    quantile need all samples of a channel, and hold one channel at a time.

    Parameters
    ----------
    blocks : callable returning iterables of ndarray of shape (n, n_timesteps, n_channels)
        Training windows, or pairs of windows and their lengths of shape (n,). Read once; robust and
        quantile read them once more for each channel.
    kind : {"standard", "robust", "min_max", "max_abs", "quantile", "physical"} or None
        See `fit_scaler`.
    rated, channels
        See `rated_scaler`. For physical, one block is read to count its channels.

    Returns
    -------
    Scaler

    Raises
    ------
    SignalError
        If no block has a valid step, or a valid step is NaN or infinite.
    ArgumentError
        If `kind` is unknown, or `rated` does not match it or the channels.
    """
    if kind is not None:
        check_choice("kind", kind, (*KINDS, PHYSICAL))
    if kind == PHYSICAL and channels is not None:
        return rated_scaler(rated, len(channels), channels)
    if kind != PHYSICAL and rated is not None:
        raise ArgumentError(f"rated is only for kind={PHYSICAL!r}, but kind is {kind!r}.")
    moments = ChannelMoments()
    for block in blocks():
        windows, lengths = _parted(block)
        if kind == PHYSICAL:
            return rated_scaler(rated, windows.shape[2])
        moments.add(windows, lengths)
    statistics = moments.statistics()
    if kind not in RANKED:
        return scaler_of(statistics, kind)

    def values_of(channel: int) -> NDArray[np.float64]:
        columns = []
        for block in blocks():
            windows, lengths = _parted(block)
            windows = as_windows(windows)
            valid = valid_steps(windows.shape[1], check_lengths(windows, lengths))
            columns.append(windows[:, :, channel][valid].ravel())
        return np.concatenate(columns).astype(np.float64)

    return ranked_scaler_of(statistics, str(kind), values_of)


def _parted(block: Block) -> tuple[Any, Any]:
    return block if isinstance(block, tuple) else (block, None)
