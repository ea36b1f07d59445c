"""Is it a bug in my code: short trainings whose outcome is known beforehand."""

from sensorseq.doctor.check import check_training
from sensorseq.doctor.diagnosis import CheckResult, Diagnosis
from sensorseq.doctor.planted import plant_windows

__all__ = ["CheckResult", "Diagnosis", "check_training", "plant_windows"]
