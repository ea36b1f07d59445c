"""Tell a bug in the code from a hard problem with short trainings of known outcome."""

from typing import TYPE_CHECKING

from sensorseq._lazy import lazy_names

if TYPE_CHECKING:
    from sensorseq.doctor.check import check_training
    from sensorseq.doctor.diagnosis import CheckResult, Diagnosis
    from sensorseq.doctor.planted import plant_windows

__all__ = ["CheckResult", "Diagnosis", "check_training", "plant_windows"]

# The check of an installation uses CheckResult, also where the compiled core is missing.
__getattr__, __dir__ = lazy_names(
    globals(),
    {
        "CheckResult": "diagnosis",
        "Diagnosis": "diagnosis",
        "check_training": "check",
        "plant_windows": "planted",
    },
)
