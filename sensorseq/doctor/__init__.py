"""Tell a bug in the code from a hard problem with short trainings of known outcome."""

from sensorseq.doctor.check import check_training
from sensorseq.doctor.diagnosis import CheckResult, Diagnosis
from sensorseq.doctor.planted import plant_windows

__all__ = ["CheckResult", "Diagnosis", "check_training", "plant_windows"]
