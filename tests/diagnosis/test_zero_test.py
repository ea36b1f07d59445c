"""Repeated validation with fixed weights must give the same outputs."""

import copy

import numpy as np
import pytest
import torch
from held import held_windows
from torch import nn
from torch.nn import functional

from sensorseq.diagnosis.causes import NotTested
from sensorseq.diagnosis.probe import zero_test
from sensorseq.training import TrainingData


class Noisy(nn.Module):
    """A network with a fault in evaluation mode."""

    def __init__(self, kind):
        super().__init__()
        self.inner, self.kind = nn.Linear(2, 3), kind
        self.register_buffer("n_calls", torch.zeros(()))
        self.own = np.random.default_rng(3)

    def forward(self, X, lengths=None):
        outputs = self.inner(X.mean(dim=1))
        if self.kind == "dropout":
            return functional.dropout(outputs, 0.3, training=True)
        if self.kind == "own generator":
            return outputs + 0.1 * float(self.own.normal())
        if self.kind == "numpy":
            return outputs + float(np.random.normal())  # noqa: NPY002
        if self.kind == "counter":
            self.n_calls += 1
            return outputs * (1 + 0.1 * self.n_calls)
        if self.kind == "batch norm":
            return functional.batch_norm(outputs, None, None, training=True)
        return outputs


class KeptRunner:
    """A runner that has nothing but the kept weights and the validation windows."""

    def __init__(self, kind, n_windows=31):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(n_windows, 9, 2)).astype(np.float32)
        self.train = self.validation = held_windows(X, None, np.arange(n_windows) % 3)
        self.module, self.kept_epoch = Noisy(kind).eval(), 7

    def kept_module(self):
        return copy.deepcopy(self.module)

    def val_inputs(self, module):
        if self.validation is None:
            return None
        X, target = self.validation.X, self.validation.target
        return TrainingData.from_arrays(X, np.full(len(X), X.shape[1]), target)


@pytest.mark.parametrize("kind", ["dropout", "own generator", "numpy", "counter", "batch norm"])
def test_noise_in_evaluation_is_caught_and_nothing_is_left_changed(kind):
    runner = KeptRunner(kind)
    before = copy.deepcopy(runner.module.state_dict())
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    trial = zero_test(runner)
    assert trial.outcome == "confirmed"
    assert trial.cause == "evaluation_not_deterministic"
    assert "31 validation windows" in trial.sentence
    assert ("different batches" in trial.sentence) == (kind == "batch norm")
    assert ("n_calls" in trial.sentence) == (kind == "counter")
    for one, other in zip(states, (torch.get_rng_state(), np.random.get_state()[1]), strict=True):  # noqa: NPY002
        assert np.array_equal(one, other)
    assert all(torch.equal(part, before[name]) for name, part in runner.module.state_dict().items())


@pytest.mark.parametrize("n_windows", [1, 3, 31, 5000])
def test_a_sound_network_gives_identical_outputs(n_windows):
    trial = zero_test(KeptRunner("nothing", n_windows))
    assert trial.outcome == "rejected"
    assert "the weights of epoch 7" in trial.sentence
    assert f"{n_windows} validation window{'s' if n_windows > 1 else ''} gave" in trial.sentence
    assert trial.cost_epochs == 1  # three forward passes, each of which costs a third of a step


def test_without_validation_windows_the_zero_test_says_so():
    for validation in (None, held_windows(np.zeros((0, 9, 2)), None, np.zeros(0, np.int64))):
        runner = KeptRunner("nothing")
        runner.validation = validation
        found = zero_test(runner)
        assert isinstance(found, NotTested)
        assert found.cause == "evaluation_not_deterministic"
