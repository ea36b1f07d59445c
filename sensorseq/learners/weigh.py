"""Fit the members of a model on the same windows and folds, and weigh them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.features.ridge import MOST_WINDOWS
from sensorseq.features.stack import fit_bias, fit_stack, smoothed_log_loss
from sensorseq.learners.learner import FittedMember, Folds, Learner, LearnerData
from sensorseq.prediction.members.choice import LSTM, Candidate, FeatureChoice
from sensorseq.prediction.members.linear import LinearMember
from sensorseq.prediction.members.sum import Sum

# weight of the LSTM if all weights would be 0, so that its logits still rank the classes
_SMALLEST_WEIGHT = 1e-3
# On development folds, powers of 4 and penalties of 3, 6 and 12 were equally accurate. A bias
# fitted to fewer windows made the accuracy of small sets worse.
_POWER, _PENALTY, _FEWEST_FOR_A_BIAS = 4, 6.0, 60


class Weighted(NamedTuple):
    """A fitted sum, the reasons for its weights, and its logits for windows left out of the fits.

    `logits` (n, K) belong to the windows with the indices `rows` among all windows of the fit.
    """

    sum: Sum
    choice: FeatureChoice
    logits: NDArray[np.float64]
    rows: NDArray[np.int64]


def fit_members(
    learners: Mapping[str, Learner],
    data: LearnerData,
    folds: Folds,
    seed: np.random.SeedSequence,
) -> dict[str, FittedMember]:
    """Fit a member with each learner, on a sample of the windows if there are many.

    Raises
    ------
    InputError
        If a learner returns logits of another shape, or none for a window that is in a test fold.
    """
    n, drawn = len(data.X), np.arange(len(data.X))
    if n > MOST_WINDOWS:
        rng = np.random.default_rng(seed)
        drawn = draw_windows(data.class_index, data.learn_rows, MOST_WINDOWS, rng)
        data, folds = data.take(drawn), _thinned(drawn, folds)
    fitted = {}
    for name, learner in learners.items():
        try:
            member, of_drawn = learner.fit(data, folds, seed)
        except Exception as error:
            error.add_note(f"in the fit of the member {name!r}")
            raise
        expected = len(data.X), data.n_classes
        if of_drawn.shape != expected or not np.isfinite(of_drawn[folds.tested]).all():
            raise InputError(
                f"the learner of {name!r} returned logits of shape {of_drawn.shape}; expected"
                f" shape {expected}, with numbers for all windows that were left out of a fit."
            )
        logits = np.full((n, data.n_classes), np.nan)
        logits[drawn] = of_drawn
        fitted[name] = FittedMember(member, logits)
    return fitted


def draw_windows(
    class_index: NDArray[np.int64],
    learn_rows: NDArray[np.int64],
    most: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw up to `most` windows, in order, including a training window of each class."""
    if len(class_index) <= most:
        return np.arange(len(class_index))
    order = rng.permutation(len(class_index))
    learned = order[np.isin(order, learn_rows)]
    first = learned[np.unique(class_index[learned], return_index=True)[1]]
    further = order[~np.isin(order, first)]
    return np.sort(np.concatenate([first, further])[:most])


def _thinned(drawn: NDArray[np.int64], folds: Folds) -> Folds:
    """Restrict folds to the drawn windows."""

    def kept(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.flatnonzero(np.isin(drawn, rows))

    pairs = [(kept(fit_rows), kept(test_rows)) for fit_rows, test_rows in folds.pairs]
    return Folds(pairs, kept(folds.rows), folds.in_time)


def weigh(
    fitted: Mapping[str, FittedMember],
    class_index: NDArray[np.int64],
    weight: NDArray[np.float64],
    groups: NDArray[np.int64],
    n_folds: int,
    *,
    in_time: bool = False,
) -> Weighted:
    """Fit the weights of the members on windows for which each has logits; the first is the LSTM.

    `groups` is the number of the group of each window. Logits for folds that are cut `in_time` are
    not suitable for fitting weights. In this case, if there are linear layers, only these are used,
    and all of them get the same weight.
    """
    of_all = np.stack([logits for _, logits in fitted.values()])
    rows = np.flatnonzero(np.isfinite(of_all).all(axis=(0, 2)))
    stacked = of_all[:, rows]
    truth = class_index[rows], weight[rows]
    are_linear = [isinstance(member, LinearMember) for member, _ in fitted.values()]
    if in_time and any(are_linear):
        weights, bias = fit_equal_weights(stacked, *truth, np.array(are_linear))
    else:
        weights, bias = fit_weights(stacked, truth[0], _weight_of_groups(*truth, groups[rows]))
    if not weights.any():
        weights[0] = _SMALLEST_WEIGHT
    together = np.tensordot(weights, stacked, 1) + bias
    centered = stacked - stacked.mean(axis=2, keepdims=True)
    spread = weights * np.sqrt((centered**2).mean(axis=(1, 2)))
    shares = spread / spread.sum()
    table = dict(zip(fitted, weights.tolist(), strict=True))
    tried = [
        Candidate(name, fit_stack(logits[None], *truth)[1], _accuracy(logits, *truth), own, share)
        for (name, own), logits, share in zip(table.items(), stacked, shares.tolist(), strict=True)
    ]
    log_loss = smoothed_log_loss(together, *truth)
    joined = Candidate("together", log_loss, _accuracy(together, *truth), None)
    choice = _describe([*tried, joined], len(rows), n_folds)
    kept = (LSTM, *choice.names)
    whole = Sum(
        {name: fitted[name].member for name in kept}, {name: table[name] for name in kept}, bias
    )
    return Weighted(whole, choice, together, rows)


def fit_weights(
    logits: NDArray[np.float64], class_index: NDArray[np.int64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights of members from their logits (m, n, K), and the bias of each class.

    The weights are the mean of two solutions: the weights of the lowest log-loss, and weights
    proportional to the fourth power of each member's accuracy (CAWPE: Large, Lines, Bagnall, Data
    Mining and Knowledge Discovery 33, 2019). The first overrate the members that happen to be best
    on few recordings; the second ignore that members repeat each other. Members stand on different
    class frequencies, which no weights can mend, so the sum has a bias of each class.
    """
    _, n, k = logits.shape
    fitted, _ = fit_stack(logits, class_index, weight)
    alone = np.array([fit_stack(each[None], class_index, weight)[0][0] for each in logits])
    accuracy = np.array([_accuracy(each, class_index, weight) for each in logits])
    by_accuracy = alone * accuracy**_POWER

    def rescaled(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        together = np.tensordot(weights, logits, 1)
        factor, _ = fit_stack(together[None], class_index, weight)
        return factor * weights

    weights = (fitted + rescaled(by_accuracy)) / 2
    if n < _FEWEST_FOR_A_BIAS:
        return rescaled(weights), np.zeros(k)
    together = np.tensordot(weights, logits, 1)
    factor, bias = fit_bias(together, class_index, weight, _PENALTY / n)
    return factor * weights, bias


def fit_equal_weights(
    logits: NDArray[np.float64],
    class_index: NDArray[np.int64],
    weight: NDArray[np.float64],
    used: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the same weight for all `used` members, and 0 as the bias of each class."""
    factor, _ = fit_stack(logits[used].sum(0)[None], class_index, weight)
    return factor * used, np.zeros(logits.shape[2])


def _weight_of_groups(
    class_index: NDArray[np.int64], weight: NDArray[np.float64], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Divide the weight of a window by the root of the number of its class's windows in its group.

    Windows of a long recording repeat each other, but more windows are still more evidence. The
    total weight of each class stays the same.
    """
    _, part, n_windows = np.unique(
        np.stack([class_index, groups]), axis=1, return_inverse=True, return_counts=True
    )
    lowered = weight / np.sqrt(n_windows[np.ravel(part)])
    before, after = (np.bincount(class_index, each)[class_index] for each in (weight, lowered))
    return np.asarray(
        np.where(before > 0, lowered * before / np.where(before > 0, after, 1.0), 0.0)
    )


def _accuracy(
    logits: NDArray[np.float64], class_index: NDArray[np.int64], weight: NDArray[np.float64]
) -> float:
    return float(np.average(logits.argmax(axis=1) == class_index, weights=weight))


def _describe(tried: list[Candidate], n_windows: int, n_folds: int) -> FeatureChoice:
    """Describe the choice; `tried` starts with the LSTM and ends with the sum of all members."""
    alone, together = tried[0], tried[-1]
    used = tuple(candidate.name for candidate in tried[1:] if candidate.weight)
    reason = (
        f"log-loss of {n_windows} windows left out in {n_folds} fold(s): LSTM alone"
        f" {alone.log_loss:.3f}, with {' and '.join(used)} {together.log_loss:.3f}"
        if used
        else "no features lowered the log-loss of windows left out"
    )
    return FeatureChoice(used, tuple(tried), n_windows, n_folds, reason)
