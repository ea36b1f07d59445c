"""Patterns of names that join the files of one recording, such as ``{recording}/{sensor}.csv``."""

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
    """The recording and the sensor that the name of a file stands for."""

    recording: str
    sensor: str


class PairPattern:
    """A pattern of the end of a path: of the name, or with slashes of folders, too."""

    def __init__(self, pair: str) -> None:
        for placeholder in ("{sensor}", "{recording}"):
            if pair.count(placeholder) != 1:
                raise ArgumentError(
                    f"pair={pair!r} must contain {placeholder} once, as in"
                    " '{sensor}_{recording}.*', or '{recording}/{sensor}.*' where each recording"
                    " has a folder of its own."
                )
        parts = pair.split("/")
        if not all(parts):
            raise ArgumentError(
                f"pair={pair!r} must be the end of a path, such as '{{recording}}/{{sensor}}.*'."
            )
        self.depth = len(parts)
        """How many names of a path it is of."""
        self.sensor_depth = next(at for at, part in enumerate(parts) if "{sensor}" in part)
        """How many of these are the recording's, before that of the sensor."""
        # `.*` is the format's suffix, because a recording's name may contain a dot
        self.is_of_stem = pair.endswith(".*")
        pattern = re.escape(pair.removesuffix(".*"))
        for placeholder, expression in _PLACEHOLDERS.items():
            pattern = pattern.replace(placeholder, expression)
        self._expression = re.compile(pattern)

    def match(self, names: tuple[str, ...]) -> Paired | None:
        """Return what the last names of a path stand for; None if they do not match."""
        found = self._expression.fullmatch("/".join(names[-self.depth :]))
        return None if found is None else Paired(found["recording"], found["sensor"])
