"""Both engines take the same trajectory over 18 steps, for each option in turn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_jobs import N_CHANNELS, N_CLASSES, make_data

from sensorseq.nn import LSTMLinear
from sensorseq.ops import POOLINGS
from sensorseq.training import TrainingConfig, train_network
from sensorseq.training.native import NativeEpochs, native_engine_gap

# 18 steps, each with two tiles of windows; every third batch is smaller
BATCH_SIZE, MAX_EPOCHS = 8, 6

OPTIMIZERS = {
    "sgd": {"optimizer": "sgd", "optimizer_params": {"momentum": 0.0}, "learning_rate": 0.5},
    "sgd with momentum": {"optimizer": "sgd", "learning_rate": 0.2},
    "sgd with dampening": {
        "optimizer": "sgd",
        "learning_rate": 0.2,
        "optimizer_params": {"dampening": 0.3},
    },
    "sgd with nesterov": {
        "optimizer": "sgd",
        "learning_rate": 0.2,
        "optimizer_params": {"nesterov": True},
        "weight_decay": 0.01,
    },
    "adam": {"optimizer": "adam"},
    "adam with its parameters": {
        "optimizer": "adam",
        "optimizer_params": {"betas": (0.7, 0.95), "eps": 1e-3, "amsgrad": True},
        "weight_decay": 0.02,
    },
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "adamw with its parameters": {
        "optimizer": "adamw",
        "optimizer_params": {"betas": (0.4, 0.9), "amsgrad": True},
        "weight_decay": 0.1,
    },
    # the first step of RMSprop is ten times the learning rate
    "rmsprop": {"optimizer": "rmsprop", "learning_rate": 0.002},
    "rmsprop centered with momentum": {
        "optimizer": "rmsprop",
        "learning_rate": 0.002,
        "optimizer_params": {"alpha": 0.9, "eps": 1e-4, "momentum": 0.5, "centered": True},
        "weight_decay": 0.02,
    },
}
LOSSES = {
    f"{loss}, smoothing {smoothing}": {"loss": loss, "label_smoothing": smoothing}
    for loss in ("cross_entropy", "focal")
    for smoothing in (0.0, 0.2)
}
OPTIONS = {
    "no clipping": {"max_grad_norm": None},
    "clipping": {"max_grad_norm": 0.1},
    "average of the weights": {"ema_decay": 0.9},
    "constant rate": {"lr_schedule": "constant", "warmup_epochs": 2},
    "plateau": {"lr_schedule": "plateau", "patience": 1, "tol": 0.5},
    "share of warm-up": {"warmup_epochs": 0.1},
    "root of the counts": {"sampler": "sqrt"},
    "balanced batches": {"sampler": "balanced"},
    "full batch": {"batch_size": None, "max_epochs": 50},
    "batches of one": {"batch_size": 1, "max_epochs": 3},
    "random crops": {"max_timesteps": 6, "crop": "random"},
}
NETWORKS = {
    **{f"pooling {name}": {"pooling": name} for name in POOLINGS},
    "three layers": {"num_layers": 3, "bidirectional": True, "pooling": "max"},
    "four layers": {"num_layers": 4, "pooling": "mean"},
    "batch norm": {"head_norm": "batch"},
    "layer norm": {"head_norm": "layer", "bidirectional": True},
    "dropout": {"dropout": 0.3},
    "dropout between layers": {"dropout": 0.3, "num_layers": 3},
    "recurrent dropout": {"recurrent_dropout": 0.4, "num_layers": 2, "bidirectional": True},
    "dropout and norm": {"dropout": 0.2, "recurrent_dropout": 0.2, "head_norm": "batch"},
}


def drawn(**options):
    return make_data(3, shift=1.0, **{"dtype": torch.float64, "lengths": True, **options})


def make_module(dtype=torch.float64, seed=5, **network):
    torch.manual_seed(seed)
    options = {"pooling": "meanmax", **network}
    return LSTMLinear(N_CHANNELS, 6, N_CLASSES, **options).to(dtype)


def make_config(**options):
    chosen = {
        "learning_rate": 0.02,
        "batch_size": BATCH_SIZE,
        "max_epochs": MAX_EPOCHS,
        "early_stopping": False,
        "restore_best": False,
        "monitor": "loss",
        **options,
    }
    return TrainingConfig(N_CLASSES, **chosen)


def assert_same_trajectory(network, data, **options):
    config = make_config(**options)
    ours, theirs = make_module(**network), make_module(**network)
    first = [p.detach().clone() for p in ours.parameters()]
    seed = np.random.SeedSequence
    theirs_ = train_network(theirs, data, None, config, seed=seed(7), engine="autograd")
    ours_ = train_network(ours, data, None, config, seed=seed(7), engine="native")
    assert (theirs_.engine.name, ours_.engine.name) == ("autograd", "native")
    history, expected = ours_.history, theirs_
    for row, wanted in zip(history, expected.history, strict=True):
        for name, value in row.items():
            if name == "duration_s":
                continue
            assert value == pytest.approx(wanted[name], rel=1e-9, abs=1e-12), name
    wanted = theirs.state_dict()
    for name, values in ours.state_dict().items():
        torch.testing.assert_close(
            values, wanted[name], rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )
    moved = [(a - b).abs().max() for a, b in zip(first, ours.parameters(), strict=True)]
    assert min(moved) > 1e-4  # weights that never change would also agree


@pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_optimizer_takes_torchs_trajectory(options):
    assert_same_trajectory({}, drawn(), **options)


@pytest.mark.parametrize("options", LOSSES.values(), ids=LOSSES)
def test_every_loss_gives_the_same_trajectory(options):
    weighted = options["label_smoothing"] > 0
    assert_same_trajectory({}, drawn(weight=weighted), **options)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_gives_the_same_trajectory(options):
    assert_same_trajectory({}, drawn(), **options)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_every_network_gives_the_same_trajectory(network):
    assert_same_trajectory(network, drawn())


@pytest.mark.parametrize("pooling", POOLINGS)
def test_windows_without_padding_give_the_same_trajectory(pooling):
    network = {"pooling": pooling, "bidirectional": True}
    assert_same_trajectory(network, drawn(lengths=False))


def share_of_torchs_error(options, seed):
    """Return the error of our weights, divided by the error of torch's weights."""
    data = drawn(dtype=torch.float32)
    exact = replace(data, X=data.X.double())
    weights = []
    for dtype, engine in ((64, "native"), (32, "autograd"), (32, "native")):
        module = make_module(getattr(torch, f"float{dtype}"), seed=seed, bidirectional=True)
        order = np.random.SeedSequence(seed)
        config = make_config(max_epochs=3, **options)
        train_network(
            module, exact if dtype == 64 else data, None, config, seed=order, engine=engine
        )
        weights.append(torch.cat([p.detach().double().flatten() for p in module.parameters()]))
    exact, theirs, ours = weights
    return ((ours - exact).norm() / (theirs - exact).norm()).item()


@pytest.mark.parametrize("name", ["sgd with nesterov", "adamw", "rmsprop centered with momentum"])
def test_in_single_precision_the_error_is_within_the_budget(name):
    # A rounding error in a gradient near zero may change the sign of a step. For single networks,
    # the ratio of our error to torch's error is therefore between 1/3 and 3. Over 64 networks, the
    # logarithm of this ratio has a mean within 0.01 of 0 and a standard deviation of at most 0.31,
    # so the limit, log 2, is six standard errors above the expected mean of eight networks.
    shares = [share_of_torchs_error(OPTIMIZERS[name], seed) for seed in range(8)]
    assert np.log(shares).mean() < np.log(2)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_change_to_the_module_between_epochs_is_a_change_to_the_training(ema_decay):
    # With averaging, a change must have no effect, because no training step starts from the weights
    # in the module.
    module = make_module()
    native = NativeEpochs([module], [drawn()], [make_config(ema_decay=ema_decay)], [0])

    def take_step():
        native.weights[0].read_module()
        native.take_steps([[np.arange(5)]], [[0.01]], [None])
        native.weights[0].write_module()

    take_step()
    with torch.no_grad():
        module.linear.bias.fill_(100.0)
    take_step()
    kept = native.trainer.parameters[0, -1] > 50
    assert kept == (ema_decay is None)


def test_the_gap_names_what_the_native_engine_does_not_support():
    here = {"num_layers": 1, "device_type": "cpu", "dtype": "float32"}
    for options in (*OPTIMIZERS.values(), *LOSSES.values(), *OPTIONS.values()):
        assert native_engine_gap(make_config(**options), **here) is None
    config = make_config()
    assert "callable" in native_engine_gap(make_config(loss=lambda a, b: a.sum()), **here)
    assert "not on mps" in native_engine_gap(config, **{**here, "device_type": "mps"})
    assert native_engine_gap(config, **{**here, "device_type": "cuda"}) is None
    assert "bfloat16" in native_engine_gap(config, **{**here, "dtype": "bfloat16"})
    assert "at most 8 layers" in native_engine_gap(config, **{**here, "num_layers": 9})
