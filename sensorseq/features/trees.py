"""Boosted trees on summary statistics, as arrays for a model file."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.checks import check_integer, check_state
from sensorseq.base.numeric import log_softmax
from sensorseq.errors import SignalError

SMALLEST_LOG = -12.0  # lower bound of log-probabilities, so that no class is ruled out
_NODES_AT_ONCE = 2**20
_LARGEST = 1e200  # bound of leaf values, so that sums stay finite
_ARRAYS = {
    "feature": np.int32,
    "threshold": np.float64,
    "left": np.int32,
    "right": np.int32,
    "value": np.float64,
    "root": np.int32,
    "baseline": np.float64,
}


class BoostedTrees:
    """The trees of a fitted HistGradientBoostingClassifier, which compute log-probabilities.

    Five arrays have an entry for every node of all trees: ``feature`` (negative for a leaf),
    ``threshold`` (values up to the threshold go left), ``left`` and ``right`` (the children, which
    always come after their parent), and ``value`` (the value of a leaf). ``root`` (n_iterations,
    n_trees) is the first node of each tree, and ``baseline`` (n_trees,) is added to the sum of the
    leaf values.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], n_statistics: int) -> None:
        self.arrays = dict(arrays)
        self.n_statistics = n_statistics
        self.classes_ = np.arange(self.n_outputs)

    @property
    def n_outputs(self) -> int:
        """The number of classes."""
        n_trees = self.arrays["root"].shape[1]
        return 2 if n_trees == 1 else int(n_trees)

    @property
    def columns(self) -> NDArray[np.int64]:
        """Indices of the statistics that at least one tree uses, in ascending order."""
        feature = self.arrays["feature"]
        return np.unique(feature[feature >= 0]).astype(np.int64)

    def log_probabilities(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logarithm of each class's probability for statistics (n, n_statistics)."""
        at_once = max(1, _NODES_AT_ONCE // self.arrays["root"].size)
        blocks = range(0, max(1, len(statistics)), at_once)
        scores = [self._scores(statistics[start : start + at_once]) for start in blocks]
        return np.asarray(log_softmax(np.concatenate(scores), axis=1))

    def _scores(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        a, leaf = self.arrays, leaves_of(self.arrays, statistics)
        scores = np.tile(a["baseline"], (len(statistics), 1))
        for values in np.moveaxis(a["value"][leaf].reshape(-1, *a["root"].shape), 1, 0):
            scores += values
        if scores.shape[1] == 1:  # a single score belongs to the second class
            scores = np.hstack([np.zeros_like(scores), scores])
        return scores

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the state for `from_state`."""
        settings = {"kind": "boosted_trees", "n_statistics": self.n_statistics}
        return {"settings": settings, "arrays": dict(self.arrays)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "BoostedTrees":
        """Restore from `state`, or raise a SignalError if it is inconsistent or of a wrong kind."""
        settings, stored = check_state(state, "boosted_trees", ("n_statistics",), _ARRAYS)
        n_statistics = check_integer("n_statistics", settings["n_statistics"], 1)
        feature, root, baseline = stored["feature"], stored["root"], stored["baseline"]
        n_nodes = feature.size
        of_nodes = [stored[name] for name in ("threshold", "left", "right", "value")]
        is_consistent = (
            all(array.shape == (n_nodes,) for array in (feature, *of_nodes))
            and root.ndim == 2
            and root.size > 0
            and baseline.shape == root.shape[1:]
            and are_trees(stored, n_statistics)
            and (np.abs(stored["value"]) < _LARGEST).all()  # also false for NaN
            and (np.abs(baseline) < _LARGEST).all()
        )
        if not is_consistent:
            raise SignalError(
                "the stored trees are inconsistent: a shape, child, feature or value is invalid."
            )
        return cls(stored, n_statistics)


def leaves_of(arrays: Mapping[str, NDArray[Any]], values: NDArray[Any]) -> NDArray[np.int64]:
    """Return the leaf (n, n_trees) that rows of values (n, n_values) reach in each tree."""
    feature, threshold = arrays["feature"], arrays["threshold"]
    left, right = arrays["left"], arrays["right"]
    rows = np.arange(len(values))[:, None]
    node = np.tile(arrays["root"].ravel(), (len(values), 1))  # begin at the root of every tree
    while (inner := feature[node] >= 0).any():
        goes_left = values[rows, feature[node]] <= threshold[node]
        node = np.where(inner, np.where(goes_left, left[node], right[node]), node)
    return np.asarray(node)


def are_trees(arrays: Mapping[str, NDArray[Any]], n_values: int) -> bool:
    """Test whether the arrays describe trees in which every path ends."""
    feature, root = arrays["feature"], arrays["root"].ravel()
    place, inner = np.arange(feature.size), feature >= 0
    if not (
        ((root >= 0) & (root < feature.size)).all()
        and ((feature >= -1) & (feature < n_values)).all()
        and not np.isnan(arrays["threshold"]).any()
    ):
        return False
    # Every path ends if each child has one parent and comes after this parent in the same tree.
    children = np.stack([arrays["left"], arrays["right"]])[:, inner]
    tree = np.searchsorted(root, place, side="right")
    reached = np.sort(np.concatenate([root, children.ravel()]))
    return bool(
        np.array_equal(reached, place)
        and (np.diff(root) > 0).all()
        and (children > place[inner]).all()
        and (tree[children] == tree[inner]).all()
    )
