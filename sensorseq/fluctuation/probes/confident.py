"""Labels against the probabilities of models that never saw them: which are wrong, how surely."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorseq.fluctuation.probes.arm import Floats

MAX_FALSE_DISCOVERIES = 0.05
# Tails of the planted labels that the share of wrong ones is read from: a shorter tail has too few
# windows, a longer one holds mostly right labels.
_TAILS = np.linspace(0.2, 0.9, 15)
_PRIOR = 0.5  # windows of every confusion, beside those that are found
_LEAST_APART = 0.1  # by which planted labels must differ from given ones to learn from them


@dataclass(frozen=True, eq=False)
class Disagreement:
    """What out-of-fold probabilities say of n labels.

    Parameters
    ----------
    probability : ndarray of shape (n,), float64
        Of each window's own label.
    rival : ndarray of shape (n,), int64
        The other class that fits best.
    score : ndarray of shape (n,), float64
        How much better it fits, in nats; see `weigh_labels`.
    auc : float
        Of telling a wrong label from a right one by the score.
    auc_as_given : float
        Of telling a planted label from a given one, which may be wrong itself.
    share : float
        Estimate of the share of wrong labels.
    is_suspect : ndarray of shape (n,), bool
        Which labels look wrong, of which about one in 20 is right.
    """

    probability: Floats
    rival: NDArray[np.int64]
    score: Floats
    auc: float
    auc_as_given: float
    share: float
    is_suspect: NDArray[np.bool_]


def weigh_labels(logits: Floats, label: NDArray[np.int64]) -> Disagreement:
    """Say which labels look wrong, beside labels that are wrong on purpose.

    A class has a threshold of its own, the mean probability of the windows that bear it [1]_, so
    that it does not matter how sure the models are of it. The score of a label is the largest
    ``log(p_k / t_k)`` of another class k, less that of its own. Labels that are wrong on purpose
    are scored in the same way: no model has seen the label of a window that it judges, so that
    every window can be given each of the other classes in turn, weighted by how often the models
    find the one for the other. Their scores say what a wrong label looks like. The share of wrong
    ones among those given is the least ratio of the two distributions' upper tails: right labels
    of hard windows thin out there faster than wrong ones do. The cut is the lowest with at most 5 %
    false discoveries.

    Parameters
    ----------
    logits : ndarray of shape (n, K)
        Out of fold.
    label : ndarray of shape (n,), int64
        Classes, as codes.

    References
    ----------
    .. [1] C. Northcutt, L. Jiang, I. Chuang, *Confident Learning: Estimating Uncertainty in Dataset
       Labels*, JAIR 70, 2021.
    """
    n_windows, n_classes = logits.shape
    every = np.arange(n_windows)
    log_p = logits - logits.max(axis=1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    counts = np.maximum(1, np.bincount(label, minlength=n_classes))
    threshold = np.bincount(label, p[every, label], minlength=n_classes) / counts
    log_t = np.log(np.maximum(threshold, np.finfo(float).tiny))
    is_there = np.bincount(label, minlength=n_classes) > 0
    ratio = np.where(is_there, log_p - log_t, -np.inf)
    scores = _scores(ratio)
    own = scores[every, label]
    others = ratio.copy()
    others[every, label] = -np.inf
    # of several classes above their thresholds the likeliest counts
    confident = np.where(ratio >= 0, log_p, -np.inf)
    best = confident.argmax(axis=1)
    is_off = np.isfinite(confident.max(axis=1)) & (best != label)
    joint = np.full((n_classes, n_classes), _PRIOR)
    np.add.at(joint, (label[is_off], best[is_off]), 1)
    # how often a window of each label (row) would be given each other one (column)
    weight = joint.T * (is_there[:, None] & is_there) * (1 - np.eye(n_classes))
    weight = (weight / weight.sum(axis=1, keepdims=True).clip(min=np.finfo(float).tiny))[label]
    undone = weight[is_off, best[is_off]].sum() / max(1, is_off.sum())
    planted = _Planted(scores[weight > 0], weight[weight > 0])
    share = _share_of_wrong(own, planted, undone)
    mixed = share * undone
    as_given = _auc(own, planted)
    cut = _cut(own, planted, share, mixed)
    return Disagreement(
        probability=p[every, label],
        rival=np.asarray(others.argmax(axis=1), np.int64),
        score=own,
        auc=_auc_of_pure(as_given, share, mixed),
        auc_as_given=as_given,
        share=share,
        is_suspect=is_off & (own >= cut),
    )


def _scores(ratio: Floats) -> Floats:
    """Return for each class the largest of the others less its own, (n, K)."""
    every, best = np.arange(len(ratio)), ratio.argmax(axis=1)
    rest = ratio.copy()
    rest[every, best] = -np.inf
    largest = np.repeat(ratio[every, best][:, None], ratio.shape[1], axis=1)
    largest[every, best] = rest.max(axis=1)
    return largest - ratio


class _Planted:
    """Scores of labels that are wrong on purpose, each with a weight."""

    def __init__(self, scores: Floats, weight: Floats) -> None:
        order = np.argsort(scores, kind="stable")
        self.scores, self.weight = scores[order], weight[order] / weight.sum()
        self._upto = np.concatenate([[0.0], np.cumsum(self.weight)])

    def tail(self, cuts: Floats) -> Floats:
        """Return the share at or above each cut."""
        return np.asarray(1 - self._upto[np.searchsorted(self.scores, cuts, side="left")])

    def cuts_of(self, tails: Floats) -> Floats:
        """Return where tails of these shares begin."""
        places = np.searchsorted(self._upto[1:], 1 - tails)
        return np.asarray(self.scores[np.minimum(places, len(self.scores) - 1)])


def _tail(values: Floats, cuts: Floats) -> Floats:
    """Return the share of values at or above each cut."""
    return np.asarray(1 - np.searchsorted(np.sort(values), cuts, side="left") / len(values))


def _share_of_wrong(own: Floats, planted: _Planted, undone: float) -> float:
    """Return the share of wrong labels.

    Of them `undone` are right again where another label is planted.
    """
    cuts = planted.cuts_of(_TAILS)
    n_own = len(own) * _tail(own, cuts)
    # with its standard error, for the least of several estimates is too low
    least = float(((n_own + np.sqrt(n_own)) / (len(own) * planted.tail(cuts))).min())
    return least / (1 + least * undone)


def _auc(own: Floats, planted: _Planted) -> float:
    """Return the probability that a planted label's score is above a given one's."""
    ordered = np.sort(own)
    below = np.searchsorted(ordered, planted.scores, side="left")
    upto = np.searchsorted(ordered, planted.scores, side="right")
    return float(planted.weight @ (below + upto) / (2 * len(own)))


def _auc_of_pure(auc: float, share: float, mixed: float) -> float:
    """Return what the AUC would be were all given labels right, and all planted ones wrong.

    Both are mixtures of the two kinds, which draws it towards a half.
    """
    left = 1 - share - mixed
    if left <= _LEAST_APART:
        return 0.5
    same = 0.5 * ((1 - mixed) * share + mixed * (1 - share))
    return float(np.clip((auc - same - mixed * share) / left, 0.0, 1.0))


def _cut(own: Floats, planted: _Planted, share: float, mixed: float) -> float:
    """Return the lowest score above which at most 5 % of the labels are right."""
    left = 1 - share - mixed
    if share <= 0 or left <= _LEAST_APART:
        return np.inf
    cuts = np.unique(own)
    of_own = _tail(own, cuts)
    right = np.maximum(0.0, ((1 - mixed) * of_own - share * planted.tail(cuts)) / left)
    false_discoveries = (1 - share) * right / of_own
    allowed = cuts[false_discoveries <= MAX_FALSE_DISCOVERIES]
    return float(allowed[0]) if len(allowed) else np.inf
