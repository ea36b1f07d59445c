"""Read samples from a pipe or socket, and write decisions as lines of JSON."""

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TextIO, Union

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.text import listed, parse_number
from sensorseq.errors import ArgumentError, InputError, SignalError, did_you_mean, repeated
from sensorseq.prediction.stream import DecisionStream
from sensorseq.recording import COMMENTS, column_names
from sensorseq.stamps.names import UNITS, unit_in_name, usual_time_names

FORMATS = ("csv", "float32", "float64")
_BLOCK = 1 << 16  # largest number of bytes read at a time
_DATAGRAM = 1 << 16
LONGEST_LINE = 1 << 16  # limit in bytes, so that data without line ends cannot fill the memory
_MANY_LINES = 50  # if there are fewer lines, they are parsed one by one
_FEWEST_LINES = 20  # data that begin with this many unreadable lines are not CSV
_TOKEN = re.compile(r"[\w./-]+(\s*[\[(].*)?")
_NAME = re.compile(r"[\W_]?[^\W\d_].*")
_SINGLE_NAME = re.compile(r"[\w./-]*[^\W\d_]{3}[\w./-]*(\s*[\[(].*)?")
_NO_NAMES = ("na", "n/a", "nil", "none", "null")  # in other programs, missing numbers


class Samples(NamedTuple):
    """Samples (n, n_channels), and their timestamps (n,) or None."""

    values: NDArray[np.float64]
    timestamps_s: NDArray[np.float64] | None


class SensorSamples(NamedTuple):
    """Samples of one of several sensors, and their timestamps."""

    sensor: str
    values: NDArray[np.float64]
    timestamps_s: NDArray[np.float64]


AnySamples = Union[Samples, SensorSamples]


def check_stream_options(
    sample_format: str,
    *,
    time_column: str | None,
    max_delay_s: float,
    replay: os.PathLike[str] | None = None,
    speed: float = 0.0,
    tcp: str | None = None,
    max_clients: int | None = None,
) -> None:
    """Raise an ArgumentError for an option of a command that has no effect with the others."""
    is_binary, of_format = sample_format != "csv", f"--format {sample_format}"
    for is_unused, option, reason in (
        (is_binary and replay is not None, of_format, "does not apply to --replay"),
        (is_binary and time_column is not None, "--time-column", f"does not apply to {of_format}"),
        (is_binary and max_delay_s > 0, "--max-delay-s", f"needs timestamps, unlike {of_format}"),
        (speed > 0 and replay is None, "--speed", "applies only to --replay"),
        (max_clients is not None and tcp is None, "--max-clients", "applies only to --tcp"),
    ):
        if is_unused:
            raise ArgumentError(f"{option} {reason}; leave it out.")


def split_lines(data: bytes, *, whole: bool) -> tuple[list[bytes], bytes]:
    """Return the complete lines of data, and the incomplete last line.

    With `whole`, the last line also counts as complete. A line that is too long ends the lines, and
    is returned as the incomplete line; `check_length` refuses it.
    """
    lines = data.split(b"\n")
    for at, line in enumerate(lines):
        if len(line) > LONGEST_LINE:
            return lines[:at], line
    return (lines, b"") if whole else (lines[:-1], lines[-1])


def check_length(line: bytes) -> None:
    """Raise an InputError if a line is longer than `LONGEST_LINE`."""
    if len(line) > LONGEST_LINE:
        raise InputError(
            f"a line has more than {LONGEST_LINE} bytes, so it is not a sample. End each line with"
            " a newline; binary floats need --format."
        )


class _Columns(NamedTuple):
    """The number of fields in a line, and the positions of the channels and of the time."""

    n_fields: int
    channels: list[int]
    time: int | None
    ticks_per_s: int = 1  # derived from the unit in the time column's name

    @property
    def wanted(self) -> list[int]:
        """The columns of the channels, followed by the time column if there is one."""
        return self.channels if self.time is None else [*self.channels, self.time]


class SampleParser:
    """Parses bytes into samples of given channels, from lines of CSV or little-endian floats.

    CSV either has a header that includes the channels' names in any order, or its columns are the
    channels, optionally preceded by the time. Without a header, the columns are known once two
    lines in a row can have the same columns. An empty field is a missing value, but an empty field
    after the last column is none. Unreadable lines, such as the first fragment from a serial port,
    are counted in `n_unreadable` and skipped. Errors name the `sensor`. A part has at most `most`
    samples.
    """

    way_out = (
        "Send a header with the channels' names, or these columns in this order, separated by"
        " commas; or use --format."
    )

    def __init__(
        self,
        kind: str,
        channels: tuple[str, ...],
        time_column: str | None = None,
        sensor: str = "",
        *,
        most: int | None = None,
    ):
        self._of_sensor = f" of sensor {sensor!r}" if sensor else ""
        self._kind, self._channels = kind, channels
        self._time_column = None if time_column is None else time_column.strip()
        self._most = most
        self._incomplete = b""
        self._columns: _Columns | None = None
        self._is_guess = False  # True if the columns are known, but there was no header
        self._ends_empty = False  # True if the columns are known because all lines end with a comma
        self._first: list[list[bytes]] = []  # first lines of numbers, until the columns are known
        self._possible: set[int] = set()  # the numbers of fields that these lines can have
        self._first_times: list[float] = []
        self._n_more_ended = 0  # lines with a comma at the end, minus those without
        self._words: list[str] = []  # the first line of words that may be a header
        self._heads: list[list[str]] = []  # all lines of words before the first sample
        self._is_read = False  # True after the first sample
        self.n_unreadable = 0

    @property
    def is_text(self) -> bool:
        """True if samples are lines of CSV."""
        return self._kind == "csv"

    @property
    def counts(self) -> dict[str, int]:
        """The number of skipped lines, for messages."""
        return {"n_unreadable": self.n_unreadable}

    @property
    def note(self) -> str:
        """The assumption about the time column, for errors about timestamps; "" if none is made."""
        if self._columns is None or self._columns.time is None or not self._is_guess:
            return ""
        return (
            "There is no header, so the first field of each line was read as the time, and the next"
            f" ones as {', '.join(self._channels)}. If this is wrong, send a header."
        )

    def leave_out(self) -> None:
        """Count a datagram that cannot be read."""
        self.n_unreadable += 1

    def feed(self, data: bytes, *, whole: bool = False) -> Samples:
        """Return the samples of `parts` together."""
        parts = list(self.parts(data, whole=whole))
        n_channels, has_time = len(self._channels), self._columns and self._columns.time is not None
        stamps = [part.timestamps_s for part in parts if part.timestamps_s is not None]
        return Samples(
            np.concatenate([np.empty((0, n_channels)), *(part.values for part in parts)]),
            np.concatenate([np.empty(0), *stamps]) if has_time else None,
        )

    def parts(self, data: bytes, *, whole: bool = False) -> Iterator[Samples]:
        """Yield the complete samples, and raise errors after the samples before them.

        With `whole`, the data end, so an unterminated last line is complete.
        """
        data = self._incomplete + data
        if not self.is_text:
            width = np.dtype(self._kind).itemsize * len(self._channels)
            n_rows = len(data) // width
            self._incomplete = data[n_rows * width :]
            flat = np.frombuffer(data[: n_rows * width], np.dtype(self._kind).newbyteorder("<"))
            yield from self._split(flat.reshape(n_rows, len(self._channels)).astype(np.float64))
            if whole and self._incomplete:
                n_bytes, self._incomplete = len(self._incomplete), b""
                raise InputError(
                    f"the data end within a sample: {n_bytes} of {width} bytes. Are the data"
                    f" {self._kind} with {len(self._channels)} channels?"
                )
            return
        lines, self._incomplete = split_lines(data, whole=whole)
        rows: list[list[float]] = []
        block, problem = None, None
        try:
            block = self._read([line for line in lines if line.strip()], rows)
            if whole and self._columns is None:
                self._find_columns(rows)
            check_length(self._incomplete)
        except InputError as error:
            problem = error
        table = np.array(rows, np.float64) if block is None or rows else block
        if rows and block is not None:
            table = np.concatenate([table, block])
        if len(table):
            assert self._columns is not None
            n_channels = len(self._channels)
            if self._columns.time is None:
                yield from self._split(table)
            else:
                stamps = table[:, n_channels] / self._columns.ticks_per_s
                n_before = self._n_before_contradiction(stamps)
                yield from self._split(table[:n_before, :n_channels], stamps[:n_before])
                if n_before < len(table):
                    raise SignalError(
                        f"in the first {_FEWEST_LINES} lines{self._of_sensor}, the first field"
                        " decreases too often for a time. Send the time first, or a header with the"
                        " name of the time."
                    )
        if problem is not None:
            raise problem

    def _split(
        self, values: NDArray[np.float64], stamps: NDArray[np.float64] | None = None
    ) -> Iterator[Samples]:
        """Yield at most `most` samples at a time, so that an error does not affect earlier ones."""
        most = self._most or max(1, len(values))
        for at in range(0, len(values), most):
            yield Samples(
                values[at : at + most], None if stamps is None else stamps[at : at + most]
            )

    def _n_before_contradiction(self, stamps: NDArray[np.float64]) -> int:
        """Return the number of samples before it is clear that a first column is not the time.

        Only a column without a name is checked. Late samples are rare among the first samples, but
        values of a channel go back about as often as they increase.
        """
        n_known = len(self._first_times)
        if not self._is_guess or n_known >= _FEWEST_LINES:
            return len(stamps)
        self._first_times += stamps[: _FEWEST_LINES - n_known].tolist()
        if len(self._first_times) < _FEWEST_LINES:
            return len(stamps)
        n_back = int((np.diff(self._first_times) < 0).sum())
        return len(stamps) if n_back <= _FEWEST_LINES // 4 else _FEWEST_LINES - 1 - n_known

    def _read(self, lines: list[bytes], rows: list[list[float]]) -> NDArray[np.float64] | None:
        """Append the samples of lines to `rows`, or return those of many lines as an array."""
        at = 0
        while at < len(lines) and self._columns is None:  # one by one up to the first sample
            self._read_first(lines[at], rows)
            at += 1
        if (block := self._numbers(lines[at:])) is not None:
            self._is_read = True
            return block
        for line in lines[at:]:
            self._add(_fields_of(line), rows)
        return None

    def _numbers(self, lines: list[bytes]) -> NDArray[np.float64] | None:
        """Parse many lines together.

        Return None if there are only a few lines, or if a field is not a plain number.
        """
        if len(lines) < _MANY_LINES or self._columns is None:
            return None
        n_commas, wanted = self._columns.n_fields - 1, self._columns.wanted
        ends = [line.rstrip().endswith(b",") for line in lines]
        if [line.count(b",") - n_commas for line in lines] != ends:
            return None
        try:
            table = np.loadtxt(lines, delimiter=",", comments=None, usecols=wanted, ndmin=2)
        except ValueError:
            return None
        self._n_more_ended += 2 * sum(ends) - len(lines)
        return table

    def _add(self, fields: list[bytes], rows: list[list[float]]) -> None:
        """Append the sample in a line to `rows`, or count the line as unreadable."""
        assert self._columns is not None
        n_more, ends = len(fields) - self._columns.n_fields, not fields[-1]
        # If most lines end with a comma, a line that lacks another comma is a fragment.
        if (n_more == 0 and not (ends and self._n_more_ended > 0)) or (n_more == 1 and ends):
            numbers = [_number_of(fields[at]) for at in self._columns.wanted]
            row = [number for number in numbers if number is not None]
            if len(row) == len(numbers):
                rows.append(row)
                self._is_read = True
                self._n_more_ended += n_more if ends else -1
                return
        if n_more == 1 and self._ends_empty and None not in map(_number_of, fields):
            raise InputError(
                f"the last field{self._of_sensor} was empty in the first {_FEWEST_LINES} lines, but"
                f" now it is {fields[-1].decode()}, so the columns are unknown. {self.way_out}"
            )
        if not self._is_header(_names_of(fields)):
            self._count_unreadable(fields)

    def _read_first(self, line: bytes, rows: list[list[float]]) -> None:
        """Read a line that precedes the first sample, or is one of the first samples."""
        fields = _fields_of(line)
        names = _names_of(fields)
        has_channel = any(name in column_names(names) for name in self._channels)
        if line.lstrip(b"\xef\xbb\xbf \t").startswith(COMMENTS) and not has_channel:
            names[0] = names[0].lstrip("#%/ \t")
            if len(names) > 1 and all(map(_TOKEN.fullmatch, names)) and _are_words(names):
                self._words = names  # for example, %time,field.x
            return
        if None in map(_number_of, fields):
            if has_channel:
                self._columns = self._columns_of(names)
                self._heads.append(names)
                self._n_more_ended = 1  # a line before the header may be a fragment
                self._read_again(rows)
                self._n_more_ended = 0
                return
            if _are_words(names):
                self._heads.append(names)
                if len(names) != len(self._words):
                    self._words = names
            self._count_unreadable(fields)
            return
        n = len(self._channels)
        possible = {len(fields), len(fields) - (not fields[-1])}
        if len(self._words) in possible and len(self._words) >= min(n, 2):
            self._columns_of(self._words)  # raises an error that names the missing channel
        possible &= {n, n + 1}
        if not possible:
            self._count_unreadable(fields)
            return
        if not self._first or len(fields) != len(self._first[0]):  # the earlier line is a fragment
            for earlier in self._first:
                self._count_unreadable(earlier)
            self._first, self._possible = [], possible
        self._possible &= possible
        self._first.append(fields)
        if len(self._first) >= (2 if self._are_clear() else _FEWEST_LINES):
            self._find_columns(rows)

    def _are_clear(self) -> bool:
        return len(self._possible) == 1 or bool(self._of_sensor)  # sensors' lines have a time

    def _find_columns(self, rows: list[list[float]]) -> None:
        """Find the columns without a header, from the first lines; append their samples to `rows`.

        If all lines end with a comma, the last of n + 1 fields is none; a value that is missing
        in every line would leave no sample.
        """
        if not self._first:
            return
        n, is_clear = len(self._channels), self._are_clear()
        if self._time_column is not None:
            raise InputError(
                f"the lines{self._of_sensor} have no header, so the time column"
                f" {self._time_column!r} is unknown. Send a header, or leave out --time-column."
            )
        n_fields = max(self._possible) if is_clear else n
        time = 0 if n_fields > n else None
        self._columns = _Columns(n_fields, list(range(n_fields - n, n_fields)), time)
        self._is_guess, self._ends_empty = True, not is_clear
        self._read_again(rows)

    def _read_again(self, rows: list[list[float]]) -> None:
        first, self._first = self._first, []
        for fields in first:
            self._add(fields, rows)

    def _is_header(self, names: list[str]) -> bool:
        """Test whether a line after the first sample repeats the header.

        Raise an InputError if the line is a header of other columns.
        """
        assert self._columns is not None
        known = column_names(names)
        is_whole = all(name in known for name in self._channels)
        if names in self._heads:
            return is_whole
        if not (is_whole or self._is_read):  # for example, a line of units below the names
            self._heads.append(names)
            return False
        n = self._columns.n_fields
        if not is_whole and (n == 1 or len(names) != n or not _are_words(names)):
            return False
        if self._columns_of(names) != self._columns:
            raise InputError(
                f"a later header{self._of_sensor} ({listed(names)}) does not fit the earlier lines."
                " Send the same header each time, or start a new stream."
            )
        self._heads.append(names)
        self._is_guess = False
        return True

    def _columns_of(self, header: list[str]) -> _Columns:
        """Find the channels and the time in a header."""
        names = column_names(header)
        missing = [name for name in self._channels if name not in names]
        if missing:
            reason = " It counts as a header because it has as many fields as a sample, all words."
            raise InputError(
                f"the header{self._of_sensor} has no channel {missing[0]!r}; it has"
                f" {listed(names)}.{did_you_mean(missing[0], names)}"
                f"{reason if len(missing) == len(self._channels) else ''}"
            )
        usual = [name for name in usual_time_names(names) if name not in self._channels]
        if self._time_column is not None and self._time_column not in names:
            raise InputError(
                f"the header{self._of_sensor} has no time column {self._time_column!r}."
            )
        time_name = self._time_column or (usual[0] if usual else None)
        unit = unit_in_name(time_name or "") or "s"
        if unit not in UNITS:
            raise InputError(
                f"the time column {time_name!r}{self._of_sensor} seems to be in {unit!r}; send"
                " seconds, or a column named like time_ms, time_us or time_ns."
            )
        return _Columns(
            len(names),
            [names.index(name) for name in self._channels],
            None if time_name is None else names.index(time_name),
            UNITS[unit],
        )

    def _count_unreadable(self, fields: list[bytes]) -> None:
        self.n_unreadable += 1
        if not self._is_read and self.n_unreadable >= _FEWEST_LINES:
            raise InputError(
                f"the first {self.n_unreadable} lines{self._of_sensor} are not samples of"
                f" {len(self._channels)} channels ({', '.join(self._channels)}). The last line:"
                f" {b','.join(fields)[:60]!r}. {self.way_out}"
            )


class SensorParser:
    """Parses lines of CSV like SampleParser, but each line begins with the name of its sensor.

    Each sensor may have a header (``imu,time,gyro_x``). Lines that do not name a sensor are counted
    and skipped, like unreadable lines. A part contains at most `most` samples of a sensor, because
    the other sensors could count as missing if one sensor got far ahead.
    """

    is_text = True
    note = ""

    def __init__(
        self,
        channels: Mapping[str, tuple[str, ...]],
        time_column: str | None,
        most: Mapping[str, int],
    ):
        self._parsers = {
            name: SampleParser("csv", names, time_column, name, most=most[name])
            for name, names in channels.items()
        }
        self._most = most
        self._incomplete, self._n_unknown, self._unknown = b"", 0, ""
        self._n_left_out = 0
        self._has_named_sensor = False  # True after the first line that names a sensor
        lines = (",".join([name, "time", *names]) for name, names in channels.items())
        self.way_out = f"Send lines of {' or '.join(lines)}."

    @property
    def n_unreadable(self) -> int:
        """The number of lines and datagrams that were skipped."""
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
            "n_unreadable datagrams": self._n_left_out,
        }

    def leave_out(self) -> None:
        """Count a datagram that cannot be read."""
        self._n_left_out += 1

    def parts(self, data: bytes, *, whole: bool = False) -> Iterator[SensorSamples]:
        """Yield the samples of complete lines, and raise errors after the samples before them."""
        lines, self._incomplete = split_lines(self._incomplete + data, whole=whole)
        waiting: dict[str, list[bytes]] = {name: [] for name in self._parsers}
        for line in filter(bytes.strip, lines):
            field, _, sample = line.partition(b",")
            name = field.decode("utf-8-sig", "replace").strip(' \t\r"')
            if name not in waiting:
                self._unknown = self._unknown or name[:20]
                self._n_unknown += 1
                if not self._has_named_sensor and self._n_unknown >= _FEWEST_LINES:
                    raise InputError(
                        f"the first {self._n_unknown} lines begin with none of the sensors"
                        f" {', '.join(self._parsers)}. The last line: {line[:60]!r}. {self.way_out}"
                    )
                continue
            self._has_named_sensor = True
            waiting[name].append(sample)
            if len(waiting[name]) >= self._most[name]:
                yield from self._read(waiting)
        yield from self._read(waiting, whole=whole)
        check_length(self._incomplete)

    def _read(
        self, waiting: Mapping[str, list[bytes]], *, whole: bool = False
    ) -> Iterator[SensorSamples]:
        problem: InputError | None = None
        for name, lines in waiting.items():
            data = b"".join(line + b"\n" for line in lines)
            lines.clear()
            try:
                for values, stamps in self._parsers[name].parts(data, whole=whole):
                    if stamps is None:
                        raise InputError(
                            f"the lines of sensor {name!r} have no time. {self.way_out}"
                        )
                    yield SensorSamples(name, values, stamps)
            except InputError as error:  # after the samples of the other sensors
                problem = problem or error
        if problem is not None:
            raise problem


AnyParser = Union[SampleParser, SensorParser]


def parser_for(
    stream: DecisionStream, kind: str = "csv", time_column: str | None = None
) -> AnyParser:
    """Return a parser of samples for a stream."""
    if not stream.names_sensors:
        # so that each push makes about one decision
        most = max(1, int(stream.sample_rate_hz * stream.hop_s))
        return SampleParser(kind, stream.channels, time_column, most=most)
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


def _fields_of(line: bytes) -> list[bytes]:
    return [field.strip(b' \t\r\n"') for field in line.split(b",")]


def _names_of(fields: list[bytes]) -> list[str]:
    """Return the fields of a header as text, without an empty field at the end."""
    names = [field.decode("utf-8-sig", "replace").strip(' \t"') for field in fields]
    return names[:-1] if len(names) > 1 and not names[-1] else names


def _are_words(names: list[str]) -> bool:
    """Test whether all fields of a line look like names of columns.

    A line of one field must be a single word, because many devices begin with a message.
    """
    form = _SINGLE_NAME if len(names) == 1 else _NAME
    words = [name for name in names if name]  # the column of row numbers may have no name
    return (
        bool(words)
        and repeated(words) is None
        and all(
            form.fullmatch(word)
            and word.isprintable()
            and "\ufffd" not in word
            and word.lower() not in _NO_NAMES
            and parse_number(word) is None
            for word in words
        )
    )


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


def samples_of_udp(
    address: str, parser: AnyParser, say: Callable[[str], None] = lambda _: None
) -> Iterator[AnySamples]:
    """Yield the samples of datagrams sent to ``[HOST:]PORT``, forever.

    Anyone can send a datagram, so a datagram that cannot be read is left out and counted, unless
    the stream begins with many of them. `say` is called with the first error.
    """
    host, port = address_of("--udp", address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        try:
            opened.bind((host, port))
        except OSError as error:
            raise InputError(f"cannot listen on UDP port {address}: {error.strerror}.") from error
        is_read = has_said = False
        while True:  # an empty datagram does not end the stream
            data, is_text = opened.recv(_DATAGRAM), parser.is_text
            try:
                parts: list[Any] = [*parser.parts(data + b"\n" * is_text, whole=not is_text)]
            except SignalError:  # about all samples so far
                raise
            except InputError as error:
                parser.leave_out()
                if not is_read and parser.n_unreadable >= _FEWEST_LINES:
                    raise
                if not has_said:
                    say(f"a datagram is left out: {error}")
                has_said = True
                continue
            is_read = is_read or bool(parts)
            yield from parts


def classify(
    stream: DecisionStream,
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
        for name, sensor in stream.sensors.items()
    )
    say(f"expects {expected}{wait if stream.latency_s else ''}")
    with explain(parser):
        n_samples = write_decisions(stream, samples, out)
    if parser.n_unreadable and not n_samples:
        raise InputError(
            f"none of {parser.n_unreadable} line(s) is a sample; this stream expects {expected}."
            f" {parser.way_out}"
        )
    say(summary_of(n_samples, parser, stream))


@contextmanager
def explain(parser: AnyParser) -> Iterator[None]:
    """Add what a parser assumed about the time to errors about timestamps."""
    try:
        yield
    except SignalError as error:
        if parser.note:
            error.add_note(parser.note)
        raise


def summary_of(n_samples: int, parser: AnyParser, stream: DecisionStream) -> str:
    """Return the counts of a stream in words."""
    counts = {"n_samples": n_samples, **parser.counts, **stream.counts}
    named = (f"{name.removeprefix('n_').replace('_', ' ')} {n}" for name, n in counts.items() if n)
    return ", ".join(named) or "no samples"


def write_decisions(stream: DecisionStream, samples: Iterator[AnySamples], out: TextIO) -> int:
    """Write each decision as a line of JSON once it is due; return the number of samples."""
    n_samples = 0
    try:
        for part in samples:
            n_samples += len(part.values)
            began_s = time.perf_counter()
            decisions = stream.push(*part)
            _write(decisions, stream, began_s, out)
    except KeyboardInterrupt:
        pass  # the usual end of a stream; the remaining windows are still classified
    began_s = time.perf_counter()
    _write(stream.flush(), stream, began_s, out)
    return n_samples


def _write(decisions: list[Any], stream: DecisionStream, began_s: float, out: TextIO) -> None:
    took_s = time.perf_counter() - began_s
    for decision in decisions:
        out.write(json.dumps({**decision.to_dict(stream.classes), "compute_s": took_s}) + "\n")
    if decisions:
        out.flush()
