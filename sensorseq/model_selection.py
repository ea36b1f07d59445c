"""Parameter search and cross-validation with scikit-learn, for windows with groups and lengths."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import sklearn
from numpy.typing import ArrayLike, NDArray
from sklearn import model_selection
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv
from sklearn.model_selection._search import BaseSearchCV

from sensorseq.checks import check_groups, check_per_window
from sensorseq.errors import ArgumentError, InputError, LeakWarning, warn_caller
from sensorseq.inspection.overlap import count_shared
from sensorseq.io.prepared import read_windows
from sensorseq.prediction.windows import windows_of
from sensorseq.preprocessing.splitters import GroupBalancedKFold, _Splitter
from sensorseq.training.labels import check_labels, from_one_hot
from sensorseq.windows import WindowSet

__all__ = ["SequenceSearchCV", "cross_validate"]

_N_SPLITS = 5


class SequenceSearchCV(BaseSearchCV):  # type: ignore[misc]  # sklearn is untyped
    """Search for parameters by cross-validation; groups and lengths are passed to every fit.

    The search works like scikit-learn's `GridSearchCV` or, with `n_iter`, `RandomizedSearchCV`, but
    accepts windows in every form that `SensorLSTMClassifier.fit` accepts. Fits run one after
    another, or in the processes of a ``joblib.parallel_config`` block.

    Parameters
    ----------
    estimator : estimator
        `SensorLSTMClassifier`, or a meta-estimator or pipeline that contains one.
    param_grid : dict or list of dict
        Values to try for each parameter; with `n_iter`, also distributions to draw from.
    n_iter : int, optional
        Number of candidates to draw; by default, all combinations are tried.
    scoring : str, callable, list or dict, optional
        As in scikit-learn; the estimator's own score by default.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate on all windows, as in scikit-learn.
    cv : int, splitter or iterable, optional
        The folds, or their number (5 by default). With groups, a number means `GroupBalancedKFold`;
        without groups, a number has the same meaning as in scikit-learn.
    error_score : "raise" or float, default=nan
        Score of a candidate whose fit fails.
    return_train_score : bool, default=False
        Whether to score the training part of each fold as well.
    random_state : int, RandomState or None, default=None
        Seed for drawing candidates. The fits use the estimator's own `random_state`.
    verbose : int, default=0
        As in scikit-learn.

    Attributes
    ----------
    cv_results_ : dict
        As in scikit-learn.
    best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_
        As in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq import SensorLSTMClassifier
    >>> from sensorseq.model_selection import SequenceSearchCV
    >>> y = np.arange(60) % 2
    >>> X = np.sin(np.arange(20) * (0.3 + 0.6 * y[:, None]) + np.arange(60)[:, None])
    >>> clf = SensorLSTMClassifier(hidden_size=8, max_epochs=20, random_state=0)
    >>> search = SequenceSearchCV(clf, {"learning_rate": [1e-5, 2e-2]}, cv=3).fit(X, y)
    >>> search.best_params_
    {'learning_rate': 0.02}
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        n_iter: int | None = None,
        scoring: Any = None,
        refit: Any = True,
        cv: Any = None,
        error_score: float | str = np.nan,
        return_train_score: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            refit=refit,
            cv=cv,
            verbose=verbose,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_grid = param_grid
        self.n_iter = n_iter
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        groups: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Run every fold of every candidate.

        Parameters
        ----------
        X : array of shape (n, t, c) or (n, t), list of arrays, WindowSet or path
            Windows as in `SensorLSTMClassifier.fit`, but without a split.
        y : array of shape (n,), optional
            Labels; not needed if a WindowSet or a file has them.
        groups : array of shape (n,), optional
            Group of each window. Windows of one group stay in the same part of every fold, and in
            the same part of the validation split inside each fit. A WindowSet has its own groups.
        lengths : array of shape (n,), int, optional
            Number of valid steps of each window.
        **params
            Further arguments for `fit` of the estimator, such as `sample_weight`. With groups or
            lengths, the estimator must request these arguments (``set_fit_request``).

        Raises
        ------
        InputError
            If the windows have a split, or the shapes do not match.
        ArgumentError
            If `n_iter` is not a positive integer.

        Warns
        -----
        LeakWarning
            If test windows of the first fold overlap training windows.
        """
        if self.n_iter is not None and not (
            isinstance(self.n_iter, int | np.integer) and self.n_iter > 0
        ):
            raise ArgumentError(f"n_iter={self.n_iter!r} must be a positive integer, or None.")
        data = _with_folds(X, y, groups, lengths, self.cv, self.scoring)
        self._folds = data.folds
        try:
            with _routing(data.params):
                super().fit(data.X, data.y, **params, **data.params)
        finally:
            del self._folds
        return self

    def score(self, X: Any, y: Any = None, **params: Any) -> float:
        """Return the score of the best estimator, computed with `scoring` if it is given.

        Parameters
        ----------
        X, y : as in `fit`
        **params
            Further arguments for `score` of the estimator, such as `lengths`.
        """
        y = X.y if y is None and isinstance(X, WindowSet) else y
        with _routing(params):
            score: float = super().score(X, y, **params)
        return score

    def _run_search(self, evaluate_candidates: Any) -> None:
        candidates = (
            ParameterGrid(self.param_grid)
            if self.n_iter is None
            else ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state)
        )
        evaluate_candidates(candidates, cv=check_cv(self._folds))


def cross_validate(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    cv: Any = None,
    scoring: Any = None,
    seeds: Sequence[int] | None = None,
    params: Mapping[str, Any] | None = None,
    return_train_score: bool = False,
    return_estimator: bool = False,
    return_indices: bool = False,
    error_score: float | str = np.nan,
    verbose: int = 0,
) -> dict[str, Any]:
    """Cross-validate an estimator with scikit-learn; groups and lengths are passed to every fit.

    Errors and warnings are the same as in `SequenceSearchCV.fit`.

    Parameters
    ----------
    estimator : estimator
        `SensorLSTMClassifier`, or a meta-estimator or pipeline that contains one.
    X, y, groups, lengths
        As in `SequenceSearchCV.fit`.
    cv, scoring
        As in `SequenceSearchCV`.
    seeds : sequence of int, optional
        Seeds to use as `random_state`: every fold is fitted once with each seed. ``"seed"`` in the
        result lists the seed of each fit.
    params : mapping, optional
        Further arguments for `fit`, such as `sample_weight`. With groups or lengths, the estimator
        must request these arguments (``set_fit_request``).
    return_train_score, return_estimator, return_indices, error_score, verbose
        As in scikit-learn.

    Returns
    -------
    dict
        ``fit_time``, ``score_time``, ``test_score`` (or ``test_<name>``) and further results that
        were requested. Each result has one entry per fit, beginning with all folds of the first
        seed.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq import SensorLSTMClassifier
    >>> from sensorseq.model_selection import cross_validate
    >>> y = np.arange(60) % 2
    >>> X = np.sin(np.arange(20) * (0.3 + 0.6 * y[:, None]) + np.arange(60)[:, None])
    >>> clf = SensorLSTMClassifier(hidden_size=8, max_epochs=5)
    >>> results = cross_validate(clf, X, y, cv=3, seeds=(0, 1))
    >>> results["test_score"].shape, results["seed"].tolist()
    ((6,), [0, 0, 0, 1, 1, 1])
    """
    if seeds is not None and (not isinstance(seeds, Iterable) or not len(seeds := list(seeds))):
        raise ArgumentError(f"seeds={seeds!r} must be a list of integers, such as [0, 1], or None.")
    data = _with_folds(X, y, groups, lengths, cv, scoring)

    def evaluate(seeded: Any) -> dict[str, Any]:
        results: dict[str, Any] = model_selection.cross_validate(
            seeded,
            data.X,
            data.y,
            cv=data.folds,
            scoring=scoring,
            params={**(params or {}), **data.params},
            return_train_score=return_train_score,
            return_estimator=return_estimator,
            return_indices=return_indices,
            error_score=error_score,
            verbose=verbose,
        )
        return results

    with _routing(data.params):
        if seeds is None:
            return evaluate(estimator)
        parts = [evaluate(_with_seed(estimator, seed)) for seed in seeds]
    return {
        **{name: _join([part[name] for part in parts]) for name in parts[0]},
        "seed": np.repeat(list(seeds), len(data.folds)),
    }


def _with_seed(estimator: Any, seed: int) -> Any:
    names = [
        name
        for name in estimator.get_params(deep=True)
        if name == "random_state" or name.endswith("__random_state")
    ]
    if not names:
        raise ArgumentError("seeds needs an estimator with a random_state; this one has none.")
    return clone(estimator).set_params(**dict.fromkeys(names, seed))


def _join(parts: list[Any]) -> Any:
    """Concatenate the results of all seeds."""
    if isinstance(parts[0], dict):
        return {name: _join([part[name] for part in parts]) for name in parts[0]}
    if isinstance(parts[0], list | tuple):
        return type(parts[0])(entry for part in parts for entry in part)
    return np.concatenate(parts)


@dataclass(frozen=True)
class _Data:
    """Windows, targets and folds in scikit-learn's form."""

    X: Any
    y: Any
    folds: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
    params: dict[str, Any]


def _routing(params: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Return a context in which scikit-learn passes arguments to objects that request them."""
    if not params:
        return nullcontext()
    return sklearn.config_context(enable_metadata_routing=True)  # type: ignore[no-any-return]


def _with_folds(X: Any, y: Any, groups: Any, lengths: Any, cv: Any, scoring: Any) -> _Data:
    """Check the input, convert it for scikit-learn, and draw the folds."""
    if isinstance(X, str | os.PathLike):
        path, X = X, read_windows(X)
        if X.split is not None:
            raise InputError(
                f"{path} already has a split, but cross-validation draws its own folds; give"
                " sensorseq.io.prepared.read_windows(path, 'train')."
            )
    params: dict[str, Any] = {}
    if isinstance(X, WindowSet):
        X, y, group_of = _read_window_set(X, y, groups, lengths)
    else:
        group_of = None
        if groups is not None:
            params["groups"] = group_of = check_groups("groups", groups, len(X))
        if lengths is not None:
            params["lengths"] = check_per_window("lengths", lengths, len(X))
            if scoring is not None:
                raise InputError(
                    "scikit-learn's scorers cannot pass lengths to predict, so lengths cannot be"
                    " combined with scoring; give a list of windows or a WindowSet, or use"
                    " scoring=None."
                )
    labels = y
    if y is not None:
        labels = np.asarray(y)
        if labels.ndim == 2 and group_of is not None:  # stratified folds need classes
            labels = labels.ravel() if labels.shape[1] == 1 else from_one_hot(labels, "y")
        if labels.ndim == 1:
            check_labels(labels)  # before a splitter converts the labels
    folds = _draw_folds(X, labels, group_of, cv)
    _warn_of_shared_samples(X, lengths, group_of, folds[0])
    return _Data(X, y, folds, params)


def _read_window_set(
    windows: WindowSet, y: Any, groups: Any, lengths: Any
) -> tuple[WindowSet, Any, NDArray[Any] | None]:
    if windows.split is not None:
        raise InputError(
            'X already has a split, but cross-validation draws its own folds; give X.part("train").'
        )
    if lengths is not None:
        raise InputError("a WindowSet has its own lengths; omit lengths.")
    if groups is not None:
        windows = replace(windows, groups=check_groups("groups", groups, len(windows)))
    y = windows.y if y is None else y
    if y is None:
        raise InputError("the WindowSet has no labels; give y.")
    return windows, y, windows.groups


def _draw_folds(
    X: Any, y: Any, groups: NDArray[Any] | None, cv: Any
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    splitter: Any
    if groups is not None and (cv is None or isinstance(cv, int | np.integer)):
        splitter = GroupBalancedKFold(_N_SPLITS if cv is None else int(cv))
    else:
        splitter = check_cv(cv, y, classifier=True)
    if isinstance(X, WindowSet) and isinstance(splitter, _Splitter):
        return list(splitter.split(X, y))  # the splitter reads the groups itself
    return list(splitter.split(X, y, groups))


def _warn_of_shared_samples(X: Any, lengths: Any, groups: NDArray[Any] | None, fold: Any) -> None:
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
