"""Classifiers with one short training run, and comparisons of two fits."""

import copy
import pickle
from dataclasses import replace

import numpy as np

from sensorseq import SensorFusionClassifier, SensorLSTMClassifier
from sensorseq.export.c_source import with_rounded_weights
from sensorseq.features.grow_trees import TreeSettings

# One training run without the extras of the defaults: no features, no refit, little patience.
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
    """Return a classifier with the settings `PLAIN`, overridden by `arguments`."""
    return kind(**{**PLAIN, **arguments})


def fused_classifier(**arguments):
    """Return a classifier of several sensors, each with the settings `PLAIN`."""
    return SensorFusionClassifier(plain_classifier(**arguments))


def small_classifier(**arguments):
    """Return a plain classifier with few units and epochs."""
    settings = {"hidden_size": 8, "max_epochs": 8, "learning_rate": 0.02, "device": "cpu"}
    return plain_classifier(**{**settings, "random_state": 0, **arguments})


def learn_few_features(patch):
    """Make fits faster by reducing the number of ROCKET features and of trees."""
    patch.setattr("sensorseq.learners.linear.ROCKET_FEATURES", 504)
    for file in "features.grow_trees.STATISTICS_TREES", "learners.motors.MOTOR_TREES":
        patch.setattr(f"sensorseq.{file}", TreeSettings(10))


class AfterEpoch:
    """A callback that calls a function with the module and the history after each epoch."""

    def __init__(self, act):
        self.on_epoch_end = act


def stop_after(n_epochs):
    """Return a callback that ends training after `n_epochs` epochs."""
    return AfterEpoch(lambda module, history: len(history) == n_epochs)


def watched():
    """Return a classifier class, and a list of the windows passed to its `fit` and `predict`."""
    seen = []

    class Watched(SensorLSTMClassifier):
        def fit(self, X, *arguments, **more):
            seen.append([X])
            return super().fit(X, *arguments, **more)

        def predict_proba(self, X, *arguments, **more):
            seen[-1].append(X)
            return super().predict_proba(X, *arguments, **more)

    return Watched, seen


def on_features(fitted):
    """Return the members of a classifier that read features, by name."""
    members = fitted.model_.sum.members
    return {name: member for name, member in members.items() if name != "lstm"}


def lstm_weight(fitted):
    """Return the weight of the LSTM's logits."""
    return fitted.model_.sum.weights["lstm"]


def use_members(fitted, lstm_weight, members=None):
    """Set the weight of the LSTM and, if given, the members on features."""
    before, members = fitted.model_.sum, on_features(fitted) if members is None else members
    weights = {"lstm": lstm_weight, **{name: before.weights.get(name, 1.0) for name in members}}
    joined = replace(before, members={"lstm": before.lstm, **members}, weights=weights)
    fitted.model_ = replace(fitted.model_, sum=joined)


def class_shares_of(fitted):
    """Return the fraction of each class among the windows of the fit."""
    return fitted.model_.class_shares


def set_class_shares(fitted, shares):
    """Set a classifier's mean probabilities for windows that its fit held out."""
    fitted.model_ = replace(fitted.model_, shares=np.array(shares))


def weigh_sensors(fitted, weights):
    """Set the weights of the sensors, {pattern: row}."""
    joint = fitted._joint
    fitted._joint = replace(joint, sum=replace(joint.sum, weights=weights))


def with_int8(fitted):
    """Return a copy with weights rounded to int8."""
    rounded = copy.copy(fitted)
    if hasattr(fitted, "sensors_"):
        rounded.sensors_ = {name: with_int8(model) for name, model in fitted.sensors_.items()}
    else:
        rounded.model_ = with_rounded_weights(fitted.model_)
    return rounded


class InterruptAfter:
    """A callback that interrupts a fit after a given epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, module, history):
        if len(history) == self.epoch:
            raise KeyboardInterrupt


def outputs_of(fitted, X, lengths=None):
    """Return each window's logits, one per class, before the temperature is applied."""
    return fitted.model_.logits(X, lengths)


def reloaded(fitted, folder):
    """Return the model loaded from a file in `folder`, and the model loaded from a pickle."""
    fitted.save(folder / "model")
    return type(fitted).load(folder / "model"), pickle.loads(pickle.dumps(fitted))


def weights(fitted):
    """Return the tensors of a module, or of an estimator's module: bytes by name."""
    state = getattr(fitted, "module_", fitted).state_dict()
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def without_time(history):
    """Return the rows of a history without the durations of the epochs."""
    return [{k: v for k, v in row.items() if k != "duration_s"} for row in history]
