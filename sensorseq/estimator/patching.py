"""Which patches a classifier's networks read: the form with the lowest loss in short trainings."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sensorseq.errors import ArgumentError, SplitError
from sensorseq.features.ridge import Fold
from sensorseq.features.stack import fit_stack
from sensorseq.preprocessing.split import holdout_by_group
from sensorseq.training import TrainingConfig, TrainingData
from sensorseq.training.data import FitPart
from sensorseq.training.distributed import current_ranks
from sensorseq.training.engine import TrainingJob
from sensorseq.training.evaluation import predict_outputs
from sensorseq.training.network import make_network
from sensorseq.training.patches import AUTO, Patch, possible_patches
from sensorseq.training.replay import arm_config
from sensorseq.training.side_by_side import train_jobs

if TYPE_CHECKING:
    from sensorseq.estimator.classifier import SensorLSTMClassifier

LEFT_OUT = 0.25  # of the training windows, to compare forms on
TRIAL_SHARE = 4  # a trial has the epochs of the training, divided by this
_TRIALS = 104  # spawn key of their seeds


def choose_patch(
    estimator: "SensorLSTMClassifier",
    train: FitPart,
    samples: Any,
    config: TrainingConfig,
    entropy: int,
) -> Patch | None:
    """Return the patch for scaled training windows, None where a step is a sample."""
    asked = estimator.patch
    if estimator.crop == "random" and estimator.max_timesteps is not None:
        if asked not in (None, AUTO, 1):
            raise ArgumentError(
                f"patch={asked!r} cannot be combined with crop='random', which begins a window at"
                " any sample; set patch=None, or another crop."
            )
        return None
    possible = possible_patches(asked, *samples.nothing().X.shape[1:])
    if len(possible) < 2:
        return possible[0] if possible else None
    is_one_fit = isinstance(samples, TrainingData) and not estimator._in_pass
    # a loss of the user's may count its calls, or draw numbers
    if not is_one_fit or current_ranks() is not None or callable(estimator.loss):
        return possible[0]
    try:
        fit, test = holdout_by_group(train.target, train.groups, LEFT_OUT, entropy % 2**32)
    except SplitError:
        return possible[0]
    return possible[_best_of(estimator, possible, samples, (fit, test), config, entropy)]


def _best_of(
    estimator: "SensorLSTMClassifier",
    possible: list[Patch],
    samples: TrainingData,
    fold: Fold,
    config: TrainingConfig,
    entropy: int,
) -> int:
    """Train a network on each form of a fold's windows; return the best on those left out."""
    parameters = estimator.get_params(deep=False)
    device = estimator._training_device()
    parts = [samples.take(torch.from_numpy(rows), samples.X.device) for rows in fold]
    jobs, shown = [], []
    for patch in possible:
        train, left_out = (part.patched(patch) for part in parts)
        seed = np.random.SeedSequence(entropy, spawn_key=(_TRIALS,))
        weights, training = seed.spawn(2)
        module = make_network(parameters, train.X.shape[2], estimator._n_outputs, weights)
        module.to(device)
        own = estimator._resolved(config, module, train)
        own = arm_config(own, -(-own.n_epochs // TRIAL_SHARE), monitor="loss")
        jobs.append(TrainingJob(module, train, None, own, training, engine=estimator.engine))
        shown.append(left_out)
    losses = []
    for job, left_out, result in zip(jobs, shown, train_jobs(jobs), strict=True):
        if result.ended_by == "interrupted":
            raise KeyboardInterrupt
        logits = predict_outputs(job.module, left_out.X, left_out.lengths).double().numpy()
        usable = result.ended_by != "diverged" and np.isfinite(logits).all()
        weight = np.ones(len(left_out)) if left_out.weight is None else left_out.weight.numpy()
        target = left_out.target.cpu().numpy()
        losses.append(fit_stack(logits[None], target, weight)[1] if usable else np.inf)
    return int(np.argmin(losses))
