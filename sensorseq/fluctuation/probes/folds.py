"""Folds: parts of the windows of like size and like classes, whole groups in each."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def assign_folds(
    target: NDArray[np.int64],
    groups: NDArray[Any] | None,
    n_folds: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return the fold of each window.

    The groups are dealt out from the largest on, each to the fold whose class counts it evens out
    most. Without groups every window is one of its own.

    Parameters
    ----------
    target : ndarray of shape (n,), int64
        Classes, as codes.
    groups : ndarray of shape (n,), or None
        What must stay in one fold.
    n_folds : int
        How many.
    rng : Generator
        Decides between groups of one size.

    Returns
    -------
    ndarray of shape (n,), int64
    """
    n_windows, n_classes = len(target), int(target.max()) + 1
    if groups is None:
        code, n_groups = np.arange(n_windows), n_windows
    else:
        names, code = np.unique(groups, return_inverse=True)
        n_groups = len(names)
    counts = np.zeros((n_groups, n_classes))
    np.add.at(counts, (code, target), 1)
    counts /= np.maximum(1, counts.sum(axis=0))  # a rare class counts as much as a frequent one
    counts = np.hstack([counts, counts.sum(axis=1, keepdims=True) / n_classes])
    order = rng.permutation(n_groups)
    order = order[np.argsort(-counts[order, -1], kind="stable")]
    held = np.zeros((n_folds, n_classes + 1))
    fold_of = np.zeros(n_groups, np.int64)
    for n_left, group in zip(range(n_groups, 0, -1), order, strict=True):
        is_empty = held[:, -1] == 0
        growth = ((held + counts[group]) ** 2 - held**2).sum(axis=1)
        if n_left <= is_empty.sum():  # the last groups are for the folds without any
            growth[~is_empty] = np.inf
        fold_of[group] = fold = int(np.argmin(growth))
        held[fold] += counts[group]
    return np.asarray(fold_of[code], np.int64)
