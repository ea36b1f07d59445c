"""Train a network on windows, with the native engine or autograd."""

from sensorseq.training.batches import TrainingData
from sensorseq.training.callbacks import Callback
from sensorseq.training.config import EngineChoice, TrainingConfig, choose_engine
from sensorseq.training.engine import TrainingResult, train_network
from sensorseq.training.evaluation import evaluate

__all__ = [
    "Callback",
    "EngineChoice",
    "TrainingConfig",
    "TrainingData",
    "TrainingResult",
    "choose_engine",
    "evaluate",
    "train_network",
]
