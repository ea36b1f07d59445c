"""Read samples from a pipe or socket, and write decisions as lines of JSON."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO, Union

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, InputError, did_you_mean
from sensorseq.prediction.fused import FusedModel, SensorStream
from sensorseq.prediction.loading import AnyModel
from sensorseq.prediction.stream import DecisionStream, StreamDecision
from sensorseq.recording import COMMENTS, UNITS, column_names
from sensorseq.text import parse_number
from sensorseq.time_names import unit_in_name, usual_time_names

FORMATS = ("csv", "float32", "float64")
_BLOCK = 1 << 16  # largest number of bytes read at a time
_DATAGRAM = 1 << 16
LONGEST_LINE = 1 << 16  # limit in bytes, so that data without line ends cannot fill the memory
_MANY_LINES = 50  # if there are fewer lines, they are parsed one by one
_FEWEST_LINES = 20  # data that begin with this many unreadable lines are not CSV


class Samples(NamedTuple):
    """Samples (n, n_channels), and their timestamps (n,) or None."""

    values: NDArray[np.float64]
    timestamps_s: NDArray[np.float64] | None


class SensorSamples(NamedTuple):
    """Samples of one of several sensors, and their timestamps."""

    sensor: str
    values: NDArray[np.float64]
    timestamps_s: NDArray[np.float64]


AnyStream = Union[DecisionStream, SensorStream]
AnySamples = Union[Samples, SensorSamples]


def stream_of(
    model: AnyModel,
    rates: Union[float, Mapping[str, float], None],
    *,
    smooth: str,
    lag: int,
    mean_dwell_s: float | None,
    **gaps: Any,
) -> AnyStream:
    """Return a model's stream for the options of a command."""
    if not isinstance(model, FusedModel):
        rate_hz: Any = rates
        return model.stream(rate_hz, smooth=smooth, lag=lag, mean_dwell_s=mean_dwell_s, **gaps)
    if smooth != "none":
        raise ArgumentError(
            f"smooth={smooth!r} is for a stream of one sensor; smooth the decisions of several"
            " sensors with sensorseq.sequence.smoothing.LagSmoother."
        )
    rates_hz: Any = rates
    return model.stream(rates_hz, **gaps)


def split_lines(data: bytes, *, whole: bool) -> tuple[list[bytes], bytes]:
    """Return the complete lines of data, and the incomplete last line.

    With `whole`, the last line also counts as complete.

    Raises
    ------
    InputError
        If a line is longer than `LONGEST_LINE`.
    """
    *lines, incomplete = data.split(b"\n")
    longest = max(map(len, lines), default=0)
    if max(longest, len(incomplete)) > LONGEST_LINE:
        raise InputError(
            f"a line has more than {LONGEST_LINE} bytes, so it is not a sample. End each line with"
            " a newline; binary floats need --format."
        )
    return ([*lines, incomplete], b"") if whole else (lines, incomplete)


class SampleParser:
    """Parses bytes into samples of given channels, from lines of CSV or little-endian floats.

    CSV either has a header that includes the channels' names in any order, or its columns are the
    channels, optionally preceded by the time. An empty field is a missing value. Unreadable lines,
    such as the first fragment from a serial port, are counted in `n_unreadable` and skipped. Errors
    name the `sensor`.
    """

    way_out = (
        "Send a header with the channels' names, or these columns in this order; or use --format."
    )

    def __init__(
        self,
        kind: str,
        channels: tuple[str, ...],
        time_column: str | None = None,
        sensor: str = "",
    ):
        self._of_sensor = f" of sensor {sensor!r}" if sensor else ""
        self._kind, self._channels = kind, channels
        self._time_column = None if time_column is None else time_column.strip()
        self._incomplete = b""
        self._columns: list[int] | None = None  # columns of the channels, once they are found
        self._time: int | None = None
        self._ticks_per_s = 1  # derived from the unit in the time column's name
        self._n_lines = self.n_unreadable = 0

    @property
    def counts(self) -> dict[str, int]:
        """The number of skipped lines, for messages."""
        return {"n_unreadable": self.n_unreadable}

    def parts(self, data: bytes, *, whole: bool = False) -> list[Samples]:
        """Return the result of `feed` in a list, because `SensorParser.parts` returns a list."""
        return [self.feed(data, whole=whole)]

    def feed(self, data: bytes, *, whole: bool = False) -> Samples:
        """Return the complete samples; with `whole`, also an unterminated last line."""
        data = self._incomplete + data
        if self._kind != "csv":
            width = np.dtype(self._kind).itemsize * len(self._channels)
            n_rows = len(data) // width
            self._incomplete = data[n_rows * width :]
            if whole and self._incomplete:
                n_bytes, self._incomplete = len(self._incomplete), b""
                self.n_unreadable += 1
                raise InputError(
                    f"the data end within a sample: {n_bytes} of {width} bytes. Are the data"
                    f" {self._kind} with {len(self._channels)} channels?"
                )
            flat = np.frombuffer(data[: n_rows * width], np.dtype(self._kind).newbyteorder("<"))
            return Samples(flat.reshape(n_rows, len(self._channels)).astype(np.float64), None)
        lines, self._incomplete = split_lines(data, whole=whole)
        lines = [line for line in lines if line.strip()]
        parsed, n_parsed = [], 0
        while n_parsed < len(lines) and self._columns is None:  # one by one up to the header
            parsed.append(self._row(lines[n_parsed]))
            n_parsed += 1
        block = self._numbers(lines[n_parsed:])
        if block is None:
            parsed += map(self._row, lines[n_parsed:])
        rows = [row for row in parsed if row is not None]
        n_channels = len(self._channels)
        table = np.array(rows, np.float64).reshape(len(rows), n_channels + (self._time is not None))
        if block is not None:
            table = np.concatenate([table, block])
        stamps = table[:, n_channels] / self._ticks_per_s if self._time is not None else None
        return Samples(table[:, :n_channels], stamps)

    def _numbers(self, lines: list[bytes]) -> NDArray[np.float64] | None:
        """Parse many lines together.

        Return None if there are only a few lines, or if a field is not a plain number.
        """
        if len(lines) < _MANY_LINES:
            return None
        try:
            table = np.loadtxt(lines, delimiter=",", comments=None, usecols=self._wanted, ndmin=2)
        except ValueError:
            return None
        self._n_lines += len(lines)
        return table

    @property
    def _wanted(self) -> list[int]:
        """The columns of the channels, followed by the time column if there is one."""
        assert self._columns is not None
        return self._columns if self._time is None else [*self._columns, self._time]

    def _row(self, line: bytes) -> list[float] | None:
        """Return a line's values, with the time last; None unless the line is a readable sample."""
        self._n_lines += 1
        fields = [field.strip(b' \t\r\n"') for field in line.split(b",")]
        if self._columns is None:
            is_comment = line.lstrip(b"\xef\xbb\xbf \t").startswith(COMMENTS)
            if is_comment and not any(name.encode() in fields for name in self._channels):
                self._n_lines -= 1
                return None
            if not self._find_columns(fields):
                return None
        wanted = self._wanted
        numbers = [_number_of(fields[at]) for at in wanted if at < len(fields)]
        row = [number for number in numbers if number is not None]
        if len(row) < len(wanted):
            self._count_unreadable(line)
            return None
        return row

    def _find_columns(self, fields: list[bytes]) -> bool:
        """Find the columns in the first line; return True if that line is a sample."""
        n = len(self._channels)
        if all(_number_of(field) is not None for field in fields):
            if len(fields) not in (n, n + 1):
                self._count_unreadable(b",".join(fields))
                return False
            self._time = None if len(fields) == n else 0
            self._columns = list(range(len(fields) - n, len(fields)))
            return True
        names = column_names(field.decode("utf-8-sig", "replace").strip('"') for field in fields)
        missing = [name for name in self._channels if name not in names]
        if len(missing) == n:  # no field is a channel's name; perhaps a truncated line
            self._count_unreadable(b",".join(fields))
            return False
        if missing:
            hint = did_you_mean(missing[0], names)
            raise InputError(f"the header{self._of_sensor} has no channel {missing[0]!r}.{hint}")
        self._n_lines = self.n_unreadable  # the header counts neither as a sample nor as unreadable
        self._columns = [names.index(name) for name in self._channels]
        usual = [name for name in usual_time_names(names) if name not in self._channels]
        if self._time_column is not None and self._time_column not in names:
            raise InputError(
                f"the header{self._of_sensor} has no time column {self._time_column!r}."
            )
        time_name = self._time_column or (usual[0] if usual else None)
        self._time = None if time_name is None else names.index(time_name)
        unit = unit_in_name(time_name or "") or "s"
        if unit not in UNITS:
            raise InputError(
                f"the time column {time_name!r}{self._of_sensor} seems to be in {unit!r}; send"
                " seconds, or a column named like time_ms, time_us or time_ns."
            )
        self._ticks_per_s = UNITS[unit]
        return False

    def _count_unreadable(self, line: bytes) -> None:
        self.n_unreadable += 1
        if self.n_unreadable == self._n_lines and self._n_lines >= _FEWEST_LINES:
            raise InputError(
                f"the first {self._n_lines} lines{self._of_sensor} are not samples of"
                f" {len(self._channels)} channels ({', '.join(self._channels)}). The last line:"
                f" {line[:60]!r}. {self.way_out}"
            )


class SensorParser:
    """Parses lines of CSV like SampleParser, but each line begins with the name of its sensor.

    Each sensor may have a header (``imu,time,gyro_x``). Lines that do not name a sensor are counted
    and skipped, like unreadable lines. A part contains at most `most` samples of a sensor, because
    the other sensors could count as missing if one sensor got far ahead.
    """

    def __init__(
        self,
        channels: Mapping[str, tuple[str, ...]],
        time_column: str | None,
        most: Mapping[str, int],
    ):
        self._parsers = {
            name: SampleParser("csv", names, time_column, name) for name, names in channels.items()
        }
        self._most = most
        self._incomplete, self._n_unknown, self._unknown = b"", 0, ""
        self._has_named_sensor = False  # True after the first line that names a sensor
        lines = (",".join([name, "time", *names]) for name, names in channels.items())
        self.way_out = f"Send lines of {' or '.join(lines)}."

    @property
    def n_unreadable(self) -> int:
        """The number of lines that were skipped."""
        return sum(self.counts.values())

    @property
    def counts(self) -> dict[str, int]:
        """The number of skipped lines of each sensor."""
        by_sensor = {
            f"n_unreadable of {name}": parser.n_unreadable for name, parser in self._parsers.items()
        }
        return {
            **by_sensor,
            f"n_unreadable of no known sensor ({self._unknown!r})": self._n_unknown,
        }

    def parts(self, data: bytes, *, whole: bool = False) -> list[SensorSamples]:
        """Return the samples of complete lines."""
        lines, self._incomplete = split_lines(self._incomplete + data, whole=whole)
        samples: list[SensorSamples] = []
        waiting: dict[str, list[bytes]] = {name: [] for name in self._parsers}
        for line in filter(bytes.strip, lines):
            field, _, sample = line.partition(b",")
            name = field.decode("utf-8-sig", "replace").strip(' \t\r"')
            if name not in waiting:
                self._count_unknown(name, line)
                continue
            self._has_named_sensor = True
            waiting[name].append(sample)
            if len(waiting[name]) >= self._most[name]:
                samples += self._read(waiting)
        return [*samples, *self._read(waiting)]

    def _read(self, waiting: Mapping[str, list[bytes]]) -> Iterator[SensorSamples]:
        for name, lines in waiting.items():
            values, stamps = self._parsers[name].feed(b"\n".join(lines), whole=True)
            lines.clear()
            if len(values) and stamps is None:
                raise InputError(f"the lines of sensor {name!r} have no time. {self.way_out}")
            if stamps is not None and len(values):
                yield SensorSamples(name, values, stamps)

    def _count_unknown(self, name: str, line: bytes) -> None:
        self._unknown = self._unknown or name[:20]
        self._n_unknown += 1
        if not self._has_named_sensor and self._n_unknown >= _FEWEST_LINES:
            raise InputError(
                f"the first {self._n_unknown} lines begin with none of the sensors"
                f" {', '.join(self._parsers)}. The last line: {line[:60]!r}. {self.way_out}"
            )


AnyParser = Union[SampleParser, SensorParser]


def parser_for(stream: AnyStream, kind: str = "csv", time_column: str | None = None) -> AnyParser:
    """Return a parser of samples for a stream."""
    if isinstance(stream, DecisionStream):
        return SampleParser(kind, stream.channels, time_column)
    parser = SensorParser(
        {name: sensor.channels for name, sensor in stream.sensors.items()},
        time_column,
        {
            name: max(1, int(sensor.sample_rate_hz * stream.hop_s / 4))
            for name, sensor in stream.sensors.items()
        },
    )
    if kind != "csv":
        raise ArgumentError(f"--format {kind} cannot name the sensor. {parser.way_out}")
    return parser


def rates_of(texts: Sequence[str] | None) -> float | dict[str, float] | None:
    """Parse ``--sample-rate-hz``: a number, or NAME=HZ for each of several sensors."""
    rates: dict[str, float] = {}
    for text in texts or ():
        name, _, rate = text.rpartition("=")
        if name in rates or (rates and "" in (name, *rates)):
            raise ArgumentError(
                f"--sample-rate-hz {text}: give one number, or NAME=HZ once for each sensor."
            )
        try:
            rates[name] = float(rate)
        except ValueError:
            raise ArgumentError(
                f"--sample-rate-hz {text} is neither a number, such as 100, nor NAME=HZ, such as"
                " imu=100."
            ) from None
    return rates[""] if list(rates) == [""] else rates or None


def _number_of(field: bytes) -> float | None:
    """Return the number in a field, NaN for an empty field, or None for any other text.

    Words for missing numbers, such as NA, and digits outside ASCII are accepted only in files. In a
    stream, such text is more likely the result of damage.
    """
    return parse_number(field.decode("ascii", "replace")) if field else np.nan


def samples_of_pipe(descriptor: int, parser: AnyParser) -> Iterator[AnySamples]:
    """Yield the samples of a file, pipe or serial port as they arrive, until it ends."""
    while data := os.read(descriptor, _BLOCK):
        yield from parser.parts(data)
    yield from parser.parts(b"", whole=True)


def address_of(option: str, text: str) -> tuple[str, int]:
    """Parse ``[HOST:]PORT``; the host is this machine by default."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ArgumentError(f"{option} {text} is not a port, such as 5005 or 127.0.0.1:5005.")
    return host or "127.0.0.1", int(port)


def samples_of_udp(address: str, parser: AnyParser) -> Iterator[AnySamples]:
    """Yield the samples of datagrams sent to ``[HOST:]PORT``, forever."""
    host, port = address_of("--udp", address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        try:
            opened.bind((host, port))
        except OSError as error:
            raise InputError(f"cannot listen on UDP port {address}: {error.strerror}.") from error
        is_read = False
        while True:  # an empty datagram does not end the stream, because anyone can send one
            try:
                parts = parser.parts(opened.recv(_DATAGRAM), whole=True)
            except InputError:
                # Ignore incomplete data after the first sample, because another sender sent them.
                if not is_read or isinstance(parser, SensorParser):
                    raise
                continue
            is_read = is_read or any(len(part.values) for part in parts)
            yield from parts


def classify(
    stream: AnyStream,
    samples: Iterator[AnySamples],
    parser: AnyParser,
    out: TextIO,
    say: Callable[[str], None],
) -> None:
    """Write the decisions about samples until the samples end.

    `say` is called with the channels that the stream expects, and finally with counts.
    """
    wait = f"; decisions come {stream.latency_s:.3g} s after their windows end"
    expected = "; ".join(
        f"{name}{': ' if name else ''}{', '.join(sensor.channels)} at {sensor.sample_rate_hz:g} Hz"
        for name, sensor in _streams(stream).items()
    )
    say(f"expects {expected}{wait if stream.latency_s else ''}")
    n_samples = write_decisions(stream, samples, out)
    if parser.n_unreadable and not n_samples:
        raise InputError(
            f"none of {parser.n_unreadable} line(s) is a sample; this stream expects {expected}."
            f" {parser.way_out}"
        )
    counts = {"n_samples": n_samples, **parser.counts, **stream.counts}
    summary = ", ".join(f"{name.removeprefix('n_')} {n}" for name, n in counts.items() if n)
    say(summary or "no samples")


def _streams(stream: AnyStream) -> Mapping[str, DecisionStream]:
    return {"": stream} if isinstance(stream, DecisionStream) else stream.sensors


def write_decisions(stream: AnyStream, samples: Iterator[AnySamples], out: TextIO) -> int:
    """Write each decision as a line of JSON once it is due; return the number of samples."""
    n_samples = 0
    push: Callable[..., list[StreamDecision]] = stream.push
    try:
        for part in samples:
            n_samples += len(part.values)
            began_s = time.perf_counter()
            decisions = push(*part)
            _write(decisions, stream, began_s, out)
    except KeyboardInterrupt:
        pass  # the usual end of a stream; the remaining windows are still classified
    began_s = time.perf_counter()
    _write(stream.flush(), stream, began_s, out)
    return n_samples


def _write(decisions: list[Any], stream: AnyStream, began_s: float, out: TextIO) -> None:
    took_s = time.perf_counter() - began_s
    for decision in decisions:
        out.write(json.dumps({**decision.to_dict(stream.classes), "compute_s": took_s}) + "\n")
    if decisions:
        out.flush()
