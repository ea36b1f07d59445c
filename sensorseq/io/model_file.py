"""Models on disk, as arrays and a description in one safetensors file.

Nothing in a file is executed. `format` and `version` identify the file format. A SHA-256 of the
arrays and the description reveals damage, so that a damaged file is never loaded.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.text import Plain
from sensorseq.errors import InputError, ModelFileError, nearest_known
from sensorseq.io.atomic import write_whole

if TYPE_CHECKING:
    from types import UnionType

_KEYS = {"format", "version", "description", "sha256"}
# A JSON mapping whose only key is "tuple" or "dict" represents a tuple or a dictionary.
_TAGGED = (("tuple",), ("dict",))
# An array pads strings to a common width, so labels of a small file could need a lot of memory.
_LARGEST_LABELS_BYTES = 2**26
_LABEL_DTYPE = re.compile(r"[<|=>]?(U\d{1,5}|[iuf][1248]|b1)$")
_LABEL = (str, bool, int, float)
_FORMAT, _VERSION = "sensorseq.model", 8
SAVE_AGAIN = " Save the model again where it was trained."
_WAY_OUT = "Give a model that `sensorseq run`, `sensorseq train` or `save` wrote, or copy it again."
# Types in the order in which their arrays are stored in a file: the widest first.
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
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
MAX_HEADER_BYTES = 100_000_000  # limit of the safetensors format


def write_model(
    path: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[Any]],
    description: Mapping[str, Any],
) -> None:
    """Write a model file, which gets its name only when it is complete.

    `to_jsonable` converts the values of `description`.
    """
    write_whole(path, pack(arrays, json.dumps(to_jsonable(description))), force=True)


def model_digest(arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any]) -> str:
    """Return the SHA-256 that `write_model` stores for a model."""
    return _digest(arrays, json.dumps(to_jsonable(description)))


def read_model(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays and the description that `write_model` wrote.

    Raises a `ModelFileError` if the file is empty, truncated, damaged, from another program or from
    another version.
    """
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"the model file {file} does not exist.")
    if file.is_dir():
        inside = file / "model.safetensors"
        way_out = f"Did you mean {inside}?" if inside.exists() else _WAY_OUT
        raise ModelFileError(f"{file} is a folder, not a model file. {way_out}")
    size = file.stat().st_size
    if size == 0:
        raise ModelFileError(f"{file} is empty. {_WAY_OUT}")
    if not is_model(file):
        raise ModelFileError(f"{file} is not a model of sensorseq. {_WAY_OUT}")
    try:
        arrays, metadata = read_tensors(file)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{file} ({size} bytes) is truncated or damaged: {error}. {_WAY_OUT}"
        ) from error
    if metadata.get("format") != _FORMAT:
        raise ModelFileError(
            f"{file} is a safetensors file of a different kind (format {metadata.get('format')!r},"
            f" expected {_FORMAT!r}). {_WAY_OUT}"
        )
    version = metadata.get("version", "")
    if re.fullmatch(r"[1-9]\d{0,5}", version) and int(version) != _VERSION:
        way_out = "Update sensorseq, or save the model again with the older version."
        if int(version) < _VERSION:
            way_out = "The file is older; fit the model again with this version, and save it."
        raise ModelFileError(
            f"{file} has format version {version}; this version of sensorseq reads {_VERSION}."
            f" {way_out}"
        )
    text = metadata.get("description", "")
    is_whole = set(metadata) == _KEYS and version == str(_VERSION)
    if not is_whole or metadata["sha256"] != _digest(arrays, text):
        raise ModelFileError(f"{file} is damaged: its checksum does not match. {_WAY_OUT}")
    try:
        description = from_jsonable(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{file} has a description that cannot be read. {_WAY_OUT}") from error
    if not isinstance(description, dict):
        raise ModelFileError(f"{file} has a description that is not a mapping. {_WAY_OUT}")
    return arrays, description


def is_model(path: Path) -> bool:
    """Test whether a file begins like a safetensors file: with a length, followed by JSON."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(10)
    return path.suffix == ".safetensors" or (head[7:8] == b"\0" and head[8:] == b'{"')


def pack(arrays: Mapping[str, NDArray[Any]], text: str) -> bytes:
    """Return the content of a model file, where `text` is the description as JSON."""
    # np.ascontiguousarray would turn a scalar into an array of length 1.
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    metadata = {
        "format": _FORMAT,
        "version": str(_VERSION),
        "description": text,
        "sha256": _digest(contiguous, text),
    }
    return pack_tensors(contiguous, metadata)


def _digest(arrays: Mapping[str, NDArray[Any]], text: str) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        head = json.dumps([name, array.dtype.str, array.shape])
        digest.update(f"{len(head)}:{head}".encode())
        digest.update(array.tobytes())
    digest.update(text.encode())
    return digest.hexdigest()


def to_jsonable(value: Any, where: str = "description") -> Plain:
    """Convert a value to JSON values; mark tuples, and mappings with keys other than strings."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, _LABEL):
        return value
    if isinstance(value, (list, tuple)):
        parts = [to_jsonable(part, f"{where}[{i}]") for i, part in enumerate(value)]
        return {"tuple": parts} if isinstance(value, tuple) else parts
    if isinstance(value, Mapping):
        pairs = [
            [to_jsonable(key, where), to_jsonable(part, f"{where}[{key!r}]")]
            for key, part in value.items()
        ]
        plain = all(isinstance(key, str) for key in value) and tuple(value) not in _TAGGED
        return dict(pairs) if plain else {"dict": pairs}
    raise InputError(
        f"{where} is {value!r}; a model file can store only numbers, text, and lists and"
        " dictionaries of them."
    )


def from_jsonable(value: Any) -> Plain:
    """Restore a value that `to_jsonable` converted."""
    if isinstance(value, list):
        return [from_jsonable(part) for part in value]
    if not isinstance(value, dict):
        return value
    if tuple(value) in _TAGGED:
        parts = from_jsonable(next(iter(value.values())))
        return tuple(parts) if "tuple" in value else dict(parts)
    return {key: from_jsonable(part) for key, part in value.items()}


def arrays_below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names start with a prefix, by their names without the prefix."""
    return {k.removeprefix(prefix): array for k, array in arrays.items() if k.startswith(prefix)}


def describe_labels(labels: NDArray[Any]) -> dict[str, Any]:
    """Describe class labels so that `read_labels` restores them with their type."""
    values = labels.tolist()
    if labels.dtype == object and all(isinstance(value, _LABEL) for value in values):
        return {"dtype": "object", "values": values}
    if not _LABEL_DTYPE.match(labels.dtype.str):
        raise InputError(
            f"classes_ of type {labels.dtype} cannot be saved; labels must be text, integers,"
            " floats or bools."
        )
    return {"dtype": labels.dtype.str, "values": values}


def read_labels(description: Mapping[str, Any]) -> NDArray[Any]:
    """Restore labels that `describe_labels` described; raise a ValueError if they are invalid."""
    dtype, values = description["dtype"], description["values"]
    if not isinstance(values, list) or not all(isinstance(value, _LABEL) for value in values):
        raise ValueError("labels must be a list of text, numbers or bools")
    if dtype == "object":
        labels = np.empty(len(values), object)
        labels[:] = values
        return labels
    if not (isinstance(dtype, str) and _LABEL_DTYPE.match(dtype)):
        raise ValueError(f"labels of type {dtype!r}")
    if np.dtype(dtype).itemsize * len(values) > _LARGEST_LABELS_BYTES:
        raise ValueError(f"{len(values)} labels of type {dtype}")
    labels = np.array(values, np.dtype(dtype))
    if labels.tolist() != values:
        raise ValueError(f"labels that are not of type {dtype}")
    return labels


def check_texts(name: str, values: list[Any]) -> list[str]:
    """Return a list of strings from a file; raise an error if an entry is not a string."""
    if not all(isinstance(value, str) for value in values):
        raise TypeError(f"{name} is {values!r}, expected text")
    return values


TakeField = Callable[[str, Any], Any]  # returns a field after checking its type


def take_field(
    description: Mapping[str, Any],
    name: str,
    kind: "type | UnionType | tuple[type, ...]",
    path: str | os.PathLike[str],
) -> Plain:
    """Return a field of a description; raise an error if it is missing or has a different type."""
    if name not in description:
        nearest = nearest_known(name, [str(key) for key in description])
        hint = f" (it has {nearest!r})" if nearest else ""
        raise ModelFileError(f"{path} has no {name!r} in its description{hint}. {_WAY_OUT}")
    value = description[name]
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        expected = " or ".join(getattr(type_, "__name__", str(type_)) for type_ in kinds)
        raise ModelFileError(
            f"{path}: {name!r} has type {type(value).__name__}, expected {expected}. {_WAY_OUT}"
        )
    return value


def pack_tensors(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return the content of a safetensors file; the same arrays and texts give the same bytes."""
    fields: dict[str, Any] = {"__metadata__": dict(metadata)}
    names = sorted(arrays, key=lambda name: (_RANK[arrays[name].dtype.str], name))
    end = 0
    for name in names:
        array = arrays[name]
        offsets = [end, end := end + array.nbytes]
        fields[name] = {
            "dtype": _DTYPE_NAMES[array.dtype.str],
            "shape": array.shape,
            "data_offsets": offsets,
        }
    header = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of eight bytes
    length = len(header).to_bytes(8, "little")
    return b"".join([length, header, *(arrays[name].data for name in names)])


def read_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read all arrays and texts; raise a ValueError if some bytes belong to none of them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        fields, start = _read_tensor_header(file, size)
        metadata = fields.pop("__metadata__", {})
        if not (isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())):
            raise ValueError("its metadata are not strings")
        places = {name: _place(name, field) for name, field in fields.items()}
        arrays: dict[str, NDArray[Any]] = {}
        at = 0
        for name, (_, _, begin, end) in sorted(places.items(), key=lambda item: item[1][2:]):
            if begin != at:
                raise ValueError(f"array {name!r} begins at {begin}, not at {at}")
            at = end
        if start + at != size:
            raise ValueError(f"its arrays need {at} bytes, not {size - start}")
        for name, (dtype, shape, begin, _) in places.items():
            arrays[name] = np.empty(shape, dtype)
            file.seek(start + begin)
            if file.readinto(arrays[name].reshape(-1).view(np.uint8).data) != arrays[name].nbytes:
                raise ValueError(f"array {name!r} is truncated")
    return arrays, metadata


def _read_tensor_header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Read the header; return its fields, and the offset of the arrays."""
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, MAX_HEADER_BYTES):
        raise ValueError(f"its header would need {length} bytes")
    fields = json.loads(file.read(length).decode(), object_pairs_hook=_unique)
    if not isinstance(fields, dict):
        raise ValueError("its header is not a mapping")
    return fields, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name appears twice in its header")
    return fields


def _place(name: str, field: Any) -> tuple[str, list[int], int, int]:
    """Check a field of the header, and return the type, shape, begin and end of its array."""
    if not isinstance(field, dict) or field.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"array {name!r} must have a type, a shape and offsets")
    shape, offsets = field["shape"], field["data_offsets"]
    if not (isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2):
        raise ValueError(f"the shape or the offsets of array {name!r} are not lists")
    if not all(type(number) is int and 0 <= number < 2**63 for number in (*shape, *offsets)):
        raise ValueError(f"the shape or the offsets of array {name!r} are not whole numbers")
    if not (isinstance(field["dtype"], str) and field["dtype"] in _DTYPES):
        raise ValueError(f"array {name!r} has type {field['dtype']!r}")
    dtype = _DTYPES[field["dtype"]]
    if offsets[1] - offsets[0] != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError(f"array {name!r} of shape {shape} does not fit between its offsets")
    return dtype, shape, offsets[0], offsets[1]
