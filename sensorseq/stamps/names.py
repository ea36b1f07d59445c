"""Names of timestamp columns, and the units in these names."""

import re
from collections.abc import Iterable
from functools import lru_cache

TIME_COLUMNS = ("time", "time_s")  # preferred names if no time column is given
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Units of timestamps, each with the number of units per second."""
CALENDAR_S = (946_684_800, 4_102_444_800)
"""The years 2000 to 2100, in seconds since 1970."""
_SECONDS = ("s", "sec", "secs", "second", "seconds")
_WORDS = {
    **dict.fromkeys(_SECONDS, "s"),
    **{
        prefix + word: unit
        for unit, prefix, words in (
            ("ms", "m", _SECONDS[:3]),
            ("us", "u", _SECONDS[:3]),
            ("ns", "n", _SECONDS[:3]),
            ("ms", "milli", ("", *_SECONDS)),
            ("us", "micro", ("", *_SECONDS)),
            ("ns", "nano", ("", *_SECONDS)),
        )
        for word in words
    },
}
_OTHER_WORDS = {
    word: word
    for word in re.split(
        r"\s+",
        "min mins minute minutes h hr hrs hour hours day days week weeks tick ticks jiffies cycles"
        " ps psec picoseconds centiseconds deciseconds",
    )
}
_ALL_WORDS = _WORDS | _OTHER_WORDS
_PART_NS = {
    **{word: UNITS["ns"] // UNITS[unit] for word, unit in _WORDS.items()},
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60 * UNITS["ns"]),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600 * UNITS["ns"]),
}
_LONGEST_FIRST = sorted(_ALL_WORDS, key=len, reverse=True)
_NO_UNIT = frozenset(  # words in brackets that are not units, but describe a clock or its start
    re.split(
        r"\s+",
        "utc gmt local unix posix epoch iso abs absolute rel relative elapsed since from start"
        " begin boot the of in gps ros ptp host device system sensor imu sim simulated monotonic"
        " clock raw log time timestamp stamp",
    )
)
_LONG = 4  # minimum number of letters of a unit that is recognized within a word
_BRACKETS = re.compile(r"[\[({<]([^\])}>]*)[\])}>]?\s*$")
_PART = re.compile(r"[^\W_]+")
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_STEM = re.compile(r"(.*(time|stamp|epoch|elapsed|clock)|t)", re.I)
_SCALED = re.compile(r"\d[^a-z]*(" + "|".join(_LONGEST_FIRST) + r")(?![a-z])", re.I)
_PART_OF_TIME = re.compile(
    rf"(.*?)[\W_]*({'|'.join(sorted(_PART_NS, key=len, reverse=True))})[\W_]*", re.I
)
_NUMBERED = re.compile(r"(\[\d+\]|\.\d+)$")  # ends of the names of columns with the same name
_LIKE_TIME = re.compile(r"time|stamp|clock|(?<![^\W_])t\d*(?![^\W_])", re.I)
_TIME_NAMES = (
    re.compile(r"(time|timestamp|stamp|t)([_ ]?[(\[]?(s|ms|us|ns)[)\]]?)?", re.I),
    re.compile(rf"\W*(time|timestamp|stamp)([\W_]|in)*({'|'.join(_LONGEST_FIRST)})\W*", re.I),
)


def usual_time_names(names: Iterable[str]) -> list[str]:
    """Return the most likely names of timestamp columns, with or without a unit."""
    columns = list(names)
    if usual := [name for name in TIME_COLUMNS if name in columns]:
        return usual
    for pattern in _TIME_NAMES:
        if matching := [name for name in columns if pattern.fullmatch(_plain(name))]:
            return matching
    return []


def is_time_name(name: str) -> bool:
    """Test whether a name looks like a timestamp column, with or without a unit."""
    return bool(usual_time_names([name]))


def may_be_time(name: str, time_name: str = "") -> bool:
    """Test whether a name contains a word for a time, a unit of time, or the time column's name."""
    plain, usual = (_NUMBERED.sub("", text) for text in (name, time_name))
    return plain == usual or bool(_LIKE_TIME.search(plain)) or unit_in_name(plain) in UNITS


def time_parts(names: Iterable[str], name: str | None = None) -> dict[str, int]:
    """Return the columns that may be parts of one time, such as seconds and nanoseconds.

    Their names differ only in the unit. One of them is `name`; if it is not given, their names
    contain a word for a time, or nothing but the unit. The dictionary contains the nanoseconds of
    each unit, largest first. It is empty if there are no such columns, or several times.
    """
    groups: dict[str, dict[str, int]] = {}
    for column in names:
        if part := _PART_OF_TIME.fullmatch(_plain(column)):
            groups.setdefault(part[1].lower(), {})[column] = _PART_NS[part[2].lower()]
    found = [
        parts
        for stem, parts in groups.items()
        if (name in parts if name else not stem or _LIKE_TIME.search(stem))
        and 1 < len(parts) == len(set(parts.values()))
    ]
    return dict(sorted(found[0].items(), key=lambda part: -part[1])) if len(found) == 1 else {}


def date_and_time(names: Iterable[str], name: str) -> tuple[str, str] | None:
    """Return the columns of a date and of a time of day, one of which is `name`, or None."""
    columns = list(names)
    dates = [column for column in columns if re.search("date|datum", column, re.I)]
    times = [name]
    if name in dates:
        others = [column for column in columns if column not in dates]
        dates, times = [name], usual_time_names(others) or list(filter(may_be_time, others))
    return (dates[0], times[0]) if len(dates) == len(times) == 1 else None


@lru_cache(maxsize=1024)  # recordings of one folder have the same columns
def unit_in_name(name: str) -> str:
    """Return the unit in a column's name, even if not in `recording.UNITS`; "" if there is none.

    The unit is in brackets at the end (``Time [ms]``), is a word of its own (``time_usec``), or is
    the end of a word (``timeMs``).
    """
    text = _plain(name)
    if brackets := _BRACKETS.search(text):
        inside = brackets[1].strip()
        words = [word.lower() for word in _PART.findall(inside) if not word.isdigit()]
        if _SCALED.search(inside):
            return inside
        for word in words:
            if word in _WORDS:
                return _WORDS[word]
        if not _NO_UNIT.issuperset(words):
            return inside
        text = text[: brackets.start()]
    if scaled := re.search(r"/\s*(\d[^/]*)$", text):
        return scaled[1].strip()
    parts = _PART.findall(text)
    if parts and (unit := _unit_of_word(parts[-1])):
        return unit
    for piece in (piece.lower() for part in reversed(parts) for piece in _PIECE.findall(part)):
        if (len(piece) > 1 and piece in _WORDS) or (len(piece) >= _LONG and piece in _OTHER_WORDS):
            return _ALL_WORDS[piece]
    return ""


def _unit_of_word(word: str) -> str:
    """Return the unit that a word is or ends with; "" if there is none."""
    lower = word.lower()
    if lower in _ALL_WORDS:
        return _ALL_WORDS[lower]
    if re.fullmatch(r"\d.*", word) and _SCALED.fullmatch(word):
        return word
    for unit in _LONGEST_FIRST:
        before, ending = word[: -len(unit)], word[-len(unit) :]
        if before and ending.lower() == unit:
            is_marked = ending[0].isupper() and not before[-1].isupper()
            is_joined = len(unit) > 1 and _STEM.fullmatch(before)
            if is_marked or is_joined or len(unit) >= _LONG:
                return _ALL_WORDS[unit]
    return ""


def _plain(name: str) -> str:
    """Return a name without comment marks, such as ``%`` in ``%time`` from ``rostopic echo -p``."""
    return name.strip("%# \t").replace("\u00b5", "u").replace("\u03bc", "u")
