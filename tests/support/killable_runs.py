"""A program that fits in processes that may be killed and reports each epoch; see `killing`."""

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import torch
from fits import plain_classifier
from killing import print_line, serve

from sensorseq.io import model_file
from sensorseq.io.model_file import read_model

MAX_EPOCHS = 30


class Progress:
    """Reports each epoch once its checkpoint is written, and copies the checkpoint to a folder."""

    def __init__(self, checkpoint, copies, least_epoch_s):
        self.checkpoint, self.copies, self.least_epoch_s = checkpoint, copies, least_epoch_s

    def on_epoch_end(self, module, history):
        if self.copies is not None:
            shutil.copy(self.checkpoint, Path(self.copies, str(len(history))))
        print_line(f"epoch {len(history)}")
        time.sleep(self.least_epoch_s)


def train(*, checkpoint, engine, copies=None, least_epoch_s=0.0, die_at=None):
    """Fit without a validation part, so that each epoch writes a checkpoint."""
    if die_at is not None:
        die_in_write(*die_at)
    y = np.arange(24) % 3
    X = np.random.default_rng(1).normal(size=(24, 12, 2)) + y[:, None, None]
    settings = {"hidden_size": 8, "head_norm": "batch", "ema_decay": 0.9, "dropout": 0.2}
    settings |= {"max_epochs": MAX_EPOCHS, "validation_fraction": 0, "early_stopping": False}
    settings |= {"callbacks": [Progress(checkpoint, copies, least_epoch_s)], "random_state": 5}
    plain_classifier(checkpoint=checkpoint, engine=engine, device="cpu", **settings).fit(X, y)


def die_in_write(step, at_write):
    """Kill this process just before a step of writing a checkpoint."""
    taken = []
    holder, name = {"write": (model_file, "write_whole"), "rename": (Path, "replace")}[step]
    take = getattr(holder, name)

    def take_or_die(*args, **kwargs):
        taken.append(step)
        if len(taken) == at_write:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(*args, **kwargs)

    setattr(holder, name, take_or_die)


def content(path):
    """Return a checkpoint's number of epochs, and its arrays as bytes."""
    arrays, description = read_model(path)
    return len(description["history"]), {name: array.tobytes() for name, array in arrays.items()}


def contents(folder):
    """Return the contents of the checkpoints in a folder, by epoch."""
    return dict(content(path) for path in Path(folder).iterdir())


if __name__ == "__main__":
    torch.set_num_threads(1)  # no further threads, because a forked process would lack them
    torch.optim.Adam([torch.zeros(1)])  # imports modules that each run would otherwise import
    serve(train)
