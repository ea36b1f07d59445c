"""Cross-validation and search that train all fits side by side, with scikit-learn's scores."""

from sensorseq.model_selection.rounds import side_by_side
from sensorseq.model_selection.search import SequenceSearchCV, cross_validate

__all__ = ["SequenceSearchCV", "cross_validate", "side_by_side"]
