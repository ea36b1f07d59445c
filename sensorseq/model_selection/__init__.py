"""Cross-validation and search whose fits train side by side, with scikit-learn's numbers."""

from sensorseq.model_selection.rounds import side_by_side
from sensorseq.model_selection.search import SequenceSearchCV
from sensorseq.model_selection.validate import cross_validate

__all__ = ["SequenceSearchCV", "cross_validate", "side_by_side"]
