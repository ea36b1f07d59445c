"""The safetensors format: a length, a header in JSON, and arrays that follow one another."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

# In the order in which arrays of these types lie in a file, the widest first.
_DTYPES = {
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "F32": "<f4",
    "U32": "<u4",
    "I32": "<i4",
    "F16": "<f2",
    "U16": "<u2",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_RANK = {dtype: rank for rank, dtype in enumerate(_DTYPES.values())}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
MAX_HEADER_BYTES = 100_000_000  # the limit of the format


def pack_tensors(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Write arrays in C order and texts; equal ones give equal bytes."""
    fields: dict[str, Any] = {"__metadata__": dict(metadata)}
    names = sorted(arrays, key=lambda name: (_RANK[arrays[name].dtype.str], name))
    end = 0
    for name in names:
        array = arrays[name]
        offsets = [end, end := end + array.nbytes]
        fields[name] = {
            "dtype": _NAMES[array.dtype.str],
            "shape": array.shape,
            "data_offsets": offsets,
        }
    header = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of eight bytes
    length = len(header).to_bytes(8, "little")
    return b"".join([length, header, *(arrays[name].data for name in names)])


def read_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read all arrays and texts; raise a ValueError unless every byte has its place."""
    size = path.stat().st_size
    with path.open("rb") as file:
        fields, start = _read_header(file, size)
        metadata = fields.pop("__metadata__", {})
        if not (isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())):
            raise ValueError("its metadata are not texts")
        places = {name: _place(name, field) for name, field in fields.items()}
        arrays: dict[str, NDArray[Any]] = {}
        at = 0
        for name, (_, _, begin, end) in sorted(places.items(), key=lambda item: item[1][2:]):
            if begin != at:
                raise ValueError(f"array {name!r} begins at {begin}, not at {at}")
            at = end
        if start + at != size:
            raise ValueError(f"its arrays take {at} bytes, not {size - start}")
        for name, (dtype, shape, begin, _) in places.items():
            arrays[name] = np.empty(shape, dtype)
            file.seek(start + begin)
            if file.readinto(arrays[name].reshape(-1).view(np.uint8).data) != arrays[name].nbytes:
                raise ValueError(f"array {name!r} is cut off")
    return arrays, metadata


def _read_header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Read the header; return its fields, and where the arrays begin."""
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, MAX_HEADER_BYTES):
        raise ValueError(f"its header would take {length} bytes")
    fields = json.loads(file.read(length).decode(), object_pairs_hook=_unique)
    if not isinstance(fields, dict):
        raise ValueError("its header is not a mapping")
    return fields, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is twice in its header")
    return found


def _place(name: str, field: Any) -> tuple[str, list[int], int, int]:
    """Check a field of the header; return type, shape, beginning and end of its array."""
    if not isinstance(field, dict) or field.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"array {name!r} has no type, shape and offsets")
    shape, offsets = field["shape"], field["data_offsets"]
    if not (isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2):
        raise ValueError(f"the shape or the offsets of array {name!r} are no lists")
    if not all(type(number) is int and 0 <= number < 2**63 for number in (*shape, *offsets)):
        raise ValueError(f"the shape or the offsets of array {name!r} are no whole numbers")
    if not (isinstance(field["dtype"], str) and field["dtype"] in _DTYPES):
        raise ValueError(f"array {name!r} is of type {field['dtype']!r}")
    dtype = _DTYPES[field["dtype"]]
    if offsets[1] - offsets[0] != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError(f"array {name!r} of shape {shape} does not fit between its offsets")
    return dtype, shape, offsets[0], offsets[1]
