"""Cause, Family, Trial, NotTested, Suspect, Probes: what is known about why a run fluctuates."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sensorseq.fluctuation.causes.table import FAMILY_OF, UNKNOWN

CAUSE_NAMES = tuple(FAMILY_OF)
GRADES = ("suspected", "proved")  # seen in the run alone; a training with its change did better
TROUBLED = ("fluctuating", "diverged", "not_learning")  # verdicts that ask for a cause
LEAST_FAULT = 0.2  # confidence from which a fault of the data matters ...
LIKELY_FAULT = 0.4  # ... and from which it is repaired first
IDENTIFIED = 0.45  # confidence of a family from which a calm run has a hidden cause
# In a normal run these explain a rough curve or describe the data; they need not cost accuracy.
DESCRIPTIVE = frozenset(("small_validation_set", "label_noise", "distribution_shift", "data_bug"))


@dataclass(frozen=True)
class Trial:
    """One change that was tried, next to the run as it was."""

    cause: str  # of `CAUSE_NAMES`
    name: str  # what was changed, such as "learning_rate / 4"
    change: Mapping[str, Any]  # arguments and their values; empty where none does it
    kind: str  # "race" or "inference" (without a step); older files: "snapshot", "init", "replay"
    outcome: str  # "confirmed", "rejected" or "undecided"
    sentence: str  # the result, with its figures
    noise_ratio: float | None = None  # movement of the loss with the change over that without
    raw_change: float | None = None  # loss with the change minus that without, in nats
    curves: Mapping[str, list[list[float]]] = field(default_factory=dict)
    cost_epochs: float = 0.0  # in epochs of the run
    change_error: float | None = None  # standard error of `raw_change` over groups
    accuracy_change: float | None = None  # validation accuracy with minus without, a fraction
    accuracy_error: float | None = None  # its standard error


@dataclass(frozen=True)
class Cause:
    """One possible cause of what a run did."""

    name: str  # of `CAUSE_NAMES`
    grade: str  # of `GRADES`
    confidence: float  # probability that it is the cause; of all together at most 1
    evidence: str  # a sentence with its figures
    finding: str = ""  # which side, such as "too high"; may be empty
    recommendation: Mapping[str, Any] = field(default_factory=dict)
    alternatives: tuple[Mapping[str, Any], ...] = ()
    advice: str = ""  # what to do, in words
    statistics: tuple[str, ...] = ()  # features or statistics that `evidence` quotes
    sources: Mapping[str, str] = field(default_factory=dict)  # by "curve", "data" and others

    @property
    def title(self) -> str:
        """The name, and the finding if there is one."""
        return f"{self.name}: {self.finding}" if self.finding else self.name

    @property
    def family(self) -> str:
        """The family it belongs to, such as ``"step"`` or ``"data"``; see `causes.table`."""
        return FAMILY_OF.get(self.name, UNKNOWN)


@dataclass(frozen=True)
class Family:
    """Causes whose repairs are nearly the same."""

    name: str  # of `table.FAMILIES`
    confidence: float  # of its causes together
    causes: tuple[Cause, ...]


def families(causes: Iterable[Cause]) -> tuple[Family, ...]:
    """Group causes by family, in order."""
    members: dict[str, list[Cause]] = {}
    for cause in causes:
        members.setdefault(cause.family, []).append(cause)
    return tuple(
        Family(name, sum(float(cause.confidence) for cause in group), tuple(group))
        for name, group in members.items()
    )


@dataclass(frozen=True)
class NotTested:
    """A cause that no trial was made for."""

    cause: str  # of `CAUSE_NAMES`
    reason: str  # why not
    would_settle: str = ""  # what would


@dataclass(frozen=True)
class Suspect:
    """A window whose label looks wrong."""

    row: int  # of the windows given to `fit`
    label: str
    rival: str  # the class that fits better
    probability: float  # of its label, out of fold
    recording: str | None = None  # or group it comes from, where known
    values: list[list[float]] = field(default_factory=list)  # of each channel, thinned


@dataclass(frozen=True)
class Probes:
    """What trainings of a fit with other settings came to."""

    budget: float  # what they may cost, in times of the fit
    cost: float = 0.0  # what they did cost, in times of the fit, by the clock
    fit_s: float = 0.0
    probes_s: float = 0.0
    trials: tuple[Trial, ...] = ()  # in the order in which they were made
    not_tested: tuple[NotTested, ...] = ()  # the other causes
    suspects: tuple[Suspect, ...] = ()  # worst first
    repair: Mapping[str, Any] = field(default_factory=dict)  # smallest, for `set_params`
    previous: Mapping[str, Any] = field(default_factory=dict)  # what it replaces
    note: str = ""  # how `repair` was found, or why it is empty
    is_applied: bool = False  # whether the report is of a fit with `repair` already


def hidden_cause(verdict: str, causes: Sequence[Cause]) -> Cause | None:
    """Return what probably costs a calm run accuracy; None for other runs, or if nothing does."""
    if verdict != "normal":
        return None
    costly = [cause for cause in causes if cause.name not in DESCRIPTIVE]
    likely = {family.name for family in families(costly) if family.confidence >= IDENTIFIED}
    return next((one for one in costly if one.grade == "proved" or one.family in likely), None)


def data_fault(causes: Sequence[Cause]) -> Cause | None:
    """Return the likeliest fault that the checks of the data found; None if none matters."""
    found = (
        one
        for one in causes
        if one.name in ("data_bug", "distribution_shift")
        and "data" in one.sources
        and one.confidence >= LEAST_FAULT
    )
    return next(found, None)
