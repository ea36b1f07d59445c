"""From recordings to a first model and its page: the function and the command `run`."""

from sensorseq.first_model.steps import FirstModel, run

__all__ = ["FirstModel", "run"]
