"""The topics of a log: their descriptions, and their messages as arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.readers.columns import CodedLabels, NumberColumns
from sensorseq.stamps.period import sample_period

TIMES = ("header.stamp", "log_time")
"""Sources of a message's time: the stamp from its sender, or the time when it was logged."""
MOST_ELEMENTS = 64
"""Maximum length of an array whose elements become channels; images and maps are longer."""


class Topic(NamedTuple):
    """A topic in a log.

    Attributes
    ----------
    name, message_type : str
        For example ``/joint_states`` and ``sensor_msgs/msg/JointState``.
    n_messages : int
        Number of messages.
    rate_hz : float
        Rate, determined as `sensorseq.recording.sample_period` does, by log time; NaN for fewer
        than two messages.
    channels : tuple of str
        Names of the numeric fields in the messages, as in `read_robot_log`.
    """

    name: str
    message_type: str
    n_messages: int
    rate_hz: float
    channels: tuple[str, ...]


class TopicArrays(NamedTuple):
    """The messages of one topic, which may be stored on disk.

    `columns` maps the channel name of each field of the messages to an array, or to None if the
    field is not numeric. `labels` contains the label of each message if the topic contains the
    label column.
    """

    name: str
    message_type: str
    times_s: NDArray[np.float64]
    columns: NumberColumns
    units: dict[str, str]
    labels: CodedLabels | None = None
    time_from: str = TIMES[1]
    n_messages: int | None = None  # number of messages in the log, if only the first ones were read

    @property
    def has_clock(self) -> bool:
        """True if the stamps change; some versions of PX4 leave the stamps of some topics at 0."""
        t = self.times_s
        return len(t) < 2 or bool(t[-1] != t[0] or (t != t[0]).any())

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the columns with numbers."""
        return tuple(name for name, values in self.columns.items() if values is not None)

    def listed(self) -> Topic:
        """Return the description of this topic for a listing."""
        n_listed = len(self.times_s) if self.n_messages is None else self.n_messages
        channels = self.channels if self.has_clock else ()
        return Topic(self.name, self.message_type, n_listed, rate_of(self.times_s), channels)


def rate_of(times_s: NDArray[np.float64]) -> float:
    """Return the rate of messages, whose times may be out of order; NaN if there is none."""
    period_s = sample_period(np.sort(times_s)) if len(times_s) > 1 else 0.0
    return 1 / period_s if period_s > 0 else np.nan
