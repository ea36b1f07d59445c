"""Candidate: one change that may calm a run, how it is tried, and what follows if it passes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.probes.arm import Arm, Lab

# Causes that re-runs with one changed argument can prove or exclude.
RACED = (
    "learning_rate",
    "batch_size",
    "gradient_clipping",
    "preprocessing",
    "weight_init",
    "model_complexity",
    "sequence_length",
    "regularization",
    "dropout_noise",
    "optimizer",
    "loss",
)
LEAST_CONFIDENCE = 0.1  # of a cause, for a trial of it
MOST_CANDIDATES = 6


@dataclass(frozen=True, eq=False)
class Candidate:
    """One change, how a re-run has it, and what follows if it passes.

    Parameters
    ----------
    cause : str
        What it speaks for.
    name : str
        The change in words.
    change : dict
        Arguments that make it in a whole fit; empty where what they are now is not known.
    finding : str
        Which side of the cause it speaks for.
    arm : dict
        Fields of `Arm` that make it in a re-run.
    kind : str, default "snapshot"
        ``"snapshot"`` or ``"init"``.
    judged_by : str, default "noise"
        ``"noise"``: it has to halve that, at no higher loss. ``"price"``: that, at a lower loss.
        ``"either"``: the first, or a loss that is lower by far. ``"level"``: the loss alone.
        ``"validation"``: it has to halve the noise, at no higher validation loss.
        ``"weights"``: the noise, at no higher loss; the steps are the same, so that no progress is
        at stake. ``"accuracy"``: noise and level of the accuracy.
    weight : float
        Confidence of the cause, less for a change that is tried only beside another one.
    alternatives : tuple of dict
        Other arguments that do the same.
    follows : str
        Name of a weaker form of the same change that is tried first; this one is only where that
        one proved nothing against it. "" for none.
    price_is_schedule : bool
        Whether a calm that costs progress speaks for a missing schedule.
    """

    cause: str
    name: str
    change: Mapping[str, Any]
    finding: str = ""
    arm: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "snapshot"
    judged_by: str = "noise"
    weight: float = 0.0
    alternatives: tuple[Mapping[str, Any], ...] = ()
    follows: str = ""
    price_is_schedule: bool = False

    @property
    def restarts(self) -> bool:
        """Whether the unchanged re-run beside it has to forget the optimizer's moments as well."""
        return bool(self.arm.get("restarts_optimizer", False))

    def make_arm(self, start: int | None, seed: int, n_epochs: int) -> Arm:
        """Return a re-run with the change."""
        return Arm(name=self.name, n_epochs=n_epochs, start=start, seed=seed, **self.arm)

    def make_unchanged(self, start: int | None, seed: int, n_epochs: int) -> Arm:
        """Return the re-run to hold it against."""
        restarts = self.restarts
        name = "unchanged, optimizer restarted" if restarts else "unchanged"
        return Arm(name, n_epochs, start=start, seed=seed, restarts_optimizer=restarts)


def judged_for(lab: Lab, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return candidates as they are judged in a lab: by the accuracy where no loss is in nats.

    How calm a run is and what it costs has no other measure there. Those that are judged by the
    level of the loss alone stay so: a run that learns nothing has no noise to be halved.
    """
    if lab.record.is_in_nats:
        return list(candidates)
    return [
        one if one.judged_by == "level" else replace(one, judged_by="accuracy")
        for one in candidates
    ]


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return those above 0.1, the likeliest first; of equals the first named."""
    worth = [part for part in candidates if part.weight > LEAST_CONFIDENCE * 0.5]
    return sorted(worth, key=lambda part: -part.weight)


def confidences(causes: Sequence[Cause]) -> dict[str, float]:
    """Return the confidence of every cause of `RACED` above 0.1 that is not already rejected."""
    return {
        cause.name: cause.confidence
        for cause in causes
        if cause.confidence > LEAST_CONFIDENCE and cause.grade != "rejected" and cause.name in RACED
    }


def differs(lab: Lab, change: Mapping[str, Any]) -> bool:
    """Whether a change can be made here and the run did not have it."""
    possible = all(name in lab.changeable for name in change)
    return possible and any(lab.arguments.get(name, ()) != change[name] for name in change)


def scaled_rate(lab: Lab, factor: float) -> dict[str, Any]:
    """Return the learning rate times a factor as an argument, where the estimator's is known."""
    rate = lab.arguments.get("learning_rate")
    if not isinstance(rate, int | float):
        return {}
    return {"learning_rate": rounded(rate * factor)}


def rounded(value: float) -> float:
    """Return a number in three significant digits."""
    return float(f"{value:.3g}")
