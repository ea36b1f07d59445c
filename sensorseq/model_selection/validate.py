"""Cross-validation over folds and seeds, all fits side by side."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn import model_selection
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed

from sensorseq.errors import ArgumentError
from sensorseq.model_selection.folds import read_given
from sensorseq.model_selection.rounds import side_by_side


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
    """Evaluate an estimator on folds: scikit-learn's `cross_validate` with all fits side by side.

    Scores are, bit for bit, those of scikit-learn's function for the same folds.

    Parameters
    ----------
    estimator : estimator
        `SensorLSTMClassifier`, `SensorLSTMRegressor`, or what holds one, such as a pipeline.
    X : array of shape (n, t, c) or (n, t), list of arrays, WindowSet or path
        As in `SensorLSTMClassifier.fit`, without a split.
    y : array of shape (n,), optional
        May be left out when a WindowSet or a file brings it.
    groups : array of shape (n,), optional
        What stays on one side of every fold, and of the validation split inside each fit. A
        WindowSet brings its own.
    lengths : array of shape (n,), int, optional
        Valid steps of each window.
    cv : int, splitter or iterable, optional
        Folds, 5 when not given. A number means `GroupBalancedKFold` (for a regressor `GroupKFold`)
        with groups, else what it means in scikit-learn.
    scoring : str, callable, list or dict, optional
        As in scikit-learn. Without it the estimator's own score.
    seeds : sequence of int, optional
        Fit every fold with each of them as `random_state`, and give the seed of each result under
        ``"seed"``.
    params : mapping, optional
        Further arguments for `fit`, such as `sample_weight`; with groups or lengths the estimator
        must request them (``set_fit_request``).
    return_train_score, return_estimator, return_indices, error_score, verbose
        As in scikit-learn.

    Returns
    -------
    dict
        ``fit_time``, ``score_time``, ``test_score`` (or ``test_<name>``) and what else was asked
        for, one entry for each fold; all folds of the first seed come first.

    Raises
    ------
    InputError
        If the windows have a split, or a part does not fit.
    ArgumentError
        If `seeds` are none, or the estimator has a `checkpoint`, one file for all fits.

    Warns
    -----
    LeakWarning
        If there are no groups, and test windows hold samples of training windows.

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

    with given.routed(), side_by_side():
        if seeds is None:
            return evaluate(estimator)
        estimators = [_with_seed(estimator, seed) for seed in seeds]
        parts = Parallel()(delayed(evaluate)(of_seed) for of_seed in estimators)
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
        raise ArgumentError("seeds is given, and the estimator has no random_state.")
    return clone(estimator).set_params(**dict.fromkeys(names, seed))


def _join(parts: list[Any]) -> Any:
    """Lay out what each seed gave, one after the other."""
    if isinstance(parts[0], dict):
        return {name: _join([part[name] for part in parts]) for name in parts[0]}
    if isinstance(parts[0], list | tuple):
        return type(parts[0])(entry for part in parts for entry in part)
    return np.concatenate(parts)
