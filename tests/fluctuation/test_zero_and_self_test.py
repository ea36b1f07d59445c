"""Validation at fixed weights must repeat itself, and so must a run that is replayed."""

import copy

import numpy as np
import pytest
import torch
from probe_labs import SmallLab, make_windows, shifted, with_record
from torch import nn
from torch.nn import functional

from sensorseq.fluctuation.probes.purse import Purse
from sensorseq.fluctuation.probes.self_test import self_test
from sensorseq.fluctuation.probes.zero_test import left_as_it_was, zero_test


@pytest.fixture(scope="module")
def lab():
    return SmallLab()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"engine": "autograd"},
        {"ema_decay": 0.9},
        {"ema_decay": 0.9, "engine": "autograd"},
        {"network": {"head_norm": "batch", "dropout": 0.3}},
        {"max_timesteps": 6, "crop": "random", "validation": "short"},
        {"label_smoothing": 0.1},
        {"dtype": torch.float64},
    ],
    ids=str,
)
def test_a_healthy_run_gives_the_bits_that_it_noted(options):
    if options.get("validation") == "short":
        shown = make_windows(31, 2)
        options = {**options, "validation": shown._replace(X=shown.X[:, :6])}
    found = zero_test(SmallLab(max_epochs=8, **options))
    assert [trial.outcome for trial in found.trials] == ["rejected"], found
    assert (
        "31 validation windows gave the same bits, those that the run" in found.trials[0].sentence
    )
    assert found.trials[0].cost_epochs < 1


class Noisy(nn.Module):
    """A network around another that does something it should not in evaluation."""

    def __init__(self, inner, kind):
        super().__init__()
        self.inner, self.kind = inner, kind
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("n_calls", torch.zeros(()))
        self.own = torch.Generator().manual_seed(3)

    def forward(self, X, lengths=None):
        outputs = self.inner(X, lengths)
        if self.kind == "dropout":
            return functional.dropout(outputs, 0.3, training=True)
        if self.kind == "own generator":
            return outputs + 0.1 * torch.randn(outputs.shape, generator=self.own)
        if self.kind == "numpy":
            return outputs + float(np.random.normal())  # noqa: NPY002
        if self.kind == "counter":
            self.n_calls += 1
            return outputs * (1 + 0.1 * self.n_calls)
        if self.kind == "batch norm":
            return functional.batch_norm(outputs, None, None, training=True)
        return outputs


def lab_with(lab, kind):
    other = copy.copy(lab)
    module = Noisy(lab.module_at(-1), kind).eval()
    other.module_at = lambda start: module
    return other, module


@pytest.mark.parametrize("kind", ["dropout", "own generator", "numpy", "counter", "batch norm"])
def test_noise_in_evaluation_is_caught_and_nothing_is_left_changed(lab, kind):
    noisy, module = lab_with(lab, kind)
    before = copy.deepcopy(module.state_dict())
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), module.own.get_state()  # noqa: NPY002
    (trial,) = zero_test(noisy).trials
    assert trial.outcome == "confirmed"
    assert trial.cause == "evaluation_not_deterministic"
    assert "31 validation windows" in trial.sentence
    assert ("other batches" in trial.sentence) == (kind == "batch norm")
    assert ("n_calls" in trial.sentence) == (kind == "counter")
    after = torch.get_rng_state(), np.random.get_state()[1], module.own.get_state()  # noqa: NPY002
    for one, other in zip(states, after, strict=True):
        assert np.array_equal(one, other)
    assert all(torch.equal(part, before[name]) for name, part in module.state_dict().items())


def test_a_wrapper_that_does_nothing_is_clean(lab):
    quiet, _ = lab_with(lab, "nothing")
    assert [trial.outcome for trial in zero_test(quiet).trials] == ["rejected"]


def test_other_windows_than_those_of_the_fit_are_not_called_noise(lab):
    noised = lab.shown.X + np.float32(0.01)
    (trial,) = zero_test(shifted(lab, validation={"X": noised})).trials
    assert trial.outcome == "undecided"
    assert "agree, but not with what the run had noted" in trial.sentence
    (trial,) = zero_test(shifted(lab, validation={"target": lab.shown.target[::-1]})).trials
    assert trial.outcome == "undecided"
    (trial,) = zero_test(shifted(lab, train={"X": lab.windows.X * np.float32(1.01)})).trials
    assert "fixed training windows" in trial.sentence


def test_without_validation_or_weights_the_zero_test_says_so(lab):
    for other in (with_record(lab, snapshots=[]), shifted(lab, validation={"target": np.zeros(0)})):
        found = zero_test(other)
        assert not found.trials
        assert found.not_tested[0].cause == "evaluation_not_deterministic"


def test_generators_are_given_back_when_a_block_fails():
    module = nn.Linear(2, 2)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), left_as_it_was(module):
        module(torch.rand(3, 5))  # draws, and then does not fit
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("options", [{}, {"engine": "autograd"}, {"ema_decay": 0.9}], ids=str)
def test_a_run_replays_to_its_own_bits(options):
    lab = SmallLab(**options)
    passed, sentence = self_test(lab, Purse(lab, 10))
    assert passed, sentence
    assert sentence == "2 epochs replayed unchanged from epoch 14 gave the same bits as the run."
    assert lab.arms[0].seed is None
    assert not lab.arms[0].change


def test_the_self_test_pays_for_what_it_can(lab):
    purse = Purse(lab, 1.5)
    assert self_test(lab, purse) == (
        True,
        "1 epoch replayed unchanged from epoch 14 gave the same bits as the run.",
    )
    assert purse.spent == 1
    passed, sentence = self_test(lab, Purse(lab, 0.5))
    assert not passed
    assert "budget" in sentence


def test_other_data_or_a_forgotten_keyword_is_refused_with_the_figures(lab):
    scaled = shifted(lab, train={"X": lab.windows.X * np.float32(1.001)})
    passed, sentence = self_test(scaled, Purse(scaled, 10))
    assert not passed
    assert "in epoch 15 where the run had" in sentence
    assert "other data or other keywords" in sentence
    labels = np.roll(lab.windows.target, 1)
    passed, sentence = self_test(shifted(lab, train={"target": labels}), Purse(lab, 10))
    assert not passed
    assert "labels are not those of the fit" in sentence


def test_a_rounding_is_told_from_other_data(lab):
    nearly = np.nextafter(lab.record.fixed_loss, np.inf)
    passed, sentence = self_test(with_record(lab, fixed_loss=nearly), Purse(lab, 10))
    assert not passed
    assert "order of the sums" in sentence


def test_steps_are_compared_where_there_is_no_fixed_loss(lab):
    none = np.full_like(lab.record.fixed_loss, np.nan)
    passed, sentence = self_test(with_record(lab, fixed_loss=none), Purse(lab, 10))
    assert passed, sentence
    steps = {**lab.record.steps, "loss": lab.record.steps["loss"] * 1.1}
    passed, sentence = self_test(with_record(lab, fixed_loss=none, steps=steps), Purse(lab, 10))
    assert not passed
    assert "step 113" in sentence  # the first after 14 epochs of 8


def test_a_run_without_a_state_to_go_on_from_proves_nothing(lab):
    late = [s for s in lab.record.snapshots if s.epoch > 14]
    for snapshots in ([], late):
        passed, sentence = self_test(with_record(lab, snapshots=snapshots), Purse(lab, 10))
        assert not passed
        assert "cannot be replayed" in sentence
