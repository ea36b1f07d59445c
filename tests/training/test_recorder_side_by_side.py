"""Side-by-side runs have the same records as single runs; each fit's report has its own record."""

import numpy as np
import pytest
import torch
from fits import without_time
from training_jobs import assert_same_record, copy_of, make_data, make_job

from sensorseq.training.recorder import Recorder
from sensorseq.training.side_by_side import train_side_by_side


def recorded(seed, train, validation, **options):
    settings = {"max_epochs": 4, "recorder": Recorder(), **options}
    return make_job(seed, train, validation, **settings)


DATA, OTHER, PADDED = make_data(0, 41), make_data(1, 57), make_data(2, 41, lengths=True)
SHOWN, OTHER_SHOWN, PADDED_SHOWN = (
    make_data(seed, n, lengths=seed == 5) for seed, n in ((3, 19), (4, 11), (5, 13))
)


def shift(epoch):
    return DATA.X.numpy() + np.float32(0.1 * epoch)


GROUPS = {
    "the same windows": [
        recorded(0, DATA, SHOWN),
        recorded(1, DATA, SHOWN, learning_rate=0.05, patience=1, tol=0.1),
        recorded(2, DATA, SHOWN, sampler="balanced"),
    ],
    "folds": [recorded(0, DATA, SHOWN), recorded(1, OTHER, OTHER_SHOWN), recorded(2, DATA, None)],
    "lengths": [recorded(0, PADDED, PADDED_SHOWN), recorded(1, PADDED, PADDED_SHOWN, patience=1)],
    "new windows": [recorded(0, DATA, SHOWN, refresh=shift), recorded(1, DATA, SHOWN)],
    "average and dropout": [
        recorded(seed, DATA, SHOWN, ema_decay=0.9, network={"dropout": 0.3}) for seed in (0, 1)
    ],
    "batch norm": [recorded(seed, DATA, SHOWN, network={"head_norm": "batch"}) for seed in (0, 1)],
    "random crops": [
        recorded(seed, DATA, make_data(6, 9, 6), max_timesteps=6, crop="random") for seed in (0, 1)
    ],
    "one that is not recorded": [
        recorded(0, DATA, SHOWN),
        recorded(1, DATA, SHOWN, recorder=None),
        recorded(2, OTHER, SHOWN),
    ],
}


@pytest.mark.parametrize("jobs", GROUPS.values(), ids=GROUPS)
def test_records_side_by_side_are_those_alone(jobs):
    alone = [copy_of(job) for job in jobs]
    together = [copy_of(job) for job in jobs]
    results = train_side_by_side(together)
    for job, other, result in zip(alone, together, results, strict=True):
        wanted = job.run()
        np.testing.assert_equal(without_time(result.history), without_time(wanted.history))
        for ours, theirs in zip(other.module.parameters(), job.module.parameters(), strict=True):
            assert torch.equal(ours, theirs)
        if job.recorder is None:
            assert result.record is None
        else:
            assert result.record.n_epochs == len(result.history)
            assert_same_record(result.record, wanted.record)
