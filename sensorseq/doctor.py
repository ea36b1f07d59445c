"""Distinguish a bug in the code from a hard problem by short trainings of known outcome."""

from sensorseq.inspection.check_result import CheckResult, Diagnosis
from sensorseq.inspection.short_trainings import plant_windows
from sensorseq.inspection.training_check import check_training

__all__ = ["CheckResult", "Diagnosis", "check_training", "plant_windows"]
