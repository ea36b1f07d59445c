"""Find windows and recordings whose labels contradict cross-validated models."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import clone, is_classifier

from sensorseq.base.checks import check_groups, check_integer
from sensorseq.base.text import percent, plain, plural
from sensorseq.errors import ArgumentError, InputError, SplitError, printable
from sensorseq.features.ridge import MOST_WINDOWS
from sensorseq.features.stack import fit_stack
from sensorseq.prediction.checked_windows import Windows, windows_of
from sensorseq.prediction.outside import Floats, Ints
from sensorseq.preprocessing.splitters import split_folds
from sensorseq.training.labels import draw_entropy, read_labels
from sensorseq.windows import WindowSet

LEAST_WINDOWS = 3  # minimum number of windows of a label needed to judge a recording
_SHOWN, _SHOWN_RECORDINGS = 10, 5  # maximum numbers of windows and recordings that are printed
_SMALLEST = 1e-9  # smallest probability used in logarithms
# A class with this probability counts as likely even if the mean probability of the class is
# higher. The mean probability of an easy class is near 1, which would be too strict a limit: with
# it, `n_estimated` was farther from the number of planted errors in docs/label_errors.md.
_SURE = 0.7
# Weight, in windows, of the overall class frequencies when they are added to a group's label
# counts.
_PRIOR = 1.0
_MOST_SEEDS = 1000
_N_FOLDS = 5  # number of folds if the fit makes no out-of-fold predictions


class Classifier(Protocol):
    """A classifier given by the user, from scikit-learn, this package or elsewhere."""

    classes_: NDArray[Any]

    def fit(self, X: Any, y: Any) -> "Classifier":
        """Fit the classifier on rows and their classes."""

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probabilities of the classes."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments."""


@dataclass(frozen=True)
class SuspectRecording:
    """A recording in which most windows with one label look like windows of another class."""

    group: Any  # the recording, an element of `groups`
    given: Any  # the label in question
    likelier: Any  # the class that most windows with this label look like
    n_windows: int  # number of windows of the recording with this label
    share: float  # fraction of these windows that look like `likelier`, above 0.5
    probability: float  # mean probability of `given` for these windows


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """All windows, the likeliest label errors first; print the object to see a table.

    Parameters
    ----------
    row : ndarray of shape (n,), int64
        Index into X.
    group : ndarray of shape (n,) or None
        Element of `groups`.
    given, likelier : ndarray of shape (n,)
        The label in y, and the other class that fits best.
    probability : ndarray of shape (n,), float64
        Probability of the given label, between 0 and 1; it increases along the rows.
    n_estimated : int
        Estimated number of wrong labels, not counting recordings that are mislabeled as a whole.
        Check at least this many rows.
    recordings : tuple of SuspectRecording
        Recordings that may be mislabeled as a whole, the lowest probability first.
    """

    row: Ints
    group: NDArray[Any] | None
    given: NDArray[Any]
    likelier: NDArray[Any]
    probability: Floats
    n_estimated: int
    recordings: tuple[SuspectRecording, ...] = ()

    def __len__(self) -> int:
        return len(self.row)

    def to_dict(self) -> dict[str, Any]:
        """Return `n_estimated`, `windows` (columns) and `recordings` (a list) as plain data."""
        columns = {
            name: values.tolist()
            for name in ("row", "group", "given", "likelier", "probability")
            if (values := getattr(self, name)) is not None
        }
        recordings = plain(self.recordings)
        return {"n_estimated": self.n_estimated, "windows": columns, "recordings": recordings}

    def __str__(self) -> str:
        in_group = "" if self.group is None else f"  {'group':18}"
        lines = [
            f"About {self.n_estimated} of {len(self)} labels look wrong. Likeliest first:",
            f"{'row':>7}{in_group}  {'label':14}  {'likelier':14}  p(label)",
        ]
        for i in range(min(len(self), _SHOWN)):
            in_group = "" if self.group is None else f"  {_cut(self.group[i], 18)}"
            lines.append(
                f"{self.row[i]:7}{in_group}  {_cut(self.given[i], 14)}"
                f"  {_cut(self.likelier[i], 14)}  {self.probability[i]:8.3f}"
            )
        if self.recordings:
            n = plural(len(self.recordings), "recording")
            lines.append(f"{n} may be mislabeled as a whole:")
        for suspect in self.recordings[:_SHOWN_RECORDINGS]:
            share = percent(suspect.share, 0)
            lines.append(
                f"  {_cut(suspect.group, 18)}  {_cut(suspect.given, 14)}  {share:>5} of"
                f" {suspect.n_windows} windows look like {_cut(suspect.likelier, 14).rstrip()}"
            )
        return "\n".join(lines)


def judge_labels(
    probability: Floats, target: Ints, classes: NDArray[Any], groups: NDArray[Any] | None
) -> LabelErrors:
    """Rank windows by how suspicious their label is, given out-of-fold probabilities (n, K)."""
    recordings: tuple[SuspectRecording, ...] = ()
    if groups is not None:
        # by the models alone: the group would confirm the labels of a mislabeled recording
        recordings = _find_recordings(probability, target, classes, groups)
        probability = _with_group_labels(probability, target, groups)
    every = np.arange(len(target))
    p_given = probability[every, target]
    rivals = probability.copy()
    rivals[every, target] = -1.0
    mean = np.bincount(target, p_given, len(classes)) / np.bincount(target, minlength=len(classes))
    is_confident = np.where(probability >= np.minimum(mean, _SURE), probability, -1.0)
    is_off = (is_confident.max(axis=1) >= 0) & (is_confident.argmax(axis=1) != target)
    order = np.argsort(p_given, kind="stable")
    return LabelErrors(
        row=order,
        group=None if groups is None else groups[order],
        given=classes[target[order]],
        likelier=classes[rivals.argmax(axis=1)[order]],
        probability=p_given[order],
        n_estimated=int(is_off.sum()),
        recordings=recordings,
    )


def _with_group_labels(probability: Floats, target: Ints, groups: NDArray[Any]) -> Floats:
    """Combine the probabilities with the labels of the other windows in the group."""
    names, member = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), probability.shape[1]))
    np.add.at(counts, (member, target), 1)
    if (counts > 0).sum(axis=1).max() == 1:
        return probability
    # frequency of each class among the other windows of the group, (n, K)
    overall = counts.sum(axis=0) / counts.sum()
    n_others = counts[member]
    n_others[np.arange(len(target)), target] -= 1
    share = (n_others + _PRIOR * overall) / (n_others.sum(axis=1, keepdims=True) + _PRIOR)
    log_p = np.log(np.maximum(probability, _SMALLEST))
    scores = np.stack([log_p, np.log(share) - np.log(overall)])
    weights, _ = fit_stack(scores, target, np.ones(len(target)))
    return np.asarray(softmax(np.tensordot(weights, scores, 1), axis=1))


def _find_recordings(
    probability: Floats, target: Ints, classes: NDArray[Any], groups: NDArray[Any]
) -> tuple[SuspectRecording, ...]:
    """Find groups in which most windows with one label look like windows of another class."""
    best, suspects = probability.argmax(axis=1), []
    for group in np.unique(groups):
        for label in np.unique(target[groups == group]):
            rows = np.flatnonzero((groups == group) & (target == label))
            votes = np.bincount(best[rows])
            rival, share = votes.argmax(), float(votes.max() / len(rows))
            if len(rows) >= LEAST_WINDOWS and rival != label and share > 0.5:
                p_given = float(probability[rows, label].mean())
                fields = group, classes[label], classes[rival], len(rows), share, p_given
                suspects.append(SuspectRecording(*fields))
    return tuple(sorted(suspects, key=lambda suspect: suspect.probability))


def _cut(value: Any, width: int) -> str:
    text = printable(str(value))
    return f"{text if len(text) <= width else text[: width - 3] + '...':{width}}"


def find_label_errors(
    clf: Classifier,
    X: Any,
    y: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    n_seeds: int = 2,
    random_state: Any = None,
) -> LabelErrors:
    """Rank windows by how likely it is that their label is wrong.

    Every window is judged by models that were trained without it and without its group. No window
    or label is changed. Look at the first rows, and correct the wrong labels.

    A `SensorLSTMClassifier` is fitted once per repetition, because its fit makes out-of-fold
    predictions for all windows. With more than 6,000 windows, with ``features=None`` and for other
    classifiers, five classifiers are fitted, one for each fold.

    Parameters
    ----------
    clf : SensorLSTMClassifier or scikit-learn classifier
        A fitted or unfitted classifier; it is cloned, not changed. A scikit-learn classifier needs
        `predict_proba` and must accept windows of shape (n, t, c).
    X : array of shape (n, t, c) or (n, t), list of arrays of shape (t_i, c), or WindowSet
        n windows of t steps and c channels.
    y : array of shape (n,), optional
        Labels (numbers or strings) or one-hot columns; by default, the labels of a WindowSet.
    groups : array of shape (n,), optional
        The recording, robot or person of each window. A group is never divided between training and
        prediction, because neighboring windows are similar and would confirm each other's errors.
        By default, the groups of a WindowSet.
    lengths : array of shape (n,), int, optional
        Valid steps of each window.
    n_seeds : int, default=2
        Number of repetitions, at most 1,000, with different folds and initial weights. The
        probabilities of all repetitions are averaged. On development data, the ranking was slightly
        better with two repetitions than with one, and no better with three than with two.
    random_state : int, RandomState or None, default=None
        Seed for the folds and for the `random_state` of `clf`. The same integer gives the same
        result.

    Returns
    -------
    LabelErrors
        All windows, the likeliest errors first, with the estimated number of errors, and the
        recordings that may be mislabeled as a whole.

    Raises
    ------
    SplitError
        If a class occurs in only one group (without groups, in only one window), so that some
        models could not learn that class.

    Notes
    -----
    Windows are ranked by the probability of the given label (self-confidence [1]_). `n_estimated`
    counts windows whose likeliest class is not the label, as in confident learning [1]_. A class is
    considered only if its probability is at least 0.7, or at least the mean probability of the
    class over the windows that are labeled with it.

    The labels of the other windows in the group are a second opinion. The weights of both opinions
    minimize the log-loss on the given labels, so the second counts if most groups have one label,
    and not if all groups have the same mixture of classes. The list `recordings` is based on
    the models alone, because the second opinion would confirm the labels of a recording that is
    mislabeled as a whole. If every group has a single label, the second opinion would only repeat
    the label, so the opinion is not used.

    References
    ----------
    .. [1] Northcutt, Jiang and Chuang, *Confident Learning: Estimating Uncertainty in Dataset
       Labels*, JAIR 70, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq import SensorLSTMClassifier, find_label_errors
    >>> t, rng = np.arange(40), np.random.default_rng(0)
    >>> X = np.stack([np.sin(t * (0.3 if i % 2 else 0.9) + i) for i in range(60)])
    >>> X += 0.1 * rng.normal(size=X.shape)
    >>> y = np.array(["fast", "slow"] * 30)
    >>> y[7] = "fast"
    >>> clf = SensorLSTMClassifier(hidden_size=8, max_epochs=10)
    >>> errors = find_label_errors(clf, X, y, n_seeds=1, random_state=0)
    >>> errors.row[0], errors.given[0], errors.likelier[0]
    (np.int64(7), np.str_('fast'), np.str_('slow'))
    """
    check_integer("n_seeds", n_seeds, most=_MOST_SEEDS)
    if isinstance(clf, type) or not is_classifier(clf) or not hasattr(clf, "predict_proba"):
        raise ArgumentError(
            f"clf={clf!r} must be a SensorLSTMClassifier or another scikit-learn classifier with"
            " predict_proba."
        )
    windows = _read(X, y, groups, lengths)
    entropy = draw_entropy(random_state)
    seeds = np.random.SeedSequence(entropy).generate_state(n_seeds) % 2**31
    total = np.zeros((len(windows.target), len(windows.classes)))
    n_judged = np.zeros(len(total))
    for seed in seeds.tolist():
        probability = _out_of_fold(clf, windows, seed)
        judged = np.isfinite(probability).all(axis=1)
        total[judged] += probability[judged]
        n_judged += judged
    if not n_judged.all():
        row = int(np.argmin(n_judged))
        raise SplitError(
            f"class {windows.classes.tolist()[windows.target[row]]!r} is in too few groups: in"
            " every repetition, all of these groups were left out together. Give more recordings"
            " of the class, or drop it."
        )
    return judge_labels(total / n_judged[:, None], windows.target, windows.classes, windows.groups)


def _read(X: Any, y: Any, groups: Any, lengths: Any) -> Windows:
    if isinstance(X, WindowSet) and X.split is not None:
        raise InputError(
            "X has a split, but find_label_errors draws its own folds; give"
            ' X.part("train") to check the labels of the training part.'
        )
    if isinstance(X, WindowSet):
        y = X.y if y is None else y
        groups = X.groups if groups is None else groups
        groups = X.recording_id if groups is None else groups
    windows = windows_of(X, lengths)
    labels, _ = read_labels(y, len(windows), "y")
    classes, target = np.unique(labels, return_inverse=True)
    groups = check_groups("groups", groups, len(windows))
    if len(classes) < 2:
        raise InputError(
            f"y has only one class ({classes.tolist()[0]!r}); there must be at least two."
        )
    units, unit = (np.arange(len(windows)), "window") if groups is None else (groups, "group")
    for k, label in enumerate(classes.tolist()):
        if len(np.unique(units[target == k])) < 2:
            raise SplitError(
                f"class {label!r} is in one {unit} only, so no model can learn the class without"
                f" this {unit}. Give another {unit} of this class, or drop the class."
            )
    return replace(windows, target=target, classes=classes, groups=groups)


def _arguments(windows: Windows, rows: Ints) -> tuple[NDArray[Any], Ints | None]:
    """Return the arguments of `fit`: the windows and, unless all are full, their lengths."""
    X = windows.X[rows]
    X = X.reshape(len(X), -1) if windows.is_flat else X
    return X, None if windows.are_full else windows.lengths[rows]


def _out_of_fold(clf: Classifier, windows: Windows, seed: int) -> Floats:
    """Return out-of-fold probabilities (n, K); NaN for windows that no model could judge."""
    predicted = _predict_in_one_fit(clf, windows, seed)
    if predicted is not None:
        return predicted
    probability = np.full((len(windows.target), len(windows.classes)), np.nan)
    for fit_rows, test_rows in split_folds(windows.target, windows.groups, _N_FOLDS, seed):
        trained = np.unique(windows.target[fit_rows])
        # windows of a class that this model was not trained on are left to other repetitions
        rows = test_rows[np.isin(windows.target[test_rows], trained)]
        if len(trained) < 2 or not len(rows):
            continue
        model = _fit(_with_seed(clf, seed), windows, fit_rows)
        X, lengths = _arguments(windows, rows)
        options = {} if lengths is None else {"lengths": lengths}
        probability[rows] = 0.0
        columns = np.searchsorted(windows.classes, model.classes_)
        probability[np.ix_(rows, columns)] = model.predict_proba(X, **options)
    return probability


def _predict_in_one_fit(clf: Classifier, windows: Windows, seed: int) -> Floats | None:
    """Return the out-of-fold predictions of a single fit, or None if a window has none."""
    if not hasattr(clf, "out_of_fold_predictions"):
        return None
    network = clone(clf)
    if not (network.features or network.motors) or len(windows.target) > MOST_WINDOWS:
        return None
    network.set_params(
        random_state=seed,
        refit="auto",
        calibrate=False,
        warm_start=False,
        checkpoint=None,
    )
    _fit(network, windows, np.arange(len(windows.target)))
    predicted = network.out_of_fold_predictions()
    if predicted is None or len(predicted[0]) < len(windows.target):
        return None
    probability = np.empty((len(windows.target), len(windows.classes)))
    probability[predicted[0]] = predicted[1]
    return probability


def _fit(model: Classifier, windows: Windows, rows: Ints) -> Any:
    X, lengths = _arguments(windows, rows)
    options: dict[str, Any] = {}
    if windows.groups is not None and _accepts(model.fit, "groups"):
        options["groups"] = windows.groups[rows]
    if lengths is not None:
        if not (_accepts(model.fit, "lengths") and _accepts(model.predict_proba, "lengths")):
            raise ArgumentError(
                f"the windows have different lengths, but {type(model).__name__} accepts no"
                " lengths; use a SensorLSTMClassifier, or cut the windows to one length."
            )
        options["lengths"] = lengths
    return model.fit(X, windows.classes[windows.target[rows]], **options)


def _accepts(method: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(method).parameters


def _with_seed(clf: Classifier, seed: int) -> Any:
    model = clone(clf)
    names = [
        name for name in model.get_params(deep=True) if name.rpartition("__")[2] == "random_state"
    ]
    return model.set_params(**dict.fromkeys(names, seed))
