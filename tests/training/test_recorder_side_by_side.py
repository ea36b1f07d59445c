"""Runs side by side have the records that each has alone, and the report of a fit has its own."""

import copy
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from fits import without_time

from sensorseq.history import TrainingRecord
from sensorseq.nn import LSTMLinear
from sensorseq.training import TrainingConfig, TrainingData
from sensorseq.training.engine import TrainingJob
from sensorseq.training.recorder import Recorder
from sensorseq.training.side_by_side import train_side_by_side


def make_data(seed, n_windows=41, n_timesteps=9, *, lengths=False):
    rng = np.random.default_rng(seed)
    target = torch.tensor(rng.integers(0, 3, n_windows))
    X = torch.tensor(rng.normal(size=(n_windows, n_timesteps, 2)), dtype=torch.float32)
    valid = torch.tensor(rng.integers(6, n_timesteps + 1, n_windows)) if lengths else None
    return TrainingData(X + 0.5 * target[:, None, None], valid, target)


def make_job(seed, train, validation, *, recorder=True, refresh=None, network=None, **options):
    torch.manual_seed(seed)
    module = LSTMLinear(2, 6, 3, **{"pooling": "meanmax", **(network or {})})
    chosen = {"learning_rate": 0.02, "batch_size": 8, "max_epochs": 6, "patience": 2, **options}
    if validation is None:
        chosen |= {"monitor": "loss", "early_stopping": False}
    return TrainingJob(
        module,
        train,
        validation,
        TrainingConfig(3, **chosen),
        np.random.SeedSequence(seed + 50),
        refresh=refresh,
        recorder=Recorder() if recorder else None,
    )


def copy_of(job):
    return replace(
        job,
        module=copy.deepcopy(job.module),
        seed=np.random.SeedSequence(job.seed.entropy),
        recorder=None if job.recorder is None else Recorder(),
    )


def assert_same(record, wanted):
    for part in fields(TrainingRecord):
        if part.name not in ("snapshots", "duration_s"):
            ours, theirs = getattr(record, part.name), getattr(wanted, part.name)
            np.testing.assert_equal(ours, theirs, err_msg=part.name)
            assert np.asarray(ours).dtype == np.asarray(theirs).dtype
    assert not record.snapshots
    assert len(wanted.snapshots) >= 1


DATA, OTHER, PADDED = make_data(0), make_data(1, 57), make_data(2, lengths=True)
SHOWN, OTHER_SHOWN, PADDED_SHOWN = (
    make_data(3, 19),
    make_data(4, 11),
    make_data(5, 13, lengths=True),
)


def shift(epoch):
    return DATA.X.numpy() + np.float32(0.1 * epoch)


GROUPS = {
    "the same windows": [
        make_job(0, DATA, SHOWN),
        make_job(1, DATA, SHOWN, learning_rate=0.05, patience=1, tol=0.1),
        make_job(2, DATA, SHOWN, sampler="balanced"),
    ],
    "folds": [make_job(0, DATA, SHOWN), make_job(1, OTHER, OTHER_SHOWN), make_job(2, DATA, None)],
    "lengths": [make_job(0, PADDED, PADDED_SHOWN), make_job(1, PADDED, PADDED_SHOWN, patience=1)],
    "new windows": [make_job(0, DATA, SHOWN, refresh=shift), make_job(1, DATA, SHOWN)],
    "average and dropout": [
        make_job(seed, DATA, SHOWN, ema_decay=0.9, network={"dropout": 0.3}) for seed in (0, 1)
    ],
    "batch norm": [make_job(seed, DATA, SHOWN, network={"head_norm": "batch"}) for seed in (0, 1)],
    "random crops": [
        make_job(seed, DATA, make_data(6, 9, 6), max_timesteps=6, crop="random") for seed in (0, 1)
    ],
    "one that is not recorded": [
        make_job(0, DATA, SHOWN),
        make_job(1, DATA, SHOWN, recorder=False),
        make_job(2, OTHER, SHOWN),
    ],
}


@pytest.mark.parametrize("jobs", GROUPS.values(), ids=GROUPS)
def test_records_side_by_side_are_those_alone(jobs):
    alone = [copy_of(job) for job in jobs]
    together = [copy_of(job) for job in jobs]
    results = train_side_by_side(together)
    for job, other, result in zip(alone, together, results, strict=True):
        wanted = job.run()
        for ours, theirs in zip(other.module.parameters(), job.module.parameters(), strict=True):
            assert torch.equal(ours, theirs)
        if job.recorder is None:
            assert result.record is None
        else:
            assert result.record.n_epochs == len(result.history)
            assert_same(result.record, wanted.record)


@pytest.mark.parametrize("jobs", GROUPS.values(), ids=GROUPS)
def test_recording_changes_no_bit_of_runs_side_by_side(jobs):
    recorded = [copy_of(job) for job in jobs]
    plain = [replace(copy_of(job), recorder=None) for job in jobs]
    both = zip(train_side_by_side(recorded), train_side_by_side(plain), strict=True)
    for (result, wanted), job, other in zip(both, recorded, plain, strict=True):
        np.testing.assert_equal(without_time(result.history), without_time(wanted.history))
        for ours, theirs in zip(job.module.parameters(), other.module.parameters(), strict=True):
            assert torch.equal(ours, theirs)
