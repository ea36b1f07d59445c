"""A small Lab on the training engine itself, for the tests of probes that replay a run."""

import copy
import math
from dataclasses import replace

import numpy as np
import torch

from sensorseq.fluctuation.probes.arm import ArmResult, LabWindows
from sensorseq.history import History
from sensorseq.nn import LSTMLinear
from sensorseq.training import TrainingConfig, TrainingData, train_network
from sensorseq.training.recorder import Recorder

N_TIMESTEPS, N_CLASSES = 9, 3


def make_windows(n, seed, *, signal=0.7, groups=None):
    rng = np.random.default_rng(seed)
    target = np.arange(n) % N_CLASSES
    X = rng.normal(size=(n, N_TIMESTEPS, 2)) + signal * target[:, None, None]
    return LabWindows(X.astype(np.float32), None, target, groups, np.arange(n))


class GoOn:
    """Take the place of a checkpoint: bring a run to a snapshot of another."""

    def __init__(self, snapshot, history, rng=None, extra=None):
        self.snapshot, self.rows = snapshot, list(history)[: snapshot.epoch]
        self.rng, self.recorder = rng, extra

    def begin(self, identity):
        """Nothing to compare."""

    def restore(self, run):
        run.load_state_dict(self.snapshot.state)
        if run.recorder is not None:
            run.recorder._began_late = False
        if self.rng is not None:
            run.batches._rng = self.rng
        run.history = History(self.rows)

    def keep(self, run, *, last):
        """Nothing to keep."""

    def close(self):
        """Nothing was opened."""


class SmallLab:
    """A recorded fit of a small network on given windows; serves arms that keep the network."""

    def __init__(
        self, train=None, validation=None, *, network=None, dtype=torch.float32, engine="native",
        weight=None, **options,
    ):  # fmt: skip
        self.windows = make_windows(60, 1) if train is None else train
        self.shown = make_windows(31, 2) if validation is None else validation
        self.network = {"pooling": "meanmax", **(network or {})}
        self.dtype, self.engine, self.weight = dtype, engine, weight
        self.options = {
            "batch_size": 8, "max_epochs": 16, "learning_rate": 0.02, "early_stopping": False,
            "restore_best": False, **options,
        }  # fmt: skip
        self.arguments = {**self.options, "loss": "cross_entropy"}
        self.changeable = frozenset({"max_grad_norm", "clip_by"})
        self.n_classes, self.classes = N_CLASSES, [f"class {k}" for k in range(N_CLASSES)]
        self.arms = []
        self.result = self.fit(self.windows, self.options)
        self.record, self.history = self.result.record, self.result.history
        self.n_epochs = len(self.history)
        self.steps_per_epoch = math.ceil(len(self.windows.target) / self.options["batch_size"])

    @property
    def train(self):
        return self.windows

    @property
    def validation(self):
        return self.shown

    def make_module(self):
        torch.manual_seed(0)
        return LSTMLinear(self.windows.X.shape[2], 5, N_CLASSES, **self.network).to(self.dtype)

    def tensors(self, windows, weight=None):
        X = torch.tensor(windows.X).to(self.dtype)
        weight = None if weight is None else torch.tensor(weight).to(self.dtype)
        return TrainingData(X, None, torch.tensor(windows.target), weight)

    def fit(self, windows, options, checkpoint=None, module=None):
        return train_network(
            self.make_module() if module is None else module,
            self.tensors(windows, self.weight),
            self.tensors(self.shown),
            TrainingConfig(N_CLASSES, **options),
            seed=np.random.SeedSequence(7),
            engine=self.engine,
            recorder=Recorder(),
            checkpoint=checkpoint,
        )

    def cost_of(self, arm):
        return float(arm.n_epochs)

    def module_at(self, start):
        module = self.make_module()
        module.load_state_dict(self.record.snapshots[start].state["module"])
        return module.eval()

    def run(self, arms):
        self.arms += arms
        return [self.run_one(arm) for arm in arms]

    def run_one(self, arm):
        snapshot = self.record.snapshots[arm.start]
        last = snapshot.epoch + arm.n_epochs
        windows = self.windows
        if arm.train_rows is not None:
            rows = arm.train_rows
            windows = windows._replace(X=windows.X[rows], target=windows.target[rows])
        rng = None if arm.seed is None else np.random.default_rng(arm.seed)
        ends = StopAfter(last)
        options = {**self.options, **arm.change}
        options["learning_rate"] *= arm.rate_factor
        module = self.make_module()
        going_on = GoOn(snapshot, self.history, rng)
        result = train_network(
            module,
            self.tensors(windows, self.weight),
            self.tensors(self.shown),
            TrainingConfig(N_CLASSES, **options),
            seed=np.random.SeedSequence(7),
            engine=self.engine,
            recorder=KeptRecorder(),
            checkpoint=going_on,
            callbacks=[ends],
        )
        record, outputs = result.record, None
        if arm.predict_rows is not None:
            with torch.no_grad():
                X = torch.tensor(self.windows.X[arm.predict_rows]).to(self.dtype)
                outputs = module(X).numpy()
        history = result.history
        since = slice(snapshot.epoch, None)
        return ArmResult(
            arm, record.fixed_loss, history["loss"][since], history["val_loss"][since],
            history["val_accuracy"][since], math.nan, record, outputs,
        )  # fmt: skip


class StopAfter:
    def __init__(self, n_epochs):
        self.n_epochs = n_epochs

    def on_epoch_end(self, module, history):
        return len(history) >= self.n_epochs


class KeptRecorder(Recorder):
    """Record from a snapshot on."""

    def load_state_dict(self, state):
        """Begin here."""

    def finish(self, module, n_epochs):
        return super().finish(module, len(self._done.n_steps))


def shifted(lab, **changes):
    """Return a lab with other windows than it was fitted on."""
    other = copy.copy(lab)
    other.windows = replace_fields(lab.windows, changes.get("train"))
    other.shown = replace_fields(lab.shown, changes.get("validation"))
    return other


def replace_fields(windows, changes):
    return windows if changes is None else windows._replace(**changes)


def with_record(lab, **changes):
    """Return a lab whose record says something else."""
    other = copy.copy(lab)
    other.record = replace(lab.record, **changes)
    return other
