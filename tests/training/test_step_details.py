"""The details of a step against finite differences, networks made by hand, and plain torch."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sensorseq.errors import ArgumentError
from sensorseq.nn import LSTM, LSTMLinear
from sensorseq.training import TrainingConfig, TrainingData
from sensorseq.training.details import StepDetails, _split
from sensorseq.training.losses import Objective
from sensorseq.training.randomness import CounterDropout
from sensorseq.training_record import DETAIL_NAMES, TrainingRecord

N, T, C, H, K = 7, 37, 2, 5, 3
NETWORKS = {
    "one layer": {},
    "two layers": {"num_layers": 2, "bidirectional": True, "pooling": "meanmax"},
    "dropout": {"num_layers": 2, "dropout": 0.4, "recurrent_dropout": 0.2},
    "batch norm": {"head_norm": "batch", "pooling": "mean"},
    "layer norm": {"head_norm": "layer", "pooling": "max"},
}


def make_module(hidden_size=H, **network):
    torch.manual_seed(2)
    module = LSTMLinear(C, hidden_size, K, **network).double()
    if module.head_norm == "batch":
        module(torch.randn(20, T, C, dtype=torch.float64))  # running statistics of its own
    return module


def make_data(lengths=True, weight=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    valid = torch.randint(1, T + 1, (N,), generator=generator)
    return TrainingData(
        torch.randn(N, T, C, **draw),
        valid if lengths else None,
        torch.randint(0, K, (N,), generator=generator),
        torch.rand(N, **draw) if weight else None,
    )


def make_details(module, data, **options):
    return StepDetails(module, Objective(TrainingConfig(K, **options), data.target))


def recorded(details):
    record = TrainingRecord()
    details.fill(record, n_steps=10**6)
    return record


def plain_loss(module, data):
    """Weighted mean loss in evaluation mode, by torch's own cross entropy."""
    mode = module.training
    with torch.no_grad():
        outputs = module.eval()(data.X, data.lengths)
        module.train(mode)
        losses = nn.functional.cross_entropy(outputs, data.target, reduction="none")
        return (losses if data.weight is None else losses * data.weight).mean().item()


def change(module, size=0.05):
    """Change every weight, as a step would."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for p in module.parameters():
            p += size * torch.randn(p.shape, generator=generator, dtype=p.dtype)


@pytest.mark.parametrize("lengths", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_losses_are_those_of_the_batch_around_its_step(network, lengths):
    module, data = make_module(**network), make_data(lengths)
    details = make_details(module, data)
    before = plain_loss(module, data)
    details.before(data, 4)
    change(module)
    details.after()
    record = recorded(details)
    assert record.detail_steps.tolist() == [4]
    found = [record.details[name][0] for name in DETAIL_NAMES[:2]]
    assert found == pytest.approx([before, plain_loss(module, data)], rel=1e-12)
    assert found[0] != found[1]


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_gradient_norms_and_cosine_are_those_of_finite_differences(network):
    module, data = make_module(2, **network), make_data()
    details = make_details(module, data)
    gradients = []
    for _ in range(2):
        details.before(data, 0)
        gradients.append([])
        for parameter in module.parameters():
            flat, slopes = parameter.detach().view(-1), []
            for i in range(len(flat)):
                value, losses = flat[i].item(), []
                for shift in (1e-5, -1e-5):
                    flat[i] = value + shift
                    losses.append(plain_loss(module, data))
                flat[i] = value
                slopes.append((losses[0] - losses[1]) / 2e-5)
            gradients[-1].append(np.array(slopes))
        change(module)
    record = recorded(details)
    names = [name for name, _ in module.named_parameters()]
    assert list(record.tensor_grad_norms) == names
    for name, first, second in zip(names, *gradients, strict=True):
        wanted = [np.linalg.norm(first), np.linalg.norm(second)]
        assert record.tensor_grad_norms[name] == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    first, second = (np.concatenate(parts) for parts in gradients)
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert math.isnan(record.details["gradient_cosine"][0])
    assert record.details["gradient_cosine"][1] == pytest.approx(cosine, rel=1e-6)
    assert abs(cosine) < 0.999


class StepsOf(nn.Module):
    """Sums chosen steps of the valid part of each window; all other steps have no gradient."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights, dtype=torch.float64))  # (N, T)

    def forward(self, X, lengths=None):
        value = (X[:, :, 0] * self.weights).sum(dim=1)
        return torch.stack([value, torch.zeros_like(value)], dim=1)


def test_the_time_profile_finds_the_steps_that_matter_in_windows_of_any_length():
    weights = torch.zeros(3, 64)
    weights[0, 63], weights[1, 31], weights[2, 0] = 1.0, 2.0, 3.0  # last, last, first
    lengths, target = torch.tensor([64, 32, 16]), torch.tensor([0, 0, 0])
    data = TrainingData(torch.zeros(3, 64, 2, dtype=torch.float64), lengths, target)
    details = make_details(StepsOf(weights), data)
    details.before(data, 0)
    # outputs are 0, so that each window's gradient is its weight times the same factor
    profile = recorded(details).time_profile[0]
    assert profile == pytest.approx([0.5, *[0.0] * 14, 0.5])


def test_a_gradient_that_is_the_same_everywhere_has_a_flat_profile_at_any_length():
    weights = torch.ones(3, 50)
    lengths, target = torch.tensor([50, 3, 17]), torch.tensor([0, 1, 0])
    weights *= torch.arange(50) < lengths[:, None]
    data = TrainingData(torch.zeros(3, 50, 2, dtype=torch.float64), lengths, target)
    details = make_details(StepsOf(weights), data)
    details.before(data, 0)
    record = recorded(details)
    assert record.time_profile[0] == pytest.approx(np.full(16, 1 / 16))
    assert np.isnan(record.hidden_norm).all()  # no hidden state here


@given(st.data())
def test_sixteenths_keep_the_sum_and_split_steps_in_proportion(data):
    length = data.draw(st.integers(0, 40))
    values = data.draw(st.lists(st.integers(0, 9), min_size=40, max_size=40))
    values[length:] = [0] * (40 - length)
    found = _split(torch.tensor([values], dtype=torch.float64), torch.tensor([length]))[0].numpy()
    # the same on a grid fine enough that no cell lies in two parts
    fine = np.repeat(np.array(values[:length], float) / 16, 16)
    wanted = fine.reshape(16, -1).sum(axis=1) if length else np.zeros(16)
    assert found == pytest.approx(wanted, abs=1e-12)
    assert found.sum() == pytest.approx(sum(values))


def test_the_time_profile_of_a_network_is_that_of_finite_differences():
    module, data = make_module(bidirectional=True, pooling="mean"), make_data()
    details = make_details(module, data)
    details.before(data, 0)
    slopes = np.zeros((N, T, C))
    for place in np.ndindex(N, T, C):
        losses = []
        for shift in (1e-5, -1e-5):
            X = data.X.clone()
            X[place] += shift
            losses.append(plain_loss(module, replace(data, X=X)))
        slopes[place] = (losses[0] - losses[1]) / 2e-5
    sizes = np.linalg.norm(slopes, axis=2)
    wanted = np.zeros(16)
    for row, length in zip(sizes, data.lengths.tolist(), strict=True):
        wanted += np.repeat(row[:length] / 16, 16).reshape(16, length).sum(axis=1)
    profile = recorded(details).time_profile[0]
    assert profile == pytest.approx(wanted / wanted.sum(), rel=1e-5)
    assert profile.sum() == pytest.approx(1.0)


def test_the_hidden_norm_is_that_of_torchs_lstm():
    module, data = make_module(num_layers=2, bidirectional=True), make_data()
    details = make_details(module, data)
    details.before(data, 0)
    lstm, _ = module.to_torch()
    wanted = np.zeros(16)
    with torch.no_grad():
        for x, length in zip(data.X, data.lengths.tolist(), strict=True):
            norms = lstm(x[None, :length])[0][0].norm(dim=1).numpy()
            wanted += np.repeat(norms, 16).reshape(16, length).mean(axis=1) / N
    assert recorded(details).hidden_norm[0] == pytest.approx(wanted)


class Torchs(nn.Module):
    """The same network of torch's own modules, or of the drop-in LSTM."""

    def __init__(self, module, kind=None):
        super().__init__()
        self.lstm, self.linear = copy.deepcopy(module.to_torch())
        if kind is not None:
            plain = self.lstm
            self.lstm = kind(C, H, 2, batch_first=True, dropout=plain.dropout).double()
            self.lstm.load_state_dict(plain.state_dict())

    def forward(self, X, lengths=None):
        return self.linear(self.lstm(X)[0][:, -1])


@pytest.mark.parametrize("kind", [None, LSTM], ids=["torch", "drop-in"])
def test_other_modules_are_measured_too(kind):
    module, data = make_module(num_layers=2, dropout=0.5), make_data(lengths=False)
    other = Torchs(module, kind)
    records = []
    for one in (module, other):
        details = make_details(one, data)
        details.before(data, 0)
        change(one, 0.0)
        details.after()
        records.append(recorded(details))
    ours, theirs = records
    for name in DETAIL_NAMES[:2]:
        assert theirs.details[name] == pytest.approx(ours.details[name])
    assert theirs.details["dropout_variance"][0] > 0
    assert theirs.time_profile == pytest.approx(ours.time_profile)
    assert list(theirs.tensor_grad_norms) == [name for name, _ in other.named_parameters()]
    for name, norms in ours.tensor_grad_norms.items():
        assert theirs.tensor_grad_norms[name] == pytest.approx(norms)
    assert np.isnan(theirs.hidden_norm).all()


class Scale(nn.Module):
    """Gives each class the same weight in all; dropout alone moves the loss."""

    def __init__(self, probability):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        self.drop = nn.Dropout(probability)

    def forward(self, X, lengths=None):
        return self.drop(X[:, 0] * self.weight)


def test_the_variance_over_masks_is_that_of_the_loss_under_dropout():
    # squared misses of 1000 independent values, each dropped or doubled: the variance is known
    values = torch.linspace(1.0, 2.0, 1000, dtype=torch.float64)[:, None, None]
    target = torch.zeros(1000, 1, dtype=torch.float64)
    data = TrainingData(values, None, target)
    config = TrainingConfig(1, task="regression", loss="mse")
    details = StepDetails(Scale(0.5), Objective(config, target))
    for step in range(200):
        details.before(data, step)
    found = recorded(details).details["dropout_variance"]
    squares = 4 * values.ravel().numpy() ** 2  # with probability one half, else 0
    wanted = (squares**2).sum() / 4 / 1000**2
    # the variance of 4 normal values has a standard deviation of sqrt(2 / 3) of itself
    assert found.mean() == pytest.approx(wanted, rel=4 * (2 / 3 / 200) ** 0.5)
    assert len(np.unique(found)) == 200  # masks of its own at each step


def test_the_masks_are_not_those_of_the_training():
    module, data = make_module(dropout=0.5), make_data()
    module.dropout_source = CounterDropout(0)  # the same at each call, until a step is taken
    details = make_details(module, data)
    details.before(data, 0)
    assert recorded(details).details["dropout_variance"][0] > 0


def test_frozen_weights_have_no_gradient_to_measure():
    module, data = make_module(), make_data()
    for parameter in module.lstm.parameters():
        parameter.requires_grad_(False)
    details = make_details(module, data)
    details.before(data, 0)
    assert list(recorded(details).tensor_grad_norms) == ["linear.weight", "linear.bias"]


def test_without_dropout_there_is_no_variance_over_masks():
    data = make_data(lengths=False)
    data = replace(data, target=data.target % C)  # as many classes as Scale has outputs
    for module in (make_module(), Torchs(make_module()), Scale(0.0)):
        details = make_details(module, data)
        details.before(data, 0)
        assert math.isnan(recorded(details).details["dropout_variance"][0])


def test_a_regression_and_a_loss_of_the_whole_batch_are_measured():
    data = make_data()
    target = torch.randn(N, K, dtype=torch.float64)
    data = TrainingData(data.X, data.lengths, target)
    module = make_module()
    options = {"task": "regression"}
    records = []
    for loss in ("mse", nn.functional.mse_loss):
        details = StepDetails(module, Objective(TrainingConfig(K, loss=loss, **options), target))
        details.before(data, 0)
        records.append(recorded(details))
    named, whole = records
    assert whole.details["same_batch_loss_before"] == pytest.approx(
        named.details["same_batch_loss_before"]
    )
    assert whole.time_profile == pytest.approx(named.time_profile)
    with torch.no_grad():
        wanted = nn.functional.mse_loss(module.eval()(data.X, data.lengths), target).item()
    assert named.details["same_batch_loss_before"][0] == pytest.approx(wanted)


def test_weights_from_elsewhere_are_measured_instead_of_the_modules():
    module, data = make_module(head_norm="batch"), make_data()
    other = copy.deepcopy(module)
    change(other)
    details = make_details(module, data)
    own = plain_loss(module, data)
    details.before(data, 0, dict(other.named_parameters()))
    details.after()
    record = recorded(details)
    found = [record.details[name][0] for name in DETAIL_NAMES[:2]]
    assert found == pytest.approx([plain_loss(other, data), own])
    with pytest.raises(ArgumentError, match=r"parameters has 'linear\.wieght'"):
        details.before(data, 0, {"linear.wieght": module.linear.weight})
    assert len(recorded(details).detail_steps) == 1


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_measuring_changes_no_bit_of_module_optimizer_or_generators(network):
    module, data = make_module(**network), make_data()
    module.train()
    optimizer = torch.optim.Adam(module.parameters())
    nn.functional.cross_entropy(module(data.X, data.lengths), data.target).backward()
    optimizer.step()

    def everything():
        return copy.deepcopy(
            {
                "module": module.state_dict(),
                "grads": [p.grad for p in module.parameters()],
                "optimizer": optimizer.state_dict()["state"],
                "rng": torch.get_rng_state(),
                "data": list(vars(data).values()),
                "modes": [part.training for part in module.modules()],
            }
        )

    untouched = everything()
    details = make_details(module, data)
    details.before(data, 0)
    details.after()
    details.before(data, 1)
    torch.testing.assert_close(everything(), untouched, rtol=0, atol=0)
    assert not data.X.requires_grad


def test_going_on_from_a_state_measures_what_an_uninterrupted_one_does():
    records = []
    for is_interrupted in (False, True):
        module = make_module(dropout=0.3)
        details = make_details(module, make_data())
        for step in range(4):
            if step == 2 and is_interrupted:
                state = details.state_dict()
                assert all(type(part) is np.ndarray for part in state.values())
                details = make_details(module, make_data())
                details.load_state_dict(state)
            details.before(make_data(seed=step), step)
            change(module)
            details.after()
        records.append(recorded(details))
    plain, resumed = (vars(record) for record in records)
    for name in ("detail_steps", "details", "tensor_grad_norms", "time_profile", "hidden_norm"):
        np.testing.assert_equal(resumed[name], plain[name])
    assert len(plain["detail_steps"]) == 4


def test_nothing_measured_fills_nothing():
    details = make_details(make_module(), make_data())
    record = recorded(details)
    assert record.detail_steps.shape == (0,)
    assert record.time_profile.shape == record.hidden_norm.shape == (0, 16)
    fresh = make_details(make_module(), make_data())
    fresh.load_state_dict(details.state_dict())
    assert recorded(fresh).details.keys() == set(DETAIL_NAMES)
