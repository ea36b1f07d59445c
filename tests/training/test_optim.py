import copy
import itertools
from functools import partial

import pytest
import torch
from torch import nn

from sensorseq.errors import ArgumentError
from sensorseq.training.config import TrainingConfig, count_epochs
from sensorseq.training.optim import Schedule, make_optimizer
from sensorseq.training.stopping import WeightAverage


def rates(n_steps, steps_per_epoch, **arguments):
    config = TrainingConfig(n_outputs=2, **arguments)
    schedule = Schedule(config, steps_per_epoch)
    return [schedule.learning_rate(step) for step in range(n_steps)]


def test_cosine_equals_torchs_down_to_a_hundredth():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.001)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    ours = rates(20, 4, learning_rate=0.1, lr_schedule="cosine", max_epochs=5)
    assert ours == pytest.approx(expected)


def test_warm_up_rises_evenly_to_the_learning_rate_and_the_schedule_follows():
    ours = rates(12, 3, learning_rate=0.6, lr_schedule="cosine", warmup_epochs=2, max_epochs=4)
    assert ours[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert ours[6] == pytest.approx(0.6)
    assert all(later < earlier for earlier, later in itertools.pairwise(ours[6:]))


@pytest.mark.parametrize(
    ("share", "n_steps", "n_warm"), [(0.05, 10, 1), (0.05, 100, 5), (0.07, 100, 7), (0.5, 10, 5)]
)
@pytest.mark.parametrize("schedule", ["cosine", "constant", "plateau"])
def test_a_warm_up_fraction_refers_to_all_steps_and_is_at_least_one_step(
    share, n_steps, n_warm, schedule
):
    arguments = {"learning_rate": 0.6, "lr_schedule": schedule, "max_epochs": n_steps // 2}
    ours = rates(n_steps, 2, warmup_epochs=share, **arguments)
    assert ours[:n_warm] == pytest.approx([0.6 * (i + 1) / n_warm for i in range(n_warm)])
    assert ours[n_warm] == pytest.approx(0.6)
    if schedule == "cosine":
        assert ours[n_warm + 1] < 0.6


@pytest.mark.parametrize(
    ("arguments", "steps_per_epoch", "n_epochs"),
    [
        ({}, 7, 200),
        ({"max_epochs": "auto"}, 1, 200),
        ({"max_epochs": "auto"}, 2, 200),
        ({"max_epochs": "auto"}, 5, 80),
        ({"max_epochs": "auto"}, 7, 58),
        ({"max_epochs": "auto"}, 16, 25),
        ({"max_epochs": "auto"}, 1000, 24),
        ({"max_steps": 1}, 7, 1),
        ({"max_steps": 14}, 7, 2),
        ({"max_steps": 15}, 7, 3),
        ({"max_steps": 10_000}, 7, 200),
        ({"max_steps": 20, "max_epochs": 2}, 7, 2),
        ({"max_steps": 300, "max_epochs": "auto"}, 10, 30),
        ({"max_steps": 900, "max_epochs": "auto"}, 10, 40),
    ],
)
def test_a_run_is_as_long_as_its_epochs_and_steps_allow(arguments, steps_per_epoch, n_epochs):
    config = TrainingConfig(n_outputs=2, **arguments)
    assert count_epochs(config, steps_per_epoch) == n_epochs
    schedule = Schedule(config, steps_per_epoch)
    at_end = schedule.learning_rate(n_epochs * steps_per_epoch)
    assert at_end == pytest.approx(0.01 * config.learning_rate)
    assert schedule.learning_rate(n_epochs * steps_per_epoch - 1) > at_end


def test_plateau_halves_after_a_quarter_of_the_patience_without_gain():
    config = TrainingConfig(n_outputs=2, lr_schedule="plateau", learning_rate=0.8, patience=8)
    schedule = Schedule(config, 1)
    seen = []
    for improved in [True, False, True, False, False, False, False]:
        schedule.end_epoch(improved=improved)
        seen.append(schedule.learning_rate(0))
    assert seen == pytest.approx([0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.2])


@pytest.mark.parametrize(
    ("optimizer", "params", "theirs"),
    [
        ("adam", {"eps": 1e-5}, partial(torch.optim.Adam, eps=1e-5)),
        ("adamw", None, torch.optim.AdamW),
        (
            "rmsprop",
            {"alpha": 0.9, "momentum": 0.5},
            partial(torch.optim.RMSprop, alpha=0.9, momentum=0.5),
        ),
        ("sgd", {"nesterov": True}, partial(torch.optim.SGD, momentum=0.9, nesterov=True)),
        ("sgd", {"momentum": 0.5}, partial(torch.optim.SGD, momentum=0.5)),
    ],
)
def test_optimizers_equal_torchs(optimizer, params, theirs):
    module = nn.Linear(3, 2)
    twin = copy.deepcopy(module)
    settings = {"optimizer": optimizer, "optimizer_params": params, "learning_rate": 0.01}
    config = TrainingConfig(n_outputs=2, weight_decay=0.1, **settings)
    pairs = [
        (module, make_optimizer(module.parameters(), config)),
        (twin, theirs(twin.parameters(), lr=0.01, weight_decay=0.1)),
    ]
    x = torch.randn(5, 3)
    for _ in range(4):
        for net, steps in pairs:
            steps.zero_grad()
            net(x).square().sum().backward()
            steps.step()
    torch.testing.assert_close(module.weight, twin.weight, rtol=0, atol=0)


def steps_of(gradients, start=0.0, **arguments):
    """Return the steps that a float64 weight takes with these gradients."""
    weight = nn.Parameter(torch.full(gradients.shape[1:], start, dtype=torch.float64))
    optimizer = make_optimizer([weight], TrainingConfig(n_outputs=2, **arguments))
    steps = []
    for weight.grad in gradients:
        before = weight.detach().clone()
        optimizer.step()
        steps.append(weight.detach() - before)
    return torch.stack(steps)


@pytest.mark.parametrize(
    ("params", "size", "low", "high"),
    [
        ({"alpha": 0.9, "eps": 1e-7}, 1.0, 0.999, 1.001),
        ({"alpha": 0.9, "eps": 1e-7}, 1e-5, 3.0, torch.inf),  # Keras adds eps under the root
        ({"alpha": 0.9, "eps": 1e-7**0.5}, 1e-5, 2**-0.5, 1.0),
        ({"alpha": 0.9, "eps": 1e-7**0.5}, 1.0, 2**-0.5, 1.0),
        (None, 1.0, 2.0, torch.inf),  # torch's alpha is 0.99
    ],
)
def test_the_ratio_of_rmsprops_steps_to_those_of_keras_is_as_documented(params, size, low, high):
    rng = torch.Generator().manual_seed(0)
    gradients = size * (0.5 + torch.rand(6, 20, dtype=torch.float64, generator=rng))
    velocity, of_keras = 0.0, []
    for gradient in gradients:
        velocity = 0.9 * velocity + 0.1 * gradient**2
        of_keras.append(-0.01 * gradient / (velocity + 1e-7) ** 0.5)
    settings = {"optimizer": "rmsprop", "optimizer_params": params, "learning_rate": 0.01}
    ratios = steps_of(gradients, **settings) / torch.stack(of_keras)
    assert low <= ratios.min()
    assert ratios.max() <= high


@pytest.mark.parametrize(
    ("optimizer", "params", "message"),
    [
        ("adam", {"beta": (0.9, 0.9)}, "Did you mean 'betas'"),
        ("adam", {"lr": 0.1}, "use the estimator's argument learning_rate= instead"),
        ("sgd", {"momentum": 1.0}, r"optimizer_params: momentum=1.0 must be a number in \[0, 1\)"),
        ("rmsprop", {"weight_decay": 0.1}, "use the estimator's argument weight_decay= instead"),
        ("adam", {"nesterov": True}, "contains 'nesterov', which"),
        ("adam", [("eps", 1)], "must be a dictionary"),
    ],
)
def test_an_optimizer_argument_that_torch_lacks_is_named(optimizer, params, message):
    with pytest.raises(ArgumentError, match=message):
        TrainingConfig(n_outputs=2, optimizer=optimizer, optimizer_params=params)


def test_a_value_that_torch_refuses_is_an_argument_error():
    config = TrainingConfig(n_outputs=2, optimizer_params={"betas": (2.0, 0.9)})
    with pytest.raises(ArgumentError, match=r"optimizer_params=.* optimizer='adam'"):
        make_optimizer(nn.Linear(1, 1).parameters(), config)


def test_the_average_follows_its_recurrence():
    module = nn.Linear(1, 1, bias=False)
    expected = module.weight.item()
    average = WeightAverage(module, 0.6)
    for step in range(1, 30):
        with torch.no_grad():
            module.weight.fill_(float(step))
        average.update()
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average:
        assert module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert module.weight.item() == 29
