"""Convert the input of a search or a cross-validation to what scikit-learn accepts."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.model_selection import check_cv

from sensorseq.errors import InputError, LeakWarning, warn_caller
from sensorseq.inspection.overlap import count_shared
from sensorseq.io.prepared import read_windows
from sensorseq.prediction.windows import check_groups, check_per_window, windows_of
from sensorseq.preprocessing.split.splitters import GroupBalancedKFold, _Splitter
from sensorseq.training.labels import check_labels, from_one_hot
from sensorseq.windows import WindowSet

N_SPLITS = 5


@dataclass(frozen=True)
class Given:
    """Windows, targets and folds in scikit-learn's form."""

    X: Any
    y: Any
    folds: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
    params: dict[str, Any]


def routing(params: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Let scikit-learn pass these arguments to all that request them, within a block."""
    if not params:
        return nullcontext()
    return sklearn.config_context(enable_metadata_routing=True)  # type: ignore[no-any-return]


def read_given(
    estimator: Any, X: Any, y: Any, groups: Any, lengths: Any, cv: Any, scoring: Any
) -> Given:
    """Check the input and draw the folds."""
    if isinstance(X, str | os.PathLike):
        path, X = X, read_windows(X)
        if X.split is not None:
            raise InputError(
                f"{path} already has a split, but the folds are drawn here; give"
                " sensorseq.io.prepared.read_windows(path, 'train')."
            )
    params: dict[str, Any] = {}
    if isinstance(X, WindowSet):
        X, y, of_folds = _read_window_set(X, y, groups, lengths)
    else:
        of_folds = None
        if groups is not None:
            params["groups"] = of_folds = check_groups(groups, len(X), "groups")
        if lengths is not None:
            params["lengths"] = check_per_window(lengths, len(X), "lengths")
            if scoring is not None:
                raise InputError(
                    "scikit-learn's scorers cannot pass lengths to predict, so lengths cannot be"
                    " combined with scoring; give a list of windows or a WindowSet, or use"
                    " scoring=None."
                )
    labels = y
    if y is not None:
        labels = np.asarray(y)
        if labels.ndim == 2 and of_folds is not None:  # stratified by class and by group alike
            labels = labels.ravel() if labels.shape[1] == 1 else from_one_hot(labels, "y")
        if labels.ndim == 1:
            check_labels(labels)  # before a splitter converts them
    folds = _draw_folds(X, labels, of_folds, cv)
    _warn_of_shared_samples(X, lengths, of_folds, folds[0])
    return Given(X, y, folds, params)


def _read_window_set(
    windows: WindowSet, y: Any, groups: Any, lengths: Any
) -> tuple[WindowSet, Any, NDArray[Any] | None]:
    if windows.split is not None:
        raise InputError(
            'X already has a split, but the folds are drawn here; give X.part("train").'
        )
    if lengths is not None:
        raise InputError("a WindowSet has its own lengths; leave lengths=None.")
    if groups is not None:
        windows = replace(windows, groups=check_groups(groups, len(windows), "groups"))
    y = windows.y if y is None else y
    if y is None:
        raise InputError("the WindowSet has no labels; give y.")
    return windows, y, windows.groups


def _draw_folds(
    X: Any, y: Any, groups: NDArray[Any] | None, cv: Any
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    splitter: Any
    if groups is not None and (cv is None or isinstance(cv, int | np.integer)):
        splitter = GroupBalancedKFold(N_SPLITS if cv is None else int(cv))
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
    n_shared, n_looked = count_shared(windows.take(train), windows.take(test))
    if not n_shared:
        return
    advice = "Give groups= with the recording of each window."
    if groups is not None:
        torn = np.intersect1d(groups[train], groups[test]).tolist()
        advice = "Windows of different groups overlap: give all windows of a recording one group."
        if torn:
            advice = f"cv splits group {torn[0]!r}: give a splitter that keeps groups together."
    warn_caller(
        f"{n_shared} of {n_looked} test windows of the first fold overlap training windows, so"
        f" every score is inflated. {advice}",
        LeakWarning,
    )
