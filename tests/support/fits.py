"""A classifier of one short training, and what two fits are compared by."""

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


def plain_classifier(kind=SensorLSTMClassifier, **arguments):
    """Return a classifier with the settings above, unless given."""
    return kind(**{**PLAIN, **arguments})


def small_classifier(**arguments):
    """Return such a classifier, of few units and epochs."""
    settings = {"hidden_size": 8, "max_epochs": 8, "learning_rate": 0.02, "device": "cpu"}
    return plain_classifier(**{**settings, "random_state": 0, **arguments})


def watched():
    """Return a class of classifiers, and a list of the windows of each fit and its predictions."""
    seen = []

    class Watched(SensorLSTMClassifier):
        def fit(self, X, *rest, **more):
            seen.append([X])
            return super().fit(X, *rest, **more)

        def predict_proba(self, X, *rest, **more):
            seen[-1].append(X)
            return super().predict_proba(X, *rest, **more)

    return Watched, seen


def weights(fitted):
    """Return the tensors of a module, or of an estimator's, as bytes by name."""
    state = getattr(fitted, "module_", fitted).state_dict()
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def without_time(history):
    """Return the rows of a history but for the time that each epoch took."""
    return [{k: v for k, v in row.items() if k != "duration_s"} for row in history]
