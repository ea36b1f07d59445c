"""Windows that stay in their file: read in pieces, cropped, scaled; and the scaling learned so."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, InputError, SignalError
from sensorseq.preprocessing.keyed_scale import KeyedScaler, rows_by_key
from sensorseq.preprocessing.scale import ChannelMoments, Scaler, fit_scaler_to_blocks
from sensorseq.storage.stored_windows import SampleReader, StoredSamples
from sensorseq.training.inputs import Sequences, finite_and_padded
from sensorseq.training.parts import crop_sequences, scale_sequences

BUFFER_BYTES = 1024**3  # unless the environment says otherwise
BUFFER_VARIABLE = "SENSORSEQ_BUFFER_BYTES"
_PIECE_BYTES = 2 * 1024**2  # read, checked and scaled at a time: fits a processor's cache


def buffer_bytes() -> int:
    """Return how many bytes of windows are held in memory; larger files are read in parts.

    It is `BUFFER_BYTES`, 1 GiB, unless the environment variable ``SENSORSEQ_BUFFER_BYTES`` sets
    another number of bytes.

    Raises
    ------
    ArgumentError
        If the variable is not a number above zero.
    """
    said = os.environ.get(BUFFER_VARIABLE, "")
    if not said:
        return BUFFER_BYTES
    if not said.isdecimal() or int(said) < 1:
        raise ArgumentError(
            f"the environment variable {BUFFER_VARIABLE} is {said!r}; it must be a number of bytes,"
            " such as 4000000000."
        )
    return int(said)


class Change(NamedTuple):
    """What happens to windows as they are read, given their positions in the part."""

    unscaled: Callable[[Sequences, NDArray[np.int64]], Sequences] | None = None
    """Returns them changed, before they are scaled."""
    scaled: Callable[[NDArray[Any], NDArray[np.int64]], None] | None = None
    """Changes them in place, after that."""


@dataclass(frozen=True)
class StoredPart:
    """One part of the windows of a file, and what is done to them after they are read.

    Parameters
    ----------
    sequences : Sequences
        With `StoredSamples` for X.
    max_timesteps, crop, training
        As `crop_sequences` takes them.
    scaler : Scaler, KeyedScaler or None
        As `scale_sequences` takes it.
    dtype : str
        Of the network.
    """

    sequences: Sequences
    max_timesteps: int | None = None
    crop: str = "head"
    training: bool = False
    scaler: Scaler | KeyedScaler | None = None
    dtype: str = "float32"

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def samples(self) -> StoredSamples:
        """The samples, as they are stored."""
        samples: Any = self.sequences.X
        assert isinstance(samples, StoredSamples)
        return samples

    @property
    def n_timesteps(self) -> int:
        """Steps of a window when it is cropped."""
        stored = self.samples.n_timesteps
        whole = self.max_timesteps is None or (self.training and self.crop == "random")
        return stored if whole else min(stored, int(self.max_timesteps or stored))

    @property
    def is_cropped(self) -> bool:
        """Whether steps are left out."""
        return self.n_timesteps < self.samples.n_timesteps

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Valid steps of each window when it is cropped."""
        return np.minimum(self.sequences.lengths, self.n_timesteps)

    @property
    def window_bytes(self) -> int:
        """Bytes of a window when it is read, cropped and scaled."""
        return self.n_timesteps * self.samples.n_channels * np.dtype(self.dtype).itemsize

    @contextmanager
    def opened(self) -> Iterator["PartReader"]:
        """Open the file for reading, in one thread at a time."""
        with self.samples.opened() as reader:
            yield PartReader(self, reader)

    def pieces(self, rows: NDArray[np.int64] | None = None) -> Iterator[NDArray[np.int64]]:
        """Cut positions (all for None) into pieces that are read at a time."""
        rows = np.arange(len(self)) if rows is None else rows
        stored_bytes = self.samples.n_timesteps * self.samples.n_channels * 4
        size = max(1, _PIECE_BYTES // stored_bytes)
        return (rows[start : start + size] for start in range(0, len(rows), size))

    def cropped(self, rows: NDArray[np.int64] | None = None) -> Iterator[Sequences]:
        """Yield the windows at `rows`, cropped and not scaled, a piece at a time."""
        with self.opened() as reader:
            for piece in self.pieces(rows):
                yield reader.cropped(piece)

    def read(self) -> NDArray[Any]:
        """Return all windows, cropped and scaled."""
        X = np.empty((len(self), self.n_timesteps, self.samples.n_channels), self.dtype)
        with self.opened() as reader:
            reader.read_into(X, np.arange(len(self)))
        return X

    def with_scaler(self, scaler: Scaler | KeyedScaler | None) -> "StoredPart":
        """Return the part scaled so; recordings a scaler does not know get their own statistics.

        Those are of all windows of the recording that are in the part, as if it were in memory.
        """
        if isinstance(scaler, KeyedScaler):
            own = {
                key: self._fitted(scaler.kind, rows, f"{scaler.per} {key!r}")
                for key, rows in self._keys(scaler.per).items()
                if key not in scaler.scalers
            }
            scaler = replace(scaler, scalers={**scaler.scalers, **own})
        return replace(self, scaler=scaler)

    def channel_sd(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return the standard deviation of each channel over the windows at `rows`, cropped."""
        moments = ChannelMoments()
        for piece in self.cropped(rows):
            moments.add(piece.X, piece.lengths)
        return moments.statistics().deviation

    def fit_scaler(
        self, kind: str | None, *, per: str = "all", rated: Any = None, channels: Any = None
    ) -> Scaler | KeyedScaler:
        """Learn what `fit_scaler_per` would learn, to the bit, without holding the windows."""
        if per == "all":
            return self._fitted(kind, None, rated=rated, channels=channels)
        assert kind is not None
        scalers = {}
        for key, rows in self._keys(per).items():
            fitted = self._fitted(kind, rows, f"{per} {key!r}")
            scalers[key] = fitted
        return KeyedScaler(kind, per, scalers, self.samples.n_channels)

    def _keys(self, per: str) -> dict[str, NDArray[np.int64]]:
        keys = self.sequences.recording_id if per == "recording" else self.sequences.groups
        return rows_by_key(keys, len(self), per)

    def _fitted(
        self, kind: str | None, rows: NDArray[np.int64] | None, what: str = "", **told: Any
    ) -> Scaler:
        def blocks() -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
            for piece in self.cropped(rows):
                yield piece.X, piece.lengths

        try:
            return fit_scaler_to_blocks(blocks, kind, **told)
        except SignalError as error:
            raise SignalError(f"{what}: {error}" if what else str(error)) from error


class PartReader:
    """An open file of a `StoredPart`. Made by `StoredPart.opened`."""

    def __init__(self, part: StoredPart, reader: SampleReader) -> None:
        self._part = part
        self._reader = reader

    def cropped(self, rows: NDArray[np.int64]) -> Sequences:
        """Return the windows at `rows`, cropped and not scaled."""
        part = self._part
        known = part.sequences.take(rows)
        places = part.samples.rows[rows]
        try:
            X = finite_and_padded(self._reader.read(rows), known.lengths, "X", places)
        except InputError as error:
            error.add_note(f"while reading {part.samples.path}")
            raise
        sequences = replace(known, X=X)
        return crop_sequences(sequences, part.max_timesteps, part.crop, training=part.training)

    def read_into(
        self,
        X: NDArray[Any],
        rows: NDArray[np.int64],
        check: Callable[[], None] = lambda: None,
        change: Change | None = None,
    ) -> None:
        """Write the windows at `rows`, cropped, changed and scaled, to the first places of `X`.

        `check` is called now and then, and may raise.
        """
        at = 0
        for piece in self._part.pieces(rows):
            check()
            how = change or Change()
            scaled = None if how.unscaled is not None else self._scaled_at_once(piece)
            if scaled is None:
                sequences = self.cropped(piece)
                if how.unscaled is not None:
                    sequences = how.unscaled(sequences, piece)
                scaled = scale_sequences(sequences, self._part.scaler, self._part.dtype)
            X[at : at + len(piece)] = scaled
            if how.scaled is not None:
                how.scaled(X[at : at + len(piece)], piece)
            at += len(piece)

    def _scaled_at_once(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Check, pad and scale in one pass, with the same bits; None where that will not do."""
        part = self._part
        scaler = part.scaler
        if part.is_cropped or isinstance(scaler, KeyedScaler):
            return None
        if scaler is None:
            scaler = Scaler.identity(part.samples.n_channels)
        try:
            return scaler.transform_to_float32(
                self._reader.read(rows), part.sequences.lengths[rows]
            )
        except SignalError:  # to be said in the words of the slower way
            return None


def is_stored(sequences: Sequences) -> bool:
    """Whether the windows are still in their file."""
    samples: Any = sequences.X
    return isinstance(samples, StoredSamples)
