"""Fit the weights of the ranker of causes, and say how often its first family is right.

    python benchmarks/fluctuation/fit.py rows.jsonl records --out weights.json

Each row is a run of the calibration part, with the single resets that strictly repair it. For each
family the label is whether one of its resets does; for each side of a cause whether its reset does,
among runs that the family repairs. Weights are pulled towards `PRIOR`, which is set by hand, so
that a side that few runs show keeps it. Every row is used several times: whole, without its
configuration, without its record, without both.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fluctuation.configuration import ConfigurationGuess, largest_deviation
from fluctuation.fits import DEFAULTS, as_arguments
from fluctuation.generate import read_rows
from fluctuation.resets import REPAIRED, SAME
from fluctuation.truth import (
    best_of,
    families_of,
    is_sick,
    moves_or_fails,
    repaired_by,
    right_causes,
)
from numpy.typing import NDArray
from scipy.optimize import minimize
from verdict.runs import load

from sensorseq.fluctuation.causes.features import (
    ARGUMENT_FEATURES,
    CURVE_FEATURES,
    NAMES,
    RECORD_FEATURES,
    measure,
)
from sensorseq.fluctuation.causes.rank import standardised, transformed, weigh, weights
from sensorseq.fluctuation.causes.table import RANKED, TABLE
from sensorseq.fluctuation.statistics.run import Run, read_columns, read_numbers
from sensorseq.fluctuation.verdict.judge import judge

Floats = NDArray[np.float64]
PULL = 30.0  # precision of the prior of a weight: few runs move none far
# What may get a weight for a family, next to what has one by hand: few, for there are few runs.
FITTED = (
    *(f"lead_{family}" for family in RANKED),
    *("fluctuating", "not_learning", "loss_noise", "over_chance", "still_falling", "n_steps"),
    *("val_loss_rise", "input_scale", "train_mode_gap"),
)
CALIBRATION_PULL = 10.0  # of the factor of all weights of a family, towards 1
LEAST_VALUES = 20  # of a feature, for its mean
LEAST_SHOWN = 2.0  # runs of each kind: below, a family or a side keeps its prior
SIZES = ("n_steps", "windows_per_step")
FAMILY_OF = {entry.key: entry.family for entry in TABLE}
VIEWS = ((), ARGUMENT_FEATURES, RECORD_FEATURES, (*ARGUMENT_FEATURES, *RECORD_FEATURES))
VIEW_WEIGHTS = (0.55, 0.2, 0.1, 0.15)
# Set by hand, in standard deviations: what speaks for a family, and within it for a side.
PRIOR: dict[str, dict[str, float]] = {
    "step": {
        "lead_step": 1.0, "fluctuating": 0.4, "diverged": 0.3, "loss_noise": 0.4,
        "loss_fall": -0.2, "over_chance": -0.2,
    },
    "capacity": {
        "lead_capacity": 1.0, "train_mode_gap": 0.2, "over_chance": -0.2,
    },
    "data": {
        "lead_data": 1.0, "unscaled": 0.2, "input_scale": 0.4,
        "stuck_depth": 0.3, "accuracy_gap": 0.2, "group_spread": 0.2,
    },
    "start": {
        "lead_start": 1.0, "first_loss_excess": 0.4, "class_bias": 0.2,
        "own_class_weight": 0.2,
    },
    "stopping": {
        "lead_stopping": 1.0, "still_falling": 0.5, "n_steps": -0.3, "val_loss_rise": 0.4,
        "over_chance": -0.1,
    },
    "learning_rate: too high": {
        "fluctuating": 0.5, "diverged": 1.0, "not_learning": 0.2,
        "rate_above": 1.5, "rate_below": -1.0,
        "loss_fall": -0.2,
    },
    "learning_rate: too low": {
        "fluctuating": -1.5, "diverged": -1.5, "loss_noise": -0.7,
        "rate_below": 1.5, "rate_above": -1.0, "loss_fall": -0.4,
    },
    "learning_rate: schedule missing": {
        "fluctuating": 0.7, "diverged": -0.5,
        "rate_constant": 1.0, "rate_end": 0.5, "loss_noise": 0.4, "excess_plateau_loss": 0.4,
    },
    "batch_size: too small": {
        "batch_below": 1.2, "windows_per_step": -0.7, "loss_noise": 0.3, "grad_tail": 0.3,
    },
    "batch_size: too large": {
        "fluctuating": -0.5,
        "batch_above": 1.0, "windows_per_step": 0.6, "n_steps": -0.6, "batch_of_all": 0.5,
    },
    "optimizer": {
        "sgd": 0.9, "own_optimizer_parameters": 0.8, "rmsprop": 0.3, "rate_below": 0.4,
        "rate_above": 0.4,
    },
    "gradient_clipping": {
        "unclipped": 0.8, "clip_below": 0.8, "grad_tail": 0.3, "loss_spike_share": 0.3,
        "clipped_share": 0.3,
    },
    "model_complexity: too small": {
        "width_below": 1.2, "stuck_share": 0.4, "train_accuracy": -0.3,
    },
    "model_complexity: last step only": {
        "pools_less": 1.2,
    },
    "model_complexity: too large": {
        "width_above": 0.8, "more_layers": 0.8, "loss_gap": 0.3, "train_accuracy": 0.2,
    },
    "regularization: too strong": {
        "dropout_above": 1.2, "decay_above": 1.2, "train_mode_gap": 0.5,
    },
    "regularization: missing": {
        "unregularized": 1.0, "loss_gap": 0.4, "accuracy_gap": 0.4,
    },
    "preprocessing: scale of the inputs": {
        "unscaled": 1.2, "input_scale": 0.6,
    },
    "label_noise": {
        "stuck_depth": 0.8, "stuck_share": 0.4, "val_stubborn_of_errors": 0.4, "unscaled": -0.4,
    },
    "sequence_length": {
        "cropped": 1.2,
        "stuck_share": 0.2, "unscaled": -0.4,
    },
    "distribution_shift": {
        "accuracy_gap": 0.8, "group_spread": 0.5, "loss_gap_first": 0.5, "unscaled": -0.4,
    },
    "weight_init": {
        "own_weights": 0.8, "forget_bias_off": 0.9, "first_loss_excess": 0.5,
    },
    "loss: not cross-entropy": {
        "own_loss": 1.5, "cross_entropy_gap": 0.4,
    },
    "loss: classes weighed wrongly": {
        "own_class_weight": 1.5, "class_bias": 0.6,
    },
    "early_stopping: too few epochs": {
        "fluctuating": -0.3, "diverged": -1.0,
        "still_falling": 0.8, "n_steps": -0.8, "val_loss_rise": -0.6,
    },
    "early_stopping: too many epochs": {
        "val_loss_rise": 1.0, "val_loss_lowest_at": -0.8, "keeps_last": 0.4,
    },
}  # fmt: skip
INTERCEPTS = dict.fromkeys(RANKED, -1.5)  # of the prior; of sides -0.8
LEAD_SCALE = (-0.3, 0.6)  # of the lead of each family, so that families are compared


def prior_model() -> dict[str, Any]:
    """Return the weights that are set by hand, in the format of the fitted ones."""
    families = {
        family: {"intercept": INTERCEPTS[family], "weights": PRIOR[family]} for family in RANKED
    }
    sides = {
        entry.key: {"family": entry.family, "intercept": -0.8, "weights": PRIOR[entry.key]}
        for entry in TABLE
        if entry.key in PRIOR
    }
    return {"scales": weights()["scales"], "families": families, "sides": sides}


@dataclass(frozen=True)
class Sample:
    """One run: its features, and how far each side's reset repairs it.

    Parameters
    ----------
    row : dict
        Of the run.
    features : dict
        Of `measure`.
    sides : dict of str to float
        1 where its reset strictly repairs the run, which another seed alone does not; below,
        half of the share of the missing accuracy that it brings. Empty of a healthy run.
    is_again : bool
        Whether it is the same run from another seed.
    """

    row: Mapping[str, Any]
    features: Mapping[str, float]
    sides: Mapping[str, float]
    is_again: bool = False

    def share(self, family: str) -> float:
        """Return the most that a side of a family repairs."""
        return max((v for side, v in self.sides.items() if FAMILY_OF[side] == family), default=0.0)

    @property
    def right(self) -> frozenset[str]:
        """Families with a single reset that strictly repairs it."""
        return frozenset(families_of(right_causes(self.row)))


def read_samples(rows: Path, records: Path) -> list[Sample]:
    """Return the runs of a file, and the same from other seeds, whose records are there."""
    samples = []
    for row in read_rows(rows).values():
        for again in ("", "-again"):
            if (path := records / f"{row['name']}{again}.npz").exists():
                samples.append(_sample(row, path, is_again=bool(again)))
    return samples


def _sample(row: Mapping[str, Any], path: Path, *, is_again: bool) -> Sample:
    evidence = load(path)
    columns, n_epochs = read_columns(evidence.rows)
    rates = read_numbers(evidence.rows).get("learning_rate")
    run = Run(columns, n_epochs, **evidence.facts, learning_rate=rates, record=evidence.record)
    verdict = judge(run)[0]
    n_classes = evidence.facts["n_classes"]
    arguments = {**DEFAULTS, **as_arguments(row["settings"], n_classes)}
    sides = repaired_sides(row, arguments)
    return Sample(row, measure(run, verdict, arguments), sides, is_again)


def repaired_sides(row: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, float]:
    """Return how far the reset of each side repairs a run, see `Sample`."""
    if not is_sick(row) or repaired_by(row, row["resets"][SAME]):
        return {}
    missing = max(best_of(row) - row["level"], REPAIRED)
    found: dict[str, float] = {}
    for name, outcome in row["resets"].items():
        side = _side_of(name, row, arguments) if outcome["cause"] else ""
        if side:
            brought = (outcome["level"] - row["level"]) / missing
            share = 1.0 if repaired_by(row, outcome) else 0.5 * min(max(brought, 0.0), 1.0)
            found[side] = max(found.get(side, 0.0), share if share > 0.1 else 0.0)
    return found


def _side_of(reset: str, row: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """Return the side of its cause that a reset speaks for."""
    cause, _, value = reset.partition(": ")
    twin = row["twin"] or {}
    if cause == "learning_rate":
        if value == "twin":
            is_rate = twin["learning_rate"] != arguments["learning_rate"]
            faster = twin["learning_rate"] > arguments["learning_rate"]
            value = ("x" if faster else "/") if is_rate else "cosine"
        value = {"x": "too low", "/": "too high", "c": "schedule missing"}[value[0]]
    elif cause == "batch_size":
        value = "too small" if (arguments["batch_size"] or 1000) < 32 else "too large"
    elif cause == "model_complexity":
        deep = arguments["num_layers"] > 1
        kinds = {"x4": "too small", "/4": "too large", "pooling": "last step only"}
        if value == "twin" and twin["pooling"] != arguments["pooling"]:
            value = "pooling"
        value = kinds.get(value, "too large" if deep else "too small")
    elif cause == "regularization":
        masked = max(arguments[n] for n in ("dropout", "recurrent_dropout", "input_dropout"))
        held = masked > 0.3 or arguments["weight_decay"] > 1e-3 or arguments["l1"] > 0
        value = "too strong" if value == "none" or held else "missing"
    elif cause == "loss":
        value = (
            "not cross-entropy"
            if arguments["loss"] != "cross_entropy"
            else "classes weighed wrongly"
        )
    elif cause == "early_stopping":
        more = value == "epochs x3" or (
            value == "twin" and twin["max_epochs"] > arguments["max_epochs"]
        )
        value = "too few epochs" if more else "too many epochs"
    elif cause == "preprocessing":
        value = "scale of the inputs"
    else:
        value = ""
    key = f"{cause}: {value}" if value else cause
    return key if key in FAMILY_OF else ""


def fit_model(samples: Sequence[Sample], pull: float = PULL) -> dict[str, Any]:
    """Return the weights fitted to samples, each seen in every view."""
    model = prior_model()
    scales = _scales(samples)
    model["scales"] = scales
    z, weight, owner = _views(samples, scales)
    for family in RANKED:
        soft = np.array([sample.share(family) for sample in samples])[owner]
        prior = model["families"][family]
        names = sorted({*FITTED, *prior["weights"]})
        fitted = _fit(z, soft, weight, prior, names, pull)
        strict = np.array([float(family in sample.right) for sample in samples])[owner]
        model["families"][family] = _calibrated(fitted, z, strict, weight)
    for key, side in model["sides"].items():
        of_family = np.array([sample.share(side["family"]) for sample in samples])[owner]
        soft = np.array([sample.sides.get(key, 0.0) for sample in samples])[owner]
        keep = of_family > 0
        names = sorted({*side["weights"], *CURVE_FEATURES[:3]})
        shares = soft[keep] / of_family[keep]
        fitted = _fit(z[keep], shares, weight[keep] * of_family[keep], side, names, pull)
        model["sides"][key] = {"family": side["family"], **fitted}
    return model


def _fit(
    z: Floats,
    label: Floats,
    weight: Floats,
    prior: Mapping[str, Any],
    names: Sequence[str],
    pull: float,
) -> dict[str, Any]:
    """Return the most probable weights, given a normal prior about those set by hand."""
    shown = float(weight @ label)
    if min(shown, weight.sum() - shown) < LEAST_SHOWN:
        return {"intercept": prior["intercept"], "weights": dict(prior["weights"])}
    places = [NAMES.index(name) for name in names]
    x = np.column_stack([np.ones(len(z)), z[:, places]])
    centre = np.array([prior["intercept"], *(prior["weights"].get(name, 0.0) for name in names)])
    w = _maximise(x, label, weight, centre, np.array([0.05, *np.full(len(names), pull)]))
    weights = {name: round(float(v), 3) for name, v in zip(names, w[1:], strict=True)}
    return {
        "intercept": round(float(w[0]), 3),
        "weights": {name: value for name, value in weights.items() if abs(value) >= 0.02},
    }


def _calibrated(
    fitted: Mapping[str, Any], z: Floats, label: Floats, weight: Floats
) -> dict[str, Any]:
    """Return weights times a factor, with an intercept such that chances are those of a repair."""
    score = z @ np.array([fitted["weights"].get(name, 0.0) for name in NAMES])
    x = np.column_stack([np.ones(len(z)), score])
    centre = np.array([fitted["intercept"], 1.0])
    shift, factor = _maximise(x, label, weight, centre, np.array([0.05, CALIBRATION_PULL]))
    factor = max(factor, 0.2)
    weights = {name: round(float(factor * v), 3) for name, v in fitted["weights"].items()}
    return {"intercept": round(float(shift), 3), "weights": weights}


def _maximise(
    x: Floats, label: Floats, weight: Floats, centre: Floats, precision: Floats
) -> Floats:
    """Return the weights of a logistic regression with a normal prior; labels may be shares."""

    def loss(w: Floats) -> tuple[float, Floats]:
        score = x @ w
        value = weight @ (np.logaddexp(0, score) - label * score)
        gradient = x.T @ (weight * (1 / (1 + np.exp(-score)) - label))
        apart = w - centre
        return (
            float(value + 0.5 * precision @ apart**2),
            np.asarray(gradient + precision * apart),
        )

    return np.asarray(minimize(loss, centre, jac=True, method="L-BFGS-B").x)


def _scales(samples: Sequence[Sample]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of each feature, or of its logarithm."""
    found = {}
    for name in NAMES:
        values = np.array([transformed(name, sample.features[name]) for sample in samples])
        values = values[np.isfinite(values)]
        if len(values) < LEAST_VALUES:
            found[name] = (0.0, 1.0)
        else:
            least = 0.05 if name in (*CURVE_FEATURES[:3], *ARGUMENT_FEATURES) else 1e-3
            found[name] = (round(float(values.mean()), 4), round(max(values.std(), least), 4))
    return found | {f"lead_{family}": LEAD_SCALE for family in RANKED}


def _views(
    samples: Sequence[Sample], scales: Mapping[str, tuple[float, float]]
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    rows, weight, owner = [], [], []
    for place, sample in enumerate(samples):
        for view, share in zip(VIEWS, VIEW_WEIGHTS, strict=True):
            rows.append(vector(sample.features, scales, view))
            weight.append(0.5 * share)  # a run and the same from another seed count once
            owner.append(place)
    return np.array(rows), np.array(weight), np.array(owner)


def vector(
    features: Mapping[str, float],
    scales: Mapping[str, tuple[float, float]],
    without: Sequence[str] = (),
) -> Floats:
    """Return standardised features, those of a view masked."""
    masked = {**features, **dict.fromkeys(without, math.nan)}
    held = standardised(masked, scales)
    return np.array([held[name] for name in NAMES])


def first_family(model: Mapping[str, Any], features: Mapping[str, float]) -> tuple[str, float]:
    """Return the likeliest family and its probability."""
    chances = weigh(features, model)
    name = max(chances, key=lambda family: chances[family].family)
    return name, chances[name].family


def cross_validate(samples: Sequence[Sample], pull: float = PULL) -> dict[str, Any]:
    """Return the first family and its chance, told on data sets that were left out."""
    asked = [sample for sample in samples if not sample.is_again]
    found: dict[str, list[Any]] = {}
    of_run = (*CURVE_FEATURES, *RECORD_FEATURES)
    of_run = tuple(name for name in of_run if name not in SIZES)
    prior = prior_model()
    for data in sorted({sample.row["data"] for sample in samples}):
        learned = [sample for sample in samples if sample.row["data"] != data]
        model = fit_model(learned, pull)
        alone = fit_model([_masked(sample, of_run) for sample in learned], pull)
        rows = [sample.row for sample in learned if sample.right and not sample.is_again]
        guess = ConfigurationGuess(rows, [families_of(right_causes(row)) for row in rows])
        for sample in asked:
            if sample.row["data"] != data:
                continue
            for name, of, without in (
                ("set by hand", prior, ()),
                ("all", model, ()),
                ("configuration", alone, of_run),
                ("the run without its configuration", model, ARGUMENT_FEATURES),
            ):
                told = first_family(of, _masked(sample, without).features)
                found.setdefault(name, []).append((sample, *told))
            told = guess.first(sample.row), 0.5
            found.setdefault("configuration, as the benchmark guesses", []).append((sample, *told))
            told = largest_deviation(sample.row), 0.5
            found.setdefault("largest deviation", []).append((sample, *told))
    return found


def _masked(sample: Sample, without: Sequence[str]) -> Sample:
    return replace(sample, features={**sample.features, **dict.fromkeys(without, math.nan)})


def tell(answers: Mapping[str, Sequence[Any]]) -> None:
    """Print how often the first family is right, and how sure it is of healthy runs."""
    for name, told in answers.items():
        asked = [one for one in told if one[0].right]
        shown = [one for one in asked if moves_or_fails(one[0].row)]
        right, of_shown = ([family in s.right for s, family, _ in of] for of in (asked, shown))
        healthy = [share for s, _, share in told if not is_sick(s.row)]
        label = np.array([family in s.right for s, family, _ in told])
        share = np.clip([share for *_, share in told], 1e-3, 1 - 1e-3)
        loss = -np.mean(np.where(label, np.log(share), np.log(1 - share)))
        print(
            f"{name:42} right {sum(right)}/{len(right)}, moves or fails {sum(of_shown)}/"
            f"{len(of_shown)}; healthy above a half {sum(np.array(healthy) >= 0.5)}/"
            f"{len(healthy)}; log loss {loss:.3f}"
        )


def as_text(model: Mapping[str, Any]) -> str:
    """Return a model as JSON, each family, side and feature on a line."""
    parts = []
    for name in ("origin", "scales", "families", "sides"):
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
    parser.add_argument("--pull", type=float, default=PULL)
    given = parser.parse_args()
    samples = read_samples(given.rows, given.records)
    counts = Counter(family for s in samples if not s.is_again for family in s.right)
    rows = [sample.row for sample in samples if not sample.is_again]
    n_sick = sum(map(is_sick, rows))
    print(f"{len(rows)} runs, {n_sick} sick, repaired by {dict(counts)}")
    tell(cross_validate(samples, given.pull))
    if given.out:
        origin = {
            "how": "benchmarks/fluctuation/fit.py, on the calibration part",
            "runs": len(rows),
            "sick": n_sick,
            "repaired_by": dict(counts),
            "data": sorted({row["data"] for row in rows}),
        }
        model = {**fit_model(samples, given.pull), "origin": origin}
        given.out.write_text(as_text(model))


if __name__ == "__main__":
    main()
