"""Whether a training curve fluctuates more than it should, and what that means.

Names are loaded when first used: only `TorchMonitor` and `probe_module` import torch, and
`KerasMonitor` imports keras when one is made.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sensorseq.fluctuation.keras_monitor import KerasMonitor
    from sensorseq.fluctuation.monitor import TorchMonitor
    from sensorseq.fluctuation.probes.foreign import probe_module
    from sensorseq.fluctuation.report import FluctuationReport

_HOME = {
    "FluctuationReport": "report",
    "KerasMonitor": "keras_monitor",
    "TorchMonitor": "monitor",
    "probe_module": "probes.foreign",
}
__all__ = ["FluctuationReport", "KerasMonitor", "TorchMonitor", "probe_module"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sensorseq.fluctuation' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sensorseq.fluctuation.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
