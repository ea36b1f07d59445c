"""One logistic model over the sides of all causes, with the signs of theory, fitted to cases.

A prior pulls its weights to those of theory. How sure it may be of itself is learned from runs of
data sets that were left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fluctuation.cases import SIDES, Case
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from sensorseq.fluctuation.causes import theory, weights
from sensorseq.fluctuation.causes.cause import HIDDEN
from sensorseq.fluctuation.causes.score import (
    can_tell,
    log_prior,
    scale_name,
    standardised,
    transformed,
)

Floats = NDArray[np.float64]

THEORY_WEIGHT, THEORY_SD = 0.4, 0.8  # what a weight is pulled to, and how hard
INTERCEPT_SD = 1.5
HEALTHY_SHARE = 0.5  # of the weight of one cause, that all runs without a fault have together
N_KNOTS = 9
LEAST_RUNS, UNSEEN = 3, -3.0  # runs that show a side, and its intercept where there are fewer
NEVER = -30.0  # logarithm of a prior


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


def fit_calibration(
    cases: Sequence[Case], shares: Floats, *, calm: bool = False
) -> tuple[tuple[float, float], ...]:
    """Return knots of a rising piecewise linear map from shares to frequencies of being right.

    Of runs that are judged abnormal; of calm ones, of the causes that a calm curve may hide.
    """
    names, of = cause_shares(shares)
    judged = np.array([case.is_judged is not calm for case in cases])
    hit = np.array([[name in case.causes for name in names] for case in cases])
    if calm:
        hidden = [name in HIDDEN for name in names]
        of, hit = of[:, hidden], hit[:, hidden]
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
