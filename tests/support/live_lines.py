"""Draws lines as programs and devices send them, with the samples that they mean."""

from typing import NamedTuple

import numpy as np

from sensorseq.errors import InputError

CHANNELS = ("cur", "vel", "gyr", "acc")
MESSAGES = (
    "Ready!",
    "Boot v1.2",
    "rst cause:2, boot mode:(3,6)",
    "init done",
    "# time,vel of log 7",
)
TIMES = {"time": 1, "t": 1, "Time [ms]": 1000, "time_us": 10**6}


class Lines(NamedTuple):
    """Bytes of a stream, the channels, and the samples and unreadable lines in it."""

    data: bytes
    channels: tuple[str, ...]
    values: np.ndarray
    stamps: np.ndarray | None
    n_unreadable: int


def draw_lines(rng, *, name=""):
    """Draw a stream of one sensor, at 50 Hz; with a name, each line begins with it and a time."""

    def chance(p):
        return rng.random() < p

    n_rows, n = int(rng.integers(6, 90)), int(rng.integers(1, 5))
    channels = tuple(map(str, rng.permutation(CHANNELS)[:n]))
    values = rng.normal(size=(n_rows, n))
    time = str(rng.choice([*TIMES])) if name or chance(0.5) else ""
    has_header = chance(0.5)
    ticks = TIMES[time] if time and has_header else 1
    columns = [time] * bool(time) + [*channels]
    if has_header:
        columns += ["note", "Temp [C]"][: rng.integers(3)]
        columns = [*map(str, rng.permutation(columns))]
    if len(columns) > 1:  # a line without any field is no sample
        values[2:][rng.random((n_rows - 2, n)) < 0.05 * chance(0.5)] = np.nan
    stamps = (np.arange(n_rows) + 7) / 50
    quote = '"' * chance(0.2)

    def cell(i, column):
        if column in channels:
            value = values[i, channels.index(column)]
            return "" if np.isnan(value) else f"{quote}{float(value)!r}{quote}"
        return repr(float(stamps[i] * ticks)) if column == time else "21.5 ok"

    comma, end = "," * chance(0.4), str(rng.choice(["\n", "\r\n", " \n"]))
    rows = [",".join(cell(i, column) for column in columns) + comma for i in range(n_rows)]
    header = ",".join(columns) + "," * chance(0.3)
    lines, n_unreadable = [], 0
    if chance(0.5):
        lines += [str(text) for text in rng.permutation(MESSAGES)[: rng.integers(1, 4)]]
        n_unreadable += sum(not line.startswith("#") for line in lines)
    fragment = rows[-1][int(rng.integers(1, len(rows[-1]) + 1)) :]
    n_fields = (fragment.removesuffix(",") if comma else fragment).count(",") + 1
    if (
        chance(0.5)
        and fragment.strip(", ")
        and n_fields < len(columns)
        and not np.isnan(values).any()
    ):
        lines.append(fragment)
        n_unreadable += 1
    lines += [header] * has_header + rows
    odd = ["", "7 7", "1,2,3,4,5,6,7,8,9"]
    if "note" not in columns:
        whole = rows[0].removesuffix(",")
        odd += [f"# {whole}"] * has_header + [f"{whole} # x", f"1_{whole}"]
    if chance(0.6):  # a line among the samples that is none
        line = str(rng.choice(odd))
        lines.insert(len(lines) - int(rng.integers(n_rows - 3)), line)
        n_unreadable += bool(line)
    if has_header and chance(0.3):  # the program started again
        lines.insert(len(lines) - int(rng.integers(n_rows)), header)
    data = "".join(f"{name + ',' if name else ''}{line}{end}" for line in lines)
    read = np.array([float(cell(i, time)) for i in range(n_rows)]) / ticks if time else None
    return Lines(data.encode(), channels, values, read, n_unreadable)


def cut(rng, data):
    """Cut bytes into blocks at random."""
    edges = np.sort(rng.integers(0, len(data) + 1, rng.integers(12)))
    return [data[a:b] for a, b in zip([0, *edges], [*edges, len(data)], strict=True)]


def read_parts(parser, blocks):
    """Return the samples before the first error, the error, and the number of unreadable lines."""
    parts, problem = [], ""
    try:
        for block in blocks:
            parts += parser.parts(block)
        parts += parser.parts(b"", whole=True)
    except InputError as error:
        problem = f"{type(error).__name__}: {error}"
    return parts, problem, parser.n_unreadable
