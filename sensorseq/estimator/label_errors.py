"""Windows and recordings whose labels look wrong to models that were trained without them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone, is_classifier

from sensorseq.checks import check_integer
from sensorseq.data_checks.part import Floats, Ints
from sensorseq.data_checks.wrong_labels import LabelErrors, judge_labels
from sensorseq.errors import ArgumentError, InputError, SplitError
from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.estimator.feature_head import MOST_WINDOWS
from sensorseq.estimator.labels import draw_entropy, read_labels
from sensorseq.estimator.refit import split_folds
from sensorseq.training.inputs import Sequences, check_groups, read_sequences
from sensorseq.windows import WindowSet

_MOST_SEEDS = 1000
OTHER_FOLDS = 5  # of a classifier that has no folds in its own fit


def find_label_errors(
    clf: Any,
    X: Any,
    y: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    n_seeds: int = 2,
    n_folds: int | None = None,
    random_state: Any = None,
) -> LabelErrors:
    """Rank windows by how likely their label is wrong.

    Every window is judged by models that were trained without it and without its group. Nothing is
    removed or changed: look at the first rows, and correct what is wrong.

    Parameters
    ----------
    clf : SensorLSTMClassifier or scikit-learn classifier
        Fitted or not; it is cloned and stays as it is. A classifier of scikit-learn needs
        `predict_proba` and must take windows of shape (n, t, c).
    X : array of shape (n, t, c) or (n, t), list of arrays of shape (t_i, c), or WindowSet
        Windows, n samples of t steps and c channels.
    y : array of shape (n,), optional
        Labels, numbers or text, or one-hot columns. None takes those of a WindowSet.
    groups : array of shape (n,), optional
        The recording, robot or person of each window. A group is never divided between training and
        prediction, because neighbouring windows are alike and would confirm each other's errors.
        Those of a WindowSet by default.
    lengths : array of shape (n,), int, optional
        Valid steps of each window.
    n_seeds : int, default=2
        Repetitions with other folds and weights, at most 1,000, whose probabilities are averaged.
        On development data two ranked slightly better than one, and three no better than two.
    n_folds : int, optional
        Folds of each repetition. None means the folds on which `fit` of a
        `SensorLSTMClassifier` weighs its features: a single fit judges all windows. For more than
        6,000 windows, ``features=None`` and other classifiers it means five. With a number, the
        classifier is fitted once per fold.
    random_state : int, RandomState or None, default=None
        Seed of the folds, and of the `random_state` of `clf`. The same integer gives the same
        result.

    Returns
    -------
    LabelErrors
        All windows, the likeliest errors first, with the estimated number of errors, and the
        recordings that may be mislabelled as a whole.

    Raises
    ------
    SplitError
        If there are fewer groups than folds, or a class occurs in one group (without groups: one
        window) only, so that no model could know it.

    Notes
    -----
    The score follows confident learning [1]_: the probability of the given label is compared with
    the mean probability of all windows with this label, so that a class which the model is never
    sure of does not fill the top of the table. `n_estimated` counts the windows whose likeliest
    class, of those with a probability of at least 0.7 or their class's mean, is another one.

    The labels of the other windows in the group are a second opinion. Its weight is the one with
    the lowest log-loss on the given labels: high where a recording has one label, zero where every
    group has all classes. It cannot find a recording that is mislabelled as a whole. Such a
    recording is found by the models alone, and listed in `recordings`. Where every group has a
    single label the second opinion would only repeat the label, and is not used.

    References
    ----------
    .. [1] C. Northcutt, L. Jiang, I. Chuang, *Confident Learning: Estimating Uncertainty in Dataset
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
    >>> found = find_label_errors(clf, X, y, n_seeds=1, random_state=0)
    >>> found.row[0], found.given[0], found.likelier[0]
    (np.int64(7), np.str_('fast'), np.str_('slow'))
    """
    check_integer("n_seeds", n_seeds, most=_MOST_SEEDS)
    if n_folds is not None:
        check_integer("n_folds", n_folds, 2)
    if isinstance(clf, type) or not is_classifier(clf) or not hasattr(clf, "predict_proba"):
        raise ArgumentError(
            f"clf={clf!r} must be a SensorLSTMClassifier or another scikit-learn classifier with"
            " predict_proba."
        )
    given = _read(X, y, groups, lengths)
    _check_groups(given, n_folds)
    entropy = draw_entropy(random_state)
    seeds = np.random.SeedSequence(entropy).generate_state(n_seeds) % 2**31
    total = np.zeros((len(given.target), len(given.classes)))
    n_judged = np.zeros(len(total))
    for seed in seeds.tolist():
        probability = _out_of_fold(clf, given, n_folds, seed)
        judged = np.isfinite(probability).all(axis=1)
        total[judged] += probability[judged]
        n_judged += judged
    if not n_judged.all():
        row = int(np.argmin(n_judged))
        raise SplitError(
            f"class {given.classes.tolist()[given.target[row]]!r} is in too few groups: in every"
            " repetition all of them were left out together. Give more recordings of it, or drop"
            " the class."
        )
    return judge_labels(total / n_judged[:, None], given.target, given.classes, given.groups)


@dataclass(frozen=True, eq=False)
class _Given:
    """What was given, checked."""

    sequences: Sequences
    target: Ints
    classes: NDArray[Any]
    groups: NDArray[Any] | None

    def arguments(self, rows: Ints) -> tuple[NDArray[Any], Ints | None]:
        """Return windows and, unless all are full, their lengths."""
        X, lengths = self.sequences.X[rows], self.sequences.lengths[rows]
        if self.sequences.is_flat:
            X = X.reshape(len(X), -1)
        return X, None if self.sequences.are_full else lengths


def _read(X: Any, y: Any, groups: Any, lengths: Any) -> _Given:
    sequences = read_sequences(X, lengths)
    if isinstance(X, WindowSet):
        if X.split is not None:
            raise InputError(
                'X has a split, but the folds are drawn here; give X.part("train") for the labels'
                " of the training part."
            )
        y = X.y if y is None else y
        if groups is None:
            groups = X.recording_id if X.groups is None else X.groups
    labels, _ = read_labels(y, len(sequences), "y")
    classes, target = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"y has only one class ({classes.tolist()[0]!r}); there must be two.")
    return _Given(sequences, target, classes, check_groups(groups, len(sequences), "groups"))


def _check_groups(given: _Given, n_folds: int | None) -> None:
    """Raise unless whole groups can be left out and every class is still known."""
    units = np.arange(len(given.target)) if given.groups is None else given.groups
    unit = "window" if given.groups is None else "group"
    n_units, needed = len(np.unique(units)), 2 if n_folds is None else n_folds
    if n_units < needed:
        raise SplitError(
            f"there are {n_units} {unit}(s), fewer than the {needed} folds that whole {unit}s are"
            f" dealt to. Give more {unit}s, or a smaller n_folds."
        )
    for k, label in enumerate(given.classes.tolist()):
        if len(np.unique(units[given.target == k])) < 2:
            raise SplitError(
                f"class {label!r} is in one {unit} only, so no model that has not seen this {unit}"
                f" knows the class. Give another {unit} of it, or drop the class."
            )


def _out_of_fold(clf: Any, given: _Given, n_folds: int | None, seed: int) -> Floats:
    """Return probabilities of windows left out, (n, K); NaN where no model could judge one."""
    if n_folds is None:
        found = _by_own_folds(clf, given, seed)
        if found is not None:
            return found
    folds = split_folds(given.target, given.groups, n_folds or OTHER_FOLDS, seed)
    found = np.full((len(given.target), len(given.classes)), np.nan)
    for fit_rows, test_rows in folds:
        known = np.unique(given.target[fit_rows])
        # the labels of a class that this model has never seen are for other repetitions to judge
        rows = test_rows[np.isin(given.target[test_rows], known)]
        if len(known) < 2 or not len(rows):
            continue
        model = _fit(_with_seed(clf, seed), given, fit_rows)
        X, lengths = given.arguments(rows)
        options = {} if lengths is None else {"lengths": lengths}
        found[rows] = 0.0
        columns = np.searchsorted(given.classes, model.classes_)
        found[np.ix_(rows, columns)] = model.predict_proba(X, **options)
    return found


def _by_own_folds(clf: Any, given: _Given, seed: int) -> Floats | None:
    """Return the predictions of the folds inside one fit, if it has them for every window."""
    if not isinstance(clf, SensorLSTMClassifier):
        return None
    network = clone(clf)
    if network.features is None or len(given.target) > MOST_WINDOWS:
        return None
    network.set_params(
        random_state=seed,
        refit="auto",
        calibrate=False,
        warm_start=False,
        checkpoint=None,
        resume=False,
        auto_repair=False,
    )
    _fit(network, given, np.arange(len(given.target)))
    predicted = network.out_of_fold_predictions()
    if predicted is None or len(predicted[0]) < len(given.target):
        return None
    found = np.empty((len(given.target), len(given.classes)))
    found[predicted[0]] = predicted[1]
    return found


def _fit(model: Any, given: _Given, rows: Ints) -> Any:
    X, lengths = given.arguments(rows)
    options: dict[str, Any] = {}
    if given.groups is not None and _takes(model.fit, "groups"):
        options["groups"] = given.groups[rows]
    if lengths is not None:
        if not (_takes(model.fit, "lengths") and _takes(model.predict_proba, "lengths")):
            raise ArgumentError(
                f"the windows have different lengths, but {type(model).__name__} takes no lengths;"
                " use a SensorLSTMClassifier, or cut the windows to one length."
            )
        options["lengths"] = lengths
    return model.fit(X, given.classes[given.target[rows]], **options)


def _takes(method: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(method).parameters


def _with_seed(clf: Any, seed: int) -> Any:
    model = clone(clf)
    names = [
        name for name in model.get_params(deep=True) if name.rpartition("__")[2] == "random_state"
    ]
    return model.set_params(**dict.fromkeys(names, seed))
