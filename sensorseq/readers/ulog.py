"""Read the topics of ULog files, which PX4 drones write.

See https://docs.px4.io/main/en/dev_log/ulog_file_format.html for the format.
"""

import io
import mmap
import re
import struct
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import EnvironmentProblemError, RecordingError

_MAGIC = b"ULog\x01\x12\x35"
_HEADER_BYTES = 16  # magic, version and the time of the start
_ELEMENT = re.compile(r"\[\d+\]$")


class TopicArrays(NamedTuple):
    """The messages of one topic; `columns` has an array for each number in them."""

    name: str
    message_type: str
    times_s: NDArray[np.float64]
    columns: dict[str, NDArray[np.float64]]

    @property
    def has_clock(self) -> bool:
        """Whether its stamps move; some PX4 versions left those of some topics at 0."""
        return len(self.times_s) < 2 or bool(np.ptp(self.times_s) > 0)


def read_ulog(
    path: Path, channels: Sequence[str] | None, most_elements: int, *, salvage: bool = False
) -> list[TopicArrays]:
    """Return the topics that may contain the channels; all for None.

    An instance of a topic is named with its number, ``sensor_accel_0``. Times count from the start
    of the log. Arrays of more than `most_elements` are left out. To `salvage`, a damaged file gives
    what is left of it.
    """
    try:
        from pyulog import ULog
    except ImportError as error:
        raise EnvironmentProblemError(
            f'{path}: ULog files need a package: pip install "sensorseq[vehicle]" ({error}).'
        ) from error
    if not salvage:
        _check_whole(path)
    names = None if channels is None else sorted({_type_of(name) for name in channels})
    try:
        with redirect_stdout(io.StringIO()):  # to which it describes damage
            log = ULog(str(path), names)
    except Exception as error:  # it may raise anything for damaged bytes
        raise RecordingError(f"{path}: cannot be read as a ULog file ({error}).") from error
    if log.file_corruption and not salvage:
        raise RecordingError(
            f"{path}: is damaged amid its messages; with on_error='skip', what is left is used."
        )
    found = []
    for data in log.data_list:
        stamps = data.data["timestamp"]
        n_elements = Counter(_ELEMENT.sub("", name) for name in data.data)
        columns = {
            name: np.asarray(values, np.float64)
            for name, values in data.data.items()
            if not name.startswith("timestamp")
            and n_elements[_ELEMENT.sub("", name)] <= most_elements
        }
        since_start = stamps.astype(np.int64) - np.int64(log.start_timestamp)
        name = f"{data.name}_{data.multi_id}"
        found.append(TopicArrays(name, data.name, since_start / 1e6, columns))
    return sorted(found, key=lambda topic: topic.name)


def _type_of(channel: str) -> str:
    """Return the topic of a channel without the number of its instance."""
    return re.sub(r"_\d+$", "", channel.partition(".")[0])


def _check_whole(path: Path) -> None:
    """Raise if the file is of another kind, or its last message is cut off."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if not file.read(len(_MAGIC)) == _MAGIC or size < _HEADER_BYTES:
            raise RecordingError(f"{path}: is empty or no ULog file.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = _HEADER_BYTES
            while (
                at + 3 <= size
                and (end := at + 3 + struct.unpack_from("<H", content, at)[0]) <= size
            ):
                at = end
    if at < size:
        raise RecordingError(
            f"{path}: is whole up to byte {at} of {size}, where a message is cut off, as where the"
            " power was lost; with on_error='skip', the messages before it are used."
        )
