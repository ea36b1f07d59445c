"""Saved runs as cases: the cause that came true in each, its verdict and its features."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluctuation.answers import OF_THE_CURVE, report_of
from fluctuation.oracle import find_outcome, manifested
from fluctuation.runs import load

import sensorseq.fluctuation.report as report_module
from sensorseq.fluctuation.causes import theory
from sensorseq.fluctuation.causes.cause import TROUBLED
from sensorseq.fluctuation.causes.features import measure

KINDS: dict[str, tuple[str, ...]] = {  # which side of its cause a kind of injection shows
    "rate too high": ("too high",),
    "constant rate too high": ("too high", "schedule missing"),
    "no schedule": ("too high", "schedule missing"),
    "rate too low": ("too low",),
    "batch too small": ("too small",),
    "full batch, few steps": ("too large",),
    "oversampled": ("too long",),
    "zeros at the end": ("too long",),
    "noise at the end": ("too long",),
    "windows too short": ("too short",),
    "too wide": ("too large",),
    "too deep": ("too large",),
    "too small": ("too small",),
    "raw units": ("scale of the inputs",),
    "one channel in other units": ("scale of the inputs",),
    "far from zero": ("scale of the inputs",),
    "squared error": ("not cross-entropy",),
    "softmax twice": ("not cross-entropy",),
    "extreme class weight": ("classes weighed wrongly",),
    "dropout too strong": ("dropout too strong",),
    "weight decay too strong": ("penalty too strong",),
    "none": ("missing",),
    "sgd without momentum": ("plain steps", "too much momentum"),
    "momentum 0.99": ("too much momentum",),
    "rmsprop without clipping": ("unbounded steps",),
    "adam with a short memory": ("unbounded steps",),
}
SIDES = tuple(theory.SIDES)


@dataclass(frozen=True)
class Case:
    """One run: what happened in it, and what is known of its cause.

    Parameters
    ----------
    name, data, kind : str
        Of its plan.
    causes : tuple of str
        What was injected, where it came true; empty where nothing is wrong.
    verdict : str
        What `judge` says.
    features : dict of str to float
        Of `measure`.
    """

    name: str
    data: str
    kind: str
    causes: tuple[str, ...]
    verdict: str
    features: Mapping[str, float]

    @property
    def is_judged(self) -> bool:
        """Whether its causes would be ranked."""
        return self.verdict in TROUBLED

    @property
    def right(self) -> list[int]:
        """Places of the sides that are right; none where nothing is wrong."""
        shown = KINDS.get(self.kind)
        single = len(self.causes) == 1 and shown is not None
        return [
            place
            for place, (cause, side) in enumerate(SIDES)
            if cause in self.causes and (not single or side in (shown or ()))
        ]


def read_cases(folder: Path, kept: Path | None = None) -> list[Case]:
    """Read every run of a folder whose twin is there; `kept` holds what was measured before."""
    paths = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    held: dict[str, Any] = json.loads(kept.read_text()) if kept and kept.exists() else {}
    outcomes, told = {}, {}
    for name, path in paths.items():
        run = load(path)
        outcomes[name] = find_outcome(run)
        if name not in held:
            held[name] = _measured(run)
        told[name] = run.plan
    if kept:
        kept.write_text(json.dumps(held))
    cases = []
    for name, plan in told.items():
        causes: tuple[str, ...] = ()
        if plan.get("cause"):
            if plan["twin"] not in outcomes:
                continue
            came_true = manifested([(outcomes[name], outcomes[plan["twin"]])]).fault
            # what is done to the curve alone leaves the model, and the oracle, as they are
            if came_true or plan["cause"] in OF_THE_CURVE:
                causes = tuple(plan["cause"].split("+"))
        if plan.get("cause") and not causes and held[name]["verdict"] in TROUBLED:
            continue  # it moves, though not by twice the twin's: what is right to say is not known
        features = {k: math.nan if v is None else v for k, v in held[name]["features"].items()}
        cases.append(
            Case(name, plan["data"], plan["kind"], causes, held[name]["verdict"], features)
        )
    return cases


def _measured(run: Any) -> dict[str, Any]:
    """Judge a run again and return its verdict and features."""
    seen: dict[str, float] = {}
    original = report_module.find_causes

    def watched(of: Any, verdict: str, arguments: Any = None) -> tuple[Any, ...]:
        seen.update(measure(of))
        return ()

    report_module.find_causes = watched
    try:
        report = report_of(run)
    finally:
        report_module.find_causes = original
    features = {k: v if math.isfinite(v) else None for k, v in seen.items()}
    return {"verdict": report.verdict, "features": features}
