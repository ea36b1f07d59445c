"""Find subjects that are named in the ids of recordings and have recordings in several parts.

Recordings of one person or machine are not independent, so a test on known subjects does not
measure the score on a new subject. Only groups keep recordings together, and by default each
recording is its own group.
"""

import re
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.text import listed

_LEAST = 3  # fewer distinct numbers may denote versions or sides instead of subjects
# Words for repetitions (r, run, rep, trial, take, session) are not included.
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
    """Return a warning, named ``subjects``, if names such as S01 or robot_2 are in several parts.

    The arrays have an entry for each window. A number after a word denotes a subject if this
    number, and at least two other numbers after the same word, each occur in several classes. There
    is no warning if the user gave groups.
    """
    if y is None or split is None or not np.isin(groups, recording_id).all():
        return {}
    spelled: dict[str, dict[int, str]] = defaultdict(dict)
    classes: dict[tuple[str, int], set[str]] = defaultdict(set)
    parts: dict[tuple[str, int], set[str]] = defaultdict(set)
    windows = zip(*(map(str, column.tolist()) for column in (recording_id, y, split)), strict=True)
    for name, label, part in sorted(set(windows)):
        for match in _NAMED.finditer(name):
            word, number = match[1].lower(), int(match[2])
            spelled[word].setdefault(number, match[0])
            classes[word, number].add(label)
            parts[word, number].add(part)
    for word in _WORDS.split("|"):
        several = [subject for subject in sorted(spelled[word]) if len(classes[word, subject]) > 1]
        torn = [spelled[word][subject] for subject in several if len(parts[word, subject]) > 1]
        if len(several) >= _LEAST and torn:
            warning = (
                f"The names of the recordings contain {listed(torn, 3)}, each in more than one part"
                " of the split. If these are subjects, such as persons or robots, the test score"
                " does not apply to a new subject. To keep each subject in one part, list the files"
                " in a manifest with the columns path, label and group (for one table, use"
                " `group_column`)."
            )
            return {"subjects": warning}
    return {}
