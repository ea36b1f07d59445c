"""Boosted trees on summary statistics, as arrays that a model file can hold."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from sensorseq.checks import check_integer, check_state
from sensorseq.errors import SignalError
from sensorseq.features.summary import above_ties

# As accurate on development folds as 150 trees of 31 leaves, in a tenth of the time.
_TREES, _LEARNING_RATE, _LEAVES, _BINS, _L2, _SHARE = 60, 0.1, 10, 32, 3.0, 0.3
_WINDOWS_OF_A_LEAF = 2, 20  # at least: a twentieth of the windows, within these
_RANKING_TREES, _SMALLEST_LEAF = 100, 3  # the forest that ranks them
SMALLEST_LOG = -12.0  # smallest log probability: no single classifier is surer
_NODES_AT_ONCE = 2**20
# With fewer a second thread costs more than it saves; beside other programs it waits for its turn.
_VALUES_OF_A_THREAD = 1_000_000
_LARGEST = 1e200  # largest value of a leaf: sums of these stay finite
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
    """The trees of a fitted HistGradientBoostingClassifier: arrays in, log-probabilities out.

    The arrays hold, for every node of all trees: ``feature`` (below 0: a leaf), ``threshold``
    (values up to it go left), ``left`` and ``right`` (nodes, always after their own), ``value`` (of
    a leaf). ``root`` (n_iterations, n_trees) is the first node of each tree, ``baseline``
    (n_trees,) what their values are added to.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], n_statistics: int) -> None:
        self._arrays = dict(arrays)
        self.n_statistics = n_statistics
        self.classes_ = np.arange(self.n_outputs)

    @property
    def n_outputs(self) -> int:
        """Number of classes."""
        n_trees = self._arrays["root"].shape[1]
        return 2 if n_trees == 1 else int(n_trees)

    @property
    def columns(self) -> NDArray[np.int64]:
        """Statistics that any tree reads, in rising order."""
        feature = self._arrays["feature"]
        return np.unique(feature[feature >= 0]).astype(np.int64)

    @classmethod
    def of(cls, fitted: HistGradientBoostingClassifier) -> "BoostedTrees":
        """Take the trees of a classifier of numbers."""
        nodes: list[dict[str, NDArray[Any]]] = []
        root: list[list[int]] = []
        start = 0
        for iteration in fitted._predictors:  # scikit-learn gives no public way to them
            root.append([])
            for tree in iteration:
                nodes.append(_shifted(tree.nodes, start))
                root[-1].append(start)
                start += len(tree.nodes)
        arrays = {name: np.concatenate([node[name] for node in nodes]) for name in nodes[0]}
        arrays["root"] = np.array(root, np.int32)
        arrays["baseline"] = np.ravel(fitted._baseline_prediction).astype(np.float64)
        return cls(arrays, fitted.n_features_in_)

    @classmethod
    def grown(
        cls,
        statistics: NDArray[np.float64],
        columns: NDArray[np.int64],
        class_index: NDArray[np.int64],
        weight: NDArray[np.float64],
    ) -> "BoostedTrees":
        """Grow trees that read some `columns` of statistics (n, n_statistics).

        `classes_` are those of the windows.
        """
        values = statistics[:, columns]
        edges = _make_edges(values)
        binned = [np.searchsorted(*pair) for pair in zip(edges, values.T, strict=True)]
        fitted = make_boosting(len(values))
        few = 1 if values.size < _VALUES_OF_A_THREAD else None
        with threadpool_limits(few, "openmp"):
            fitted.fit(np.stack(binned, axis=1), class_index, sample_weight=weight)
        trees = cls.of(fitted)
        arrays = trees._arrays
        inner = arrays["feature"] >= 0
        own = arrays["feature"][inner]
        arrays["threshold"][inner] = edges[own, arrays["threshold"][inner].astype(np.int64)]
        arrays["feature"][inner] = columns[own]
        trees.n_statistics, trees.classes_ = statistics.shape[1], fitted.classes_
        return trees

    def log_probabilities(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logarithm of each class's probability for statistics (n, n_statistics)."""
        at_once = max(1, _NODES_AT_ONCE // self._arrays["root"].size)
        blocks = range(0, max(1, len(statistics)), at_once)
        scores = [self._scores(statistics[start : start + at_once]) for start in blocks]
        return np.asarray(log_softmax(np.concatenate(scores), axis=1))

    def _scores(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        a = self._arrays
        rows = np.arange(len(statistics))[:, None]
        node = np.tile(a["root"].ravel(), (len(statistics), 1))  # start at the root of every tree
        while (inner := a["feature"][node] >= 0).any():
            goes_left = statistics[rows, a["feature"][node]] <= a["threshold"][node]
            node = np.where(inner, np.where(goes_left, a["left"][node], a["right"][node]), node)
        scores = np.tile(a["baseline"], (len(statistics), 1))
        for values in np.moveaxis(a["value"][node].reshape(-1, *a["root"].shape), 1, 0):
            scores += values
        if scores.shape[1] == 1:  # one score, of the second class
            scores = np.hstack([np.zeros_like(scores), scores])
        return scores

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the state for `from_state`."""
        settings = {"kind": "boosted_trees", "n_statistics": self.n_statistics}
        return {"settings": settings, "arrays": dict(self._arrays)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "BoostedTrees":
        """Restore from `state`; raise a SignalError if it is of something else or does not end."""
        settings, stored = check_state(state, "boosted_trees", ("n_statistics",), _ARRAYS)
        n_statistics = check_integer("n_statistics", settings["n_statistics"], 1)
        feature, root, baseline = stored["feature"], stored["root"], stored["baseline"]
        n_nodes = feature.size
        place = np.arange(n_nodes)
        inner = feature >= 0
        of_node = [stored[name] for name in ("threshold", "left", "right", "value")]
        is_whole = (
            all(array.shape == (n_nodes,) for array in (feature, *of_node))
            and root.ndim == 2
            and root.size > 0
            and baseline.shape == root.shape[1:]
            and ((root >= 0) & (root < n_nodes)).all()
            and ((feature >= -1) & (feature < n_statistics)).all()
            and not np.isnan(stored["threshold"]).any()
            and (np.abs(stored["value"]) < _LARGEST).all()  # false for NaN
            and (np.abs(baseline) < _LARGEST).all()
        )
        if is_whole:
            children = np.stack([stored["left"], stored["right"]])[:, inner]
            # a child after its parent, each of one parent and in its tree: every path ends
            tree = np.searchsorted(root.ravel(), place, side="right")
            every = np.sort(np.concatenate([root.ravel(), children.ravel()]))
            is_whole = bool(
                np.array_equal(every, place)
                and (np.diff(root.ravel()) > 0).all()
                and (children > place[inner]).all()
                and (tree[children] == tree[inner]).all()
            )
        if not is_whole:
            raise SignalError(
                "the stored trees are inconsistent: a shape, child, feature or value is impossible."
            )
        return cls(stored, n_statistics)


def important_statistics(
    statistics: NDArray[np.float64],
    class_index: NDArray[np.int64],
    weight: NDArray[np.float64],
    most: int,
) -> NDArray[np.int64]:
    """Return the columns of the `most` important statistics (n, f) in their order; all if so few.

    Dozens of derived channels have thousands of statistics. Fits on them take minutes, and are less
    accurate than on the best ones, which a forest of extremely randomised trees (Geurts, Ernst,
    Wehenkel, Machine Learning 63, 2006) finds in seconds.
    """
    if statistics.shape[1] <= most:
        return np.arange(statistics.shape[1])
    forest = ExtraTreesClassifier(
        _RANKING_TREES, min_samples_leaf=_SMALLEST_LEAF, class_weight="balanced", random_state=0
    ).fit(statistics, class_index, sample_weight=weight)
    order = np.argsort(-forest.feature_importances_, kind="stable")
    return np.sort(order[:most])


def make_boosting(n_windows: int) -> HistGradientBoostingClassifier:
    """Return unfitted gradient boosting for summary statistics of so many windows."""
    # Without early stopping: what it would hold out is windows of recordings it trains on.
    return HistGradientBoostingClassifier(
        max_iter=_TREES,
        learning_rate=_LEARNING_RATE,
        max_leaf_nodes=_LEAVES,
        max_bins=_BINS,
        min_samples_leaf=int(np.clip(n_windows // 20, *_WINDOWS_OF_A_LEAF)),
        l2_regularization=_L2,
        max_features=_SHARE,
        class_weight="balanced",
        early_stopping=False,
        random_state=0,
    )


def _make_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where trees may split each statistic of (n, f): between quantiles, (f, bins - 1).

    An edge is in the middle between two values, in float32 if that is between them, too. At a value
    the last digit of a rounding would decide, which differs between programs.
    """
    rising, spread = np.sort(values, axis=0).T, np.abs(values).max(axis=0)
    edges = np.quantile(values, np.arange(1, _BINS) / _BINS, axis=0).T
    edges = above_ties(edges, spread[:, None])
    for own, edge in zip(rising, edges, strict=True):
        after = np.searchsorted(own, edge, side="right")
        inside = after < len(own)
        low, high = own[after[inside] - 1], own[after[inside]]
        middle = low + (high - low) / 2
        short = middle.astype(np.float32).astype(np.float64)
        edge[inside] = np.where((low <= short) & (short < high), short, middle)
    return edges


def _shifted(nodes: Any, start: int) -> dict[str, NDArray[Any]]:
    """Return the nodes of one tree as arrays, numbered from `start`."""
    is_leaf = nodes["is_leaf"].astype(bool)
    return {
        "feature": np.where(is_leaf, -1, nodes["feature_idx"]).astype(np.int32),
        "threshold": nodes["num_threshold"].astype(np.float64),
        "left": (nodes["left"].astype(np.int64) + start).astype(np.int32),
        "right": (nodes["right"].astype(np.int64) + start).astype(np.int32),
        "value": nodes["value"].astype(np.float64),
    }
