"""Is it a bug in my code: short trainings whose outcome is known beforehand."""

from sensorseq.doctor.check import check_training
from sensorseq.doctor.diagnosis import CheckResult, Diagnosis

__all__ = ["CheckResult", "Diagnosis", "check_training"]
