"""Whether a training curve fluctuates more than it should, and what that means.

Names are loaded when first used: only `TorchMonitor` and `probe_module` import torch, and
`KerasMonitor` imports keras when one is made.
"""

from typing import TYPE_CHECKING

from sensorseq._lazy import lazy_names

if TYPE_CHECKING:
    from sensorseq.fluctuation.monitors.keras_monitor import KerasMonitor
    from sensorseq.fluctuation.monitors.monitor import TorchMonitor
    from sensorseq.fluctuation.monitors.probe_module import probe_module
    from sensorseq.fluctuation.report.report import FluctuationReport

__all__ = ["FluctuationReport", "KerasMonitor", "TorchMonitor", "probe_module"]

__getattr__, __dir__ = lazy_names(
    globals(),
    {
        "FluctuationReport": "report.report",
        "KerasMonitor": "monitors.keras_monitor",
        "TorchMonitor": "monitors.monitor",
        "probe_module": "monitors.probe_module",
    },
)
