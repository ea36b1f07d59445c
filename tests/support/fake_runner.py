"""A fake runner with known noise and loss, to test decisions that are based on reruns."""

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from held import held_windows

from sensorseq import SensorLSTMClassifier
from sensorseq.diagnosis.trials import RerunResult
from sensorseq.history import Snapshot, TrainingRecord

DEFAULTS = SensorLSTMClassifier().get_params(deep=False)
ARGUMENTS = {
    **DEFAULTS,
    "learning_rate": 0.01,
    "batch_size": 32,
    "optimizer": "rmsprop",
    "lr_schedule": "constant",
    "max_grad_norm": None,
    "dropout": 0.4,
    "recurrent_dropout": 0.0,
    "weight_decay": 0.0,
    "sampler": "shuffle",
    "loss": "cross_entropy",
    "scale": None,
    "weight_init": "uniform",
    "recurrent_init": "uniform",
    "forget_bias": 0.0,
    "hidden_size": 64,
    "max_timesteps": None,
}


@dataclass
class Effect:
    """The effect of a change: a factor for the noise, and an offset of the losses in nats."""

    noise: float = 1.0
    raw: float = 0.0
    fails: bool = False


class FakeRunner:
    """Simulates losses as white noise around a level; the name of a rerun determines its effect.

    Reruns with equal settings differ. `scatter` is the standard deviation of the logarithm of the
    noise, beyond the sampling error of white noise of this length. `wobble` is the standard
    deviation of the level, in nats.
    """

    def __init__(
        self,
        effects=None,
        *,
        noise=0.1,
        level=0.8,
        n_epochs=200,
        steps_per_epoch=20,
        n_train=600,
        batch_size=32,
        scatter=0.3,
        wobble=0.02,
        seed=0,
        arguments=None,
        channel_sd=30.0,
        with_validation=True,
    ):
        self.effects = effects or {}
        self.noise, self.level = noise, level
        self.scatter, self.wobble, self.seed = scatter, wobble, seed
        self.arguments = {**ARGUMENTS, "batch_size": batch_size, **(arguments or {})}
        self.n_epochs, self.steps_per_epoch = n_epochs, steps_per_epoch
        self.kept_epoch = n_epochs
        self.n_classes, self.classes = 6, list("abcdef")
        rng = np.random.default_rng(seed)
        n_steps = n_epochs * steps_per_epoch
        self.record = TrainingRecord(
            epoch_steps=np.arange(n_epochs + 1) * steps_per_epoch,
            steps={
                "n_windows": np.full(n_steps, float(batch_size)),
                "learning_rate": np.full(n_steps, 0.01),
                "grad_norm": rng.lognormal(0, 1, n_steps),
            },
            fixed_loss=level + rng.normal(0, noise, n_epochs),
            snapshots=[
                Snapshot(epoch, epoch * steps_per_epoch, {})
                for epoch in (0, *(n_epochs * k // 5 for k in (1, 2, 3, 4)))
            ],
        )
        X = rng.normal(5, channel_sd, (n_train, 20, 2))
        self.train = held_windows(X, None, np.zeros(n_train, np.int64))
        self.validation = self.train if with_validation else None
        self.calls = []

    def cost_of(self, rerun):
        return float(rerun.n_epochs)

    def effect_of(self, rerun):
        return self.effects.get(rerun.name, Effect())

    def run(self, reruns, is_over=None):
        self.calls.append(list(reruns))
        return [self._run(rerun) for rerun in reruns]

    def _run(self, rerun):
        effect = self.effect_of(rerun)
        key = zlib.crc32(f"{rerun.name}|{rerun.start}|{self.seed}".encode())
        rng = np.random.default_rng(key)
        noise = self.noise * effect.noise * math.exp(rng.normal(0, self.scatter))
        level = self.level + rng.normal(0, self.wobble)
        loss = level + effect.raw + rng.normal(0, noise, rerun.n_epochs)
        if effect.fails:
            loss = loss[:2]
        failed = "the loss is not finite" if effect.fails else ""
        return RerunResult(rerun, loss, failed=failed)

    def kept_module(self):
        torch.manual_seed(0)
        return torch.nn.Linear(10, 10)
