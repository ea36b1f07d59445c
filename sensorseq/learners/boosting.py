"""BoostingLearner: gradient boosting on summary statistics of windows."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sensorseq.features import SummaryFeatures
from sensorseq.features.grow_trees import grow_trees, important_statistics
from sensorseq.features.trees import BoostedTrees
from sensorseq.learners.learner import FittedMember, Folds, Learner, LearnerData
from sensorseq.prediction.members.boosting import BoostingMember, log_probabilities

# On development folds with derived channels, using more statistics took longer and was no more
# accurate.
BOOSTED_STATISTICS = 150


class BoostingLearner(Learner):
    """Fits boosted trees on the most important summary statistics."""

    auto_place = 3

    def fit(self, data: LearnerData, folds: Folds, seed: np.random.SeedSequence) -> FittedMember:
        """Fit a member on the windows `folds.rows`, and once more for each fold."""
        summary = SummaryFeatures().fit(data.X, data.lengths)
        statistics = summary.transform(data.X, data.lengths)

        def grow(fit_rows: NDArray[np.int64]) -> BoostedTrees:
            values, weight = statistics[fit_rows], data.weight[fit_rows]
            class_index = data.class_index[fit_rows]
            columns = important_statistics(values, class_index, weight, BOOSTED_STATISTICS)
            return grow_trees(values, columns, class_index, weight)

        logits = np.full((len(data.X), data.n_classes), np.nan)
        for fit_rows, test_rows in folds.pairs:
            tested = statistics[test_rows]
            logits[test_rows] = log_probabilities(grow(fit_rows), tested, data.n_classes)
        member = BoostingMember(summary, grow(folds.rows), data.n_classes)
        return FittedMember(member, logits)


LEARNERS: Mapping[str, Learner] = {"boosting": BoostingLearner()}
