"""Random labels for each recording: a validation score above chance means a leak."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import SplitError
from sensorseq.inspection.check_result import FAILED, NOT_POSSIBLE, PASSED, Outcome
from sensorseq.inspection.checked_data import connect_shared
from sensorseq.inspection.checked_windows import CheckedWindows
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.short_training import PLAIN, StopAt, affordable_epochs, run_trial
from sensorseq.preprocessing.split import holdout_by_group
from sensorseq.training.config import SCORES

ALARM = 0.005  # how often labels by lot alone may look like a leak
_ENOUGH = 32  # recordings to judge by
_MOST_TRIALS = 8
_HELD_OUT = 0.4
_EPOCHS = 60
_FEWEST_EPOCHS = 15
_BUDGET = 1_500_000


def chance_of(
    votes: list[NDArray[np.int64]], drawn: list[NDArray[np.int64]]
) -> tuple[float, float]:
    """Return the probability of this many correct votes, and of all correct, by pure chance.

    An exact permutation test: in each trial the labels of the held-out recordings may be in any
    order. `votes` and `drawn` are the class voted for and drawn, (n_recordings,) in each trial.
    """
    n_right = sum(int((vote == lot).sum()) for vote, lot in zip(votes, drawn, strict=True))
    by_chance, perfect = np.ones(1), 1.0
    for vote, lot in zip(votes, drawn, strict=True):
        by_chance = np.convolve(by_chance, _agreements(vote, lot))
        perfect *= _agreements(lot, lot)[-1]
    return float(by_chance[n_right:].sum()), float(perfect)


def _agreements(vote: NDArray[np.int64], lot: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the probability of 0, 1, ..., n correct votes when the lots are in any order."""
    n, n_votes, n_lots = len(lot), int(vote.sum()), int(lot.sum())
    found = np.zeros(n + 1)
    for both in range(max(0, n_votes + n_lots - n), min(n_votes, n_lots) + 1):
        ways = math.comb(n_lots, both) * math.comb(n - n_lots, n_votes - both)
        found[n - n_votes - n_lots + 2 * both] = ways / math.comb(n, n_votes)
    return found


def check_shuffled(estimator: Any, windows: CheckedWindows, work: float, seed: int) -> Outcome:
    """Check that held-out recordings with random labels are predicted no better than chance."""
    unit, kind = _units(windows)
    n_units = int(unit.max()) + 1
    if n_units < 4:
        figures = {"n_units": n_units, "unit": kind}
        return NOT_POSSIBLE, Finding("too_few_recordings", figures)
    rng = np.random.default_rng([seed, 7])
    votes: list[NDArray[np.int64]] = []
    drawn: list[NDArray[np.int64]] = []
    n_trials = 1
    for _ in range(4 * _MOST_TRIALS):
        if len(votes) == n_trials:
            break
        parts = _split(windows, rng)
        if parts is None:
            break
        lots = _draw(unit[parts[1]], n_units, rng)
        train, held_out = (windows.take(rows) for rows in parts)
        y_train, y_val, of_val = lots[unit[parts[0]]], lots[unit[parts[1]]], unit[parts[1]]
        if len(np.unique(y_train)) < 2:
            continue  # all lots to learn from fell the same: draw again
        units, index = np.unique(of_val, return_inverse=True)
        if not votes:
            n_trials = int(np.clip(np.ceil(_ENOUGH / len(units)), 1, _MOST_TRIALS))
        budget = _BUDGET / n_trials
        affordable = affordable_epochs(budget, work, len(windows), windows.n_timesteps)
        trial = run_trial(
            estimator,
            (train.X, y_train, train.lengths),
            (held_out.X, y_val, held_out.lengths),
            {
                **PLAIN,
                "lr_schedule": "cosine",
                "max_epochs": int(np.clip(affordable, _FEWEST_EPOCHS, _EPOCHS)),
            },
            seed=seed + len(votes),
            stop=StopAt(SCORES[estimator._task], 0.98),
        )
        votes.append(_vote(trial.outputs, index, len(units)))
        drawn.append(lots[units])
    if not votes:
        return NOT_POSSIBLE, Finding("nothing_held_out", {"unit": kind})
    return _judge(votes, drawn, kind, windows)


def _judge(
    votes: list[NDArray[np.int64]],
    drawn: list[NDArray[np.int64]],
    kind: str,
    windows: CheckedWindows,
) -> Outcome:
    p, smallest_p = chance_of(votes, drawn)
    n_votes = sum(map(len, votes))
    n_right = sum(int((vote == lot).sum()) for vote, lot in zip(votes, drawn, strict=True))
    figures = {
        "n_right": n_right,
        "n_votes": n_votes,
        "p": p,
        "n_trials": len(votes),
        "unit": kind,
        "is_blind": windows.groups is None and windows.recording is None,
    }
    if smallest_p > ALARM:
        return NOT_POSSIBLE, Finding("too_few_held_out", figures)
    if p <= ALARM:
        return FAILED, Finding("random_labels_predicted", figures)
    return PASSED, Finding("random_labels_at_chance", figures)


def _units(windows: CheckedWindows) -> tuple[NDArray[np.int64], str]:
    """Return what gets one lot, as numbers from 0: the nearest to a recording that is known."""
    if windows.recording is not None:
        return np.unique(windows.recording, return_inverse=True)[1], "recordings"
    stretches, n_across = connect_shared(windows)
    if n_across:
        return stretches, "stretches of signal"
    kind = "windows" if windows.groups is None else "groups"
    return np.unique(windows.split_unit, return_inverse=True)[1], kind


def _split(
    windows: CheckedWindows, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Hold out as `fit` does: whole groups, single windows without."""
    seed = int(rng.integers(2**31 - 1))
    try:
        train, validation = holdout_by_group(None, windows.split_unit, _HELD_OUT, seed)
    except SplitError:
        return None
    return (train, validation) if len(train) and len(validation) else None


def _draw(held_out: NDArray[np.int64], n_units: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a lot for each unit: half of those that are held out each way, and half of the rest."""
    lots = np.zeros(n_units, np.int64)
    is_held_out = np.isin(np.arange(n_units), held_out)
    for side in (is_held_out, ~is_held_out):
        n_side = int(side.sum())
        lots[side] = rng.permuted((np.arange(n_side) + rng.integers(2)) % 2)
    return lots


def _vote(
    outputs: NDArray[np.float64], index: NDArray[np.int64], n_units: int
) -> NDArray[np.int64]:
    """Return the class that all windows of a unit together vote for."""
    for_one = outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs[:, 0] - 0.5
    total = np.bincount(index, weights=np.tanh(np.nan_to_num(for_one)), minlength=n_units)
    return (total > 0).astype(np.int64)
