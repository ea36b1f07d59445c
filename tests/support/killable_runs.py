"""A program that trains in processes which may be killed, see `killing`; it tells of each epoch."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from killing import say, serve

from sensorseq.io.model_file import CHECKPOINT, unpack
from sensorseq.nn import LSTMLinear
from sensorseq.training import TrainingConfig, TrainingData, checkpoint, train_network
from sensorseq.training.checkpoint import Checkpoint

MAX_EPOCHS = 30


class Progress:
    def __init__(self, at_most, least_epoch_s):
        self.at_most, self.least_epoch_s = at_most, least_epoch_s

    def on_epoch_end(self, module, history):
        time.sleep(self.least_epoch_s)
        say(f"epoch {len(history)}")
        if len(history) == self.at_most:  # whoever is to kill this process is late
            signal.pause()


def make_part(n_windows, seed):
    rng = np.random.default_rng(seed)
    target = torch.arange(n_windows) % 3
    X = torch.tensor(rng.normal(size=(n_windows, 12, 2)), dtype=torch.float32)
    return TrainingData(X + target[:, None, None], None, target)


def train(*, checkpoint, engine, resume, at_most=None, least_epoch_s=0.0, die_at=None):
    """Train, with something of everything that a checkpoint must hold."""
    if die_at is not None:
        die_in_write(*die_at)
    torch.manual_seed(0)
    module = LSTMLinear(2, 8, 3, pooling="meanmax", dropout=0.2, head_norm="batch")
    rate = {"lr_schedule": "plateau", "patience": 8, "early_stopping": False, "ema_decay": 0.9}
    windows = {"batch_size": 12, "max_timesteps": 9, "crop": "random"}
    config = TrainingConfig(3, max_epochs=MAX_EPOCHS, **rate, **windows)
    how = {"seed": np.random.SeedSequence(5), "engine": engine}
    how["callbacks"] = [Progress(at_most, least_epoch_s)]
    how["checkpoint"] = Checkpoint(checkpoint, resume=resume)
    train_network(module, make_part(24, 1), make_part(12, 2), config, **how)


def die_in_write(step, at_write):
    """Kill this process at a step of a checkpoint's writing, just before it is taken."""
    taken = []
    holder, name = {"write": (checkpoint, "write_whole"), "rename": (Path, "replace")}[step]
    take = getattr(holder, name)

    def take_or_die(*args, **kwargs):
        taken.append(step)
        if len(taken) == at_write:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(*args, **kwargs)

    setattr(holder, name, take_or_die)


def content(path):
    """Return what a checkpoint holds: history without how long epochs took, description, bytes."""
    arrays, description = unpack(CHECKPOINT, path)
    rows = [json.loads(line) for line in arrays.pop("history").tobytes().splitlines()]
    for row in rows:
        del row["duration_s"]
    return rows, description, {name: array.tobytes() for name, array in arrays.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)  # threads would not come along into a forked process
    torch.optim.Adam([torch.zeros(1)])  # imports what else each run would
    serve(train)
