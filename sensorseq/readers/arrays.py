"""Read recordings from files of named arrays: NumPy ``.npz`` and ``.npy``, MATLAB ``.mat``."""

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sensorseq.checks import check_unpacked
from sensorseq.errors import RecordingError, did_you_mean
from sensorseq.io import isolated
from sensorseq.options import ReadOptions, takes_read_options
from sensorseq.readers.columns import (
    FILE_OPTIONS,
    Columns,
    Origin,
    Table,
    check_names,
    is_time_name,
    read_recording,
    refusing_content,
    table_of,
    texts_of_numbers,
)
from sensorseq.readers.mat5 import read_mat5
from sensorseq.readers.robot_logs import Topic
from sensorseq.readers.stamps import Stamps, seconds_of
from sensorseq.recording import TIME_COLUMNS, Recording

_Arrays = dict[str, NDArray[Any]]
_NUMBERS = "fiub"
_ELEMENT = re.compile(r"(.+)\[\d+\]")
_DEEPEST = 16  # deepest nesting of groups


@takes_read_options(*FILE_OPTIONS, "channels")
def read_arrays(
    path: Path,
    options: ReadOptions,
    *,
    recording_id: str | None = None,
    group: str = "",
    label: str | None = None,
) -> Recording:
    """Read one recording from a ``.npz``, ``.npy`` or ``.mat`` file.

    A vector is a channel; each column of a 2-D array is one, named ``name[0]``, with time along
    either axis. Fields of MATLAB structs and of structured arrays are named ``struct.field``. Time
    is an array, or a number ``sample_rate_hz``. Single numbers are no channels. Nothing is
    unpickled.

    Parameters
    ----------
    path, recording_id, group, label
        As in `read_csv`.
    options : ReadOptions, optional
        `channels`, `time_column`, `time_unit`, `units`, `repair_stamps` and `label_column` are
        used, and can be given by name.

    Raises
    ------
    RecordingError
        If the file is damaged or its arrays do not fit together.
    """
    origin = Origin(recording_id, group, label)
    recording = read_recording(ArraysTable, path, options, origin)
    return recording if options.channels is None else recording.select(options.channels)


class ArraysTable(Table):
    """The arrays of a file that belong to the wanted channels, and their timestamps."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._arrays = _load(path)
        super().__init__(path, [name for name, array in self._arrays.items() if array.size > 1])

    def time_name(self, options: ReadOptions) -> str:
        """Return the name of the timestamps' array, or of the array with the rate instead."""
        name, self._stamps = _time(self.path, self._arrays, options, options.channels)
        return name

    def read(
        self, names: list[str], time_name: str, options: ReadOptions
    ) -> tuple[Columns, Stamps]:
        """Return the columns of the arrays that contain wanted channels."""
        path, channels, stamps = self.path, options.channels, self._stamps
        columns: Columns = {}
        for name in names:
            if _is_wanted(name, channels):
                columns |= _split(path, name, self._arrays[name], len(stamps.seconds), time_name)
        for name in (names and channels) or ():
            if name not in columns:
                known = [column for one in list_arrays(path) for column in one.channels]
                raise RecordingError(
                    f"{path}: no channel {name!r}; it has {', '.join(known[:12])}."
                    + did_you_mean(name, known)
                )
        columns.pop(time_name, None)  # it may be a column of a 2-D array
        return columns, stamps

    def labels(self, name: str) -> list[str | None]:
        """Return strings or numbers as labels."""
        given = self._arrays[name].ravel()
        if given.dtype.kind in _NUMBERS:
            return texts_of_numbers(given.astype(np.float64))
        if given.dtype.kind in "US":
            return list(given.astype(np.str_).tolist())
        raise RecordingError(f"{self.path}: {name!r} holds {given.dtype}, no labels.")

    def as_arrow(self, words: str) -> pa.Table:
        """Return the arrays that are as long as `words`, the columns of matrices by themselves."""
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
    """Return the arrays of numbers in a file: name, type and shape, samples, rate, channels.

    Parameters
    ----------
    path : Path

    Raises
    ------
    RecordingError
        If the file is damaged.
    """
    with refusing_content(path):
        return list(_listed(path, _load(path)))


def _listed(path: Path, arrays: _Arrays) -> Iterator[Topic]:
    for name, array in sorted(arrays.items()):
        if array.size < 2 or array.dtype.kind not in _NUMBERS or array.ndim > 2:
            continue
        n_samples, rate_hz = max(array.shape), math.nan
        channels = [name] if array.ndim == 1 else [f"{name}[{i}]" for i in range(min(array.shape))]
        with suppress(RecordingError):
            stamps = _time(path, arrays, ReadOptions(), [name])[1].seconds
            if len(stamps) in array.shape:
                n_samples, rate_hz = len(stamps), 1 / float(np.median(np.diff(stamps)))
        shape = " x ".join(map(str, array.shape))
        yield Topic(name, f"{array.dtype} {shape}", n_samples, rate_hz, tuple(channels))


def _is_wanted(name: str, channels: Sequence[str] | None) -> bool:
    return channels is None or any(one == name or one.startswith(f"{name}[") for one in channels)


def _split(path: Path, name: str, array: NDArray[Any], n_samples: int, time_name: str) -> Columns:
    """Return an array's columns by name; None for one without numbers."""
    if array.ndim > 2 or n_samples not in array.shape:
        raise RecordingError(
            f"{path}: {name!r} has shape {array.shape}, but {time_name!r} gives {n_samples}"
            " samples. Choose what belongs together with `channels`, and its time with"
            " `time_column`."
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
    """Return the name of the time array, and the timestamps."""
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
        usual = [name for name in TIME_COLUMNS if name in vectors]
        usual = usual or [name for name in vectors if is_time_name(name.rpartition(".")[2])]
        if len(usual) > 1 and channels is not None:
            within = [name.rpartition(".")[:2] for name in usual]
            usual = [
                name
                for name, holder in zip(usual, within, strict=True)
                if all(one.startswith("".join(holder)) for one in channels)
            ]
    rate = next((a for n, a in arrays.items() if n.rpartition(".")[2] == "sample_rate_hz"), None)
    if not usual and rate is not None and rate.size == 1:
        rate_hz = float(rate.item())
        if not (np.isfinite(rate_hz) and rate_hz > 0):
            raise RecordingError(
                f"{path}: the array 'sample_rate_hz' is {rate_hz!r}, not a positive rate."
            )
        shapes = [a.shape for n, a in arrays.items() if a.size > 1 and _is_wanted(n, channels)]
        n_samples = max((max(shape) for shape in shapes), default=0)
        return "sample_rate_hz", Stamps(np.arange(n_samples) / rate_hz, {})
    if len(usual) != 1:
        found = f"several times ({', '.join(usual)})" if usual else "no array time or time_s"
        raise RecordingError(
            f"{path}: has {found}; its vectors are {', '.join(list(vectors)[:12]) or 'none'}. Give"
            " the time with `time_column`, choose `channels` of one time, or store an array"
            " 'sample_rate_hz'."
        )
    stamps = vectors[usual[0]]
    texts = stamps.dtype.kind not in _NUMBERS + "mM"
    return usual[0], seconds_of(
        path, usual[0], stamps.tolist() if texts else stamps, options.time_unit
    )


def _load(path: Path) -> _Arrays:
    """Return the arrays of a file by name; row and column vectors have one dimension."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the headers of damaged files
            if path.suffix.lower() != ".mat":
                loaded = np.load(file, allow_pickle=False)
                if isinstance(loaded, np.ndarray):
                    loaded = {"values": loaded}
                else:
                    sizes = (member.file_size for member in loaded.zip.infolist())
                    check_unpacked(path, sum(sizes), path.stat().st_size)
                # other members of an archive are returned as bytes
                arrays = {n: array for n, array in loaded.items() if isinstance(array, np.ndarray)}
            elif file.read(10) == b"MATLAB 7.3":
                with isolated.opened(path, "a MATLAB file") as holder:
                    arrays = dict(_in_hdf5(holder, "", set()))
            else:
                file.seek(0)
                arrays = read_mat5(file.read(), path)
            return dict(item for name, array in arrays.items() for item in _fields(name, array))
    except RecordingError:
        raise
    except Exception as error:  # foreign parsers may raise anything for damaged bytes
        if isinstance(error, OSError) and error.errno is not None:
            raise RecordingError(f"{path}: cannot be read ({error.strerror}).") from error
        if path.stat().st_size == 0:
            raise RecordingError(f"{path}: the file is empty.") from error
        raise RecordingError(
            f"{path}: is truncated, damaged or no {path.suffix} file"
            f" ({error or type(error).__name__})."
        ) from error


def _fields(name: str, array: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield an array, or each field of a structured one; rows and columns become vectors."""
    for field in array.dtype.names or ():
        yield from _fields(f"{name}.{field}", array[field])
    if array.dtype.names is None:
        if array.size and not array.dtype.itemsize:
            raise ValueError(f"{name!r} has {array.size} elements of no size")
        yield name, array.ravel() if array.size == max(array.shape, default=1) else array


def _in_hdf5(group: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the numeric arrays of a MATLAB 7.3 file, whose axes are transposed."""
    seen.add(group.place)
    for name, dataset in group.datasets.items():
        kind = dataset.attrs.get("MATLAB_class", ["double"])[0]
        if dataset.dtype.kind not in _NUMBERS or kind in ("char", "cell", "function_handle"):
            continue
        yield prefix + name, dataset[()].T
    for name, inner in group.groups.items():
        if not name.startswith("#") and inner.place not in seen and prefix.count(".") < _DEEPEST:
            yield from _in_hdf5(inner, f"{prefix}{name}.", seen)
