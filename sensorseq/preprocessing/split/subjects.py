"""Find subjects named in the names of recordings, whose recordings are in several parts.

Recordings of one person or machine are not independent, so a test on others of them says little
about a new one. Only a group keeps them together, and by default each recording is its own.
"""

import re
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.text import listed

_LEAST = 3  # fewer numbers are perhaps versions, or sides
# not those of repetitions, such as r, run, rep, trial, take and session
_WORDS = (
    "participant|volunteer|subject|machine|patient|vehicle|device|person|robot|subj|unit|user|pid"
    "|sub|p|s|u"
)
_NAMED = re.compile(rf"(?<![a-z0-9])({_WORDS})[ _-]?(\d+)(?![a-z0-9])", re.I)


def note_subjects(
    y: NDArray[Any] | None,
    groups: NDArray[Any],
    recording_id: NDArray[Any],
    split: NDArray[Any] | None,
) -> dict[str, str]:
    """Return a warning as ``subjects`` if names such as S01 or robot_2 are in several parts.

    The arrays have an entry for each window. A number is that of a subject if it occurs in several
    classes, as three or more numbers with that word do. Groups that are given hold.
    """
    if y is None or split is None or not np.isin(groups, recording_id).all():
        return {}
    spelled: dict[str, dict[int, str]] = defaultdict(dict)
    classes: dict[tuple[str, int], set[str]] = defaultdict(set)
    parts: dict[tuple[str, int], set[str]] = defaultdict(set)
    windows = zip(*(map(str, column.tolist()) for column in (recording_id, y, split)), strict=True)
    for name, label, part in sorted(set(windows)):
        for found in _NAMED.finditer(name):
            word, number = found[1].lower(), int(found[2])
            spelled[word].setdefault(number, found[0])
            classes[word, number].add(label)
            parts[word, number].add(part)
    for word in _WORDS.split("|"):
        several = [one for one in sorted(spelled[word]) if len(classes[word, one]) > 1]
        torn = [spelled[word][one] for one in several if len(parts[word, one]) > 1]
        if len(several) >= _LEAST and torn:
            warning = (
                f"The names of the recordings hold {listed(torn, 3)}, each in more than one part."
                " If they are subjects, such as persons or robots, the test does not show how the"
                " model does on a new one. To keep each in one part, list the files in a manifest"
                " with the columns path, label and group (for one table, use `group_column`)."
            )
            return {"subjects": warning}
    return {}
