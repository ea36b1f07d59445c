"""Write and read each element of a prepared file; the file's version covers all of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import PreparedFileError
from sensorseq.storage import _hdf5
from sensorseq.windows import PARTS


class Labels:
    """A code for each window, and the classes, words or numbers, that the codes stand for."""

    @staticmethod
    def write(writer: _hdf5.Writer, y: ArrayLike) -> None:
        """Store `y` of shape (n_windows,) as ``y`` (codes) and ``classes`` (sorted)."""
        classes, codes = np.unique(_plain(y, "y"), return_inverse=True)
        writer.array("y", codes.astype(np.int32))
        Column.write(writer, "classes", classes)

    @staticmethod
    def read(file: Any) -> NDArray[Any]:
        """Return `y`."""
        classes = Column.read(file["classes"])
        codes = np.asarray(file["y"][()])
        if codes.size and not 0 <= codes.min() <= codes.max() < len(classes):
            raise KeyError("y holds a code without a class")
        labels: NDArray[Any] = classes[codes]
        return labels


class Column:
    """One word or number for each window."""

    @staticmethod
    def write(writer: _hdf5.Writer, name: str, values: ArrayLike) -> None:
        """Store `values` of shape (n_windows,)."""
        array = _plain(values, name)
        if array.dtype.kind == "U":
            writer.texts(name, array)
        else:
            writer.array(name, array)

    @staticmethod
    def read(dataset: Any) -> NDArray[Any]:
        """Return the values; words as str."""
        return _hdf5.read_texts(dataset) if _hdf5.is_text(dataset) else np.asarray(dataset[()])


class Split:
    """The part of each window, an enumeration that names itself in the file."""

    @staticmethod
    def write(writer: _hdf5.Writer, split: ArrayLike) -> None:
        """Store `split` of shape (n_windows,)."""
        writer.choices("split", split, PARTS)

    @staticmethod
    def read(dataset: Any) -> NDArray[np.str_]:
        """Return the parts as words."""
        return _hdf5.read_choices(dataset)


class Statistics:
    """Named arrays of a fitted step, in a group: a scaler's `to_dict`."""

    @staticmethod
    def write(writer: _hdf5.Writer, name: str, fields: Mapping[str, NDArray[Any]]) -> None:
        """Store every array of `fields` under ``name/field``."""
        for field, array in fields.items():
            writer.array(f"{name}/{field}", array)

    @staticmethod
    def read(group: Any) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        return {name: np.asarray(data[()]) for name, data in _hdf5.iter_datasets(group)}


def _plain(values: ArrayLike, name: str) -> NDArray[Any]:
    """Return words or numbers as an array that a file can hold without pickling."""
    array = np.asarray(values)
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.tolist()):
        array = array.astype(np.str_)
    if array.dtype.kind not in "Ubiuf":
        raise PreparedFileError(
            f"{name} of type {array.dtype} cannot be stored; it must be words or numbers."
        )
    return array
