"""Read recordings from files of named arrays: NumPy ``.npz`` and ``.npy``, and MATLAB ``.mat``."""

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sensorseq.base.checks import check_unpacked
from sensorseq.base.text import listed
from sensorseq.errors import (
    EnvironmentProblemError,
    MissingChannelError,
    RecordingError,
    did_you_mean,
)
from sensorseq.io import foreign
from sensorseq.options import ReadOptions, as_options, takes_options
from sensorseq.readers.columns import (
    RATE,
    NumberColumns,
    Origin,
    Table,
    check_names,
    find_clocks,
    read_recording,
    refuse_windows,
    refusing_content,
    table_of,
    texts_of_numbers,
)
from sensorseq.readers.edge_impulse import read_acquisition
from sensorseq.readers.mat5 import read_mat5
from sensorseq.readers.suffixes import ACQUISITION_SUFFIXES
from sensorseq.readers.topics import Topic
from sensorseq.recording import Recording, column_names
from sensorseq.stamps.read import Stamps, seconds_of

_Arrays = dict[str, NDArray[Any]]
_NUMBERS = "fiub"  # kind codes of numeric dtypes
_ELEMENT = re.compile(r"(.+)\[\d+\]")
_DEEPEST = 16  # maximum nesting depth of groups


@takes_options
def read_arrays(
    path: Path,
    options: ReadOptions | None = None,
    *,
    recording_id: str | None = None,
    group: str = "",
    label: str | None = None,
) -> Recording:
    """Read one recording from a ``.npz``, ``.npy``, ``.mat``, ``.json`` or ``.cbor`` file.

    A vector is a channel. Each column of a 2-D array is a channel named ``name[0]``, ``name[1]``
    and so on; time may be along either axis. Fields of MATLAB structs and of structured arrays are
    named ``struct.field``. The timestamps are in an array, or are computed from a number
    ``sample_rate_hz`` in the file. Other single numbers are ignored. JSON and CBOR files are in
    Edge Impulse's acquisition format. Nothing is unpickled: Python objects and MATLAB cells are
    left out and listed in ``attributes["dropped_columns"]``.

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
        If the file is damaged, or its arrays have different lengths.
    """
    options = as_options(options)
    origin = Origin(recording_id, group, label)
    recording = read_recording(ArraysTable, path, options, origin)
    return recording if options.channels is None else recording.select(options.channels)


class ArraysTable(Table):
    """The arrays of a file that belong to the wanted channels, and their timestamps."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._arrays, self._left_out, units = _load(path)
        names = [name for name, array in self._arrays.items() if array.size > 1]
        super().__init__(path, [*names, *self._left_out], units)

    def time_name(self, options: ReadOptions) -> str:
        """Return the name of the array with the timestamps, or of the array with the rate."""
        if not any(array.size > 1 for array in self._arrays.values()):
            self._refuse_left_out(self._left_out)
        name, self._stamps = _time(self.path, self._arrays, options, options.channels)
        return name

    def read(
        self, names: list[str], time_name: str, options: ReadOptions
    ) -> tuple[NumberColumns, Stamps]:
        """Return the columns of the arrays that contain wanted channels."""
        path, channels, stamps = self.path, options.channels, self._stamps
        columns: NumberColumns = {}
        for name in names:
            if name in self._left_out:
                columns[name] = None
            elif _is_wanted(name, channels):
                columns |= _split(path, name, self._arrays[name], len(stamps.seconds), time_name)
        for name in (names and channels) or ():
            if name not in columns:
                names_of_channels = [c for array in list_arrays(path) for c in array.channels]
                raise MissingChannelError(
                    f"{path}: no channel {name!r}; it has {', '.join(names_of_channels[:12])}."
                    + did_you_mean(name, names_of_channels)
                )
        columns.pop(time_name, None)  # the time may be one column of a 2-D array
        if all(values is None for values in columns.values()):
            self._refuse_left_out(names)
        return columns, stamps

    def _refuse_left_out(self, names: Iterable[str]) -> None:
        if left_out := next((name for name in names if name in self._left_out), None):
            raise RecordingError(
                f"{self.path}: has no array of numbers; {left_out!r} contains"
                f" {self._left_out[left_out]}. Store the samples as arrays of numbers, and each"
                " recording in its own file."
            )

    def labels(self, name: str) -> list[str | None]:
        """Return a column of strings or numbers as labels."""
        if name in self._left_out:
            raise RecordingError(
                f"{self.path}: {name!r} contains {self._left_out[name]}, not labels; store labels"
                " as an array of numbers or strings."
            )
        labels = self._arrays[name].ravel()
        if labels.dtype.kind in _NUMBERS:
            return texts_of_numbers(labels.astype(np.float64))
        if labels.dtype.kind in "US":
            return list(labels.astype(np.str_).tolist())
        raise RecordingError(f"{self.path}: {name!r} contains {labels.dtype}, not labels.")

    def as_arrow(self, words: str) -> pa.Table:
        """Return the arrays that are as long as `words`, with matrices split into columns."""
        n_rows = len(self._arrays[words].ravel())
        columns: dict[str, NDArray[Any]] = {}
        for name in self.names:
            array = self._arrays[name]
            if array.ndim == 2 and n_rows in array.shape:
                table = array if len(array) == n_rows else array.T
                columns |= {f"{name}[{i}]": values for i, values in enumerate(table.T)}
            elif array.shape == (n_rows,):
                columns[name] = array
        return table_of(self.path, columns, words)


def list_arrays(path: Path) -> list[Topic]:
    """Return the name, type, shape, length, rate and channels of each numeric array in a file.

    Parameters
    ----------
    path : Path

    Raises
    ------
    RecordingError
        If the file is damaged.
    """
    with refusing_content(path):
        return list(_listed(path, _load(path)[0]))


def _listed(path: Path, arrays: _Arrays) -> Iterator[Topic]:
    for name, array in sorted(arrays.items()):
        if array.size < 2 or array.dtype.kind not in _NUMBERS:
            continue
        shape = " x ".join(map(str, array.shape))
        if array.ndim > 2:
            _time(path, arrays, ReadOptions(), [name])  # raises an error for windows
            yield Topic(name, f"{array.dtype} {shape}", len(array), math.nan, ())
            continue
        n_samples, rate_hz = max(array.shape), math.nan
        channels = [name] if array.ndim == 1 else [f"{name}[{i}]" for i in range(min(array.shape))]
        with suppress(RecordingError):
            stamps = _time(path, arrays, ReadOptions(), [name])[1].seconds
            if len(stamps) in array.shape:
                n_samples, rate_hz = len(stamps), 1 / float(np.median(np.diff(stamps)))
        yield Topic(name, f"{array.dtype} {shape}", n_samples, rate_hz, tuple(channels))


def _is_wanted(name: str, channels: Sequence[str] | None) -> bool:
    return channels is None or any(
        channel == name or channel.startswith(f"{name}[") for channel in channels
    )


def _split(
    path: Path, name: str, array: NDArray[Any], n_samples: int, time_name: str
) -> NumberColumns:
    """Return an array's columns by name; None for a column without numbers."""
    if array.ndim > 2 or n_samples not in array.shape:
        longest = repr(time_name) if time_name else "the longest array"
        raise RecordingError(
            f"{path}: {name!r} has shape {array.shape}, but {longest} has {n_samples} samples."
            " Choose arrays of the same length with `channels`, and their time with `time_column`."
        )
    if array.dtype.kind not in _NUMBERS:
        return {name: None}
    table = array.reshape(len(array), -1).T if len(array) == n_samples else array
    columns = np.ascontiguousarray(table, np.float64)
    names = [name] if array.ndim == 1 else [f"{name}[{i}]" for i in range(len(columns))]
    return {
        column: None if np.isnan(values).all() else values
        for column, values in zip(names, columns, strict=True)
    }


def _time(
    path: Path, arrays: _Arrays, options: ReadOptions, channels: Sequence[str] | None
) -> tuple[str, Stamps]:
    """Return the timestamps and the name of their array, which is "" if a rate is given instead."""
    time_column = options.time_column
    vectors = {name: array for name, array in arrays.items() if array.ndim == 1 and array.size > 1}
    if time_column is not None:
        if (column := _ELEMENT.fullmatch(time_column)) and column[1] in arrays:
            table = np.atleast_2d(arrays[column[1]])
            table = table if len(table) < table.shape[1] else table.T
            vectors |= {f"{column[1]}[{i}]": values for i, values in enumerate(table)}
        check_names(path, [time_column], list(vectors))
        usual = [time_column]
    else:
        usual = find_clocks(vectors, channels, ".")
    if not usual:
        wanted = {n: a for n, a in arrays.items() if a.size > 1 and _is_wanted(n, channels)}
        for name, array in wanted.items():
            refuse_windows(path, name, array.shape, array.dtype.kind)
        rate_hz, facts = _stored_rate(path, arrays, channels), {}
        if rate_hz is None and options.sample_rate_hz:
            rate_hz = float(options.sample_rate_hz)
            facts = {"sample_rate_hz": rate_hz}
        if rate_hz is not None:
            n_samples = max((max(array.shape) for array in wanted.values()), default=0)
            return "" if facts else RATE, Stamps(np.arange(n_samples) / rate_hz, facts)
    if len(usual) != 1:
        problem = f"several times ({', '.join(usual)})" if usual else "no array 'time' or 'time_s'"
        way_out = "choose `channels` that have the same time"
        if not usual:
            way_out = "or, if there is none, give the rate of the rows with `sample_rate_hz`"
        raise RecordingError(
            f"{path}: has {problem}; its vectors are {listed(vectors) or 'none'}. Name the time"
            f" array with `time_column`, {way_out}, or store an array '{RATE}'."
        )
    stamps = vectors[usual[0]]
    texts = stamps.dtype.kind not in _NUMBERS + "mM"
    return usual[0], seconds_of(
        path, usual[0], stamps.tolist() if texts else stamps, options.time_unit
    )


def _stored_rate(path: Path, arrays: _Arrays, channels: Sequence[str] | None) -> float | None:
    """Return the rate that is stored with the channels, or None."""
    stored = {n: a for n, a in arrays.items() if n.rpartition(".")[2] == RATE and a.size == 1}
    around = [n for n in stored if all(c.startswith(n[: -len(RATE)]) for c in channels or ())]
    inner = max(around, key=len, default=None) if channels is not None else None
    rates = {n: float(a.item()) for n, a in stored.items() if inner in (None, n)}
    for name, rate_hz in rates.items():
        if not (np.isfinite(rate_hz) and rate_hz > 0):
            raise RecordingError(f"{path}: the array {name!r} is {rate_hz!r}, not a positive rate.")
    if len(set(rates.values())) > 1:
        each = ", ".join(f"{name} {rate_hz:g}" for name, rate_hz in rates.items())
        raise RecordingError(
            f"{path}: contains several rates ({each}); choose `channels` with the same rate."
        )
    return next(iter(rates.values()), None)


def _load(path: Path) -> tuple[_Arrays, dict[str, str], dict[str, str]]:
    """Return the arrays of a file, the kinds of its other values, and the units, all by name.

    Row and column vectors become one-dimensional.
    """
    left_out: dict[str, str] = {}
    units: dict[str, str] = {}
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about the headers of damaged files
            if path.suffix.lower() in ACQUISITION_SUFFIXES:
                arrays, units = read_acquisition(path)
            elif path.suffix.lower() != ".mat":
                loaded = np.load(file, allow_pickle=False)
                if isinstance(loaded, np.ndarray):
                    loaded = {"values": loaded}
                else:
                    sizes = (member.file_size for member in loaded.zip.infolist())
                    check_unpacked(path, sum(sizes), path.stat().st_size)
                arrays = dict(_numpy_arrays(loaded, left_out))
            elif file.read(10) == b"MATLAB 7.3":
                with foreign.opened(path, "a MATLAB file") as holder:
                    arrays = dict(_hdf5_arrays(holder, "", set(), left_out))
            else:
                file.seek(0)
                arrays = read_mat5(file.read(), path, left_out)
            fields = [item for name, array in arrays.items() for item in _fields(name, array)]
            names = column_names(name for name, _ in fields)
            left_out = {name.strip(): kind for name, kind in left_out.items()}
            return dict(zip(names, (array for _, array in fields), strict=True)), left_out, units
    except (RecordingError, EnvironmentProblemError):
        raise
    except Exception as error:  # foreign parsers may raise any exception for damaged bytes
        if isinstance(error, OSError) and error.errno is not None:
            raise RecordingError(f"{path}: cannot be read ({error.strerror}).") from error
        if path.stat().st_size == 0:
            raise RecordingError(f"{path}: the file is empty.") from error
        raise RecordingError(
            f"{path}: is truncated, damaged or not a {path.suffix} file"
            f" ({error or type(error).__name__})."
        ) from error


def _numpy_arrays(loaded: Any, left_out: dict[str, str]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays of a NumPy file; pickled objects are left out."""
    for name in loaded:
        try:
            array = loaded[name]
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            left_out[name] = "Python objects, which are never loaded (allow_pickle=False)"
            continue
        if isinstance(array, np.ndarray):  # an archive may also contain other files
            yield name, array


def _fields(name: str, array: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield an array, or the fields of a structured array; row and column vectors become 1-D."""
    for field in array.dtype.names or ():
        yield from _fields(f"{name}.{field}", array[field])
    if array.dtype.names is None:
        if array.size and not array.dtype.itemsize:
            raise ValueError(f"{name!r} has {array.size} elements with a size of 0 bytes")
        yield name, array.ravel() if array.size == max(array.shape, default=1) else array


def _hdf5_arrays(
    group: Any, prefix: str, seen: set[int], left_out: dict[str, str]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the numeric arrays of a MATLAB 7.3 file, which stores them transposed."""
    seen.add(group.place)
    for name, dataset in group.datasets.items():
        kind = dataset.attrs.get("MATLAB_class", ["double"])[0]
        if dataset.dtype.kind not in _NUMBERS or kind in ("char", "cell", "function_handle"):
            if kind != "char":
                left_out[prefix + name] = "no numbers"
            continue
        yield prefix + name, dataset[()].T
    for name, inner in group.groups.items():
        if inner.is_table:
            left_out[prefix + name] = "complex numbers"
            continue
        if not name.startswith("#") and inner.place not in seen and prefix.count(".") < _DEEPEST:
            yield from _hdf5_arrays(inner, f"{prefix}{name}.", seen, left_out)
