"""BoostingMember: boosted trees on summary statistics of a window."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.features.summary import SummaryFeatures
from sensorseq.features.trees import SMALLEST_LOG, BoostedTrees
from sensorseq.prediction.members.member import Kinds, check_sizes, in_blocks


@dataclass(frozen=True, eq=False)
class BoostingMember:
    """Boosted trees on summary statistics; their log-probabilities are the logits."""

    summary: SummaryFeatures
    trees: BoostedTrees
    n_classes: int

    def logits(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the logits (n, K) of scaled windows."""
        return in_blocks(self._logits, X, lengths, self.n_classes)

    def _logits(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        statistics = self.summary.transform(X, lengths)
        return log_probabilities(self.trees, statistics, self.n_classes)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return settings and arrays for a model file."""
        state = self.trees.state()
        settings = {"trees": state["settings"], "summary": self.summary.state()["settings"]}
        return settings, state["arrays"]

    @classmethod
    def restore(
        cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> "BoostingMember":
        """Restore a member from `state`; raise a ValueError if its parts do not match."""
        trees = BoostedTrees.from_state({"settings": settings["trees"], "arrays": arrays})
        summary = SummaryFeatures.from_state({"settings": settings["summary"], "arrays": {}})
        if trees.n_statistics != summary.n_features_:
            raise ValueError(
                f"the trees read {trees.n_statistics} statistics, but windows have"
                f" {summary.n_features_}"
            )
        return cls(summary, trees, trees.n_outputs)

    def check(self, n_channels: int, n_outputs: int) -> None:
        """Raise a ValueError unless the member reads these channels and has these outputs."""
        sizes = self.summary.n_channels_, self.n_classes
        check_sizes(sizes, (n_channels, n_outputs))


def log_probabilities(
    trees: BoostedTrees, statistics: NDArray[np.float64], n_classes: int
) -> NDArray[np.float64]:
    """Return log-probabilities (n, n_classes) of at least `SMALLEST_LOG`.

    This bound is also the result for classes that the trees lack.
    """
    logs = np.full((len(statistics), n_classes), SMALLEST_LOG)
    logs[:, trees.classes_] = np.maximum(trees.log_probabilities(statistics), SMALLEST_LOG)
    return logs


KINDS: Kinds = {"boosting": BoostingMember.restore}
