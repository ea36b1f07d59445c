"""Read recordings from HDF5 files with a simple layout."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from sensorseq.errors import RecordingError
from sensorseq.io import isolated
from sensorseq.io.scratch import Rows, blocks, even_stamps, folder_for
from sensorseq.options import ReadOptions, takes_read_options
from sensorseq.readers.columns import (
    FILE_OPTIONS,
    Columns,
    Origin,
    Table,
    find_time_column,
    is_missing,
    numbers_of_texts,
    read_recording,
    table_of,
    texts_of_numbers,
)
from sensorseq.readers.stamps import Stamps, seconds_of
from sensorseq.recording import Recording

_RATE = "sample_rate_hz"
"""The attribute that can replace the time stamps."""


@takes_read_options(*FILE_OPTIONS, "scratch")
def read_hdf5(
    path: str | PathLike[str],
    options: ReadOptions,
    *,
    recording_id: str | None = None,
    group: str = "",
    label: str | None = None,
) -> Recording:
    """Read one recording from an HDF5 file.

    The file's root, or its only group, contains either

    - a 1-D dataset for each channel and one for time, all of equal length; or
    - one 2-D dataset (n_samples, n_columns) with an attribute ``columns`` that lists the column
      names, one of which is the time (or time is a separate 1-D dataset).

    An attribute ``sample_rate_hz`` of the file, group or 2-D dataset can replace the time stamps.
    An attribute ``unit`` of a 1-D dataset is the channel's unit. Datasets of words are ignored and
    listed in ``attributes["dropped_columns"]``.

    Parameters
    ----------
    path, recording_id, group, label
        As in `read_csv`.
    options : ReadOptions, optional
        `time_column`, `time_unit`, `units`, `repair_stamps`, `label_column` and `scratch` are used,
        and can be given by name.

    Raises
    ------
    RecordingError
        If the file is missing, truncated, not HDF5 or has another layout.
    """
    return read_recording(open_hdf5, path, options, Origin(recording_id, group, label))


@contextmanager
def open_hdf5(path: Path, options: ReadOptions) -> Iterator["_Hdf5Table"]:
    """Open an HDF5 file with one recording."""
    with isolated.opened(path, "an HDF5 recording") as file:
        yield _Hdf5Table(path, file, None if options.scratch is None else Path(options.scratch))


class _Hdf5Table(Table):
    """The datasets at the root of a file or in its only group."""

    def __init__(self, path: Path, file: isolated.Group, scratch: Path | None) -> None:
        holder = file
        if not file.datasets:
            groups = file.groups
            if len(groups) != 1:
                names = ", ".join(list(groups)[:6]) or "nothing"
                raise RecordingError(
                    f"{path}: the root has no dataset; it holds {names}. Store one recording per"
                    " file, with its datasets in the root or in a single group."
                )
            (holder,) = groups.values()
        # A scalar is a fact about the recording, not a signal.
        self._datasets = {name: one for name, one in holder.datasets.items() if one.ndim}
        self._scratch = scratch
        self._rate_hz = _rate(path, file, holder, *holder.datasets.values())
        self._place: dict[str, tuple[str, int]] = {}  # dataset and column index of each column
        units = {}
        for name, dataset in self._datasets.items():
            for at, column in enumerate(_columns_of(path, name, dataset)):
                if column in self._place:
                    raise RecordingError(f"{path}: channel {column!r} appears more than once.")
                self._place[column] = name, at
            if dataset.ndim == 1 and (unit := dataset.attrs.get("unit")):
                units[name] = unit[0]
        super().__init__(path, self._place, units)

    def time_name(self, options: ReadOptions) -> str:
        """Return the time column, or the attribute that replaces it."""
        if self._rate_hz and options.time_column is None and not {"time", "time_s"} & {*self.names}:
            return _RATE
        return find_time_column(self.path, self.names, options.time_column)

    def read(
        self, names: list[str], time_name: str, options: ReadOptions
    ) -> tuple[Columns, Stamps]:
        """Read each dataset only once."""
        if time_name == _RATE:
            columns = self._numbers(names or self.names)
            n_samples = max((len(v) for v in columns.values() if v is not None), default=0)
            folder = folder_for(8 * n_samples, self._scratch)
            stamps = Stamps(even_stamps(0.0, self._rate_hz or 1.0, n_samples, folder), {})
            return {name: columns[name] for name in names}, stamps
        columns = self._numbers([name for name in self.names if name in {*names, time_name}])
        return columns, self._stamps(time_name, columns.pop(time_name), options.time_unit)

    def labels(self, name: str) -> list[str | None]:
        """Return strings or numbers as labels."""
        dataset = self._datasets[self._place[name][0]]
        if dataset.ndim == 1 and dataset.is_text:
            words: list[str | None] = dataset[()].tolist()
            return words
        numbers = self._numbers([name])[name]
        return [] if numbers is None else texts_of_numbers(numbers)

    def as_arrow(self, words: str) -> pa.Table:
        """Return the columns with the types of their datasets."""
        stored = {name: one[()] for name, one in self._datasets.items()}
        columns = {
            name: stored[of] if stored[of].ndim == 1 else stored[of][:, at]
            for name, (of, at) in self._place.items()
        }
        return table_of(self.path, columns, words)

    def _numbers(self, names: list[str]) -> Columns:
        columns: Columns = {}
        tables: dict[str, NDArray[Any]] = {}
        for name in names:
            of, at = self._place[name]
            dataset = self._datasets[of]
            columns[name] = None
            if dataset.is_text and dataset.ndim == 1:
                columns[name] = numbers_of_texts(self.path, name, dataset[()].tolist())
            elif dataset.dtype.kind in "fiub":
                if of not in tables:
                    tables[of] = _values(dataset, np.float64, self._scratch)
                values = tables[of] if dataset.ndim == 1 else tables[of][:, at]
                columns[name] = None if is_missing(values) else values
        lengths = {name: len(values) for name, values in columns.items() if values is not None}
        if len(set(lengths.values())) > 1:
            (one, short), *_, (other, long) = sorted(lengths.items(), key=lambda item: item[1])
            raise RecordingError(
                f"{self.path}: {one!r} has {short} samples and {other!r} {long}; store channels of"
                " different rates in separate files and join them with `pair`."
            )
        return columns

    def _stamps(
        self, name: str, numbers: NDArray[np.float64] | None, time_unit: str | None
    ) -> Stamps:
        dataset = self._datasets[self._place[name][0]]
        if dataset.ndim == 1 and dataset.dtype.kind in "iu":
            # Not as floats, which cannot represent nanoseconds since 1970.
            ticks = _values(dataset, dataset.dtype, self._scratch)
            return seconds_of(self.path, name, ticks, time_unit)
        if numbers is None and dataset.ndim == 1 and dataset.is_text:
            return seconds_of(self.path, name, dataset[()].tolist(), time_unit)
        if numbers is None:
            raise RecordingError(
                f"{self.path}: dataset {name!r} holds no numbers; seconds are needed."
            )
        return seconds_of(self.path, name, numbers, time_unit)


def _columns_of(path: Path, name: str, dataset: isolated.Dataset) -> list[str]:
    """Return the column names of a dataset."""
    if dataset.ndim == 1:
        return [name]
    if dataset.ndim > 2:
        raise RecordingError(
            f"{path}: dataset {name!r} has {dataset.ndim} dimensions; use 1-D datasets, or one of"
            " shape (n_samples, n_columns)."
        )
    names: list[str] | None = dataset.attrs.get("columns")
    if names is None:
        raise RecordingError(
            f"{path}: dataset {name!r} has shape {dataset.shape} but no attribute 'columns' with"
            " the column names."
        )
    if len(names) != dataset.shape[1] or len(set(names)) != len(names):
        raise RecordingError(
            f"{path}: dataset {name!r} has {dataset.shape[1]} columns, but its attribute 'columns'"
            f" lists {len(set(names))} different names."
        )
    return names


def _values(dataset: Any, dtype: DTypeLike, scratch: Path | None) -> NDArray[Any]:
    """Return the numbers of a dataset, in memory or, if there are many, on disk."""
    folder = folder_for(8 * dataset.size, scratch)
    if folder is None:
        return np.asarray(dataset[()], dtype)
    rows = Rows(folder, dtype, *dataset.shape[1:])
    for at, stop in blocks(len(dataset), n_columns=dataset.size // len(dataset)):
        rows.append(dataset[at:stop])
    return rows.as_array()


def _rate(path: Path, *holders: Any) -> float | None:
    for holder in holders:
        given = holder.attrs.get(_RATE)
        if given is not None:
            rate_hz = float(given)
            if not (np.isfinite(rate_hz) and rate_hz > 0):
                raise RecordingError(
                    f"{path}: the attribute 'sample_rate_hz' is {rate_hz!r}, not a positive rate."
                )
            return rate_hz
    return None
