"""The learners by name, and the ones that a user asks for."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from sensorseq import learners
from sensorseq.errors import ArgumentError
from sensorseq.learners.learner import Learner
from sensorseq.learners.linear import learner_of
from sensorseq.prediction.members.kinds import tables_in


@cache
def all_learners() -> Mapping[str, Learner]:
    """Return the learners in the tables `LEARNERS` of this package's files, in their order."""
    found: dict[str, Learner] = tables_in(learners, "LEARNERS")

    def place(name: str) -> tuple[float, str]:
        auto_place = found[name].auto_place
        return np.inf if auto_place is None else auto_place, name

    return {name: found[name] for name in sorted(found, key=place)}


def learners_of(features: Any) -> dict[str, Learner]:
    """Return the learners that the argument `features` of a classifier means, by name.

    Raises
    ------
    ArgumentError
        If `features` is not a value that the classifier accepts.
    """
    if features is None:
        return {}
    if isinstance(features, str) and features == "auto":
        every = all_learners().items()
        return {name: learner for name, learner in every if learner.auto_place is not None}
    kinds = list(features) if isinstance(features, list | tuple) else [features]
    if not kinds:
        raise ArgumentError("features is an empty list; use features=None for the LSTM alone.")
    known, found = all_learners(), dict[str, Learner]()
    for number, kind in enumerate(kinds):
        name = kind if isinstance(kind, str) else f"function_{number}"
        if name in found:
            raise ArgumentError(f"features={features!r} names a kind twice.")
        if callable(kind):
            found[name] = learner_of(kind)
        elif name in known:
            found[name] = known[name]
        else:
            raise ArgumentError(
                f"features={features!r} is not known. Use 'auto', None,"
                f" {', '.join(map(repr, known))}, a function (windows, lengths) -> array of"
                " shape (n, f), or a list of these."
            )
    return found
