"""Name patterns for joining the files of one recording, such as ``{recording}/{sensor}.csv``."""

import re
from typing import NamedTuple

from sensorseq.errors import ArgumentError

_PLACEHOLDERS = {
    re.escape("{sensor}"): "(?P<sensor>[^/]+?)",
    re.escape("{recording}"): "(?P<recording>[^/]+)",
    re.escape("*"): "[^/]*",
    re.escape("?"): "[^/]",
}


class Paired(NamedTuple):
    """The recording and the sensor in the name of a file."""

    recording: str
    sensor: str


class PairPattern:
    """A pattern for the end of a path: a file name, with folder names before it if needed."""

    def __init__(self, pair: str) -> None:
        for placeholder in ("{sensor}", "{recording}"):
            if pair.count(placeholder) != 1:
                raise ArgumentError(
                    f"pair={pair!r} must contain {placeholder} once, as in"
                    " '{sensor}_{recording}.*', or '{recording}/{sensor}.*' if each recording has"
                    " its own folder."
                )
        parts = pair.split("/")
        if not all(parts):
            raise ArgumentError(
                f"pair={pair!r} must be the end of a path, such as '{{recording}}/{{sensor}}.*'."
            )
        self.depth = len(parts)
        """The number of names in the pattern, including the names of folders."""
        self.sensor_depth = next(at for at, part in enumerate(parts) if "{sensor}" in part)
        """The number of names before the name with the sensor."""
        # `.*` matches only the suffix of a known format, because a recording's name may contain a
        # dot.
        self.is_of_stem = pair.endswith(".*")
        pattern = re.escape(pair.removesuffix(".*"))
        for placeholder, expression in _PLACEHOLDERS.items():
            pattern = pattern.replace(placeholder, expression)
        self._expression = re.compile(pattern)

    def match(self, names: tuple[str, ...]) -> Paired | None:
        """Return the recording and the sensor in the last names of a path; None without a match."""
        match = self._expression.fullmatch("/".join(names[-self.depth :]))
        return None if match is None else Paired(match["recording"], match["sensor"])
