"""Cross-validation with scikit-learn, for windows with groups and lengths."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import sklearn
from numpy.typing import ArrayLike
from sklearn import model_selection

from sensorseq.base.checks import check_groups, check_per_window
from sensorseq.errors import InputError, LeakWarning, warn_caller
from sensorseq.inspection.overlap import count_shared
from sensorseq.io.prepared import read_windows
from sensorseq.prediction.checked_windows import windows_of
from sensorseq.preprocessing.splitters import Fold, GroupBalancedKFold, _Splitter
from sensorseq.training.labels import check_labels, from_one_hot
from sensorseq.windows import WindowSet

__all__ = ["cross_validate"]


def cross_validate(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    cv: Any = None,
    scoring: Any = None,
    params: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Cross-validate an estimator with scikit-learn; groups and lengths are passed to every fit.

    Parameters
    ----------
    estimator : estimator
        `SensorLSTMClassifier`, or a meta-estimator or pipeline that contains one.
    X : array of shape (n, t, c) or (n, t), list of arrays, WindowSet or path
        Windows as in `SensorLSTMClassifier.fit`, but without a split.
    y : array of shape (n,), optional
        Labels; not needed if a WindowSet or a file has them.
    groups : array of shape (n,), optional
        Group of each window. Windows of one group stay in the same part of every fold, and in the
        same part of the validation split inside each fit. A WindowSet has its own groups.
    lengths : array of shape (n,), int, optional
        Number of valid steps of each window.
    cv : int, splitter or iterable, optional
        The folds, or their number (5 by default). With groups, a number means `GroupBalancedKFold`;
        without groups, a number has the same meaning as in scikit-learn.
    scoring : str, callable, list or dict, optional
        As in scikit-learn; the estimator's own score by default.
    params : mapping, optional
        Further arguments for `fit`, such as `sample_weight`. With groups or lengths, the estimator
        must request these arguments (``set_fit_request``).
    **options
        Further options of scikit-learn's `cross_validate`, such as `return_estimator`.

    Returns
    -------
    dict
        ``fit_time``, ``score_time``, ``test_score`` (or ``test_<name>``) and further results that
        were requested, with one entry per fold.

    Raises
    ------
    InputError
        If the windows have a split, or the shapes do not match.

    Warns
    -----
    LeakWarning
        If test windows of the first fold overlap training windows.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq import SensorLSTMClassifier
    >>> from sensorseq.model_selection import cross_validate
    >>> y = np.arange(60) % 2
    >>> X = np.sin(np.arange(20) * (0.3 + 0.6 * y[:, None]) + np.arange(60)[:, None])
    >>> clf = SensorLSTMClassifier(hidden_size=8, max_epochs=5)
    >>> cross_validate(clf, X, y, cv=3)["test_score"].shape
    (3,)
    """
    if isinstance(X, str | os.PathLike):
        X = read_windows(X)
    of_windows: dict[str, Any] = {}
    if isinstance(X, WindowSet):
        if X.split is not None:
            raise InputError(
                "X already has a split, but cross-validation draws its own folds; give"
                ' X.part("train") or, for a file, sensorseq.io.prepared.read_windows(X, "train").'
            )
        if lengths is not None:
            raise InputError("a WindowSet has its own lengths; omit lengths.")
        if groups is not None:
            X = replace(X, groups=check_groups("groups", groups, len(X)))
        y, groups = X.y if y is None else y, X.groups
        if y is None:
            raise InputError("the WindowSet has no labels; give y.")
    else:
        if groups is not None:
            of_windows["groups"] = groups = check_groups("groups", groups, len(X))
        if lengths is not None:
            of_windows["lengths"] = check_per_window("lengths", lengths, len(X))
            if scoring is not None:
                raise InputError(
                    "scikit-learn's scorers cannot pass lengths to predict, so lengths cannot be"
                    " combined with scoring; give a list of windows or a WindowSet, or use"
                    " scoring=None."
                )
    folds = _draw_folds(X, y, groups, cv)
    _warn_of_shared_samples(X, lengths, groups, folds[0])
    routing: AbstractContextManager[Any] = nullcontext()
    if of_windows:
        routing = sklearn.config_context(enable_metadata_routing=True)
    with routing:
        results: dict[str, Any] = model_selection.cross_validate(
            estimator,
            X,
            y,
            cv=folds,
            scoring=scoring,
            params={**(params or {}), **of_windows},
            **options,
        )
    return results


def _draw_folds(X: Any, y: Any, groups: Any, cv: Any) -> list[Fold]:
    labels = y
    if y is not None:
        labels = np.asarray(y)
        if labels.ndim == 2 and groups is not None:  # stratified folds need classes
            labels = labels.ravel() if labels.shape[1] == 1 else from_one_hot(labels, "y")
        if labels.ndim == 1:
            check_labels(labels)  # before a splitter converts the labels
    splitter: Any
    if groups is not None and (cv is None or isinstance(cv, int | np.integer)):
        splitter = GroupBalancedKFold(5 if cv is None else int(cv))
    else:
        splitter = model_selection.check_cv(cv, labels, classifier=True)
    if isinstance(X, WindowSet) and isinstance(splitter, _Splitter):
        return list(splitter.split(X, labels))  # the splitter reads the groups itself
    return list(splitter.split(X, labels, groups))


def _warn_of_shared_samples(X: Any, lengths: Any, groups: Any, fold: Fold) -> None:
    try:
        windows = windows_of(X, lengths, missing="expected")
    except (InputError, TypeError, ValueError):
        return  # every fit reports the problem itself
    train, test = (np.asarray(rows) for rows in fold)
    n_shared, n_compared = count_shared(windows.take(train), windows.take(test))
    if not n_shared:
        return
    advice = "Give groups= with the recording of each window."
    if groups is not None:
        torn = np.intersect1d(groups[train], groups[test]).tolist()
        advice = (
            "Windows of different groups overlap; give all windows of a recording the same group."
        )
        if torn:
            advice = f"cv splits group {torn[0]!r}: give a splitter that keeps groups together."
    warn_caller(
        f"{n_shared} of {n_compared} test windows of the first fold overlap training windows, so"
        f" every score is inflated. {advice}",
        LeakWarning,
    )
