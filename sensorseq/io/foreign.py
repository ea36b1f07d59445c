"""Read groups, datasets and attributes from HDF5 files that other programs wrote."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sensorseq.base.checks import check_unpacked
from sensorseq.errors import RecordingError
from sensorseq.io import hdf5_file

_ATTRIBUTES = ("unit", "units", "columns", "MATLAB_class")
_PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value")  # as named in netCDF


class _Unpacking:
    """A counter of the bytes of data that are read from a file."""

    def __init__(self, path: Path) -> None:
        self._path, self._n_bytes = path, 0

    def add(self, n_bytes: int) -> None:
        """Count bytes to read; raise an error if the file is far too small to contain them."""
        self._n_bytes += n_bytes
        check_unpacked(self._path, self._n_bytes, self._path.stat().st_size)


class _Field:
    """A field of a table, as a dataset; it may be a table again."""

    def __init__(self, table: Any, name: str) -> None:
        self._table, self._name, field = table, name, table.dtype[name]
        self.shape, self.dtype = table.shape + field.shape, field.base
        self.attrs: Mapping[str, Any] = {}

    def __hash__(self) -> int:
        return hash((self._table, self._name))

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(self._table, _Field):
            return self._table[rows][self._name]
        return self._table.fields(self._name)[rows]


class Hdf5Dataset:
    """A dataset with the part of h5py's interface that the readers use."""

    def __init__(self, unpacking: _Unpacking, dataset: h5py.Dataset | _Field) -> None:
        self._unpacking, self._dataset = unpacking, dataset
        self.is_field = isinstance(dataset, _Field)
        self.shape: tuple[int, ...] = dataset.shape
        self.ndim, self.size = len(self.shape), math.prod(self.shape)
        self.is_text = hdf5_file.is_text(dataset)
        dtype = dataset.dtype.str if dataset.dtype.kind in "fiub" else "V1"
        self.dtype = np.dtype("O" if self.is_text else dtype)
        self.attrs: Mapping[str, Any] = _attributes(dataset)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return a slice of rows, or the whole dataset if the key is ``()``."""
        n_values = self.size
        if rows != () and n_values:
            n_values = n_values // len(self) * len(range(*rows.indices(len(self))))
        self._unpacking.add(self.dtype.itemsize * n_values)
        with _calling_hdf5():
            values = np.asarray(self._dataset[rows])
            if self.is_text:
                return hdf5_file.words_of(values.ravel()).astype(object).reshape(values.shape)
            return values


class Hdf5Group:
    """A group, the root of a file, or a table (a dataset whose rows have named fields)."""

    def __init__(self, unpacking: _Unpacking, group: h5py.Group | h5py.Dataset | _Field) -> None:
        self._unpacking = unpacking
        self.is_table = not isinstance(group, h5py.Group)
        with _calling_hdf5():
            self.attrs: Mapping[str, Any] = _attributes(group)
            self.place = hash(group)  # the same number for all paths to a group
            node: Any = group  # h5py has no types
            if self.is_table:
                inner = {name: _Field(node, name) for name in node.dtype.names}
            else:
                inner = {name: node.get(name) for name in node}
            inner = {n: node for n, node in inner.items() if getattr(node, "shape", ()) is not None}
            self.datasets = {
                name: Hdf5Dataset(unpacking, node)
                for name, node in inner.items()
                if isinstance(node, h5py.Dataset | _Field) and node.dtype.names is None
            }
        self._groups = {
            name: node
            for name, node in inner.items()
            if isinstance(node, h5py.Group | h5py.Dataset | _Field) and name not in self.datasets
        }

    @property
    def groups(self) -> dict[str, "Hdf5Group"]:
        """The groups inside this group, by name."""
        return {name: Hdf5Group(self._unpacking, group) for name, group in self._groups.items()}


@contextmanager
def opened(path: Path, expected: str) -> Iterator[Hdf5Group]:
    """Open a file for reading; convert errors to a `RecordingError` with the file's name.

    `expected` describes the file in error messages, such as ``"an HDF5 recording"``.
    """
    with hdf5_file.naming(path, RecordingError, expected):
        with _calling_hdf5():
            file = h5py.File(path, "r")
        with file:
            yield Hdf5Group(_Unpacking(path), file)


@contextmanager
def _calling_hdf5() -> Iterator[None]:
    """Convert any error of h5py about damaged structures to an `OSError`."""
    try:
        yield
    except OSError:
        raise
    except Exception as problem:
        raise OSError(str(problem) or type(problem).__name__) from problem


def _attributes(holder: Any) -> dict[str, Any]:
    stored = {name: holder.attrs[name] for name in _ATTRIBUTES + _PACKING if name in holder.attrs}
    attributes: dict[str, Any] = {
        name: [_number(number) for number in np.ravel(value)]
        if name in _PACKING
        else hdf5_file.attribute_texts(holder, name)
        for name, value in stored.items()
        if not isinstance(value, h5py.Empty)
    }
    rate = holder.attrs.get("sample_rate_hz")
    if rate is not None:
        try:
            attributes["sample_rate_hz"] = float(np.asarray(rate).item())
        except (TypeError, ValueError):
            attributes["sample_rate_hz"] = float("nan")
    return attributes


def _number(value: Any) -> int | float | str:
    """Return the string or the number in an attribute; an integer keeps all digits."""
    if isinstance(value, np.integer):
        return int(value)
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    try:
        return float(text)
    except ValueError:
        return text
