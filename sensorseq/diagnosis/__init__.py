"""Decide whether a training curve fluctuates more than it should, and explain why.

Names are loaded when first used; only `probe_module` imports torch.
"""

from typing import TYPE_CHECKING

from sensorseq._lazy import lazy_names

if TYPE_CHECKING:
    from sensorseq.diagnosis.module import probe_module
    from sensorseq.diagnosis.report import FluctuationReport, TrainingMonitor

__all__ = ["FluctuationReport", "TrainingMonitor", "probe_module"]

__getattr__, __dir__ = lazy_names(
    globals(),
    {
        "FluctuationReport": "report",
        "TrainingMonitor": "report",
        "probe_module": "module",
    },
)
