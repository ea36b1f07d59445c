"""A classifier of one short training, and what two fits are compared by."""

import pickle

from sensorseq import SensorLSTMClassifier

# One training without what the defaults put around it: no features, no refit, few epochs' patience.
PLAIN = {
    "features": None,
    "refit": None,
    "bidirectional": False,
    "dropout": 0.0,
    "label_smoothing": 0.0,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "warmup_epochs": 0,
    "max_epochs": 200,
    "early_stopping": True,
}


def plain_classifier(**arguments):
    """Return a classifier with the settings above, unless given."""
    return SensorLSTMClassifier(**{**PLAIN, **arguments})


class InterruptAfter:
    """A callback that interrupts a fit after an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, module, history):
        if len(history) == self.epoch:
            raise KeyboardInterrupt


def head_of(fitted):
    """Return the part of a fitted classifier that joins its features; None without features."""
    return fitted._head


def outputs_of(fitted, X, lengths=None):
    """Return the logits of windows before the temperature, one for each class."""
    return fitted._outputs(X, lengths)


def reloaded(fitted, folder):
    """Return what a model file in `folder` gives back, and what a pickle does."""
    fitted.save(folder / "model")
    return type(fitted).load(folder / "model"), pickle.loads(pickle.dumps(fitted))


def weights(fitted):
    """Return the tensors of a module, or of an estimator's, as bytes by name."""
    state = getattr(fitted, "module_", fitted).state_dict()
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def without_time(history):
    """Return the rows of a history but for the time that each epoch took."""
    return [{k: v for k, v in row.items() if k != "duration_s"} for row in history]
