"""Evaluate a model: scores, intervals, baselines and reports."""

from typing import TYPE_CHECKING

from sensorseq.base.lazy import lazy_names

if TYPE_CHECKING:
    from sensorseq.evaluation.calibration import calibration_error
    from sensorseq.evaluation.metrics import score_predictions
    from sensorseq.prediction.outside import OutsideWindows

__all__ = ["OutsideWindows", "calibration_error", "score_predictions"]

__getattr__, __dir__ = lazy_names(
    globals(),
    {
        "OutsideWindows": "sensorseq.prediction.outside",
        "calibration_error": "calibration",
        "score_predictions": "metrics",
    },
)
