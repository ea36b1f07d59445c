"""Decide whether a training curve fluctuates more than it should, and explain why.

The names in this package are loaded when first used; loading them does not import torch.
"""

from typing import TYPE_CHECKING

from sensorseq.base.lazy import lazy_names

if TYPE_CHECKING:
    from sensorseq.diagnosis.report import FluctuationReport, TrainingMonitor

__all__ = ["FluctuationReport", "TrainingMonitor"]

__getattr__, __dir__ = lazy_names(globals(), dict.fromkeys(__all__, "report"))
