"""scikit-learn's cross-validation and search, for window sets, lists and groups."""

from sensorseq.model_selection.search import SequenceSearchCV, cross_validate

__all__ = ["SequenceSearchCV", "cross_validate"]
