"""Parameter search and cross-validation by scikit-learn that keep groups and lengths."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn import model_selection
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv
from sklearn.model_selection._search import BaseSearchCV

from sensorseq.errors import ArgumentError
from sensorseq.model_selection.folds import read_given, routing
from sensorseq.windows import WindowSet


class SequenceSearchCV(BaseSearchCV):  # type: ignore[misc]  # sklearn is untyped
    """Search parameters by cross-validation, with groups and lengths kept in every fit.

    This is scikit-learn's `GridSearchCV`, or `RandomizedSearchCV` with `n_iter`, for everything
    that `SensorLSTMClassifier.fit` takes. Fits run one after another, or in the processes of a
    ``joblib.parallel_config`` block.

    Parameters
    ----------
    estimator : estimator
        `SensorLSTMClassifier`, or a meta-estimator or pipeline with one.
    param_grid : dict or list of dict
        Values to try for each parameter; with `n_iter` also distributions to draw from.
    n_iter : int, optional
        Number of candidates to draw; by default all combinations are tried.
    scoring : str, callable, list or dict, optional
        As in scikit-learn. By default the estimator's own score.
    refit : bool, str or callable, default=True
        Fit the best candidate on all windows; as in scikit-learn.
    cv : int, splitter or iterable, optional
        Folds, 5 by default. With groups, a number means `GroupBalancedKFold`; without
        groups it means the same as in scikit-learn.
    error_score : "raise" or float, default=nan
        Score of a candidate whose fit fails.
    return_train_score : bool, default=False
        Also score the training part of each fold.
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
            As in `SensorLSTMClassifier.fit`, without a split.
        y : array of shape (n,), optional
            Not needed if a WindowSet or a file has the labels.
        groups : array of shape (n,), optional
            Windows of one group stay on one side of every fold, and of the validation split inside
            each fit. A WindowSet has its own groups.
        lengths : array of shape (n,), int, optional
            Valid steps of each window.
        **params
            Further arguments for `fit` of the estimator, such as `sample_weight`. With groups or
            lengths the estimator must request them (``set_fit_request``).

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
        given = read_given(self.estimator, X, y, groups, lengths, self.cv, self.scoring)
        self._folds = given.folds
        try:
            with routing(given.params):
                super().fit(given.X, given.y, **params, **given.params)
        finally:
            del self._folds
        return self

    def score(self, X: Any, y: Any = None, **params: Any) -> float:
        """Return the score of the best estimator, using `scoring` if given.

        Parameters
        ----------
        X, y : as in `fit`
        **params
            Further arguments for `score` of the estimator, such as `lengths`.
        """
        y = X.y if y is None and isinstance(X, WindowSet) else y
        with routing(params):
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
    """Cross-validate an estimator by scikit-learn, with groups and lengths kept in every fit.

    Errors and warnings are those of `SequenceSearchCV.fit`.

    Parameters
    ----------
    estimator : estimator
        `SensorLSTMClassifier`, or a meta-estimator or pipeline with one.
    X, y, groups, lengths
        As `SequenceSearchCV.fit` takes them.
    cv, scoring
        As `SequenceSearchCV` takes them.
    seeds : sequence of int, optional
        Fit every fold once with each seed as `random_state`; ``"seed"`` in the result lists the
        seed of each fit.
    params : mapping, optional
        Further arguments for `fit`, such as `sample_weight`. With groups or lengths the estimator
        must request them (``set_fit_request``).
    return_train_score, return_estimator, return_indices, error_score, verbose
        As in scikit-learn.

    Returns
    -------
    dict
        ``fit_time``, ``score_time``, ``test_score`` (or ``test_<name>``) and anything else
        requested, with one entry for each fold; all folds of the first seed come first.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq import SensorLSTMClassifier
    >>> from sensorseq.model_selection import cross_validate
    >>> y = np.arange(60) % 2
    >>> X = np.sin(np.arange(20) * (0.3 + 0.6 * y[:, None]) + np.arange(60)[:, None])
    >>> clf = SensorLSTMClassifier(hidden_size=8, max_epochs=5)
    >>> found = cross_validate(clf, X, y, cv=3, seeds=(0, 1))
    >>> found["test_score"].shape, found["seed"].tolist()
    ((6,), [0, 0, 0, 1, 1, 1])
    """
    if seeds is not None and (not isinstance(seeds, Iterable) or not len(seeds := list(seeds))):
        raise ArgumentError(f"seeds={seeds!r} must be a list of integers, such as [0, 1], or None.")
    given = read_given(estimator, X, y, groups, lengths, cv, scoring)

    def evaluate(of_seed: Any) -> dict[str, Any]:
        found: dict[str, Any] = model_selection.cross_validate(
            of_seed,
            given.X,
            given.y,
            cv=given.folds,
            scoring=scoring,
            params={**(params or {}), **given.params},
            return_train_score=return_train_score,
            return_estimator=return_estimator,
            return_indices=return_indices,
            error_score=error_score,
            verbose=verbose,
        )
        return found

    with routing(given.params):
        if seeds is None:
            return evaluate(estimator)
        parts = [evaluate(_with_seed(estimator, seed)) for seed in seeds]
    return {
        **{name: _join([part[name] for part in parts]) for name in parts[0]},
        "seed": np.repeat(list(seeds), len(given.folds)),
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
