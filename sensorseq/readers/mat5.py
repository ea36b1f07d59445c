"""Read the numbers in a MATLAB file of version 5 to 7, checking every size against the file.

scipy's reader is not used, because some damaged files make it crash the process.
"""

import struct
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.checks import check_unpacked

_DTYPES = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"
}  # fmt: skip
_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _TEXT, _NUMERIC = 2, 4, range(6, 16)
_KINDS = {1: "cells", 3: "an object", 5: "a sparse matrix", 17: "an object"}
_COMPLEX = 8
_DEEPEST = 16  # maximum nesting depth of structs


def read_mat5(
    content: bytes, path: Path = Path("content"), left_out: dict[str, str] | None = None
) -> dict[str, NDArray[np.generic]]:
    """Return the real numeric arrays of a file by name, with ``a.b`` for arrays in structs.

    `path` is used in messages. The names of all other variables, except text, are added to
    `left_out`. Damaged bytes raise a ValueError or any other exception.
    """
    left_out = {} if left_out is None else left_out
    if len(content) < 128 or content[126:128] not in (b"IM", b"MI"):
        raise ValueError("no header of MATLAB 5 or later")
    order = "<" if content[126:128] == b"IM" else ">"
    arrays: dict[str, NDArray[np.generic]] = {}
    n_bytes = 0
    for kind, part in _elements(memoryview(content)[128:], order):
        if kind == _COMPRESSED:
            stream = zlib.decompressobj()
            head = stream.decompress(part, 8)
            (size,) = struct.unpack(order + "I", head[4:])
            n_bytes += size
            check_unpacked(path, n_bytes, len(content))
            whole = head + stream.decompress(stream.unconsumed_tail, size + 1)
            if len(whole) != 8 + size or not stream.eof:
                raise ValueError("the size of a compressed array differs from its header")
            kind, part = next(_elements(memoryview(whole), order))
        if kind == _MATRIX:
            arrays.update(_arrays(part, order, "", 0, left_out))
    return arrays


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield the type and content of each element."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise ValueError("an element is truncated")
        kind, size = struct.unpack_from(order + "II", data, at)
        start = at + 8
        # A small element has its size in the upper half of the first word, and its content in the
        # second word.
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            at += 8
            if size > 4:
                raise ValueError("a small element is too large")
        else:
            at = start + size + (-size % 8 if kind != _COMPRESSED else 0)
        if start + size > len(data):
            raise ValueError("an element is longer than the file")
        yield kind, data[start : start + size]


def _arrays(
    matrix: memoryview, order: str, prefix: str, depth: int, left_out: dict[str, str]
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    if depth > _DEEPEST or not len(matrix):
        return
    parts = _elements(matrix, order)
    flags = _numbers(next(parts), order)
    shape = [int(n) for n in _numbers(next(parts), order)]
    name = bytes(next(parts)[1]).decode("utf-8", "replace")
    if len(flags) != 2 or len(shape) < 2 or min(shape) < 0:
        raise ValueError("an array has no valid header")
    kind, name = int(flags[0]) & 0xFF, prefix + name
    if kind in _NUMERIC and not int(flags[0]) >> 8 & _COMPLEX:
        numbers = _numbers(next(parts), order)
        if len(numbers) != prod(shape):
            raise ValueError(f"{name!r} has {len(numbers)} numbers for shape {tuple(shape)}")
        yield name, numbers.reshape(shape, order="F")
    elif kind == _STRUCT and prod(shape) == 1:
        (length,) = _numbers(next(parts), order)
        names = bytes(next(parts)[1])
        if not 0 < length <= len(names):
            raise ValueError(f"the struct {name!r} has no valid fields")
        fields = [names[at : at + length] for at in range(0, len(names), length)]
        for field, (kind, content) in zip(fields, parts, strict=True):
            if kind == _MATRIX:
                field_name = field.split(b"\0")[0].decode("utf-8", "replace")
                yield from _arrays(content, order, f"{name}.{field_name}", depth + 1, left_out)
    elif kind != _TEXT and name and prod(shape) > 0:
        structs = f"an array of {prod(shape)} structs"
        left_out[name] = structs if kind == _STRUCT else _KINDS.get(kind, "complex numbers")


def _numbers(element: tuple[int, memoryview], order: str) -> NDArray[np.generic]:
    kind, content = element
    dtype = np.dtype(order + _DTYPES.get(kind, "V0"))
    if not dtype.itemsize or len(content) % dtype.itemsize:
        raise ValueError("numbers have an unknown type or are truncated")
    return np.frombuffer(content, dtype)
