"""Read the channel groups of MDF files, which vehicle measurement programs write.

See https://www.asam.net/standards/detail/mdf/wiki/ for the format.
"""

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import EnvironmentProblemError, OutputError, RecordingError
from sensorseq.io.scratch import Rows, folder_for
from sensorseq.readers.columns import CodedLabels, NumberColumns
from sensorseq.readers.topics import TopicArrays
from sensorseq.recording import column_names

_MAGICS = (b"MDF     ", b"UnFinMF ")
_KNOWN = ("3.", "4.0", "4.1", "4.2")
_PIECE_BYTES = 1 << 23  # number of bytes of records read at a time
_TIME = 1  # synchronization type of a master channel: time, not angle, distance or index
_VALUE, _MASTERS = 0, (2, 3)  # types of channels with values, and of master channels
_FEW_ROWS = 4096  # number of rows from which a group's rate is determined for a listing


def read_mdf(
    paths: list[Path],
    channels: Sequence[str] | None,
    *,
    label_column: str | None = None,
    scratch: Path | None = None,
    is_listing: bool = False,
) -> list[TopicArrays]:
    """Return the channel groups in one file that contain the requested channels.

    If `channels` is None, return all groups that have a time channel and rows. A group is named
    after its acquisition; if the acquisition has no name, the group is named ``group_`` plus its
    number. Values are in physical units; a value that the file marks as invalid is NaN. Channels
    that contain strings or arrays are None. If `is_listing` is true, only the first rows of each
    group are read.
    """
    path, *more_paths = paths
    if more_paths:
        raise RecordingError(
            f"{more_paths[0]}: an MDF file is a separate recording; do not join it with others."
        )
    topics = []
    with _opened(path) as file:
        headers = [group.channel_group for group in file.groups]
        names = [getattr(h, "acq_name", "") or f"group_{n}" for n, h in enumerate(headers)]
        for index, name in enumerate(column_names(names)):
            n_rows = headers[index].cycles_nr
            wanted = _wanted(file, index, name, channels)
            if not wanted or (channels is None and not n_rows):
                continue
            most = min(n_rows, _FEW_ROWS) if is_listing else n_rows
            try:
                topic = _read_group(file, index, name, wanted, most, label_column, scratch)
            except OutputError:
                raise
            except Exception as error:  # asammdf may raise any exception for damaged bytes
                raise RecordingError(
                    f"{path}: the records of group {name!r} cannot be read ({error})."
                ) from error
            if len(topic.times_s) != most:
                raise RecordingError(
                    f"{path}: group {name!r} has {len(topic.times_s)} readable records, not {most}."
                )
            topics.append(topic._replace(n_messages=n_rows))
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
    with path.open("rb") as file:  # given a path, asammdf would map the file into memory
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
            opened = MDF(file)
        except Exception as error:  # asammdf may raise any exception for damaged bytes
            problem = str(error) or type(error).__name__
        finally:
            if problem:
                gc.collect()
            sys.unraisablehook = hook
        if problem:
            raise RecordingError(
                f"{path}: cannot be read as an MDF file ({problem}); it may be truncated."
            )
        opened.configure(read_fragment_size=_PIECE_BYTES)
        with opened:
            yield opened


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


def _unit(channel: Any) -> str:
    unit = channel.unit or (channel.conversion.unit if channel.conversion else "")
    return str(unit or "").strip()


def _read_group(
    file: Any,
    index: int,
    name: str,
    wanted: dict[str, tuple[int, str]],
    n_rows: int,
    label_column: str | None,
    scratch: Path | None,
) -> TopicArrays:
    group = file.groups[index]
    folder = folder_for(8 * n_rows * (len(wanted) + 1), scratch)
    times = Rows(folder, np.float64)
    numbers: dict[str, Rows] = {}
    codes, texts = Rows(folder, np.int32), dict[str, int]()
    pieces = file._mdf._load_data(group, record_count=n_rows) if n_rows else ()
    for piece in pieces:
        times.append(file.get_master(index, data=piece, one_piece=True))
        for channel, (place, _) in wanted.items():
            values = _values(file, index, place, piece, as_words=channel == label_column)
            if channel == label_column:
                codes.append(_coded(values, texts))
            elif values.ndim == 1 and values.dtype.kind in "biuf":
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


def _coded(values: NDArray[Any], texts: dict[str, int]) -> NDArray[np.int32]:
    """Return the index of each label in `texts`, after adding new labels to `texts`."""
    levels, codes = np.unique(values, return_inverse=True)
    level_codes = [texts.setdefault(_word(level), len(texts)) for level in levels]
    return np.asarray(level_codes, np.int32)[codes]


def _word(level: Any) -> str:
    return (
        level.decode("utf-8", "replace").strip("\0 ") if isinstance(level, bytes) else f"{level:g}"
    )
