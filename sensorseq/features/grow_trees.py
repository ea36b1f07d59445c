"""Grow boosted trees with scikit-learn on the most important summary statistics."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from sensorseq.features.summary import above_ties
from sensorseq.features.trees import BoostedTrees

_LEARNING_RATE, _BINS, _SHARE = 0.1, 32, 0.3
_WINDOWS_OF_A_LEAF = 2, 20  # bounds of the minimum number of windows in a leaf (1/20 of all)
_RANKING_TREES, _SMALLEST_LEAF = 100, 3  # settings of the forest that ranks statistics
# With fewer values, a second thread costs more than it saves, especially while other programs run.
_VALUES_OF_A_THREAD = 1_000_000


@dataclass(frozen=True)
class TreeSettings:
    """The number and the size of trees.

    On development folds, the defaults match the accuracy of 150 trees of 31 leaves in a tenth of
    the time.
    """

    n_trees: int = 60
    n_leaves: int = 10
    l2: float = 3.0


STATISTICS_TREES = TreeSettings()


def grow_trees(
    statistics: NDArray[np.float64],
    columns: NDArray[np.int64],
    class_index: NDArray[np.int64],
    weight: NDArray[np.float64],
    settings: TreeSettings | None = None,
) -> BoostedTrees:
    """Grow trees that read only the given `columns` of the statistics (n, n_statistics).

    The `classes_` of the trees are the classes that occur in `class_index`.
    """
    values = statistics[:, columns]
    edges = _make_edges(values)
    binned = [np.searchsorted(*pair) for pair in zip(edges, values.T, strict=True)]
    fitted = make_boosting(len(values), settings)
    most_threads = 1 if values.size < _VALUES_OF_A_THREAD else None
    with threadpool_limits(most_threads, "openmp"):
        fitted.fit(np.stack(binned, axis=1), class_index, sample_weight=weight)
    trees = trees_of(fitted)
    arrays = trees.arrays
    inner = arrays["feature"] >= 0
    column = arrays["feature"][inner]
    arrays["threshold"][inner] = edges[column, arrays["threshold"][inner].astype(np.int64)]
    arrays["feature"][inner] = columns[column]
    trees.n_statistics, trees.classes_ = statistics.shape[1], fitted.classes_
    return trees


def trees_of(fitted: HistGradientBoostingClassifier) -> BoostedTrees:
    """Return the trees of a fitted classifier whose features are all numeric."""
    nodes: list[dict[str, NDArray[Any]]] = []
    root: list[list[int]] = []
    start = 0
    for iteration in fitted._predictors:  # scikit-learn has no public attribute for the trees
        root.append([])
        for tree in iteration:
            nodes.append(_shifted(tree.nodes, start))
            root[-1].append(start)
            start += len(tree.nodes)
    arrays = {name: np.concatenate([node[name] for node in nodes]) for name in nodes[0]}
    arrays["root"] = np.array(root, np.int32)
    arrays["baseline"] = np.ravel(fitted._baseline_prediction).astype(np.float64)
    return BoostedTrees(arrays, fitted.n_features_in_)


def rank_statistics(
    statistics: NDArray[np.float64], class_index: NDArray[np.int64], weight: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the column indices of statistics (n, f), the most important statistic first.

    Dozens of derived channels have thousands of statistics. Growing trees on all statistics takes
    minutes and is less accurate than growing them on the most important statistics. A forest of
    extremely randomized trees (Geurts, Ernst, Wehenkel, Machine Learning 63, 2006) ranks the
    statistics in seconds.
    """
    forest = ExtraTreesClassifier(
        _RANKING_TREES, min_samples_leaf=_SMALLEST_LEAF, class_weight="balanced", random_state=0
    ).fit(statistics, class_index, sample_weight=weight)
    return np.argsort(-forest.feature_importances_, kind="stable")


def make_boosting(
    n_windows: int, settings: TreeSettings | None = None
) -> HistGradientBoostingClassifier:
    """Return an unfitted boosting classifier for statistics of `n_windows` windows."""
    settings = STATISTICS_TREES if settings is None else settings
    # No early stopping, because its held-out windows would come from recordings used for training.
    return HistGradientBoostingClassifier(
        max_iter=settings.n_trees,
        learning_rate=_LEARNING_RATE,
        max_leaf_nodes=settings.n_leaves,
        max_bins=_BINS,
        min_samples_leaf=int(np.clip(n_windows // 20, *_WINDOWS_OF_A_LEAF)),
        l2_regularization=settings.l2,
        max_features=_SHARE,
        class_weight="balanced",
        early_stopping=False,
        random_state=0,
    )


def _make_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return edges (f, bins - 1) at which trees may split a statistic, near its quantiles.

    An edge is the midpoint of two neighboring values, rounded to float32 if the rounded edge still
    separates the values. If an edge were equal to a value, the comparison would depend on rounding,
    which differs between programs.
    """
    rising, spread = np.sort(values, axis=0).T, np.abs(values).max(axis=0)
    edges = np.quantile(values, np.arange(1, _BINS) / _BINS, axis=0).T
    edges = above_ties(edges, spread[:, None])
    for of_statistic, edge in zip(rising, edges, strict=True):
        after = np.searchsorted(of_statistic, edge, side="right")
        inside = after < len(of_statistic)
        low, high = of_statistic[after[inside] - 1], of_statistic[after[inside]]
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
