"""IntervalQuantilesLearner: extremely randomized trees on quantiles of parts of a window."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier

from sensorseq.learners.learner import FittedMember, Folds, Learner, LearnerData
from sensorseq.prediction.members.interval_quantiles import (
    N_FEATURES,
    IntervalQuantilesMember,
    quantiles_of,
)
from sensorseq.prediction.members.member import in_blocks

# Chosen on folds inside the training parts of public data sets; most useful for few long windows.
_TREES, _SHARE, _CRITERION = 200, 0.1, "entropy"


class IntervalQuantilesLearner(Learner):
    """Fits a forest (Geurts, Ernst, Wehenkel, *Extremely randomized trees*, 2006)."""

    def fit(self, data: LearnerData, folds: Folds, seed: np.random.SeedSequence) -> FittedMember:
        """Fit a member on the windows `folds.rows`, and once more for each fold."""
        random_state, n_channels = int(seed.generate_state(1)[0]), data.X.shape[2]
        described = in_blocks(quantiles_of, data.X, data.lengths, n_channels * N_FEATURES)
        features = described.astype(np.float32)

        def grow(rows: NDArray[np.int64]) -> IntervalQuantilesMember:
            forest = ExtraTreesClassifier(
                _TREES, max_features=_SHARE, criterion=_CRITERION, random_state=random_state
            )
            forest.fit(features[rows], data.class_index[rows], sample_weight=data.weight[rows])
            return IntervalQuantilesMember(_arrays_of(forest, data.n_classes), n_channels)

        logits = np.full((len(data.X), data.n_classes), np.nan)
        for fit_rows, test_rows in folds.pairs:
            logits[test_rows] = grow(fit_rows).logits_of(features[test_rows])
        return FittedMember(grow(folds.rows), logits)


def _arrays_of(forest: ExtraTreesClassifier, n_classes: int) -> dict[str, NDArray[Any]]:
    """Return the nodes of all trees, and the share of each class in their leaves."""
    trees = [each.tree_ for each in forest.estimators_]
    root = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
    feature = np.concatenate([tree.feature for tree in trees])
    is_leaf = np.concatenate([tree.children_left for tree in trees]) < 0
    left, right = (
        np.concatenate([getattr(tree, side) + at for tree, at in zip(trees, root, strict=True)])
        for side in ("children_left", "children_right")
    )
    value = np.concatenate([tree.value[:, 0] for tree in trees])[is_leaf]
    share = np.zeros((len(value), n_classes), np.float32)
    share[:, forest.classes_] = value / value.sum(axis=1, keepdims=True)
    return {
        "feature": np.where(is_leaf, -1, feature).astype(np.int32),
        "threshold": np.concatenate([tree.threshold for tree in trees]),
        "left": np.where(is_leaf, 0, left).astype(np.int32),
        "right": np.where(is_leaf, 0, right).astype(np.int32),
        "root": root.astype(np.int32),
        "leaf": np.where(is_leaf, np.cumsum(is_leaf) - 1, -1).astype(np.int32),
        "share": share,
    }


LEARNERS: Mapping[str, Learner] = {"interval_quantiles": IntervalQuantilesLearner()}
