"""Read recordings from HDF5 files with a simple layout."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from sensorseq.base.text import listed
from sensorseq.errors import MissingChannelError, RecordingError
from sensorseq.io import foreign
from sensorseq.io.blocks import Rows, blocks
from sensorseq.options import ReadOptions, as_options, takes_options
from sensorseq.readers.columns import (
    RATE,
    NumberColumns,
    Origin,
    Table,
    check_names,
    find_clocks,
    find_time_column,
    is_missing,
    read_recording,
    refuse_windows,
    table_of,
    texts_of_numbers,
)
from sensorseq.readers.text_columns import numbers_of_texts
from sensorseq.recording import Recording
from sensorseq.stamps.names import is_time_name
from sensorseq.stamps.period import even_stamps
from sensorseq.stamps.read import Stamps, seconds_of, stored_time_unit

_DEEPEST = 16  # maximum nesting depth of groups


@takes_options
def read_hdf5(
    path: str | os.PathLike[str],
    options: ReadOptions | None = None,
    *,
    recording_id: str | None = None,
    group: str = "",
    label: str | None = None,
) -> Recording:
    """Read one recording from an HDF5 file.

    A 1-D dataset is a channel, and so is each column of a 2-D dataset. Time may run along either
    axis of a 2-D dataset. The fields of a table (a compound dataset) are read as the datasets of a
    group. The dataset's attribute ``columns`` lists the names of its columns, which
    may include the time; without this attribute, the names are ``gyro[0]``, ``gyro[1]`` and so on.
    Datasets in groups are named after their paths, such as ``imu/ax``, without outer groups that
    contain only one group. The time is a dataset, or is computed from an attribute
    ``sample_rate_hz`` of the file, group or dataset. If there are several time datasets, the
    dataset in the group of the `channels` is used.

    An attribute ``unit`` or ``units`` of a 1-D dataset gives the unit of the channel or the time.
    Packed numbers are unpacked with the attributes ``scale_factor`` and ``add_offset``; samples
    equal to ``_FillValue`` or ``missing_value`` are missing, as in netCDF. String datasets, and
    datasets with more than two dimensions (images), are left out. A dataset outside the group of
    the time is also left out if it has more or fewer samples than the time.
    ``attributes["dropped_columns"]`` lists the left-out datasets. Single numbers are not channels.

    Parameters
    ----------
    path, recording_id, group, label
        As in `read_csv`.
    options : ReadOptions, optional
        `channels`, `time_column`, `time_unit`, `units`, `stamps`, `label_column` and
        `sample_rate_hz` are used.

    Raises
    ------
    RecordingError
        If the file is missing, truncated or not an HDF5 file, or if it has a different layout.
    """
    options = as_options(options)
    origin = Origin(recording_id, group, label)
    recording = read_recording(open_hdf5, path, options, origin)
    return recording if options.channels is None else recording.select(options.channels)


@contextmanager
def open_hdf5(path: Path, options: ReadOptions) -> Iterator["_Hdf5Table"]:
    """Open an HDF5 file with one recording."""
    with foreign.opened(path, "an HDF5 recording") as file:
        yield _Hdf5Table(path, file, options)


class _LocatedDataset(NamedTuple):
    """A dataset; `folder` is the path of its group with a final slash, or empty for the root."""

    dataset: foreign.Hdf5Dataset
    folder: str
    rate_hz: float | None  # rate stored with the dataset, or with the nearest enclosing group


class _Hdf5Table(Table):
    """The datasets of a file by path, without outer groups that contain only one group."""

    def __init__(self, path: Path, file: foreign.Hdf5Group, options: ReadOptions) -> None:
        self._options = options
        holder, rate_hz = file, _rate(path, file, None)
        while not holder.datasets and len(groups := holder.groups) == 1:
            (holder,) = groups.values()
            rate_hz = _rate(path, holder, rate_hz)
        located = dict(_walk(path, holder, "", rate_hz, set()))
        # A single number describes the recording and is not a signal.
        has_signals = any(entry.dataset.size > 1 for entry in located.values())
        self._located = {
            name: entry
            for name, entry in located.items()
            if entry.dataset.ndim and (entry.dataset.size > 1 or not has_signals)
        }
        self._place: dict[str, tuple[str, int]] = {}  # dataset and column index of each column
        # For each 2-D dataset, True if time is along the first axis.
        self._upright: dict[str, bool] = {}
        datasets = [entry.dataset for entry in self._located.values()]
        lengths = Counter(len(dataset) for dataset in datasets if dataset.ndim == 1)
        units = {}
        for name, entry in self._located.items():
            self._upright[name] = _is_upright(entry.dataset, lengths)
            columns = _columns_of(path, name, entry, upright=self._upright[name])
            for at, column in enumerate(columns):
                column = column.strip()
                if column in self._place:
                    raise RecordingError(f"{path}: channel {column!r} appears more than once.")
                self._place[column] = name, at
            if entry.dataset.ndim == 1 and (unit := _unit(entry.dataset)):
                units[name.strip()] = unit
        if not holder.datasets and self._options.channels is None:
            _check_one_recording(path, list(located), list(self._place))
        chosen = [
            self._place[name][0] for name in self._options.channels or () if name in self._place
        ]
        rates = {located[name].rate_hz for name in chosen or located}
        self._rates_hz = sorted(rate for rate in rates if rate is not None)
        super().__init__(path, self._place, units)

    def time_name(self, options: ReadOptions) -> str:
        """Return the name of the time column, or of the attribute that replaces it."""
        if options.time_column is not None:
            return find_time_column(self.path, self.names, options.time_column)
        times = find_clocks(self.names, options.channels, "/")
        in_table = {name: self._located[self._place[name][0]].dataset.is_field for name in times}
        times = [name for name in times if not in_table[name]] or times  # a table may list events
        if len(times) == 1:
            return times[0]
        if times:
            each = ", ".join(f"{name} of {self._n_samples(name)} samples" for name in times[:6])
            example = next((n for n in self.names if n not in times), times[0])
            raise RecordingError(
                f"{self.path}: has {len(times)} time columns ({each}). Choose `channels` with the"
                f" same time, such as channels={example!r}, or name the time with `time_column`. To"
                " combine sensors with different times, store each sensor in its own file and join"
                " the files with `pair`."
            )
        if len(self._rates_hz) > 1:
            rates = " and ".join(f"{rate:g}" for rate in self._rates_hz)
            raise RecordingError(
                f"{self.path}: its attributes 'sample_rate_hz' differ ({rates}). Choose `channels`"
                " with the same rate, or store each rate in its own file and join the files with"
                " `pair`."
            )
        if self._rates_hz:
            return RATE
        if options.sample_rate_hz:
            return ""
        for name, entry in self._located.items():
            refuse_windows(self.path, name, entry.dataset.shape, entry.dataset.dtype.kind)
        return find_time_column(self.path, self.names, None)

    def read(
        self, names: list[str], time_name: str, options: ReadOptions
    ) -> tuple[NumberColumns, Stamps]:
        """Return the columns and the timestamps; read each dataset only once."""
        wanted = [name for name in names if options.channels is None or name in options.channels]
        check_names(self.path, options.channels or (), self.names, MissingChannelError)
        if time_name in ("", RATE):
            columns = self._numbers(wanted or self.names, None)
            n_samples = max((len(v) for v in columns.values() if v is not None), default=0)
            folder = options.folder_for(8 * n_samples)
            rate_hz = float(options.sample_rate_hz or 1) if not time_name else self._rates_hz[0]
            facts = {} if time_name else {"sample_rate_hz": rate_hz}
            stamps = Stamps(even_stamps(0.0, rate_hz, n_samples, folder), facts)
            return {name: columns[name] for name in wanted}, stamps
        used = {*wanted, time_name}
        columns = self._numbers([name for name in self.names if name in used], time_name)
        return columns, self._stamps(time_name, columns.pop(time_name), options.time_unit)

    def labels(self, name: str) -> list[str | None]:
        """Return strings or numbers as labels."""
        dataset = self._located[self._place[name][0]].dataset
        if dataset.ndim == 1 and dataset.is_text:
            words: list[str | None] = dataset[()].tolist()
            return words
        numbers = self._numbers([name], None)[name]
        return [] if numbers is None else texts_of_numbers(numbers)

    def as_arrow(self, words: str) -> pa.Table:
        """Return the columns that are as long as `words`, with the types of their datasets."""
        n_samples = self._n_samples(words)
        names = [name for name in self.names if self._n_samples(name) == n_samples]
        stored = {}
        for path in dict.fromkeys(self._place[name][0] for name in names):
            dataset = self._located[path].dataset
            stored[path] = _Packing.of(self.path, path, dataset).unpacked(dataset[()])
        columns = {}
        for name in names:
            path, at = self._place[name]
            values = stored[path]
            table = values if values.ndim == 1 or self._upright[path] else values.T
            columns[name] = table if table.ndim == 1 else table[:, at]
        return table_of(self.path, columns, words)

    def _n_samples(self, column: str) -> int:
        path = self._place[column][0]
        shape = self._located[path].dataset.shape
        return int(shape[0] if self._upright[path] else shape[1])

    def _numbers(self, names: list[str], time_name: str | None) -> NumberColumns:
        columns: NumberColumns = {}
        tables: dict[str, NDArray[Any]] = {}
        usable = self._fitting(names, time_name)
        for name in names:
            path, at = self._place[name]
            dataset = self._located[path].dataset
            columns[name] = None
            if name not in usable:
                continue
            if dataset.is_text and dataset.ndim == 1:
                columns[name] = numbers_of_texts(self.path, name, dataset[()].tolist())
            elif dataset.dtype.kind in "fiub":
                if path not in tables:
                    packing = _Packing.of(self.path, path, dataset)
                    table = _values(dataset, np.float64, self._options, packing)
                    tables[path] = table if self._upright[path] else table.T
                values = tables[path] if tables[path].ndim == 1 else tables[path][:, at]
                columns[name] = None if is_missing(values) else values
        return columns

    def _fitting(self, names: list[str], time_name: str | None) -> list[str]:
        """Return the text columns, and the numeric columns with a number for each sample.

        A numeric column of a different length raises an error if the column was chosen or is in the
        group of the time; otherwise it is left out.
        """
        located = {name: self._located[self._place[name][0]] for name in names}
        datasets = {name: entry.dataset for name, entry in located.items()}
        numeric = [
            name
            for name, dataset in datasets.items()
            if dataset.dtype.kind in "fiub" and dataset.ndim < 3
        ]
        words = [name for name, dataset in datasets.items() if dataset.is_text]
        if not set(numeric) - {time_name}:
            for name, dataset in datasets.items():
                if dataset.ndim > 2:
                    raise RecordingError(
                        f"{self.path}: dataset {name!r} has {dataset.ndim} dimensions; use 1-D"
                        " datasets, or 2-D datasets of shape (n_samples, n_columns)."
                    )
        if not numeric:
            return words
        first = time_name or min(numeric, key=lambda name: located[name].folder.count("/"))
        n_samples, folder = self._n_samples(first), located[first].folder
        unequal = [name for name in numeric if self._n_samples(name) != n_samples]
        for name in unequal:
            if self._options.channels is not None or located[name].folder == folder:
                short, long = sorted((name, first), key=self._n_samples)
                raise RecordingError(
                    f"{self.path}: {short!r} has {self._n_samples(short)} samples, but {long!r} has"
                    f" {self._n_samples(long)}; choose `channels` of the same length, or store"
                    " channels of different rates in separate files and join them with `pair`."
                )
        return [name for name in (*numeric, *words) if name not in unequal]

    def _stamps(
        self, name: str, numbers: NDArray[np.float64] | None, time_unit: str | None
    ) -> Stamps:
        dataset = self._located[self._place[name][0]].dataset
        packing = _Packing.of(self.path, name, dataset)
        stored_unit = None
        if dataset.ndim == 1 and time_unit is None:
            stored_unit = stored_time_unit(self.path, name, _unit(dataset))
        if dataset.size == max(dataset.shape) and dataset.dtype.kind in "iu" and packing.is_plain:
            # Floats cannot represent nanoseconds since 1970.
            ticks = _values(dataset, dataset.dtype, self._options, _Packing())
            if not packing.is_missing(ticks).any():
                return seconds_of(self.path, name, ticks, time_unit, stored_unit)
        if numbers is None and dataset.ndim == 1 and dataset.is_text:
            return seconds_of(self.path, name, dataset[()].tolist(), time_unit)
        if numbers is None:
            raise RecordingError(
                f"{self.path}: dataset {name!r} has no numbers; timestamps must be numbers."
            )
        return seconds_of(self.path, name, numbers, time_unit, stored_unit)


class _Packing(NamedTuple):
    """How netCDF packs numbers: ``stored * scale + offset``; `fills` mark missing samples."""

    scale: float = 1.0
    offset: float = 0.0
    fills: tuple[int | float, ...] = ()

    @classmethod
    def of(cls, path: Path, name: str, dataset: foreign.Hdf5Dataset) -> "_Packing":
        """Return the packing from the attributes of a dataset; strings are not packed."""
        if dataset.dtype.kind not in "fiub":
            return cls()
        factors = [1.0, 0.0]
        for at, attribute in enumerate(("scale_factor", "add_offset")):
            values = dataset.attrs.get(attribute, factors[at : at + 1])
            is_number = len(values) == 1 and not isinstance(values[0], str)
            if not (is_number and np.isfinite(values[0]) and (at or values[0])):
                raise RecordingError(
                    f"{path}: the attribute {attribute!r} of dataset {name!r} is"
                    f" {listed(map(str, values), 4)}, but must be one number to unpack the dataset."
                    " Correct or remove this attribute."
                )
            factors[at] = float(values[0])
        fills = [dataset.attrs.get(name, []) for name in ("_FillValue", "missing_value")]
        numbers = (value for value in (*fills[0], *fills[1]) if not isinstance(value, str))
        return cls(factors[0], factors[1], tuple(numbers))

    @property
    def is_plain(self) -> bool:
        """True if numbers are stored without a scale or an offset."""
        return (self.scale, self.offset) == (1.0, 0.0)

    def is_missing(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Return a mask that is True for stored numbers that mark missing samples."""
        missing = np.zeros(stored.shape, bool)
        for fill in self.fills:
            missing |= stored == (stored.dtype.type(fill) if stored.dtype.kind == "f" else fill)
        return missing

    def unpacked(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return the unpacked numbers, with NaN for missing samples."""
        missing = self.is_missing(stored)
        if self.is_plain and not missing.any():
            return stored
        return np.where(missing, np.nan, stored * np.float64(self.scale) + self.offset)


def _unit(dataset: foreign.Hdf5Dataset) -> str:
    """Return the stored unit, or an empty string."""
    return next((dataset.attrs[n][0] for n in ("unit", "units") if dataset.attrs.get(n)), "")


def _walk(
    path: Path, group: foreign.Hdf5Group, folder: str, rate_hz: float | None, seen: set[int]
) -> Iterator[tuple[str, _LocatedDataset]]:
    """Yield each dataset in a group and its subgroups, with its path; visit each group once."""
    seen.add(group.place)
    for name, dataset in group.datasets.items():
        yield folder + name, _LocatedDataset(dataset, folder, _rate(path, dataset, rate_hz))
    for name, inner in group.groups.items():
        if inner.place not in seen and folder.count("/") < _DEEPEST:
            inner_rate_hz = _rate(path, inner, rate_hz)
            yield from _walk(path, inner, f"{folder}{name}/", inner_rate_hz, seen)


def _check_one_recording(path: Path, names: list[str], columns: list[str]) -> None:
    """Raise an error if there is no dataset, or if similar groups seem to be recordings."""
    contents: dict[str, list[str]] = {}
    for name in names:
        group, _, inner_path = name.partition("/")
        contents.setdefault(group, []).append(inner_path)
    alike = {name for name, inner in contents.items() if list(contents.values()).count(inner) > 1}
    if names and not alike:
        return
    groups = listed(contents, 6) or "nothing"
    more = ""
    if names:
        alike_columns = [column for column in columns if column.partition("/")[0] in alike]
        signals = [name for name in alike_columns if not is_time_name(name.rpartition("/")[2])]
        pick = next(iter(signals or alike_columns), names[0])
        more = f" To read groups as one recording, choose `channels`, such as channels={pick!r}."
    raise RecordingError(
        f"{path}: the root contains no dataset; it contains {groups}. Store one recording per file,"
        f" with its datasets in the root or in a single group.{more}"
    )


def _is_upright(dataset: foreign.Hdf5Dataset, lengths: Counter[int]) -> bool:
    """Test whether time runs along the first axis, judging by the lengths of vectors and axes."""
    if dataset.ndim != 2 or "columns" in dataset.attrs:
        return True
    rows, columns = dataset.shape
    if (lengths[rows] > 0) != (lengths[columns] > 0):
        return lengths[rows] > 0
    return bool(rows >= columns)


def _columns_of(path: Path, name: str, entry: _LocatedDataset, *, upright: bool) -> list[str]:
    """Return the column names of a 2-D dataset, or the name of any other dataset."""
    dataset = entry.dataset
    if dataset.ndim != 2:
        return [name]
    names: list[str] | None = dataset.attrs.get("columns")
    if names is None:
        if dataset.size == max(dataset.shape):
            return [name]
        return [f"{name}[{at}]" for at in range(dataset.shape[1 if upright else 0])]
    if len(names) != dataset.shape[1] or len(set(names)) != len(names):
        raise RecordingError(
            f"{path}: dataset {name!r} has {dataset.shape[1]} columns, but its attribute 'columns'"
            f" lists {len(set(names))} different names."
        )
    return [entry.folder + column for column in names]


def _values(
    dataset: Any, dtype: DTypeLike, options: ReadOptions, packing: _Packing
) -> NDArray[Any]:
    """Return the numbers of a dataset in memory or, if there are many, on disk."""
    folder = options.folder_for(8 * dataset.size)
    is_line = dataset.size == max(dataset.shape)
    if folder is None or (is_line and dataset.ndim > 1):
        values = np.asarray(packing.unpacked(dataset[()]), dtype)
        return values.ravel() if is_line else values
    rows = Rows(folder, dtype, *dataset.shape[1:])
    for at, stop in blocks(len(dataset), n_columns=dataset.size // len(dataset)):
        rows.append(packing.unpacked(dataset[at:stop]))
    return rows.as_array()


def _rate(path: Path, holder: Any, around: float | None) -> float | None:
    """Return the rate stored with a file, group or dataset; if there is none, return `around`."""
    stored = holder.attrs.get(RATE)
    dataset = getattr(holder, "datasets", {}).get(RATE)
    if stored is None and dataset is not None and dataset.size == 1 and dataset.dtype.kind in "fiu":
        stored = dataset[()].ravel()[0]
    if stored is None:
        return around
    rate_hz = float(stored)
    if not (np.isfinite(rate_hz) and rate_hz > 0):
        raise RecordingError(
            f"{path}: the attribute 'sample_rate_hz' is {rate_hz!r}, not a positive rate."
        )
    return rate_hz
