"""judge_labels: which labels look wrong to models that did not see the windows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from sensorseq.data_checks.part import Floats, Ints
from sensorseq.errors import printable
from sensorseq.features.stack import fit_stack
from sensorseq.text import number

LEAST_WINDOWS = 3  # of one label in a recording, to judge the recording
_SHOWN, _SHOWN_RECORDINGS = 10, 5  # rows of a printed table
_SMALLEST = 1e-9  # probability
_SURE = 0.7  # probability that is enough for every class: of easy ones the mean is close to 1
_PRIOR = 1.0  # windows of the overall class shares, added to the labels of a recording


@dataclass(frozen=True)
class SuspectRecording:
    """A recording most of whose windows with one label look like the same other class."""

    group: Any  # the recording, an element of `groups`
    given: Any  # the label in question
    likelier: Any  # the class that its windows look like
    n_windows: int  # of the recording with this label
    share: float  # of them that look like `likelier`, above 0.5
    score: float  # mean over them of how much better `likelier` fits, in nats


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """All windows, those whose labels are likeliest wrong first. Print it to read it.

    Parameters
    ----------
    row : ndarray of shape (n,), int64
        Index into X.
    group : ndarray of shape (n,) or None
        Element of `groups`.
    given, likelier : ndarray of shape (n,)
        The label in y, and the other class that fits best.
    probability : ndarray of shape (n,), float64
        Of the given label, between 0 and 1.
    score : ndarray of shape (n,), float64
        Ratio of the mean probability of windows with that label to `probability`, as a natural
        logarithm: 0 is as usual for the label, 2.3 is a tenth of that. It decreases along the rows.
    n_estimated : int
        Estimate of the number of wrong labels, for which a whole recording does not count. Check at
        least the first so many rows.
    recordings : tuple of SuspectRecording
        Recordings whose label may be wrong as a whole, the highest score first.
    """

    row: Ints
    group: NDArray[Any] | None
    given: NDArray[Any]
    likelier: NDArray[Any]
    probability: Floats
    score: Floats
    n_estimated: int
    recordings: tuple[SuspectRecording, ...] = ()

    def __len__(self) -> int:
        return len(self.row)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: `n_estimated`, `windows` (columns) and `recordings` (a list)."""
        columns = {
            name: values.tolist()
            for name in ("row", "group", "given", "likelier", "probability", "score")
            if (values := getattr(self, name)) is not None
        }
        recordings = [
            {name: number(value) for name, value in vars(one).items()} for one in self.recordings
        ]
        return {"n_estimated": self.n_estimated, "windows": columns, "recordings": recordings}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        n = len(self)
        yield f"About {self.n_estimated} of {n} labels look wrong. Likeliest first:"
        group = "" if self.group is None else f"  {'group':18}"
        yield f"{'row':>7}{group}  {'label':14}  {'likelier':14}  p(label)  score"
        for i in range(min(n, _SHOWN)):
            group = "" if self.group is None else f"  {_cut(self.group[i], 18)}"
            yield (
                f"{self.row[i]:7}{group}  {_cut(self.given[i], 14)}  {_cut(self.likelier[i], 14)}"
                f"  {self.probability[i]:8.3f}  {self.score[i]:5.2f}"
            )
        if self.recordings:
            yield f"{len(self.recordings)} recording(s) may be mislabelled as a whole:"
        for one in self.recordings[:_SHOWN_RECORDINGS]:
            yield (
                f"  {_cut(one.group, 18)}  {_cut(one.given, 14)}  {one.share:4.0%} of"
                f" {one.n_windows} windows look like {_cut(one.likelier, 14).rstrip()}"
            )


def judge_labels(
    probability: Floats, target: Ints, classes: NDArray[Any], groups: NDArray[Any] | None
) -> LabelErrors:
    """Rank labels by probabilities (n, K) of models that did not see the windows."""
    every, n_classes = np.arange(len(target)), len(classes)
    log_p = np.log(np.maximum(probability, _SMALLEST))
    alone = together = _weigh([log_p], target)
    recordings: tuple[SuspectRecording, ...] = ()
    if groups is not None:
        names, member = np.unique(groups, return_inverse=True)
        counts = np.zeros((len(names), n_classes))
        np.add.at(counts, (member, target), 1)
        if (counts > 0).sum(axis=1).max() > 1:
            # the log-odds of each class among the other windows of the group, (n, K)
            overall = counts.sum(axis=0) / counts.sum()
            others = counts[member]
            others[every, target] -= 1
            share = (others + _PRIOR * overall) / (others.sum(axis=1, keepdims=True) + _PRIOR)
            together = _weigh([log_p, np.log(share) - np.log(overall)], target)
        recordings = _find_recordings(alone, target, classes, names, member)
    own = together[every, target]
    mean = _mean_of_class(together, target)
    score = np.log(mean[target]) - np.log(np.maximum(own, _SMALLEST))
    others = together.copy()
    others[every, target] = -1.0
    order = np.argsort(-score, kind="stable")
    is_confident = np.where(together >= np.minimum(mean, _SURE), together, -1.0)
    is_off = (is_confident.max(axis=1) >= 0) & (is_confident.argmax(axis=1) != target)
    return LabelErrors(
        row=order,
        group=None if groups is None else groups[order],
        given=classes[target[order]],
        likelier=classes[others.argmax(axis=1)[order]],
        probability=own[order],
        score=score[order],
        n_estimated=int(is_off.sum()),
        recordings=recordings,
    )


def _weigh(scores: list[Floats], target: Ints) -> Floats:
    """Return the probabilities of the sum of scores with the lowest log-loss."""
    stacked = np.stack(scores)
    weights, _ = fit_stack(stacked, target, np.ones(len(target)))
    return np.asarray(softmax(np.tensordot(weights, stacked, 1), axis=1))


def _mean_of_class(probability: Floats, target: Ints) -> Floats:
    own = probability[np.arange(len(target)), target]
    counts = np.bincount(target, minlength=probability.shape[1])
    sums = np.bincount(target, own, minlength=probability.shape[1])
    return np.maximum(sums / counts, _SMALLEST)


def _find_recordings(
    probability: Floats, target: Ints, classes: NDArray[Any], names: NDArray[Any], member: Ints
) -> tuple[SuspectRecording, ...]:
    """Find groups in which most windows of one label look like the same other class."""
    ratio = np.log(np.maximum(probability, _SMALLEST)) - np.log(_mean_of_class(probability, target))
    best = ratio.argmax(axis=1)
    found = []
    pairs, unit = np.unique(np.stack([member, target]), axis=1, return_inverse=True)
    for place, (group, label) in enumerate(pairs.T.tolist()):
        rows = np.flatnonzero(unit.ravel() == place)
        votes = np.bincount(best[rows], minlength=len(classes))
        rival, share = int(votes.argmax()), float(votes.max() / len(rows))
        if len(rows) >= LEAST_WINDOWS and rival != label and share > 0.5:
            score = float((ratio[rows, rival] - ratio[rows, label]).mean())
            one = names[group], classes[label], classes[rival], len(rows), share, score
            found.append(SuspectRecording(*one))
    return tuple(sorted(found, key=lambda one: -one.score))


def _cut(value: Any, width: int) -> str:
    text = printable(str(value))
    return f"{text if len(text) <= width else text[: width - 3] + '...':{width}}"
