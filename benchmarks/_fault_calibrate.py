"""Weigh the features of the causes on saved runs whose cause is known.

    python benchmarks/_fault_calibrate.py FOLDER [--write]

Every run of FOLDER is judged again. One whose fault came true against its healthy twin has the
cause that was injected; all others, healthy ones and controls among them, have none. One logistic
model over the sides of all causes is fitted to that, with the signs of
`sensorseq.fluctuation.causes.theory` and a prior that pulls the weights to those of theory. How
sure it may be of itself is learned from runs of data sets that were left out.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _fault_answers import OF_THE_CURVE, report_of
from _fault_oracle import find_outcome, manifested
from _fault_runs import load
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from sensorseq.fluctuation.causes import theory, weights
from sensorseq.fluctuation.causes.features import measure
from sensorseq.fluctuation.causes.score import (
    can_tell,
    log_prior,
    scale_name,
    standardised,
    transformed,
)
from sensorseq.fluctuation.report import FluctuationReport

Floats = NDArray[np.float64]
Side = tuple[str, str]

THEORY_WEIGHT, THEORY_SD = 0.4, 0.8  # what a weight is pulled to, and how hard
INTERCEPT_SD = 1.5
HEALTHY_SHARE = 0.5  # of the weight of one cause, that all runs without a fault have together
N_KNOTS = 9
LEAST_RUNS, UNSEEN = 3, -3.0  # runs that show a side, and its intercept where there are fewer
NEVER = -30.0  # logarithm of a prior
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
        return self.verdict in ("fluctuating", "diverged", "not_learning")

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
        features = {k: math.nan if v is None else v for k, v in held[name]["features"].items()}
        cases.append(
            Case(name, plan["data"], plan["kind"], causes, held[name]["verdict"], features)
        )
    return cases


def _measured(run: Any) -> dict[str, Any]:
    """Judge a run again and return its verdict and features."""
    seen: dict[str, float] = {}
    import sensorseq.fluctuation.report as module

    original = module.find_causes

    def watched(of: Any, verdict: str, arguments: Any = None) -> tuple[Any, ...]:
        seen.update(measure(of))
        return ()

    module.find_causes = watched
    try:
        report: FluctuationReport = report_of(run)
    finally:
        module.find_causes = original
    features = {k: v if math.isfinite(v) else None for k, v in seen.items()}
    return {"verdict": report.verdict, "features": features}


def fit_scales(cases: Sequence[Case]) -> dict[str, tuple[float, float]]:
    """Return median and robust deviation of every feature that a side has, over all runs."""
    scales = {}
    for terms in (*theory.SIDES.values(), theory.POSITION):
        for term in terms:
            values = np.array([transformed(term, case.features[term.feature]) for case in cases])
            values = values[np.isfinite(values)]
            if len(values) < 5:
                scales[scale_name(term)] = weights.SCALES.get(scale_name(term), (0.0, 1.0))
                continue
            low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
            sd = max((high - low) / 2.56, 0.25 * float(values.std()), 1e-3)
            scales[scale_name(term)] = (round(float(middle), 4), round(float(sd), 4))
    return scales


def design(cases: Sequence[Case]) -> tuple[Floats, Floats, Floats]:
    """Return standardised features of shape (n, sides, terms), of the position, and the prior.

    The prior is minus infinity, or nearly, of what cannot be told.
    """
    sides = np.zeros((len(cases), len(SIDES), theory.MAX_TERMS))
    position = np.zeros((len(cases), len(theory.POSITION)))
    prior = np.zeros((len(cases), len(SIDES)))
    for row, case in enumerate(cases):
        for place, side in enumerate(SIDES):
            for i, term in enumerate(theory.SIDES[side]):
                sides[row, place, i] = standardised(term, case.features)
        for i, term in enumerate(theory.POSITION):
            position[row, i] = standardised(term, case.features)
        of_causes = log_prior(case.features)
        prior[row] = [
            of_causes[side[0]] if can_tell(side, case.features) else NEVER for side in SIDES
        ]
    return sides, position, prior


@dataclass(frozen=True)
class Model:
    """Weights as `weights.py` has them."""

    intercepts: Floats
    factors: Floats
    position: Floats

    def shares(self, sides: Floats, position: Floats, prior: Floats) -> Floats:
        """Return the probability of each side, of shape (n, sides)."""
        return np.exp(_log_shares(self, sides, position, prior))


_BATCH, _RATE = (SIDES.index(theory.STEP_NOISE[1]), SIDES.index(theory.STEP_NOISE[0]))


def _log_shares(model: Model, sides: Floats, position: Floats, prior: Floats) -> Floats:
    scores = model.intercepts + (sides * model.factors).sum(axis=2) + prior
    logs = scores - np.logaddexp(0.0, np.logaddexp.reduce(scores, axis=1))[:, None]
    pooled = np.logaddexp(logs[:, _RATE], logs[:, _BATCH])
    z = model.position[0] + position @ model.position[1:]
    logs[:, _BATCH], logs[:, _RATE] = pooled - np.logaddexp(0, -z), pooled - np.logaddexp(0, z)
    return logs


def case_weights(cases: Sequence[Case]) -> Floats:
    """Return weights that let each cause count alike, and no fault as much as one of them."""
    counts: dict[str, int] = {}
    for case in cases:
        key = "+".join(case.causes)
        counts[key] = counts.get(key, 0) + 1
    typical = float(np.median([n for key, n in counts.items() if key and "+" not in key] or [1]))
    return np.array(
        [
            (HEALTHY_SHARE if not case.causes else 1.0)
            * typical
            / max(counts["+".join(case.causes)], typical / 3)
            for case in cases
        ]
    )


def fit(cases: Sequence[Case]) -> Model:
    """Fit the weights to the cases by penalised likelihood, all factors at or above zero."""
    cases = [case for case in cases if math.isfinite(case.features["update_ratio"])]  # recorded
    sides, position, prior = design(cases)
    mask = np.where(prior > NEVER, 0.0, NEVER)
    right = np.zeros((len(cases), len(SIDES)), bool)
    for row, case in enumerate(cases):
        right[row, case.right] = True
    healthy = ~right.any(axis=1)
    weight = case_weights(cases)
    n_sides, n_terms, n_position = len(SIDES), theory.MAX_TERMS, len(theory.POSITION)
    n_factors = n_sides * n_terms

    def unpacked(x: Floats) -> Model:
        return Model(
            x[:n_sides],
            x[n_sides : n_sides + n_factors].reshape(n_sides, n_terms),
            x[n_sides + n_factors :],
        )

    def loss(x: Floats) -> tuple[float, Floats]:
        model = unpacked(x)
        scores = model.intercepts + (sides * model.factors).sum(axis=2) + mask
        total = np.logaddexp(0.0, np.logaddexp.reduce(scores, axis=1))
        shares = np.exp(scores - total[:, None])
        z = model.position[0] + position @ model.position[1:]
        batch = 1 / (1 + np.exp(-z))
        logs = _log_shares(model, sides, position, mask)
        told = np.where(right, logs, -np.inf)
        log_right = np.logaddexp.reduce(told, axis=1)
        likelihood = np.where(healthy, -total, log_right)
        blame = np.where(
            healthy[:, None], 0.0, np.exp(told - np.where(healthy, 0, log_right)[:, None])
        )
        # of the pooled pair the scores share the blame by their size, the position by its own
        pair = blame[:, _RATE] + blame[:, _BATCH]
        pooled = shares[:, _RATE] + shares[:, _BATCH] + 1e-300
        by_score = blame.copy()
        by_score[:, _RATE], by_score[:, _BATCH] = (
            pair * shares[:, _RATE] / pooled,
            pair * shares[:, _BATCH] / pooled,
        )
        d_scores = weight[:, None] * (by_score - shares)
        d_z = weight * (blame[:, _BATCH] - pair * batch)
        gradient = np.concatenate(
            [
                d_scores.sum(axis=0),
                np.einsum("ns,nst->st", d_scores, sides).ravel(),
                [d_z.sum()],
                d_z @ position,
            ]
        )
        pull = (x - centre) / spread
        return float(
            -(weight * likelihood).sum() + 0.5 * (pull**2).sum()
        ), -gradient + pull / spread

    centre = np.concatenate(
        [
            np.full(n_sides, -2.0),
            np.full(n_factors, THEORY_WEIGHT),
            [0.0],
            np.full(n_position, 1.0),
        ]
    )
    spread = np.concatenate(
        [
            np.full(n_sides, INTERCEPT_SD),
            np.full(n_factors, THEORY_SD),
            [INTERCEPT_SD],
            np.full(n_position, 1.0),
        ]
    )
    # of a side that hardly a run shows nothing can be learned, least of all that there is no such
    shown = right.sum(axis=0) >= LEAST_RUNS
    bounds = [(-8.0, 4.0) if there else (UNSEEN, UNSEEN) for there in shown]
    bounds += [
        (0.0, 3.0) if there else (THEORY_WEIGHT,) * 2 for there in shown for _ in range(n_terms)
    ]
    bounds += [(-4.0, 4.0)] + [(0.0, 4.0)] * n_position
    start = np.clip(centre, [low for low, _ in bounds], [high for _, high in bounds])
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
    return unpacked(found.x)


def out_of_data(cases: Sequence[Case]) -> Floats:
    """Return the shares of the sides of each case by a model that saw no run of its data set."""
    shares = np.zeros((len(cases), len(SIDES)))
    for data in sorted({case.data for case in cases}):
        held = np.array([case.data == data for case in cases])
        model = fit([case for case, out in zip(cases, held, strict=True) if not out])
        shares[held] = model.shares(*design([c for c, out in zip(cases, held, strict=True) if out]))
    return shares


def cause_shares(shares: Floats) -> tuple[list[str], Floats]:
    """Return the names of the causes and their shares, of shape (n, causes)."""
    names = list(dict.fromkeys(cause for cause, _ in SIDES))
    columns = [shares[:, [c == name for c, _ in SIDES]].sum(axis=1) for name in names]
    return names, np.array(columns).T


def fit_calibration(cases: Sequence[Case], shares: Floats) -> tuple[tuple[float, float], ...]:
    """Return knots of a rising piecewise linear map from shares to frequencies of being right."""
    names, of = cause_shares(shares)
    judged = np.array([case.is_judged for case in cases])
    hit = np.array([[name in case.causes for name in names] for case in cases])
    x, y = of[judged].ravel(), hit[judged].ravel().astype(float)
    curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(x, y)
    grid = np.linspace(0, 1, N_KNOTS)
    # the mean over its neighbourhood, for the steps of the curve are those of few runs
    told = [
        float(np.mean(curve.predict(np.clip(np.linspace(g - 0.06, g + 0.06, 13), 0, 1))))
        for g in grid
    ]
    told[0], told[-1] = 0.0, min(max(told[-1], told[-2]), 0.97)
    told = list(np.maximum.accumulate(told))
    return tuple((round(float(g), 3), round(float(t), 3)) for g, t in zip(grid, told, strict=True))


def describe(cases: Sequence[Case], shares: Floats, knots: Any) -> str:
    """Say how often the first and the first two causes are right, and how sure they were."""
    names, of = cause_shares(shares)
    order = np.argsort(-of, axis=1)
    x, y = np.array(knots).T
    told = np.interp(of, x, y)
    told = told / np.maximum(told.sum(axis=1, keepdims=True), 1)
    lines = []
    for title, lot in (
        (
            "came true and judged abnormal",
            [i for i, c in enumerate(cases) if c.causes and c.is_judged],
        ),
        ("came true", [i for i, c in enumerate(cases) if c.causes]),
    ):
        if not lot:
            continue
        first = np.mean([names[order[i, 0]] in cases[i].causes for i in lot])
        two = np.mean([bool({names[j] for j in order[i, :2]} & set(cases[i].causes)) for i in lot])
        sure = [i for i in lot if told[i].max() >= 0.5]
        right = np.mean([names[order[i, 0]] in cases[i].causes for i in sure]) if sure else math.nan
        lines.append(
            f"{title}: {len(lot)} runs, first right {first:.1%}, one of two {two:.1%};"
            f" named {len(sure) / len(lot):.0%}, of those right {right:.1%}"
        )
    judged = [i for i, c in enumerate(cases) if c.is_judged]
    top = np.array([told[i].max() for i in judged])
    hit = np.array([names[order[i, 0]] in cases[i].causes for i in judged])
    error = 0.0
    for low in np.arange(0, 1, 0.2):
        inside = (top >= low) & (top < low + 0.2 + 1e-9)
        if inside.any():
            error += inside.mean() * abs(top[inside].mean() - hit[inside].mean())
            lines.append(
                f"  confidence {low:.1f}-{low + 0.2:.1f}: {inside.sum():3d} runs,"
                f" mean {top[inside].mean():.2f}, right {hit[inside].mean():.2f}"
            )
    lines.append(f"  expected calibration error {error:.3f}")
    by_kind: dict[str, list[tuple[bool, str]]] = {}
    for i, case in enumerate(cases):
        if case.causes:
            answer = names[order[i, 0]]
            key = f"{'+'.join(case.causes)}: {case.kind}"
            by_kind.setdefault(key, []).append((case.is_judged, answer))
    for key, answers in sorted(by_kind.items()):
        n_judged = sum(judged for judged, _ in answers)
        counted: dict[str, int] = {}
        for _, answer in answers:
            counted[answer] = counted.get(answer, 0) + 1
        listed = ", ".join(f"{k} {v}" for k, v in sorted(counted.items(), key=lambda kv: -kv[1]))
        lines.append(f"  {key} ({len(answers)}, {n_judged} judged): {listed}")
    return "\n".join(lines)


def write_weights(path: Path, scales: Any, model: Model, knots: Any, note: str) -> None:
    """Write `weights.py` as plain literals."""
    text = [
        '"""Weights of the causes; written by benchmarks/_fault_calibrate.py, not by hand.\n',
        f'{note}\n"""\n',
        "# mean and standard deviation of each feature, or of its logarithm to base 10",
        "SCALES: dict[str, tuple[float, float]] = {",
        *(f'    "{name}": {scales[name]!r},' for name in sorted(scales)),
        "}",
        "# of each side: its intercept, and the weights of its features as theory.SIDES lists them",
        "WEIGHTS: dict[tuple[str, str], tuple[float, tuple[float, ...]]] = {",
    ]
    for place, (cause, side) in enumerate(SIDES):
        n = len(theory.SIDES[cause, side])
        factors = tuple(round(float(f), 3) for f in model.factors[place, :n])
        intercept = round(float(model.intercepts[place]), 3)
        text.append(f'    ("{cause}", "{side}"): ({intercept}, {factors!r}),')
    position = [round(float(v), 3) for v in model.position]
    text += [
        "}",
        f"POSITION: tuple[float, tuple[float, ...]] = ({position[0]}, {tuple(position[1:])!r})",
        "# from a probability as it is scored to how often it was right",
        f"CALIBRATION: tuple[tuple[float, float], ...] = {knots!r}",
    ]
    path.write_text("\n".join(text) + "\n")


def main() -> None:
    """Read, fit, tell, and write where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kept", type=Path, help="file that keeps what was measured")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    cases = read_cases(arguments.folder, arguments.kept)
    weights.SCALES.clear()
    weights.SCALES.update(fit_scales(cases))
    shares = out_of_data(cases)
    knots = fit_calibration(cases, shares)
    print(describe(cases, shares, knots))
    if arguments.write:
        names = "".join(sorted(case.name for case in cases)).encode()
        n_true = sum(bool(case.causes) for case in cases)
        note = (
            f"From {len(cases)} runs on {', '.join(sorted({c.data for c in cases}))}, {n_true} of"
            f" them with a fault\nthat came true; runs {hashlib.sha256(names).hexdigest()[:12]}."
        )
        write_weights(Path(weights.__file__), weights.SCALES, fit(cases), knots, note)


if __name__ == "__main__":
    main()
