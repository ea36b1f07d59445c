"""Training steps keep their laws on the CPU and on the GPU, and the GPU agrees with the CPU."""

import numpy as np
import pytest
import torch
from layer_laws import torch_precision

from sensorseq.ops.train_epoch import EpochTrainer, NetworkLayout, make_hyper, pack_batches

N, T, C, K, M = 40, 9, 3, 4, 3
OPTIONS = {
    "dropout": [0.0, 0.2, 0.4],
    "recurrent_dropout": [0.3, 0.0, 0.1],
    "label_smoothing": [0.1, 0.0, 0.2],
    "max_grad_norm": [0.3, 1.0, 5.0],
    "weight_decay": [0.0, 0.01, 0.1],
    "ema_decay": 0.9,
    "eps": 1e-3,
}


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_trainer(device, network, models=range(M), dtype=torch.float32, **changes):
    models = list(models)
    place = {"dtype": dtype, "device": device}
    options = {
        "lengths": (draw(N, seed=4).abs() * 5).long().clamp(0, T).to(device),
        "weight": draw(M, N, seed=5).abs()[models].to(**place),
        "seeds": [[11, -4, 2**62][model] for model in models],
        "average": True,
        "optimizer": "adamw",
        **changes,
    }
    return EpochTrainer(
        network,
        (0.3 * draw(M, network.n_parameters, seed=2))[models].to(**place),
        draw(N, T, C, seed=3).to(**place),
        torch.arange(N).to(device) % K,
        make_hyper(M, **OPTIONS)[models],
        **options,
    )


def make_batches(n_steps=7):
    """Return a different order for each model, and batches of unequal size, one of them empty."""
    rng = np.random.default_rng(0)
    sizes = [[20, 9, 0, 1, 13, 8, 17], [5, 20, 8, 3, 2, 12, 1], [9] * 7]
    return [[rng.integers(0, N, size) for size in of_model[:n_steps]] for of_model in sizes]


def run(trainer, batches, **options):
    with torch_precision("float32"):
        return trainer.run(*pack_batches(batches), 0.02, margins=True, **options)


def state_of(trainer):
    return [getattr(trainer, name) for name in ("parameters", "state", "average", "step_count")]


def assert_same_bits(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("hidden_size", [5, 64, 130, 256])
def test_a_model_has_the_same_bits_alone_alongside_others_and_twice(device, hidden_size):
    network = NetworkLayout(C, hidden_size, K, bidirectional=hidden_size < 100, pooling="meanmax")
    batches = make_batches()
    together, again = (make_trainer(device, network) for _ in range(2))
    statistics = run(together, batches)
    assert_same_bits(run(again, batches).values, statistics.values)
    assert_same_bits(state_of(again), state_of(together))
    for model in range(M):
        alone = make_trainer(device, network, [model])
        of_model = run(alone, batches[model : model + 1])
        assert_same_bits(state_of(alone), [t[model : model + 1] for t in state_of(together)])
        assert_same_bits(of_model.values, statistics.values[model : model + 1])


def test_how_steps_are_divided_into_calls_changes_no_bit(monkeypatch, device):
    network = NetworkLayout(C, 32, K, bidirectional=True, pooling="mean")
    trainers = []
    for call_s in (10.0, 0.0):  # first a few calls with graphs, then one call for each step
        monkeypatch.setattr("sensorseq.ops.train_epoch._CALL_S", call_s)
        trainers.append(make_trainer(device, network))
        for _ in range(3):
            run(trainers[-1], make_batches())
    assert_same_bits(state_of(trainers[0]), state_of(trainers[1]))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "meanmax"])
def test_a_trajectory_is_that_of_the_cpu_in_float64(device, optimizer, loss, pooling):
    network = NetworkLayout(C, 20, K, bidirectional=True, pooling=pooling)
    changes = {"optimizer": optimizer, "loss": loss}
    ours = make_trainer(device, network, **changes)
    theirs = make_trainer("cpu", network, dtype=torch.float64, **changes)
    statistics, expected = run(ours, make_batches()), run(theirs, make_batches())
    assert ours.step_count.tolist() == theirs.step_count.tolist() == [6, 7, 7]
    first = make_trainer("cpu", network, dtype=torch.float64).parameters
    for name in ("parameters", "average"):
        wanted = getattr(theirs, name)
        error = getattr(ours, name).cpu() - wanted
        assert error.norm() < 1e-4 * (wanted - first).norm()
    for name in ("loss", "loss_variance", "accuracy", "grad_norm"):
        torch.testing.assert_close(
            statistics[name], expected[name], rtol=1e-3, atol=1e-5, equal_nan=True
        )
    torch.testing.assert_close(
        statistics.margins.double(), expected.margins, rtol=1e-3, atol=1e-4, equal_nan=True
    )


def test_the_estimator_trains_natively_on_the_device(device):
    pytest.importorskip("sensorseq._signal", reason="features need the library of this Python")
    fits = pytest.importorskip("fits", reason="the estimator needs pydantic and scikit-learn")
    X = draw(60, T, C, seed=1).float().numpy()
    y = np.arange(60) % 2
    X[y == 1] += 1.0
    clf = fits.plain_classifier(
        hidden_size=8, max_epochs=60, device=device, recurrent_dropout=0.1, random_state=0
    )
    clf.fit(X, y)
    assert clf.engine_.name == "native"
    assert clf.score(X, y) > 0.9
