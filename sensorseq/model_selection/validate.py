"""Cross-validation over folds and seeds, with all fits side by side."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn import model_selection
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed

from sensorseq.errors import ArgumentError
from sensorseq.model_selection.folds import read_given, routing
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
    """Cross-validate an estimator like scikit-learn's `cross_validate`, all fits side by side.

    The scores are bit for bit those of scikit-learn's function for the same folds. Errors and
    warnings are those of `SequenceSearchCV.fit`.

    Parameters
    ----------
    estimator : estimator
        `SensorLSTMClassifier`, `SensorLSTMRegressor`, or a meta-estimator or pipeline with one.
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

    Returns ------- dict ``fit_time``, ``score_time``, ``test_score`` (or ``test_<name>``) and
    anything else requested, with one entry for each fold; all folds of the first seed come first.

    Examples -------- >>> import numpy as np >>> from sensorseq import SensorLSTMClassifier >>> from
    sensorseq.model_selection import cross_validate >>> y = np.arange(60) % 2 >>> X =
    np.sin(np.arange(20) * (0.3 + 0.6 * y[:, None]) + np.arange(60)[:, None]) >>> clf =
    SensorLSTMClassifier(hidden_size=8, max_epochs=5) >>> found = cross_validate(clf, X, y, cv=3,
    seeds=(0, 1)) >>> found["test_score"].shape, found["seed"].tolist() ((6,), [0, 0, 0, 1, 1, 1])
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

    with routing(given.params), side_by_side():
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
        raise ArgumentError("seeds needs an estimator with a random_state; this one has none.")
    return clone(estimator).set_params(**dict.fromkeys(names, seed))


def _join(parts: list[Any]) -> Any:
    """Concatenate the results of all seeds."""
    if isinstance(parts[0], dict):
        return {name: _join([part[name] for part in parts]) for name in parts[0]}
    if isinstance(parts[0], list | tuple):
        return type(parts[0])(entry for part in parts for entry in part)
    return np.concatenate(parts)
