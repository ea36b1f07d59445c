"""Read the topics of ULog files, which PX4 drones write.

See https://docs.px4.io/main/en/dev_log/ulog_file_format.html for the format.
"""

import io
import mmap
import re
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq.errors import EnvironmentProblemError, RecordingError
from sensorseq.readers.columns import NumberColumns
from sensorseq.readers.topics import TopicArrays

_MAGIC = b"ULog\x01\x12\x35"
_HEADER_BYTES = 16  # size of the magic number, the version and the start time
_OFFSETS_AT = _HEADER_BYTES + 3 + 16  # file position of the offsets in the flags message
_ELEMENT = re.compile(r"\[\d+\]$")
_DEEPEST = 16  # maximum nesting depth of formats
_MOST_RECORD_BYTES = (1 << 16) - 3  # a message has up to 2**16 - 1 bytes, 2 of them its number
_MOST_FIELDS = 1 << 18  # maximum number of fields of all topics, arrays counted by element


def read_ulog(
    paths: list[Path],
    channels: Sequence[str] | None,
    most_elements: int,
    *,
    salvage: bool = False,
) -> list[TopicArrays]:
    """Return the topics of one file that may contain the channels; by default, all topics.

    The name of a topic ends with the number of its instance, as in ``sensor_accel_0``. Times are
    counted from the start of the log. Arrays of more than `most_elements` elements are left out. If
    `salvage` is true, the messages before any damage are read.
    """
    path, *more_paths = paths
    if more_paths:
        raise RecordingError(
            f"{more_paths[0]}: a ULog file is a separate recording; do not join it with others."
        )
    try:
        from pyulog import ULog
    except ImportError as error:
        raise EnvironmentProblemError(
            f'{path}: ULog files need a package: pip install "sensorseq[vehicle]" ({error}).'
        ) from error
    n_whole = _check_whole(path, salvage=salvage)
    names = None if channels is None else sorted({_type_of(name) for name in channels})
    try:
        # pyulog prints messages about damage.
        with _Log(io.FileIO(path)) as file, redirect_stdout(io.StringIO()):
            log = _checking(ULog)(io.BytesIO(file.read(n_whole)) if salvage else file, names)
    except Exception as error:  # pyulog may raise any exception for damaged bytes
        raise RecordingError(f"{path}: cannot be read as a ULog file ({error}).") from error
    if not salvage and file.end < n_whole:  # pyulog stops at such a message in silence
        raise RecordingError(
            f"{path}: the message that ends at byte {file.end} of {n_whole} is damaged; leave this"
            " file out."
        )
    if log.file_corruption:
        raise RecordingError(
            f"{path}: contains damaged messages at an unknown position; leave this file out."
        )
    topics = []
    for data in log.data_list:
        texts = {field.field_name for field in data.field_data if field.type_str == "char"}
        field_names = [_ELEMENT.sub("", name) for name in data.data]
        n_elements = Counter(field_names)
        topic = f"{data.name}_{data.multi_id}"
        columns: NumberColumns = {
            f"{topic}.{name}": values.astype(np.float64)
            for (name, values), field in zip(data.data.items(), field_names, strict=True)
            if n_elements[field] <= most_elements
            and not (name in texts or field in texts or name.startswith("timestamp"))
            and "_padding" not in name
        }
        since_start = data.data["timestamp"].astype(np.int64) - np.int64(log.start_timestamp)
        topics.append(TopicArrays(topic, data.name, since_start / 1e6, columns, {}))
    return sorted(topics, key=lambda topic: topic.name)


class _Log(io.BufferedReader):
    """A file that remembers the position at which it was closed."""

    end = 0

    def close(self) -> None:
        if not self.closed:
            self.end = self.tell()
        super().close()


class _FormatError(Exception):
    """A topic's format cannot be right."""


def _checking(reader: Any) -> Any:
    """Return a class like pyulog's `ULog` that checks formats before it lists their fields."""
    n_fields = 0

    class Subscription(reader._MessageAddLogged):  # type: ignore[misc]
        def _parse_format(self, formats: Mapping[str, Any]) -> None:
            nonlocal n_fields
            n_fields += _check_format(self.message_name, formats, reader._UNPACK_TYPES)
            if n_fields > _MOST_FIELDS:
                raise _FormatError(f"its topics have more than {_MOST_FIELDS} fields")
            super()._parse_format(formats)

    return type("ULog", (reader,), {"_MessageAddLogged": Subscription})


def _check_format(topic: str, formats: Mapping[str, Any], types: Mapping[str, Any]) -> int:
    """Return the number of fields of a topic's format; raise an error if it cannot be right."""
    sizes: dict[str, tuple[int, int]] = {name: (1, facts[1]) for name, facts in types.items()}

    def size_of(name: str, depth: int) -> tuple[int, int]:
        if name not in sizes:
            if name not in formats:
                where = "" if name == topic else f" {name!r} in"
                raise _FormatError(f"the format of{where} topic {topic!r} is missing or damaged")
            if depth > _DEEPEST:
                raise _FormatError(f"the format of topic {topic!r} contains itself, or is too deep")
            n_fields, n_bytes = 1, 0
            for inner, n_elements, _ in formats[name].fields:
                inner_fields, inner_bytes = size_of(inner, depth + 1)
                n_fields += inner_fields * max(n_elements, 1)
                n_bytes += inner_bytes * max(n_elements, 1)
            if n_bytes > _MOST_RECORD_BYTES:
                raise _FormatError(
                    f"the records of topic {topic!r} have {n_bytes} or more bytes; a message has"
                    f" room for {_MOST_RECORD_BYTES}"
                )
            sizes[name] = n_fields, n_bytes
        return sizes[name]

    n_fields, _ = size_of(topic, 0)
    if ("uint64_t", 0, "timestamp") not in formats[topic].fields:
        raise _FormatError(f"topic {topic!r} has no timestamp of 64 bits")
    return n_fields


def _type_of(channel: str) -> str:
    """Return the topic of a channel without the number of its instance."""
    return re.sub(r"_\d+$", "", channel.partition(".")[0])


def _check_whole(path: Path, *, salvage: bool) -> int:
    """Return the number of intact bytes; if more bytes follow, raise an error unless salvaging."""
    if not path.is_file():
        raise RecordingError(f"{path}: no such file.")
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC or size < _HEADER_BYTES:
            raise RecordingError(f"{path}: is empty, or not a ULog file.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            n_whole = _whole_bytes(content, size)
    if n_whole < size and not salvage:
        raise RecordingError(
            f"{path}: is intact up to byte {n_whole} of {size}, as if the drone had lost power."
            " With on_error='skip', the messages before that byte are used."
        )
    return n_whole


def _whole_bytes(content: mmap.mmap, size: int) -> int:
    """Return the position of the first truncated or invalid message; `size` if there is none."""
    at, ends = _HEADER_BYTES, [size]
    if content[at + 2 : at + 3] == b"B" and size >= _OFFSETS_AT + 24:
        # After a crash, data are appended to the log, possibly after a truncated message.
        ends = [*filter(None, struct.unpack_from("<3Q", content, _OFFSETS_AT)), size]
    for end in ends:
        while at + 3 <= end:
            n_bytes, kind = struct.unpack_from("<HB", content, at)
            if not n_bytes or not kind:
                return at
            if at + 3 + n_bytes > end:
                break
            at += 3 + n_bytes
        if at < end and end == size:
            return at
        at = end
    return size
