"""Scalars of a TensorBoard event file, read with the standard library alone.

The file is a sequence of records: length (uint64), its checksum, data, its checksum; the checksum
is CRC-32C, rotated by 15 bits with a constant added, as in TensorFlow's ``record_writer``. The data
is a protocol buffer of the message ``Event``; of it, ``step`` and the scalars in ``summary`` are
read, be they a ``simple_value`` or a tensor with one element.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sensorseq.errors import InputError

_POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reversed
_LENGTH = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")

# Numbers of fields in event.proto, summary.proto and tensor.proto.
_EVENT_STEP, _EVENT_SUMMARY = 2, 5
_SUMMARY_VALUE = 1
_VALUE_TAG, _VALUE_SIMPLE, _VALUE_TENSOR = 1, 2, 8
_TENSOR_TYPE, _TENSOR_CONTENT = 1, 4
# Of each type that a scalar has: its field in TensorProto, how its bytes are packed.
_TENSOR_TYPES = {1: (5, "<f"), 2: (6, "<d"), 3: (7, "<i"), 9: (10, "<q")}
_VARINT, _BYTES = 0, 2
_LARGE_BYTES, _MOST_FIELDS = 1 << 16, 100_000
_FIXED_SIZES = {1: 8, 5: 4}


class Scalar(NamedTuple):
    """One value of one tag."""

    tag: str
    step: int
    value: float


_TABLE = list(range(256))
for _ in range(8):
    _TABLE = [value >> 1 ^ (_POLYNOMIAL if value & 1 else 0) for value in _TABLE]


def masked_crc32c(data: bytes) -> int:
    """Return the checksum that a record carries of its length and of its data."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def is_event_file(path: Path) -> bool:
    """Return whether a file is named like one, or begins with a record of one."""
    if ".tfevents." in path.name:
        return True
    with path.open("rb") as file:
        head = file.read(_LENGTH.size)
    return len(head) == _LENGTH.size and masked_crc32c(head[:8]) == _LENGTH.unpack(head)[1]


def read_scalars(path: Path) -> Iterator[Scalar]:
    """Yield the scalars of an event file in order; an InputError names the byte of a bad record."""
    for offset, data, checksum in _read_records(path):
        found: list[Scalar] = []
        problem = None
        try:
            found = _read_event(data)
        except (ValueError, struct.error, TypeError, AttributeError) as error:
            problem = error
        # nothing is used of large pictures and graphs, whose checksum would take most of the time
        is_checked = found or problem or len(data) <= _LARGE_BYTES
        if is_checked and masked_crc32c(data) != checksum:
            raise InputError(
                f"{path}, byte {offset}: the record is damaged (its checksum is wrong)."
            )
        if problem is not None:
            is_of_other_kind = isinstance(problem, TypeError | AttributeError)
            why = "a field of another kind than it should be" if is_of_other_kind else str(problem)
            raise InputError(
                f"{path}, byte {offset}: the record is no event of TensorBoard ({why})."
            ) from problem
        yield from found


def _read_records(path: Path) -> Iterator[tuple[int, bytes, int]]:
    content = path.read_bytes()
    offset = 0
    while offset < len(content):
        place = f"{path}, byte {offset}"
        head = content[offset : offset + _LENGTH.size]
        whole = len(head) == _LENGTH.size
        if whole and masked_crc32c(head[:8]) != _LENGTH.unpack(head)[1]:
            raise InputError(
                f"{place}: no record of a TensorBoard event file begins here (the checksum of its"
                " length is wrong). The file is damaged, or of another kind."
            )
        start = offset + _LENGTH.size
        stop = start + (_LENGTH.unpack(head)[0] if whole else 0)
        if not whole or stop + _CHECKSUM.size > len(content):
            raise InputError(
                f"{place}: the last record is cut short. The run was killed while it wrote, or the"
                " copy is not complete."
            )
        data = content[start:stop]
        yield offset, data, _CHECKSUM.unpack_from(content, stop)[0]
        offset = stop + _CHECKSUM.size


def _read_event(data: bytes) -> list[Scalar]:
    step, found = 0, []
    for number, value in _fields(data):
        if number == _EVENT_STEP:
            step = _signed(value)
        elif number == _EVENT_SUMMARY:
            found += [_read_value(one) for inner, one in _fields(value) if inner == _SUMMARY_VALUE]
    return [Scalar(tag, step, value) for tag, value in found if value is not None]


def _read_value(data: bytes) -> tuple[str, float | None]:
    tag, scalar = "", None
    for number, value in _fields(data):
        if number == _VALUE_TAG:
            tag = value.decode()
        elif number == _VALUE_SIMPLE:
            (scalar,) = struct.unpack("<f", value)
        elif number == _VALUE_TENSOR:
            scalar = _read_tensor(value)
    return tag, scalar


def _read_tensor(data: bytes) -> float | None:
    """Return the one number of a tensor; None of texts, pictures and histograms."""
    fields = list(_fields(data))
    kind = next((value for number, value in fields if number == _TENSOR_TYPE), 0)
    if not isinstance(kind, int) or kind not in _TENSOR_TYPES:
        return None
    own_field, packing = _TENSOR_TYPES[kind]
    numbers: list[float] = []
    for number, value in fields:
        if number == _TENSOR_CONTENT or (number == own_field and packing in ("<f", "<d")):
            numbers += (one for (one,) in struct.iter_unpack(packing, value))
        elif number == own_field:
            packed = _varints(value) if isinstance(value, bytes) else [value]
            numbers += (float(_signed(one)) for one in packed)
    return numbers[0] if len(numbers) == 1 else None


def _fields(data: Any) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field of a message; numbers of fixed size as their bytes."""
    position = n_fields = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        n_fields += 1
        if n_fields > _MOST_FIELDS:
            raise ValueError(f"more than {_MOST_FIELDS} fields in a message")
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == _BYTES:
            length, position = _varint(data, position)
        elif kind in _FIXED_SIZES:
            length = _FIXED_SIZES[kind]
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if position + length > len(data):
            raise ValueError("a field longer than its message")
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift, byte in zip(range(0, 70, 7), data[position : position + 10], strict=False):
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number without an end")


def _varints(data: bytes) -> Iterator[int]:
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def _signed(value: Any) -> int:
    unsigned: int = value & ((1 << 64) - 1)
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned
