"""Prediction with trained models, which needs only numpy and the C++ core."""

from typing import TYPE_CHECKING

from sensorseq.base.lazy import lazy_names

if TYPE_CHECKING:
    from sensorseq.prediction.loading import load
    from sensorseq.prediction.model import TrainedModel

__all__ = ["TrainedModel", "load"]

__getattr__, __dir__ = lazy_names(globals(), {"TrainedModel": "model", "load": "loading"})
