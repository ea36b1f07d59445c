"""Cause, Trial, NotTested, Suspect: what is found out about why a run fluctuates."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sensorseq.fluctuation.plain import number, number_or_none, numbers, plain

CAUSE_NAMES = (
    "learning_rate",
    "batch_size",
    "sequence_length",
    "model_complexity",
    "early_stopping",
    "gradient_clipping",
    "preprocessing",
    "weight_init",
    "loss",
    "regularization",
    "optimizer",
    "label_noise",
    "small_validation_set",
    "distribution_shift",
    "dropout_noise",
    "data_bug",
    "evaluation_not_deterministic",
    "unknown",
)
# From statistics alone; a specific signature with its rivals excluded; a trial passed its stop
# rule; a whole fit with the repair is calm and as accurate; a trial excluded it.
GRADES = ("observed", "supported", "proved", "repaired", "rejected")
TROUBLED = ("fluctuating", "diverged", "not_learning")  # verdicts that ask for a cause
IDENTIFIED = 0.5  # confidence, below which no cause is named first
# What may cost a calm run accuracy and leaves a mark of its own, in inputs, weights or margins. Of
# the others, noise is what shows them.
HIDDEN = frozenset(("batch_size", "preprocessing", "regularization", "weight_init"))


@dataclass(frozen=True)
class Trial:
    """One change that was tried in controlled re-runs, beside unchanged ones.

    Parameters
    ----------
    cause : str
        Of `CAUSE_NAMES`.
    name : str
        What was changed, such as ``"learning_rate / 4"``.
    change : dict
        Arguments of the estimator and the value each was given; empty where none does it.
    kind : str
        ``"snapshot"`` (from a state of the run), ``"init"`` (from first weights), ``"replay"`` (of
        single steps) or ``"inference"`` (without a step).
    outcome : str
        ``"confirmed"``, ``"rejected"`` or ``"undecided"``.
    sentence : str
        What came of it, with its figures.
    n_pairs : int
        Pairs of re-runs, one with the change and one without.
    noise_ratio : float or None
        Noise of the loss with the change over that without; geometric mean over the pairs.
    raw_change, averaged_change : float or None
        Loss with the change less that without, in nats: of the weights as they are, and of their
        average.
    curves : dict of str to list of list of float
        ``"A"`` (unchanged), ``"A'"`` (unchanged, another order) and ``"B"`` (changed): loss of the
        fixed training windows after each epoch, one list for each re-run.
    evidence_ratio : list of float
        Log-likelihood ratio after each pair, what the stop rule decided on.
    bounds : (float, float) or None
        Where it stops: rejected at or below the first, confirmed at or above the second.
    cost_epochs : float
        Training it took, in epochs of the run.
    """

    cause: str
    name: str
    change: Mapping[str, Any]
    kind: str
    outcome: str
    sentence: str
    n_pairs: int = 0
    noise_ratio: float | None = None
    raw_change: float | None = None
    averaged_change: float | None = None
    curves: Mapping[str, list[list[float]]] = field(default_factory=dict)
    evidence_ratio: tuple[float, ...] = ()
    bounds: tuple[float, float] | None = None
    cost_epochs: float = 0.0


@dataclass(frozen=True)
class Cause:
    """One possible cause of what a run did.

    Parameters
    ----------
    name : str
        Of `CAUSE_NAMES`.
    grade : str
        Of `GRADES`.
    confidence : float
        Probability that it is the cause, calibrated on runs with a known one; in [0, 1].
    evidence : str
        A sentence with its figures.
    finding : str
        Which side of the cause: ``"too high"``, ``"schedule missing"``, ``"too small"``; may be
        empty.
    recommendation : dict
        Arguments for `set_params` of the estimator that repair it; empty where none does.
    alternatives : tuple of dict
        Other arguments that would repair it as well.
    advice : str
        What to do that no argument does.
    statistics : tuple of str
        Names in the report's statistics that `evidence` quotes.
    """

    name: str
    grade: str
    confidence: float
    evidence: str
    finding: str = ""
    recommendation: Mapping[str, Any] = field(default_factory=dict)
    alternatives: tuple[Mapping[str, Any], ...] = ()
    advice: str = ""
    statistics: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name, and the finding where there is one."""
        return f"{self.name}: {self.finding}" if self.finding else self.name

    @property
    def family(self) -> str:
        """The family it belongs to."""
        return self.name

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "Cause":
        """Rebuild what `plain` described; a confidence that was no number is NaN."""
        return cls(
            **{
                **description,
                "confidence": number(description["confidence"]),
                "recommendation": dict(description["recommendation"]),
                "alternatives": tuple(dict(part) for part in description["alternatives"]),
                "statistics": tuple(description["statistics"]),
            }
        )


@dataclass(frozen=True)
class Family:
    """Causes whose repairs are nearly the same."""

    name: str
    confidence: float
    causes: tuple[Cause, ...]


def families(causes: Iterable[Cause]) -> tuple[Family, ...]:
    """Group causes by family, in the order in which each family's first cause comes."""
    members: dict[str, list[Cause]] = {}
    for cause in causes:
        members.setdefault(cause.family, []).append(cause)
    return tuple(
        Family(name, max(float(cause.confidence) for cause in group), tuple(group))
        for name, group in members.items()
    )


@dataclass(frozen=True)
class NotTested:
    """A cause that no trial was made for.

    Parameters
    ----------
    cause : str
        Of `CAUSE_NAMES`.
    reason : str
        Why not.
    would_settle : str
        What would.
    """

    cause: str
    reason: str
    would_settle: str = ""


@dataclass(frozen=True)
class Suspect:
    """A window whose label looks wrong.

    Parameters
    ----------
    row : int
        Of the windows given to `fit`.
    label, rival : str
        Its label, and the class that fits better.
    probability : float
        Out-of-fold probability of its label.
    recording : str or None
        Recording or group it comes from, where that is known.
    start_s : float or None
        Where it begins there, where that is known.
    values : list of list of float
        The signal, a list for each channel, thinned for drawing.
    """

    row: int
    label: str
    rival: str
    probability: float
    recording: str | None = None
    start_s: float | None = None
    values: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class Probes:
    """What controlled re-runs of a fit came to.

    Parameters
    ----------
    budget : float
        What they may cost, in times of the fit.
    cost : float
        What they did cost, in times of the fit, by the clock.
    fit_s, probes_s : float
        Seconds of both.
    self_test : str
        What came of replaying a part of the run unchanged.
    trials : tuple of Trial
        In the order in which they were made.
    not_tested : tuple of NotTested
        The other causes.
    suspects : tuple of Suspect
        Windows whose labels look wrong, worst first.
    repair : dict
        The smallest set of changes that repairs the run: arguments for `set_params`.
    previous : dict
        The arguments it replaces, with their values.
    note : str
        How `repair` was found, or why it is empty.
    """

    budget: float
    cost: float = 0.0
    fit_s: float = 0.0
    probes_s: float = 0.0
    self_test: str = ""
    trials: tuple[Trial, ...] = ()
    not_tested: tuple[NotTested, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    repair: Mapping[str, Any] = field(default_factory=dict)
    previous: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that `json.dumps` takes; NaN and infinity as None."""
        description: dict[str, Any] = plain(self)
        return description

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "Probes":
        """Rebuild what `to_dict` described; numbers that were not finite come back as NaN."""
        parts = {
            "trials": tuple(_trial(trial) for trial in description["trials"]),
            "not_tested": tuple(NotTested(**part) for part in description["not_tested"]),
            "suspects": tuple(_suspect(suspect) for suspect in description["suspects"]),
            "repair": dict(description["repair"]),
            "previous": dict(description["previous"]),
        }
        numerical = ("budget", "cost", "fit_s", "probes_s")
        return cls(
            **{**description, **parts, **{name: number(description[name]) for name in numerical}}
        )


def _trial(fields: Mapping[str, Any]) -> Trial:
    bounds = fields["bounds"]
    if bounds is not None:
        low, high = bounds
        # a side on which the rule never stops
        bounds = (-math.inf if low is None else low, math.inf if high is None else high)
    ratios = ("noise_ratio", "raw_change", "averaged_change")
    return Trial(
        **{
            **fields,
            **{name: number_or_none(fields[name]) for name in ratios},
            "change": dict(fields["change"]),
            "curves": {
                str(name): [numbers(curve) for curve in curves]
                for name, curves in fields["curves"].items()
            },
            "evidence_ratio": tuple(numbers(fields["evidence_ratio"])),
            "bounds": bounds,
            "cost_epochs": number(fields["cost_epochs"]),
        }
    )


def _suspect(fields: Mapping[str, Any]) -> Suspect:
    return Suspect(
        **{
            **fields,
            "probability": number(fields["probability"]),
            "start_s": number_or_none(fields["start_s"]),
            "values": [numbers(channel) for channel in fields["values"]],
        }
    )


def hidden_cause(verdict: str, causes: Sequence[Cause]) -> Cause | None:
    """Return what costs a calm run accuracy, likelier than not; None of other runs, or if nothing.

    Before re-runs or after them; a check of the data alone does not say that it costs any.
    """
    if verdict != "normal":
        return None
    return next((cause for cause in causes if cause.name in HIDDEN and _is_likely(cause)), None)


def _is_likely(cause: Cause) -> bool:
    is_sure = cause.confidence >= IDENTIFIED and cause.grade != "rejected"
    return is_sure or cause.grade in ("proved", "repaired")
