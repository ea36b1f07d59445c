"""Scalars of a TensorBoard event file, read by the library that wrote it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sensorseq.errors import EnvironmentProblemError, InputError, refusing

_AROUND_RECORD = 16  # bytes: the length and the checksums of both
_NUMBERS = "fiu"  # kinds of numpy's types


class Scalar(NamedTuple):
    """One value of one tag."""

    tag: str
    step: int
    value: float


def is_event_file(path: Path) -> bool:
    """Return whether a file is named like one, or begins with the length of a first record."""
    if ".tfevents." in path.name:
        return True
    with path.open("rb") as file:
        return file.read(8)[2:] == bytes(6)


def read_scalars(path: Path) -> Iterator[Scalar]:
    """Yield the scalars of an event file in order; an InputError names the byte of a bad record."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise EnvironmentProblemError(
            f"{path}: event files of TensorBoard need tensorboard: pip install"
            ' "sensorseq[tensorboard]"'
        ) from error

    def scalar_of(value: Any) -> float | None:
        if value.WhichOneof("value") == "simple_value":
            return float(value.simple_value)
        if value.WhichOneof("value") != "tensor":
            return None
        if any(one.size != 1 for one in value.tensor.tensor_shape.dim):  # such as a histogram
            return None
        number = make_ndarray(value.tensor)
        return float(number.item()) if number.dtype.kind in _NUMBERS else None

    offset = 0
    with refusing(InputError, f"{path} is damaged, or no event file of TensorBoard"):
        for data in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(data)
            for value in event.summary.value:
                number = scalar_of(value)
                if number is not None:
                    yield Scalar(value.tag, event.step, number)
            offset += _AROUND_RECORD + len(data)
    if offset != path.stat().st_size:  # the library takes a damaged record for the end
        raise InputError(
            f"{path}, byte {offset}: the record is cut short or damaged. The run was killed while"
            " it wrote, or the copy is not complete."
        )
