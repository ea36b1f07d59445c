"""The details of a step by autograd are those the native engine records of it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sensorseq.nn import LSTMLinear
from sensorseq.ops.train_epoch import STATISTIC_COLUMNS, slot_bounds
from sensorseq.training import EngineChoice, TrainingConfig, TrainingData
from sensorseq.training.details import NAMES, AutogradDetails, draw_masks, pool_top, run_layers
from sensorseq.training.engine import TrainingJob, TrainingRun
from sensorseq.training.optim import l1_penalty

N_WINDOWS, N_TIMESTEPS, N_CHANNELS, N_CLASSES = 43, 9, 2, 3
NETWORKS = {
    "one layer": {},
    "two layers": {"num_layers": 2},
    "both directions": {"num_layers": 2, "bidirectional": True, "pooling": "last"},
    "dropout": {"num_layers": 3, "dropout": 0.3},
    "recurrent dropout": {"num_layers": 2, "bidirectional": True, "recurrent_dropout": 0.4},
    "batch norm": {"head_norm": "batch", "num_layers": 2},
    "batch norm and dropout": {"head_norm": "batch", "dropout": 0.2, "recurrent_dropout": 0.2},
    "layer norm": {"head_norm": "layer", "bidirectional": True, "dropout": 0.2},
}
OPTIONS = {
    "a smaller last batch": {"batch_size": 13},
    "a last batch that is dropped": {"batch_size": 13, "last_batch": "drop"},
    "a last batch that is merged": {"batch_size": 13, "last_batch": "merge"},
    "batches of one slot": {"batch_size": 6},
    "the full batch": {"batch_size": None},
    "label smoothing": {"label_smoothing": 0.2, "loss": "focal"},
    "l1 and clipping": {"l1": 0.01, "max_grad_norm": 0.05},
    "an average of the weights": {"ema_decay": 0.5},
    "random crops": {"max_timesteps": 6, "crop": "random"},
}


class DetailedRun(TrainingRun):
    """A run by autograd that measures every step."""

    def take_details(self):
        self.details, self.numbers = AutogradDetails(self.module), []

    def _backward(self, batch, *_):
        self.details.begin(batch)
        outputs = self.module(batch.X, batch.lengths)
        losses = self.objective.losses(outputs, batch.target)
        if batch.weight is not None:
            losses = losses * batch.weight
        self.details.watch(outputs, losses)
        loss = losses.mean()
        (loss + self.config.l1 * l1_penalty(self.module)).backward()
        return loss, self.objective.merits(outputs, batch.target).sum()

    def _train_step(self, *arguments):
        totals = super()._train_step(*arguments)
        self.numbers.append(self.details.finish())
        return totals


def make_data(lengths=True, weight=False):
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(N_WINDOWS, N_TIMESTEPS, N_CHANNELS, generator=generator, dtype=torch.float64)
    class_index = torch.randint(0, N_CLASSES, (N_WINDOWS,), generator=generator)
    X = 2 * X + class_index[:, None, None]
    valid = torch.randint(1, N_TIMESTEPS + 1, (N_WINDOWS,), generator=generator)
    weights = torch.rand(N_WINDOWS, generator=generator, dtype=torch.float64)
    return TrainingData(
        X, valid if lengths else None, class_index, weights / weights.mean() if weight else None
    )


def make_module(**network):
    torch.manual_seed(5)
    module = LSTMLinear(N_CHANNELS, 6, N_CLASSES, **{"pooling": "meanmax", **network}).double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith("lstm"):
                parameter.mul_(2)  # gates that come near their bounds
    return module


def make_config(**options):
    return TrainingConfig(
        N_CLASSES, **{"learning_rate": 0.02, "batch_size": 13, "max_epochs": 3, **options}
    )


def make_run(kind, network, data, **options):
    order_seed, crop_seed = np.random.SeedSequence(7).spawn(2)
    config = make_config(monitor="loss", **options)
    job = TrainingJob(make_module(**network), data, None, config, order_seed)
    return kind(job, order_seed, crop_seed)


def assert_same_details(network, data, **options):
    ours = make_run(DetailedRun, network, data, **options)
    ours.choose_steps(EngineChoice("autograd", ""), 11)
    ours.take_details()
    theirs = make_run(TrainingRun, network, data, **options)
    theirs.choose_steps(EngineChoice("native", ""), 11)
    columns = [STATISTIC_COLUMNS.index(name) for name in NAMES]
    wanted = []
    for _ in range(3):
        ours.train_epoch()
        steps = theirs.native.take_steps(*theirs.draw_epoch(), theirs.crop_rng, detail_every=1)
        wanted.append(steps.values[0][:, columns])
    wanted = torch.cat(wanted)
    found = torch.stack(ours.numbers)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-12, equal_nan=True)
    assert (wanted[:, 2:] > 0).any(dim=0).all()
    assert wanted[:, [0, *range(2, 6)]].isfinite().all()
    return found


@pytest.mark.parametrize("lengths", [False, True], ids=["full windows", "lengths"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_every_network_has_the_native_details(network, lengths):
    assert assert_same_details(network, make_data(lengths))[:, 1].isfinite().any()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_has_the_native_details(options):
    assert_same_details({"dropout": 0.2}, make_data(weight=True), **options)


class Windowed(nn.Module):
    """A network of another kind: linear in the mean over time."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(N_CHANNELS, N_CLASSES)
        self.dropout = nn.Dropout(0.5)

    def forward(self, X, lengths=None):
        return self.linear(self.dropout(X.mean(dim=1)))


def test_other_modules_have_the_noise_of_their_own_gradients():
    batch = make_data(lengths=False).take(torch.arange(13), torch.device("cpu"))
    module = Windowed().double()
    details = AutogradDetails(module)
    details.begin(batch)
    outputs = module(batch.X)
    losses = nn.functional.cross_entropy(outputs, batch.target, reduction="none")
    details.watch(outputs, losses)
    parameters, sums = list(module.parameters()), []
    for slot in (slice(0, 4), slice(4, 8), slice(8, 13)):
        found = torch.autograd.grad(losses[slot].sum(), parameters, retain_graph=True)
        sums.append(torch.cat([part.reshape(-1) for part in found]))
    squares = sum(g.square().sum() / n for g, n in zip(sums, (4, 4, 5), strict=True))
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(1.25)
    ratio, noise, *saturated = details.finish()
    assert noise.item() == pytest.approx((squares - sum(sums).square().sum() / 13).item() / 2)
    assert ratio.item() == pytest.approx(0.25)
    assert np.isnan(saturated).all()


@pytest.mark.parametrize(
    "network", [{"dropout": 0.3, "recurrent_dropout": 0.2}, {"head_norm": "batch"}]
)
def test_a_measured_step_has_the_bits_of_a_plain_one(network):
    # without the native engine's masks, so that torch's generator draws them
    results = []
    for kind in (TrainingRun, DetailedRun):
        torch.manual_seed(0)
        run = make_run(kind, network, make_data(), l1=0.01, last_batch="drop")
        if kind is DetailedRun:
            run.take_details()
        run.train_epoch()
        state = [run.module.state_dict(), run.optimizer.state_dict()["state"]]
        results.append((state, torch.get_rng_state()))
    torch.testing.assert_close(*(state for state, _ in results), rtol=0, atol=0)
    assert torch.equal(*(rng for _, rng in results))
    assert torch.stack(run.numbers).isfinite().all()
    assert not run.module.norm or not run.module.norm._forward_pre_hooks


def test_masks_of_torch_are_those_of_the_step():
    # saturation under the mask that the step draws: weights so large that the kept units decide
    module = make_module(recurrent_dropout=0.5, num_layers=2, dropout=0.5)
    data = make_data()
    torch.manual_seed(1)
    masks = draw_masks(module, data.X)
    torch.manual_seed(1)
    wanted = module(data.X, data.lengths)
    layers = run_layers(module, data.X, data.lengths, masks)
    pooled = pool_top(module, layers[-1], data.lengths)
    torch.testing.assert_close(module.linear(pooled * masks.outputs[-1]), wanted)


@pytest.mark.parametrize("frozen", ["lstm", "linear"])
def test_frozen_weights_are_left_out(frozen):
    data, module = make_data(), make_module(head_norm="layer")
    noises = []
    for parts in ("nothing", frozen):
        for parameter in getattr(module, parts, nn.Module()).parameters():
            parameter.requires_grad_(False)
        details = AutogradDetails(module)
        details.begin(data)
        outputs = module(data.X, data.lengths)
        losses = nn.functional.cross_entropy(outputs, data.target, reduction="none")
        details.watch(outputs, losses)
        noises.append(details.finish()[1].item())
    assert 0 < noises[1] < noises[0]


def test_a_loss_of_the_whole_batch_has_the_noise_of_its_windows():
    data = make_data(lengths=False)
    module = make_module()
    noises = []
    for reduction in ("none", "mean"):
        details = AutogradDetails(module)
        details.begin(data)
        outputs = module(data.X)
        losses = nn.functional.cross_entropy(outputs, data.target, reduction=reduction)
        details.watch(outputs, losses)
        noises.append(details.finish()[1].item())
    assert noises[0] == pytest.approx(noises[1])


@pytest.mark.parametrize(
    ("n_windows", "hidden_size", "bounds"),
    [
        (1, 8, [0, 1]),
        (6, 8, [0, 6]),
        (7, 8, [0, 3, 7]),
        (13, 319, [0, 4, 8, 13]),
        (13, 320, [0, 13]),
    ],
)
def test_slots_of_few_windows(n_windows, hidden_size, bounds):
    assert slot_bounds(n_windows, hidden_size) == bounds


@given(st.integers(1, 2000))
def test_slots_hold_whole_tiles_of_up_to_six_windows(n_windows):
    sizes = np.diff(slot_bounds(n_windows, 8))
    assert sizes.sum() == n_windows
    assert len(sizes) == min(8, -(-n_windows // 6))
    assert sizes.max() <= 6 * -(-n_windows // (6 * len(sizes)))
