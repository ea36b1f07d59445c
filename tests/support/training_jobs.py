"""Windows of three classes, training jobs on these windows, and a comparison of two jobs."""

import copy
from dataclasses import fields, replace

import numpy as np
import torch

from sensorseq.history import TrainingRecord
from sensorseq.nn import LSTMLinear
from sensorseq.training import TrainingConfig, TrainingData
from sensorseq.training.engine import TrainingJob

N_TIMESTEPS, N_CHANNELS, N_CLASSES = 9, 2, 3


def make_data(
    seed=0, n_windows=23, n_timesteps=N_TIMESTEPS, *, lengths=False, weight=False,
    dtype=torch.float32, shift=0.5,
):  # fmt: skip
    """Draw windows whose mean rises by `shift` from class to class."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n_windows, n_timesteps, N_CHANNELS, generator=generator, dtype=torch.float64)
    target = torch.randint(0, N_CLASSES, (n_windows,), generator=generator)
    X += shift * target[:, None, None]
    valid = torch.randint(1, n_timesteps + 1, (n_windows,), generator=generator)
    weights = torch.rand(n_windows, generator=generator, dtype=torch.float64)
    return TrainingData(
        X.to(dtype), valid if lengths else None, target, weights.to(dtype) if weight else None
    )


def few_windows():
    """Make 18 windows for training and 6 for validation; the class of window i is i modulo 3."""
    target = torch.arange(24) % 3
    X = torch.tensor(np.random.default_rng(0).normal(size=(24, 6, 2)), dtype=torch.float32)
    X += target[:, None, None]
    return TrainingData(X[:18], None, target[:18]), TrainingData(X[18:], None, target[18:])


def make_job(seed, train, validation, *, network=None, dtype=torch.float32, **options):
    """Make a job of five epochs; `network` and the options override the defaults."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 6, "num_classes": N_CLASSES, "pooling": "meanmax"}
    module = LSTMLinear(N_CHANNELS, **sizes | (network or {})).to(dtype)
    of_job = {n: options.pop(n) for n in ("callbacks", "recorder", "refresh") if n in options}
    chosen = {"learning_rate": 0.02, "batch_size": 8, "max_epochs": 5, "patience": 2, **options}
    if validation is None:
        chosen = {"monitor": "loss", "early_stopping": False, **chosen}
    config = TrainingConfig(N_CLASSES, **chosen)
    return TrainingJob(
        module, train, validation, config, np.random.SeedSequence(seed + 100), **of_job
    )


def copy_of(job):
    """Return the same job with its own module, callbacks and recorder."""
    return replace(
        job,
        module=copy.deepcopy(job.module),
        seed=np.random.SeedSequence(job.seed.entropy),
        callbacks=copy.deepcopy(job.callbacks),
        recorder=copy.deepcopy(job.recorder),
    )


def assert_same_record(record, wanted):
    """Assert that everything except times has the same bits and types."""
    for part in fields(TrainingRecord):
        if part.name != "duration_s":
            ours, theirs = getattr(record, part.name), getattr(wanted, part.name)
            np.testing.assert_equal(ours, theirs, err_msg=part.name)
            assert np.asarray(ours).dtype == np.asarray(theirs).dtype
