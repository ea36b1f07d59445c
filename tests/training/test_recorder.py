"""A recorder records a run correctly with both engines, and does not change the run."""

import copy
import math

import numpy as np
import pytest
import torch
from fits import without_time
from torch.nn import functional

from sensorseq.history import STEP_NAMES
from sensorseq.nn import LSTMLinear
from sensorseq.training import TrainingConfig, TrainingData, train_network
from sensorseq.training.recorder import (
    Recorder,
    margins_of,
    new_recorder,
    without_recording,
)

N_TRAIN, N_VAL, N_TIMESTEPS, N_CLASSES = 45, 17, 9, 3


def make_data(n_windows, seed, dtype, *, lengths=False, weight=False, n_timesteps=N_TIMESTEPS):
    rng = np.random.default_rng(seed)
    target = torch.tensor(rng.choice(N_CLASSES, n_windows, p=[0.5, 0.3, 0.2]))
    X = torch.tensor(rng.normal(size=(n_windows, n_timesteps, 2))) + 0.7 * target[:, None, None]
    valid = torch.tensor(rng.integers(3, n_timesteps + 1, n_windows)) if lengths else None
    factor = torch.tensor(rng.uniform(0.2, 1.8, n_windows)).to(dtype) if weight else None
    return TrainingData(X.to(dtype), valid, target, factor)


def train(
    engine="native",
    *,
    recorder=None,
    network=None,
    dtype=torch.float64,
    lengths=False,
    weight=False,
    validation=True,
    refresh=None,
    callbacks=(),
    **options,
):
    """Return the module, the result and the torch generator's state after a run."""
    torch.manual_seed(0)
    module = LSTMLinear(2, 5, N_CLASSES, **{"pooling": "meanmax", **(network or {})}).to(dtype)
    chosen = {"batch_size": 8, "max_epochs": 4, "learning_rate": 0.02, **options}
    if not validation:
        chosen |= {"monitor": "loss"}
    train = make_data(N_TRAIN, 1, dtype, lengths=lengths, weight=weight)
    n_val_timesteps = chosen.get("max_timesteps", N_TIMESTEPS)
    shown = make_data(N_VAL, 2, dtype, lengths=lengths, n_timesteps=n_val_timesteps)
    result = train_network(
        module,
        train,
        shown if validation else None,
        TrainingConfig(N_CLASSES, **chosen),
        seed=np.random.SeedSequence(7),
        engine=engine,
        refresh=refresh,
        recorder=recorder,
        callbacks=callbacks,
    )
    return module, result


def record_of(engine="native", **options):
    return train(engine, recorder=Recorder(), **options)[1].record


class Renew:
    """Different training windows in each epoch."""

    def __init__(self, dtype):
        self.X = make_data(N_TRAIN, 1, dtype).X

    def __call__(self, epoch):
        return self.X.numpy() + 0.1 * np.random.default_rng(epoch).normal(size=self.X.shape)


SETTINGS = {
    "as it comes": {},
    "lengths": {"lengths": True},
    "weights": {"weight": True, "label_smoothing": 0.1},
    "focal": {"loss": "focal", "label_smoothing": 0.2},
    "balanced": {"sampler": "balanced"},
    "many steps": {"batch_size": 9, "max_epochs": 14},
    "full batch": {"batch_size": None, "max_epochs": 10},
    "random crops": {"max_timesteps": 6, "crop": "random", "lengths": True},
    "average of the weights": {"ema_decay": 0.9, "network": {"dropout": 0.3}},
    "batch norm": {"network": {"head_norm": "batch", "recurrent_dropout": 0.3}},
    "no validation": {"validation": False, "lr_schedule": "constant", "weight_decay": 0.01},
}
COMPARED = (
    "epoch_steps", "class_counts", "fixed_rows", "fixed_loss", "fixed_accuracy", "averaged_loss",
    "val_rows", "val_target", "val_predicted", "val_margin", "train_rows", "train_target",
    "train_margin",
)  # fmt: skip


def assert_close(ours, theirs, name):
    dtype = np.asarray(ours).dtype
    assert dtype == np.asarray(theirs).dtype
    # in half precision, a value may be rounded up or down
    rtol, atol = (1e-3, 1e-6) if dtype == np.float16 else (1e-9, 1e-12)
    np.testing.assert_allclose(theirs, ours, rtol=rtol, atol=atol, err_msg=name)


@pytest.fixture(scope="module", params=SETTINGS)
def natively(request):
    """Return options, and the result of a recorded run with these options."""
    options = SETTINGS[request.param]
    return options, train(recorder=Recorder(), **options)[1]


def test_both_engines_record_the_same(natively):
    options, result = natively
    native, autograd = result.record, record_of("autograd", **options)
    assert set(native.steps) == set(autograd.steps) == set(STEP_NAMES)
    for name in STEP_NAMES:
        assert np.isfinite(native.steps[name]).all()
        assert_close(native.steps[name], autograd.steps[name], name)
    for name in COMPARED:
        assert_close(getattr(native, name), getattr(autograd, name), name)


def test_the_steps_add_up_to_the_history(natively):
    _, result = natively
    record, history = result.record, result.history
    assert record.n_epochs == len(history)
    for epoch, row in enumerate(history):
        of_epoch = slice(*record.epoch_steps[epoch : epoch + 2])
        n_windows = record.steps["n_windows"][of_epoch]
        for name in ("loss", "accuracy"):
            mean = np.average(record.steps[name][of_epoch], weights=n_windows)
            assert math.isclose(mean, row[name], rel_tol=1e-9)
        assert math.isclose(record.steps["grad_norm"][of_epoch].mean(), row["grad_norm"])
        assert record.steps["learning_rate"][of_epoch][-1] == row["learning_rate"]
        np.testing.assert_array_equal(record.class_counts[of_epoch].sum(axis=1), n_windows)
        if "val_accuracy" in row:
            assert math.isclose(record.val_correct[epoch].mean(), row["val_accuracy"])
            np.testing.assert_array_equal(record.val_correct[epoch], record.val_margin[epoch] > 0)


def reference_outputs(module, data):
    with torch.no_grad():
        return copy.deepcopy(module).eval()(data.X, data.lengths)


class KeepOutputs:
    """Computes the expected contents of a record independently after each epoch."""

    def __init__(self, data):
        self.data, self.outputs, self.weights = data, [], []

    def on_epoch_end(self, module, history):
        self.outputs.append(reference_outputs(module, self.data))
        self.weights.append(copy.deepcopy(module.state_dict()))


@pytest.mark.parametrize("network", [{}, {"head_norm": "batch", "dropout": 0.4}])
def test_windows_are_tracked_as_the_network_of_each_epoch_sees_them(network):
    validation, training = (make_data(n, s, torch.float64) for n, s in ((N_VAL, 2), (N_TRAIN, 1)))
    seen, of_training = KeepOutputs(validation), KeepOutputs(training)
    options = {"network": network, "callbacks": (seen, of_training), "restore_best": False}
    module, result = train(recorder=Recorder(), **options)
    record = result.record
    for epoch, logits in enumerate(seen.outputs):
        np.testing.assert_array_equal(record.val_predicted[epoch], logits.argmax(1))
        of_class = logits[torch.arange(N_VAL), validation.target]
        of_others = [[v for k, v in enumerate(row) if k != t] for row, t in
                  zip(logits.tolist(), validation.target.tolist(), strict=True)]  # fmt: skip
        wanted = of_class.numpy() - np.max(of_others, axis=1)
        np.testing.assert_allclose(record.val_margin[epoch], wanted, rtol=1e-3, atol=1e-6)
    rows = torch.tensor(record.fixed_rows)
    assert len(rows) == 32
    assert len(set(rows.tolist())) == 32
    for epoch, logits in enumerate(of_training.outputs):
        loss = functional.cross_entropy(logits[rows], training.target[rows]).item()
        assert math.isclose(record.fixed_loss[epoch], loss, rel_tol=1e-9)
        hits = (logits[rows].argmax(1) == training.target[rows]).double().mean().item()
        assert math.isclose(record.fixed_accuracy[epoch], hits)
    powers = [0.9 ** (len(seen.weights) - 1 - i) for i in range(len(seen.weights))]
    mean = {
        name: sum(p * w[name] for p, w in zip(powers, seen.weights, strict=True)) / sum(powers)
        for name in seen.weights[0]
    }
    module.load_state_dict(mean)
    logits = reference_outputs(module, training)[rows]
    wanted = functional.cross_entropy(logits, training.target[rows]).item()
    assert math.isclose(record.averaged_loss, wanted, rel_tol=1e-9)


def test_the_statistics_of_a_step_are_those_of_its_windows():
    """A full batch without dropout: the first step evaluates the initial weights."""
    record = record_of(batch_size=None, weight=True, label_smoothing=0.1)
    train = make_data(N_TRAIN, 1, torch.float64, weight=True)
    torch.manual_seed(0)
    module = LSTMLinear(2, 5, N_CLASSES, pooling="meanmax").double()
    logits = module(train.X, train.lengths)
    losses = functional.cross_entropy(logits, train.target, reduction="none", label_smoothing=0.1)
    losses = losses * train.weight
    losses.mean().backward()
    norm = torch.cat([p.grad.reshape(-1) for p in module.parameters()]).norm().item()
    wanted = {
        "n_windows": N_TRAIN,
        "loss": losses.mean().item(),
        "loss_variance": losses.var(unbiased=False).item(),
        "accuracy": (logits.argmax(1) == train.target).double().mean().item(),
        "grad_norm": norm,
    }
    for name, value in wanted.items():
        assert math.isclose(record.steps[name][0], value, rel_tol=1e-9), name
    np.testing.assert_array_equal(record.class_counts[0], np.bincount(train.target))
    margins = margins_of(logits.detach().numpy(), train.target.numpy())
    np.testing.assert_allclose(record.train_margin[0], margins, rtol=1e-3)


def test_a_window_that_took_part_in_no_step_has_no_margin():
    record = record_of(sampler="balanced")
    drawn = record.class_counts.reshape(record.n_epochs, -1, N_CLASSES).sum(axis=1)
    expected = np.maximum(np.bincount(record.train_target) - drawn, 0).sum(axis=1)
    assert expected.min() > 0
    np.testing.assert_array_equal(np.isnan(record.train_margin).sum(axis=1), expected)


def test_of_many_windows_only_some_are_tracked(monkeypatch):
    whole = record_of()
    monkeypatch.setattr("sensorseq.training.recorder.MAX_WATCHED", 10)
    record = record_of()
    for part, n_windows in (("val", N_VAL), ("train", N_TRAIN)):
        rows = getattr(record, f"{part}_rows")
        assert len(rows) == 10
        assert np.ptp(np.diff(rows)) <= 1
        assert rows[-1] < n_windows
        for name in (f"{part}_margin", f"{part}_target"):
            np.testing.assert_array_equal(getattr(record, name), getattr(whole, name)[..., rows])
    np.testing.assert_array_equal(record.val_predicted, whole.val_predicted[:, record.val_rows])


EQUAL = {
    "dropout": {"network": {"dropout": 0.3}},
    "recurrent dropout": {"network": {"recurrent_dropout": 0.3, "num_layers": 2}},
    "batch norm": {"network": {"head_norm": "batch", "dropout": 0.2}},
    "average of the weights": {"ema_decay": 0.9},
    "random crops": {"max_timesteps": 6, "crop": "random"},
    "new windows": {"refresh": True},
    "early stopping": {"max_epochs": 30, "patience": 2, "tol": 0.2},
    "weights": {"weight": True, "lengths": True},
    "plateau": {"lr_schedule": "plateau", "patience": 2, "sampler": "balanced"},
}


BY_AUTOGRAD = ("dropout", "batch norm", "new windows")


@pytest.mark.parametrize(
    ("engine", "name"),
    [*(("native", name) for name in EQUAL), *(("autograd", name) for name in BY_AUTOGRAD)],
)
def test_recording_changes_no_bit(engine, name):
    ends = []
    for recorder in (None, Recorder()):
        chosen = {"dtype": torch.float32, **EQUAL[name]}
        if chosen.get("refresh"):
            chosen["refresh"] = Renew(torch.float32)
        module, result = train(engine, recorder=recorder, **chosen)
        rows = without_time(result.history)
        generator = torch.get_rng_state()
        ends.append((module.state_dict(), rows, result.best_epoch, generator))
    assert same(*ends)


def same(one, other):
    """Return whether two nested states agree in every bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


class OfTorch(torch.nn.Module):
    """A network of torch's own layers, whose dropout masks come from torch's generator."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(2, 4, batch_first=True)
        self.head = torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Linear(4, N_CLASSES))

    def forward(self, x, lengths=None):
        return self.head(self.lstm(x)[0][:, -1])


def test_recording_changes_no_bit_of_a_custom_network():
    ends = []
    for recorder in (None, Recorder()):
        torch.manual_seed(0)
        module, data = OfTorch(), make_data(N_TRAIN, 1, torch.float32)
        config = TrainingConfig(N_CLASSES, max_epochs=4, batch_size=8, learning_rate=0.02)
        result = train_network(
            module, data, data, config, seed=np.random.SeedSequence(1), recorder=recorder
        )
        rows = without_time(result.history)
        ends.append((module.state_dict(), rows, torch.get_rng_state()))
    assert same(*ends)
    assert np.isfinite(result.record.fixed_loss).all()


def test_recording_draws_from_no_global_generator():
    legacy = np.random.get_state()[1].copy()  # noqa: NPY002  # recording must not change it
    train(recorder=Recorder())
    after = torch.get_rng_state()
    train()
    assert torch.equal(torch.get_rng_state(), after)
    assert (np.random.get_state()[1] == legacy).all()  # noqa: NPY002


class InterruptIn:
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, module, history):
        if len(history) == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("engine", ["native", "autograd"])
def test_an_interrupted_run_is_recorded_to_its_last_whole_epoch(engine):
    whole = record_of(engine)
    cut = train(engine, recorder=Recorder(), callbacks=[InterruptIn(2)])[1]
    assert (cut.ended_by, cut.record.n_epochs) == ("interrupted", 2)
    np.testing.assert_array_equal(cut.record.val_margin, whole.val_margin[:2])


def test_a_run_that_diverges_is_recorded_to_its_end():
    _, result = train(recorder=Recorder(), learning_rate=1e308, max_grad_norm=None, optimizer="sgd")
    record = result.record
    assert result.ended_by == "diverged"
    assert record.n_epochs == len(result.history)
    assert not np.isfinite(record.steps["loss"]).all()


def test_a_loss_that_is_a_single_number_has_no_variance():
    def of_batch(outputs, target):
        return functional.cross_entropy(outputs, target)

    record = record_of("autograd", loss=of_batch)
    assert np.isnan(record.steps["loss_variance"]).all()
    assert np.isfinite(record.steps["loss"]).all()


def test_a_block_without_recording():
    with without_recording():
        assert new_recorder() is None
        with without_recording():
            pass
        assert new_recorder() is None
    assert isinstance(new_recorder(), Recorder)


def test_margins_of_one_class_are_zero():
    np.testing.assert_array_equal(margins_of(np.ones((3, 1)), np.zeros(3, np.int64)), np.zeros(3))
