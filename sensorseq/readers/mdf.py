"""Read the channel groups of MDF files, which vehicle measurement programs write.

See https://www.asam.net/standards/detail/mdf/wiki/ for the format.
"""

import ast
import gc
import io
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.checks import check_unpacked
from sensorseq.errors import EnvironmentProblemError, OutputError, RecordingError
from sensorseq.io.blocks import Rows
from sensorseq.options import ReadOptions
from sensorseq.readers.columns import CodedLabels, NumberColumns
from sensorseq.readers.topics import TopicArrays
from sensorseq.recording import column_names

_MAGICS = (b"MDF     ", b"UnFinMF ")
_KNOWN = ("3.", "4.0", "4.1", "4.2")
_PIECE_BYTES = 1 << 23  # number of bytes of records read at a time
_TIME = 1  # synchronization type of a master channel: time, not angle, distance or index
# types of channels: with values, of variable length, masters, and without stored values
_VALUE, _VARIABLE, _MASTERS, _VIRTUAL = 0, 1, (2, 3), (3, 6)
_NUMBERS_3, _NUMBERS_4 = (*range(5), *range(9, 17)), range(6)  # data types, by version
_NUMBER_BITS = 64  # maximum size of a number
_MAY_BE_INVALID = 3  # flags of a channel whose values may be marked as invalid
_ENCODINGS = {6: "latin-1", 8: "utf-16-le", 9: "utf-16-be"}  # of strings; others are in UTF-8
# blocks that are in a list or tree, and are therefore read a few times at most
_LISTED = (b"DG", b"CG", b"CN", b"CA", b"DL", b"HL", b"LD", b"FH", b"AT", b"EV")
_MOST_READS = 16
_ARITHMETIC = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Name),
    *(ast.Constant, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context),
)
_OPTIONS: dict[str, Any] = {"process_bus_logging": False}  # frames of a bus are not decoded
_FRAMES = {"ID", "DLC", "DataLength", "DataBytes"}  # the standard's names for frames of a bus
_FEW_ROWS = 4096  # number of rows from which a group's rate is determined for a listing


def read_mdf(
    paths: list[Path],
    channels: Sequence[str] | None,
    options: ReadOptions,
    *,
    is_listing: bool = False,
) -> list[TopicArrays]:
    """Return the channel groups in one file that contain the requested channels.

    If `channels` is None, return all groups that have a time channel and rows. A group is named
    after its acquisition; if the acquisition has no name, the group is named ``group_`` plus its
    number. Values are in physical units; a value that the file marks as invalid is NaN. Channels
    that contain strings or arrays are None. Groups of raw bus frames have no channels; if they are
    requested, or there are no other groups, an error is raised. If `is_listing` is true, only the
    first rows of each group are read.
    """
    path, *more_paths = paths
    if more_paths:
        raise RecordingError(
            f"{more_paths[0]}: an MDF file is a separate recording; do not join it with others."
        )
    topics, n_raw = [], 0
    with _opened(path) as file:
        headers = [group.channel_group for group in file.groups]
        names = [getattr(h, "acq_name", "") or f"group_{n}" for n, h in enumerate(headers)]
        for index, name in enumerate(column_names(names)):
            n_rows = headers[index].cycles_nr
            wanted = _wanted(file, index, name, channels)
            if not wanted or (channels is None and not n_rows):
                continue
            if is_raw := _is_raw(file.groups[index]):
                n_raw += 1
                if channels is not None:
                    raise _undecoded(path, name)
                wanted = {}
            most = min(n_rows, _FEW_ROWS) if is_listing else n_rows
            master = file.masters_db[index]
            _check_group(
                path, file, index, name, [master, *(place for place, _ in wanted.values())]
            )
            try:
                topic = _read_group(path, file, index, name, wanted, most, options)
            except (OutputError, RecordingError):
                raise
            except Exception as error:  # asammdf may raise any exception for damaged bytes
                raise RecordingError(
                    f"{path}: the records of group {name!r} cannot be read ({error})."
                ) from error
            if len(topic.times_s) != most:
                raise RecordingError(
                    f"{path}: group {name!r} has {len(topic.times_s)} readable records, not {most}."
                )
            kind = "raw bus frames" if is_raw else topic.message_type
            topics.append(topic._replace(n_messages=n_rows, message_type=kind))
    if topics and n_raw == len(topics):
        raise _undecoded(path, topics[0].name)
    return topics


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        from asammdf import MDF
    except ImportError as error:
        raise EnvironmentProblemError(
            f'{path}: MDF files need a package: pip install "sensorseq[vehicle]" ({error}).'
        ) from error
    if not path.is_file():
        raise RecordingError(f"{path}: no such file.")
    with _Blocks(path) as file:  # given a path, asammdf would map the file into memory
        start = file.read(16)
        version = start[8:16].decode("latin-1").strip("\0 ")
        if start[:8] not in _MAGICS:
            raise RecordingError(f"{path}: is empty, or not an MDF file.")
        if start[:8] == _MAGICS[1]:
            raise RecordingError(
                f"{path}: the logger did not finish this file. Finish it with asammdf:"
                " MDF(path).save(new_path)."
            )
        if not version.startswith(_KNOWN):
            raise RecordingError(
                f"{path}: has MDF version {version!r} in bytes 8 to 15; versions 3.0 to 4.2 can be"
                " read."
            )
        file.seek(0)
        problem, hook = "", sys.unraisablehook
        # The destructor of asammdf raises an exception for a file that could not be opened.
        sys.unraisablehook = lambda _: None
        try:
            opened = MDF(file, **_OPTIONS)
        except RecordingError as error:
            problem = str(error)
        except Exception as error:  # asammdf may raise any exception for damaged bytes
            reason = str(error) or type(error).__name__
            problem = f"{path}: cannot be read as an MDF file ({reason}); it may be truncated."
        finally:
            if problem:
                gc.collect()
            sys.unraisablehook = hook
        if problem:
            raise RecordingError(problem)
        file.is_open = True
        opened.configure(read_fragment_size=_PIECE_BYTES)
        with opened:
            yield opened


class _Blocks(io.BufferedReader):
    """An MDF file whose blocks are checked when asammdf reads them to open the file.

    asammdf trusts the sizes and links of blocks: it would follow a circle of links for ever.
    """

    is_open = False

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._path, self._size = path, path.stat().st_size
        self._n_reads, self._n_unpacked, self._reads = 0, 0, Counter[int]()

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as many bytes as the file has; check a block if its header is read."""
        at = self.tell()
        content = super().read(min(self._size if size is None or size < 0 else size, self._size))
        if self.is_open:
            return content
        self._n_reads += 1
        if content.lstrip(b"#")[:2] in _LISTED:
            self._reads[at] += 1
        if self._reads[at] > _MOST_READS or self._n_reads > 10_000 + self._size // 8:
            raise ValueError(f"its blocks refer to each other in a circle, near byte {at}")
        if content[:2] == b"##" and content[2:4].isalnum() and len(content) >= 16:
            kind = content[:4].decode("latin-1")
            self._check(kind, at, *struct.unpack("<Q", content[8:16]))
            if len(content) >= 24:
                self._check(kind, at, 24 + 8 * struct.unpack("<Q", content[16:24])[0])
            if kind == "##DZ":
                self.seek(at + 32)
                unpacked, packed = struct.unpack("<QQ", super().read(16))
                self._check(kind, at, 48 + packed)
                self._n_unpacked += unpacked
                check_unpacked(self._path, self._n_unpacked, self._size)
                self.seek(at + len(content))
        return content

    def _check(self, kind: str, at: int, n_bytes: int) -> None:
        if at + n_bytes > self._size:
            raise ValueError(
                f"the block {kind} at byte {at} has {n_bytes} or more bytes, but the file ends"
                f" after {self._size} bytes"
            )


def _check_group(path: Path, file: Any, index: int, name: str, places: Iterable[int]) -> None:
    """Raise an error if the records of a group, or its channels at `places`, cannot be right.

    asammdf does not check them, and would read beyond the records.
    """
    group, is_3 = file.groups[index], file.version < "4"
    header, blocks = group.channel_group, group.data_blocks
    n_bytes, n_extra = header.samples_byte_nr, getattr(header, "invalidation_bytes_nr", 0)
    record_bytes = n_bytes + (0 if getattr(group, "uses_ld", False) else n_extra)
    n_stored = sum(block.original_size for block in blocks)
    if is_3 and blocks:  # the size of the only block is not stored but computed
        n_stored = min(n_stored, path.stat().st_size - blocks[0].address)
    if header.cycles_nr * record_bytes > n_stored:
        raise RecordingError(
            f"{path}: group {name!r} has {header.cycles_nr} records of {record_bytes} bytes, but"
            f" only {max(n_stored, 0)} bytes are stored; the file may be truncated."
        )
    for place in places:
        channel = group.channels[place]
        where = f"{path}: channel {channel.name!r} of group {name!r}"
        _check_formula(where, channel.conversion)
        is_clock = is_3 and place == file.masters_db[index] and not channel.bit_count
        if is_clock or (not is_3 and channel.channel_type in _VIRTUAL):
            continue  # the values are computed from the number of the record
        if is_3:
            first = channel.start_offset + 8 * getattr(channel, "additional_byte_offset", 0)
        else:
            first = 8 * channel.byte_offset + channel.bit_offset
        end = first + channel.bit_count
        if end > 8 * n_bytes:
            raise RecordingError(
                f"{where} is stored in bits {first} to {end - 1} of each record, but a record has"
                f" {8 * n_bytes} bits; the file is damaged."
            )
        is_number = channel.data_type in (_NUMBERS_3 if is_3 else _NUMBERS_4)
        if not channel.bit_count or (is_number and channel.bit_count > _NUMBER_BITS):
            raise RecordingError(
                f"{where} has values of {channel.bit_count} bits; numbers have 1 to {_NUMBER_BITS}"
                " bits. The file is damaged."
            )
        is_marked = not is_3 and n_extra and channel.flags & _MAY_BE_INVALID
        if is_marked and channel.pos_invalidation_bit >= 8 * n_extra:
            raise RecordingError(
                f"{where} marks invalid values in bit {channel.pos_invalidation_bit}, but a record"
                f" has {8 * n_extra} such bits; the file is damaged."
            )


def _check_formula(where: str, conversion: Any) -> None:
    """Raise an error unless a formula is arithmetic without powers of constants (``9**9**9``)."""
    formula = getattr(conversion, "formula", "")
    try:
        parts = list(ast.walk(ast.parse(formula, mode="eval"))) if formula else []
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        parts = [ast.Slice()]
    for part in parts:
        is_power = isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow | ast.LShift)
        has_name = any(isinstance(name, ast.Name) for name in ast.walk(part))
        is_text = isinstance(part, ast.Constant) and not isinstance(part.value, int | float)
        if not isinstance(part, _ARITHMETIC) or is_text or (is_power and not has_name):
            raise RecordingError(
                f"{where} has the formula {formula[:60]!r}, which is not arithmetic, or contains a"
                " power of constants; write the power as a number."
            )
    for inner in getattr(conversion, "referenced_blocks", {}).values():
        if not isinstance(inner, bytes | None):
            _check_formula(where, inner)


def _wanted(
    file: Any, index: int, group: str, channels: Sequence[str] | None
) -> dict[str, tuple[int, str]]:
    """Return the position and unit of each channel to read, by group and channel name."""
    master = file.masters_db.get(index)
    stored = file.groups[index].channels
    if master is None or getattr(stored[master], "sync_type", _TIME) != _TIME:
        return {}
    names = column_names(f"{group}.{channel.name}" for channel in stored)
    return {
        name: (place, _unit(channel))
        for place, (name, channel) in enumerate(zip(names, stored, strict=True))
        if place != master
        and getattr(channel, "channel_type", _VALUE) not in _MASTERS
        and (channels is None or name in channels)
    }


def _is_raw(group: Any) -> bool:
    """Test whether at least two channels of a group have the standard names for bus frames."""
    return len(_FRAMES.intersection(c.name.rpartition(".")[2] for c in group.channels)) > 1


def _undecoded(path: Path, name: str) -> RecordingError:
    return RecordingError(
        f"{path}: group {name!r} contains raw bus frames, not signals. Decode them with the bus's"
        " database and asammdf: MDF(path).extract_bus_logging({'CAN': [('bus.dbc', 0)]})"
        ".save(new_path)."
    )


def _unit(channel: Any) -> str:
    unit = channel.unit or (channel.conversion.unit if channel.conversion else "")
    return str(unit or "").strip()


def _read_group(
    path: Path,
    file: Any,
    index: int,
    name: str,
    wanted: dict[str, tuple[int, str]],
    n_rows: int,
    options: ReadOptions,
) -> TopicArrays:
    group, label_column = file.groups[index], options.label_column
    folder = options.folder_for(8 * n_rows * (len(wanted) + 1))
    times = Rows(folder, np.float64)
    numbers: dict[str, Rows] = {}
    codes, texts = Rows(folder, np.int32), dict[str, int]()
    arrays = {
        channel for channel, (place, _) in wanted.items() if group.channel_dependencies[place]
    }
    if label_column in arrays:
        raise RecordingError(f"{path}: {label_column!r} contains arrays, not labels.")
    pieces = file._mdf._load_data(group, record_count=n_rows) if n_rows else ()
    for piece in pieces:
        times.append(file.get_master(index, data=piece, one_piece=True))
        for channel, (place, _) in wanted.items():
            if channel == label_column:
                codes.append(_coded(*_levels(file, index, place, piece), texts))
            elif channel not in arrays and not _has_variable_length(group.channels[place]):
                values = _values(file, index, place, piece, as_words=False)
                if values.ndim == 1 and values.dtype.kind in "biuf":
                    numbers.setdefault(channel, Rows(folder, np.float64)).append(values)
    n_read = len(times)
    columns: NumberColumns = {
        channel: rows.as_array() if (rows := numbers.get(channel)) and len(rows) == n_read else None
        for channel in wanted
        if channel != label_column
    }
    labels = CodedLabels(codes.as_array(), list(texts)) if label_column in wanted else None
    units = {channel: unit for channel, (_, unit) in wanted.items() if unit}
    return TopicArrays(name, "MDF group", times.as_array(), columns, units, labels)


def _values(file: Any, index: int, place: int, piece: Any, *, as_words: bool) -> NDArray[Any]:
    """Return a channel's values in one block of records; strings are returned as bytes."""
    samples, invalid = file.get(
        group=index,
        index=place,
        data=piece,
        samples_only=True,
        raw=True,
        ignore_invalidation_bits=True,
    )
    if conversion := file.groups[index].channels[place].conversion:
        samples = conversion.convert(samples, ignore_value2text_conversions=not as_words)
    if invalid is not None and np.any(invalid) and samples.dtype.kind in "biuf":
        samples = np.where(np.asarray(invalid), np.nan, samples.astype(np.float64))
    return np.asarray(samples)


def _has_variable_length(channel: Any) -> bool:
    return hasattr(channel, "data_block_addr") and channel.channel_type == _VARIABLE


def _levels(
    file: Any, index: int, place: int, piece: Any
) -> tuple[list[Any], NDArray[np.intp], str]:
    """Return the different values of a channel of labels, their indices, and their encoding."""
    group = file.groups[index]
    channel = group.channels[place]
    encoding = "utf-8" if channel.conversion else _ENCODINGS.get(channel.data_type, "utf-8")
    if not _has_variable_length(channel):
        values = _values(file, index, place, piece, as_words=True)
        levels, indices = np.unique(values, return_inverse=True)
        return levels.tolist(), indices, encoding
    # The records contain the positions of strings; asammdf would not check the positions.
    stored = file._mdf._load_signal_data(group, place)
    header, n_bytes = group.channel_group, channel.bit_count // 8
    record_bytes = header.samples_byte_nr + header.invalidation_bytes_nr
    records = np.frombuffer(piece.data, np.uint8).reshape(-1, record_bytes)
    field = records[:, channel.byte_offset : channel.byte_offset + n_bytes]
    starts, indices = np.unique(
        np.ascontiguousarray(field).view(f"<u{n_bytes}").ravel(), return_inverse=True
    )
    strings, at = [], 0
    for start in starts.tolist():
        end = start + 4 + int.from_bytes(stored[start : start + 4], "little")
        if not at <= start < end <= len(stored):
            raise ValueError(f"channel {channel.name!r} has an invalid string at byte {start}")
        strings.append(stored[start + 4 : end])
        at = end
    if channel.conversion:
        strings = channel.conversion.convert(np.array(strings)).tolist()
    return strings, indices, encoding


def _coded(
    levels: list[Any], indices: NDArray[np.intp], encoding: str, texts: dict[str, int]
) -> NDArray[np.int32]:
    """Return the index of each label in `texts`, after adding new labels to `texts`."""
    codes = [texts.setdefault(_word(level, encoding), len(texts)) for level in levels]
    return np.asarray(codes, np.int32)[indices]


def _word(level: Any, encoding: str) -> str:
    return (
        level.decode(encoding, "replace").strip("\0 ") if isinstance(level, bytes) else f"{level:g}"
    )
