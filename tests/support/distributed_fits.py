"""Run by torchrun in test_distributed.py: every rank fits, and writes what it got."""

import os
import sys
from pathlib import Path

import numpy as np
from fits import PLAIN, plain_classifier

from sensorseq import SensorLSTMClassifier, SensorLSTMRegressor
from sensorseq.errors import ArgumentError, EnvironmentProblemError, InputError
from sensorseq.io.prepared import write_windows
from sensorseq.training.stream import BUFFER_VARIABLE
from sensorseq.windows import WindowSet

CASES = {
    "as it is": {},
    "lengths, weights, l1": {"class_weight": "balanced", "l1": 1e-3, "lengths": True},
    "dropout and random crops": {
        "dropout": 0.3,
        "recurrent_dropout": 0.2,
        "num_layers": 2,
        "max_timesteps": 7,
        "crop": "random",
    },
    "an average, clipped": {"ema_decay": 0.9, "max_grad_norm": 0.05, "optimizer": "sgd"},
    # the last batch is one window: rank 1 has none of it
    "a batch of fewer windows than processes": {"batch_size": 5, "validation_fraction": 0.0},
    "members on changed windows": {"n_models": 2, "input_dropout": 0.2, "augment": "standard"},
    "clipped by value": {"max_grad_norm": 0.01, "clip_by": "value", "head_norm": "layer"},
}


def make_windows():
    rng = np.random.default_rng(0)
    y = np.arange(41) % 3
    X = rng.normal(size=(41, 10, 2)) + y[:, None, None]
    return X, y, rng.integers(3, 11, 41)


def fit(arguments, estimator=SensorLSTMClassifier):
    arguments = dict(arguments)
    X, y, lengths = make_windows()
    data = {"lengths": lengths} if arguments.pop("lengths", False) else {}
    settings = {"hidden_size": 4, "max_epochs": 4, "batch_size": 8, "learning_rate": 0.02}
    fixed = {"dtype": "float64", "device": "cpu", "random_state": 0, "early_stopping": False}
    plain = PLAIN if estimator is SensorLSTMClassifier else {}
    model = estimator(**{**plain, **settings, **fixed, "monitor": "loss", **arguments})
    return model.fit(X, y if estimator is SensorLSTMClassifier else X.mean(axis=1), **data)


def write_file(folder):
    X, y, _ = make_windows()
    split = np.where(np.arange(len(y)) % 8 < 6, "train", "validation")
    windows = WindowSet(X.astype(np.float32), y=y, split=split)
    write_windows(folder / "windows.h5", windows)


def fit_streamed(folder):
    """Fit on the file with a buffer for a part of it."""
    os.environ[BUFFER_VARIABLE] = "2000"
    try:
        model = plain_classifier(hidden_size=4, max_epochs=3, batch_size=3, dtype="float64")
        fixed = {"random_state": 0, "device": "cpu", "early_stopping": False}
        return model.set_params(**fixed).fit(folder / "windows.h5")
    finally:
        del os.environ[BUFFER_VARIABLE]


def outcome(model):
    """Weights and history as named arrays."""
    found = {f"w {name}": value.numpy() for name, value in model.module_.state_dict().items()}
    for name in set(model.history_.names) - {"duration_s"}:
        found[f"h {name}"] = model.history_[name]
    return found


class Called:
    """Counts the epochs it is told of; says stop after the second."""

    def __init__(self):
        self.n_epochs = 0

    def on_epoch_end(self, module, history):
        self.n_epochs += 1
        return self.n_epochs == 2


class Fail:
    """Raises in one hook."""

    def __init__(self, hook):
        setattr(self, hook, self.fail)

    def fail(self, module, argument):
        raise RuntimeError("broken off")


class Leave:
    """Ends its process without a word."""

    def on_epoch_end(self, module, history):
        os._exit(0)


def refused(error, **arguments):
    try:
        fit(arguments)
    except error as problem:
        return str(problem)
    return "nothing was refused"


def main():
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    said = {}
    for name, arguments in CASES.items():
        np.savez(folder / f"{name} {rank}.npz", **outcome(fit(arguments)))
    np.savez(folder / f"a regression {rank}.npz", **outcome(fit({}, SensorLSTMRegressor)))
    np.savez(folder / f"a file, streamed {rank}.npz", **outcome(fit_streamed(folder)))
    kept = {"checkpoint": str(folder / "run.checkpoint")}
    np.savez(folder / f"kept {rank}.npz", **outcome(fit(kept)))
    np.savez(folder / f"resumed {rank}.npz", **outcome(fit({**kept, "resume": True})))
    np.savez(folder / f"no seed {rank}.npz", **outcome(fit({"random_state": None})))
    called = Called()
    said["epochs"] = fit({"callbacks": [called]}).n_iter_
    said["called"] = called.n_epochs
    said["engine"] = str(fit({}).engine_)
    for hook in ("on_fit_begin", "on_epoch_begin", "on_epoch_end"):
        said[hook] = refused(RuntimeError, callbacks=[Fail(hook)])
    said["batch norm"] = refused(ArgumentError, head_norm="batch")
    said["native"] = refused(ArgumentError, engine="native")
    said["other arguments"] = refused(InputError, learning_rate=0.1 * (1 + rank))
    (folder / f"said {rank}.txt").write_text(repr(said))
    lost = refused(EnvironmentProblemError, callbacks=[Leave()])
    (folder / f"lost {rank}.txt").write_text(lost)
    os._exit(0)  # the threads of gloo sometimes abort the exit of a process whose peer is gone


if __name__ == "__main__":
    main()
