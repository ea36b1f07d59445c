"""Fit the weights of the ranker of causes, and say how often its first family is right.

    python benchmarks/diagnosis/fit.py rows.jsonl records --out weights.json

Each row is a run of the calibration part, with the single resets that strictly repair it. The label
is the family with such a reset, shared where there are several; "none" where there is none. Each
row is used with and without its record.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnosis.configuration import ConfigurationGuess, largest_deviation
from diagnosis.fits import DEFAULTS, as_arguments
from diagnosis.generate import read_rows
from diagnosis.truth import families_of, is_sick, moves_or_fails, right_causes
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from verdict.runs import load

from sensorseq.diagnosis.causes import RANKED
from sensorseq.diagnosis.judge import judge
from sensorseq.diagnosis.metrics import Run, read_columns, read_numbers
from sensorseq.diagnosis.ranking import (
    CURVE_FEATURES,
    FURTHEST,
    RECORD_FEATURES,
    measure,
    standardized,
    transformed,
    weigh,
)

Floats = NDArray[np.float64]
# What the curve adds to the settings: nothing else lowers the held-out log-loss by 0.01, `ablate`.
OF_RUN = ("loss_noise",)
PULL = 3.0  # precision of the prior of a weight: few runs move none far
OWN, INTERCEPT = 1.0, -1.5  # of the prior: weight of a family's own settings
SETTING_SCALE = (0.0, 0.6)  # of all families, so that they are compared
LEAST_VALUES, LEAST_SD = 20, 0.05  # of a feature, for its mean and spread
VIEWS, VIEW_WEIGHTS = ((), RECORD_FEATURES), (0.75, 0.25)


@dataclass(frozen=True)
class Sample:
    """One run, its features, and whether it is the same as another from another seed."""

    row: Mapping[str, Any]
    features: Mapping[str, float]
    is_again: bool = False

    @property
    def right(self) -> frozenset[str]:
        """Families with a single reset that strictly repairs it."""
        return frozenset(families_of(right_causes(self.row)))

    @property
    def shares(self) -> Floats:
        """The label: the share of each family, then that of none."""
        right = np.array([family in self.right for family in RANKED], float)
        return np.append(right / max(right.sum(), 1.0), float(not right.any()))


def read_samples(rows: Path, records: Path) -> list[Sample]:
    """Return the runs of a file, and the same from other seeds where their records are there."""
    samples = []
    for row in read_rows(rows).values():
        samples.append(sample_of(row, records / f"{row['name']}.npz"))
        if (again := records / f"{row['name']}-again.npz").exists():
            samples.append(sample_of(row, again, is_again=True))
    return samples


def sample_of(row: Mapping[str, Any], path: Path, *, is_again: bool = False) -> Sample:
    """Return a run with its record, or where that is not there with its history alone."""
    if path.exists():
        evidence = load(path)
        history, facts, record = evidence.rows, evidence.facts, evidence.record
    else:
        history, record = row["history"], None
        facts = {k: row["report"][k] for k in ("n_val", "n_train", "n_classes", "best_epoch")}
        facts["majority_fraction"] = row["guess"]
    columns, n_epochs = read_columns(history)
    rates = read_numbers(history).get("learning_rate")
    run = Run(columns, n_epochs, **facts, learning_rate=rates, record=record)
    verdict = judge(run)[0]
    arguments = {**DEFAULTS, **as_arguments(row["settings"], facts["n_classes"])}
    return Sample(row, measure(run, verdict, arguments), is_again)


def fit_model(samples: Sequence[Sample], of_run: Sequence[str] = OF_RUN) -> dict[str, Any]:
    """Return the weights fitted to samples, in the format that the package reads."""
    names = [*FURTHEST.values(), *of_run]
    scales = {name: _scale(name, samples) for name in names}
    rows, labels, weight = [], [], []
    n_seeds = Counter(sample.row["name"] for sample in samples)
    for sample in samples:
        for without, share in zip(VIEWS, VIEW_WEIGHTS, strict=True):
            held = standardized({**sample.features, **dict.fromkeys(without, math.nan)}, scales)
            rows.append([1.0, *(held[name] for name in names)])
            labels.append(sample.shares)
            weight.append(share / n_seeds[sample.row["name"]])  # a run counts once
    fitted = _maximize(np.array(rows), np.array(labels), np.array(weight), _prior(names))
    families = {
        family: {
            "intercept": round(own[0], 3),
            "weights": {
                name: round(value, 3)
                for name, value in zip(names, own[1:], strict=True)
                if abs(value) >= 0.02
            },
        }
        for family, own in zip(RANKED, fitted.tolist(), strict=True)
    }
    return {"scales": scales, "families": families}


def _prior(names: Sequence[str]) -> Floats:
    weights = [[OWN * (name == FURTHEST[family]) for name in names] for family in RANKED]
    return np.column_stack([np.full(len(RANKED), INTERCEPT), weights])


def _maximize(x: Floats, label: Floats, weight: Floats, prior: Floats) -> Floats:
    """Return the weights (families, features) of a multinomial regression with a normal prior."""
    precision = np.append(0.05, np.full(x.shape[1] - 1, PULL))

    def loss(flat: Floats) -> tuple[float, Floats]:
        w = flat.reshape(prior.shape)
        chance = log_softmax(np.column_stack([x @ w.T, np.zeros(len(x))]), axis=1)
        value = -weight @ (label * chance).sum(axis=1) + 0.5 * (precision * (w - prior) ** 2).sum()
        error = weight[:, None] * (np.exp(chance) - label)
        gradient = error[:, :-1].T @ x + precision * (w - prior)
        return float(value), np.ravel(gradient)

    found = minimize(loss, prior.ravel(), jac=True, method="L-BFGS-B").x
    return np.asarray(found.reshape(prior.shape))


def _scale(name: str, samples: Sequence[Sample]) -> tuple[float, float]:
    """Return mean and standard deviation of a feature, or of its logarithm."""
    if name in FURTHEST.values():
        return SETTING_SCALE
    values = np.array([transformed(name, sample.features[name]) for sample in samples])
    values = values[np.isfinite(values)]
    if len(values) < LEAST_VALUES:
        return 0.0, 1.0
    return round(float(values.mean()), 4), round(max(float(values.std()), LEAST_SD), 4)


def cross_validate(samples: Sequence[Sample], of_run: Sequence[str] = OF_RUN) -> dict[str, Any]:
    """Return the first family and its chance, told on data sets that were left out."""
    asked = [sample for sample in samples if not sample.is_again]
    found: dict[str, list[Any]] = {}
    for data in sorted({sample.row["data"] for sample in asked}):
        learned = [sample for sample in samples if sample.row["data"] != data]
        models = {
            "settings and curve": fit_model(learned, of_run),
            "settings": fit_model(learned, ()),
        }
        rows = [sample.row for sample in learned if sample.right and not sample.is_again]
        guess = ConfigurationGuess(rows, [families_of(right_causes(row)) for row in rows])
        for sample in asked:
            if sample.row["data"] != data:
                continue
            for name, model in models.items():
                found.setdefault(name, []).append((sample, weigh(sample.features, model)))
            for name, first in (
                ("settings, as the benchmark guesses", guess.first(sample.row)),
                ("largest deviation", largest_deviation(sample.row)),
            ):
                found.setdefault(name, []).append((sample, {first: 1.0}))
    return found


def log_loss(told: Sequence[tuple[Sample, Mapping[str, float]]]) -> float:
    """Return the mean log-loss of the family that repairs, or of none."""
    chances = np.array([[of.get(family, 0.0) for family in RANKED] for _, of in told])
    chances = np.column_stack([chances, 1 - chances.sum(axis=1)]).clip(1e-3)
    shares = np.array([sample.shares for sample, _ in told])
    return float(-(shares * np.log(chances)).sum(axis=1).mean())


def tell(answers: Mapping[str, Sequence[tuple[Sample, Mapping[str, float]]]]) -> None:
    """Print how often the first family is right, and how sure it is of healthy runs."""
    for name, told in answers.items():
        first = [(sample, max(of, key=lambda family: of[family])) for sample, of in told]
        asked = [(sample, family) for sample, family in first if sample.right]
        shown = [one for one in asked if moves_or_fails(one[0].row)]
        right, of_shown = ([family in s.right for s, family in of] for of in (asked, shown))
        healthy = [max(of.values()) for sample, of in told if not is_sick(sample.row)]
        print(
            f"{name:36} right {sum(right)}/{len(right)}, moves or fails {sum(of_shown)}/"
            f"{len(of_shown)}; healthy above 45 % {sum(np.array(healthy) >= 0.45)}/"
            f"{len(healthy)}; log loss {log_loss(told):.3f}"
        )


def ablate(samples: Sequence[Sample]) -> None:
    """Print the held-out log-loss with one more feature of the run, or one less."""
    for name in (*CURVE_FEATURES, *RECORD_FEATURES):
        is_used = name in OF_RUN
        of_run = [one for one in OF_RUN if one != name] if is_used else [*OF_RUN, name]
        told = cross_validate(samples, of_run)["settings and curve"]
        print(f"{'without' if is_used else 'with':8} {name:24} {log_loss(told):.3f}")


def as_text(model: Mapping[str, Any]) -> str:
    """Return a model as JSON, each family and feature on a line."""
    parts = []
    for name in ("origin", "scales", "families"):
        lines = [f"  {json.dumps(key)}: {json.dumps(of)}" for key, of in model[name].items()]
        held = ",\n".join(lines)
        parts.append(f" {json.dumps(name)}: {{\n{held}\n }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Read rows, cross-validate, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ablate", action="store_true", help="with each feature of the run")
    given = parser.parse_args()
    samples = read_samples(given.rows, given.records)
    rows = [sample.row for sample in samples if not sample.is_again]
    counts = Counter(family for s in samples if not s.is_again for family in s.right)
    print(f"{len(rows)} runs, {sum(map(is_sick, rows))} sick, repaired by {dict(counts)}")
    tell(cross_validate(samples))
    if given.ablate:
        ablate(samples)
    if given.out:
        origin = {
            "how": "benchmarks/diagnosis/fit.py, on the calibration part",
            "runs": len(rows),
            "sick": sum(map(is_sick, rows)),
            "repaired_by": dict(counts),
            "data": sorted({row["data"] for row in rows}),
        }
        given.out.write_text(as_text({**fit_model(samples), "origin": origin}))


if __name__ == "__main__":
    main()
