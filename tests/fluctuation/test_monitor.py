"""A loop that is watched is the loop it was, and what is noted is what it did."""

import copy
import doctest
import io
import itertools
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from sensorseq.errors import ArgumentError, EnvironmentProblemError
from sensorseq.fluctuation import FluctuationReport, KerasMonitor, TorchMonitor
from sensorseq.fluctuation.monitors import keras_monitor
from sensorseq.fluctuation.monitors import monitor as monitor_module
from sensorseq.fluctuation.monitors.foreign_run import Monitor
from sensorseq.nn import LSTMLinear
from sensorseq.training import TrainingConfig, TrainingData, train_network
from sensorseq.training.batches import BatchSampler
from sensorseq.training_record import STEP_NAMES

RNG = np.random.default_rng(0)
Y = torch.arange(60) % 3
X = torch.tensor(RNG.normal(size=(60, 4)), dtype=torch.float32) + Y[:, None]
X_VAL, Y_VAL = X[:20] + 0.1, Y[:20]


def make_model(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Linear(4, 3, dtype=dtype)


def make_noisy_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3)
    )


def loader(shuffle=False, batch_size=16):
    return DataLoader(TensorDataset(X, Y), batch_size=batch_size, shuffle=shuffle)


def take_step(model, optimizer, x=X, y=Y, criterion=cross_entropy):
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def watch_steps(monitor, model, optimizer, criterion, n_epochs=2):
    for _ in range(n_epochs):
        for start in range(0, 60, 16):
            take_step(model, optimizer, X[start : start + 16], Y[start : start + 16], criterion)
        monitor.log_epoch()


# --- the loop stays what it was -----------------------------------------------------------------


def run_noisy_loop(way):
    """Train with dropout, batch norm and shuffling; return all that a loop leaves behind."""
    model = make_noisy_model()
    model[1].eval()  # one module in another mode than the rest, as for a frozen norm
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    criterion = nn.CrossEntropyLoss()
    monitor = None
    if way == "hooks":
        monitor = TorchMonitor(model, optimizer, criterion)
    elif way != "plain":
        monitor = TorchMonitor(model, optimizer, n_fixed=8)
    if way == "watch":
        monitor.watch(X[::5].numpy(), Y[::5].numpy())
    for _ in range(3):
        model.train()
        model[1].eval()
        for x, y in loader(shuffle=True):
            logits = model(x)
            loss = criterion(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if way in ("told", "watch"):
                monitor.log_step(loss, logits, y)
        if monitor is not None:
            monitor.validate(DataLoader(TensorDataset(X_VAL, Y_VAL), batch_size=7))
            assert not model[1].training
            assert model[3].training
    state = {**model.state_dict(), "generator": torch.get_rng_state()}
    for i, of_one in optimizer.state_dict()["state"].items():
        state |= {f"{name} {i}": value for name, value in of_one.items()}
    return state


@pytest.mark.parametrize("way", ["hooks", "told", "watch", "unheard"])
def test_a_watched_loop_ends_in_the_same_bits(way):
    plain, watched = run_noisy_loop("plain"), run_noisy_loop(way)
    assert plain.keys() == watched.keys()
    for name, value in plain.items():
        assert torch.equal(value, watched[name]), name


class _CountedReads(TorchDispatchMode):
    """Count what a GPU would have to be waited for."""

    def __init__(self):
        super().__init__()
        self.n_reads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.n_reads += any(part in str(function) for part in ("_local_scalar_dense", "nonzero"))
        return function(*args, **kwargs or {})


def test_nothing_is_read_from_the_device_before_the_epoch_ends():
    model = make_noisy_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    monitor = TorchMonitor(model, optimizer, criterion)
    with _CountedReads() as counted:
        for x, y in zip(X.split(16), Y.split(16), strict=True):
            loss = take_step(model, optimizer, x, y, criterion)
            monitor.log_step(loss, grad_norm=torch.tensor(1.0))
    assert counted.n_reads == 0
    with _CountedReads() as counted:
        loss.item()
    assert counted.n_reads == 1  # so that the count above means something
    monitor.log_epoch()
    assert np.isfinite(monitor.record.steps["loss"]).all()


def test_copies_and_pickles_of_what_is_watched_are_free_of_the_monitor():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = TorchMonitor(model, optimizer, nn.CrossEntropyLoss())
    take_step(model, optimizer)
    twin = copy.deepcopy(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (twin, torch.load(file, weights_only=False), pickle.loads(pickle.dumps(model))):
        other(X)  # not a batch of the monitored loop
    twin_optimizer = copy.deepcopy(optimizer)
    twin_optimizer.step()
    row = monitor.log_epoch()
    assert len(monitor.record.steps["loss"]) == 1
    assert "loss" not in row


# --- the same as our own engine -----------------------------------------------------------------


def test_a_plain_loop_in_the_order_of_our_engine_gives_its_history():
    windows = torch.tensor(RNG.normal(size=(50, 6, 2)), dtype=torch.float32)
    target = torch.arange(50) % 3
    windows += target[:, None, None]
    train = TrainingData(windows[:34], None, target[:34])
    validation = TrainingData(windows[34:], None, target[34:])
    torch.manual_seed(0)
    module = LSTMLinear(2, 4, 3)
    twin = copy.deepcopy(module)
    config = TrainingConfig(
        n_outputs=3,
        max_epochs=4,
        batch_size=8,
        learning_rate=0.02,
        lr_schedule="constant",
        max_grad_norm=0.5,
        early_stopping=False,
        restore_best=False,
    )
    seed = np.random.SeedSequence(3)
    result = train_network(module, train, validation, config, seed=seed, engine="autograd")

    order = np.random.default_rng(np.random.SeedSequence(3).spawn(3)[0])
    batches = BatchSampler(
        train.target.numpy(), 8, config.sampler, config.last_batch, order, minimum_size=1
    )
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.02)
    criterion = nn.CrossEntropyLoss()
    with TorchMonitor(twin, optimizer, criterion) as monitor:
        for _ in range(4):
            twin.train()
            for rows in batches:
                loss = criterion(twin(train.X[rows]), train.target[rows])
                optimizer.zero_grad()
                loss.backward()
                monitor.log_step(grad_norm=nn.utils.clip_grad_norm_(twin.parameters(), 0.5))
                optimizer.step()
            monitor.validate([(validation.X, validation.target)])
    assert monitor.history.names == result.history.names
    for name in result.history.names:
        if name != "duration_s":
            np.testing.assert_allclose(
                monitor.history[name], result.history[name], rtol=2e-5, err_msg=name
            )
    assert monitor.history["grad_norm"].max() > 0.5  # clipping was at work
    for ours, theirs in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


# --- the figures of a step ----------------------------------------------------------------------


def by_hand(weight, bias, x, y):
    """Return losses, margins, hits and the gradient norm of a linear classifier, in numpy."""
    logits = x @ weight.T + bias
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    others = logits.copy()
    others[rows, y] = -np.inf
    gradient = (p - np.eye(logits.shape[1])[y]) / len(y)
    norm = np.sqrt(
        (gradient.T @ x).ravel() @ (gradient.T @ x).ravel() + (gradient.sum(0) ** 2).sum()
    )
    return (
        -np.log(p[rows, y]),
        logits[rows, y] - others.max(axis=1),
        logits.argmax(axis=1) == y,
        norm,
    )


def test_a_step_of_a_linear_model_has_the_figures_worked_out_by_hand():
    model = make_model(torch.float64)
    rate = 0.3
    optimizer = torch.optim.SGD(
        [{"params": [model.weight], "lr": rate}, {"params": [model.bias], "lr": rate}]
    )
    monitor = TorchMonitor(model, optimizer)
    x, y = X.double(), Y
    expected = []
    for start in (0, 20, 40):
        weight, bias = model.weight.detach().numpy().copy(), model.bias.detach().numpy().copy()
        part = slice(start, start + 20)
        truth = by_hand(weight, bias, x[part].numpy(), y[part].numpy())
        expected.append(truth)
        logits = model(x[part])
        loss = cross_entropy(logits, y[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log_step(loss, logits, y[part], rows=np.arange(start, start + 20))
    row = monitor.log_epoch()
    record = monitor.record
    steps = record.steps
    assert set(steps) == set(STEP_NAMES)
    assert record.epoch_steps.tolist() == [0, 3]
    np.testing.assert_allclose(steps["loss"], [e[0].mean() for e in expected])
    np.testing.assert_allclose(steps["accuracy"], [e[2].mean() for e in expected])
    np.testing.assert_allclose(steps["grad_norm"], [e[3] for e in expected])
    np.testing.assert_array_equal(steps["n_windows"], 20)
    np.testing.assert_array_equal(steps["learning_rate"], rate)
    np.testing.assert_array_equal(record.train_rows, np.arange(60))
    np.testing.assert_array_equal(record.train_target, Y)
    margins = np.concatenate([e[1] for e in expected])
    np.testing.assert_allclose(record.train_margin[0], margins, rtol=1e-3)  # half precision
    assert row["loss"] == pytest.approx(np.mean([e[0].mean() for e in expected]))
    assert row["accuracy"] == pytest.approx(np.mean([e[2].mean() for e in expected]))
    assert row["grad_norm"] == pytest.approx(np.mean([e[3] for e in expected]))
    assert row["learning_rate"] == rate


@given(cuts=st.lists(st.integers(1, 29), max_size=4), way=st.sampled_from(["hook", "log"]))
def test_batches_that_are_accumulated_count_as_one(cuts, way):
    edges = [0, *sorted({*cuts}), 30]
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    found = []
    for division in ([slice(0, 30)], parts):
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        criterion = nn.CrossEntropyLoss()
        monitor = TorchMonitor(model, optimizer, criterion if way == "hook" else None)
        for _ in range(2):
            optimizer.zero_grad()
            for part in division:
                logits = model(X[part])
                loss = criterion(logits, Y[part])
                (loss * len(Y[part]) / 30).backward()
                if way == "log":
                    monitor.log_step(loss, logits, Y[part])
            optimizer.step()
        row = monitor.log_epoch()
        found.append({**monitor.record.steps, **{f"row {k}": v for k, v in row.items()}})
    whole, pieces = found
    for name in whole.keys() - {"row duration_s"}:
        np.testing.assert_allclose(pieces[name], whole[name], rtol=1e-4, err_msg=name)


def test_it_does_not_matter_whether_a_step_is_told_of_before_or_after_it():
    def run(when, has_hooks=True, criterion=None):
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        monitor = TorchMonitor(model, optimizer, criterion)
        # another module with the same parameters: no forward pass of the monitored one is seen
        called = model if has_hooks else nn.Linear(4, 3)
        called.weight, called.bias = model.weight, model.bias
        for start in (0, 20, 40):
            x, y = X[start : start + 20], Y[start : start + 20]
            logits = called(x)
            loss = (criterion or cross_entropy)(logits, y)
            optimizer.zero_grad()
            loss.backward()
            if when == "before":
                monitor.log_step(loss, logits, y)
            optimizer.step()
            if when == "after":
                monitor.log_step(loss, logits, y)
        monitor.log_epoch()
        return monitor.record.steps

    truth = run("never", criterion=nn.CrossEntropyLoss())
    assert np.isfinite(truth["accuracy"]).all()
    for found in (
        run("after"),
        run("before"),
        run("after", has_hooks=False),
        run("before", has_hooks=False),
        run("never", has_hooks=False, criterion=nn.CrossEntropyLoss()),
        run("after", criterion=nn.CrossEntropyLoss()),
    ):
        for name, values in truth.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_the_loss_of_an_epoch_is_the_mean_over_its_windows_not_over_its_batches():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    monitor = TorchMonitor(model, optimizer, nn.CrossEntropyLoss())
    watch_steps(monitor, model, optimizer, cross_entropy, 1)  # a function: only the norm is seen
    assert "loss" not in monitor.history
    monitor = TorchMonitor(model, optimizer)
    for x, y in zip(X.split(50), Y.split(50), strict=True):
        monitor.log_step(take_step(model, optimizer, x, y).item())
    row = monitor.log_epoch()
    assert row["loss"] == pytest.approx(cross_entropy(model(X), Y).item(), rel=1e-6)
    assert monitor.record.steps["n_windows"].tolist() == [50, 10]
    assert "accuracy" not in row


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_of_any_reduction_are_noted_as_means(reduction):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    criterion = nn.CrossEntropyLoss(reduction=reduction)
    monitor = TorchMonitor(model, optimizer, criterion)
    losses = cross_entropy(model(X), Y, reduction="none").detach()
    criterion(model(X), Y).sum().backward()
    optimizer.step()
    monitor.log_epoch()
    steps = monitor.record.steps
    assert steps["loss"] == pytest.approx([losses.mean().item()], rel=1e-6)


def test_a_single_output_is_the_logit_of_class_one():
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    criterion = nn.BCEWithLogitsLoss()
    monitor = TorchMonitor(model, optimizer, criterion)
    y = (Y > 0).float()[:, None]
    z = model(X).detach()
    take_step(model, optimizer, X, y, criterion)
    after = model(X_VAL).detach()
    row = monitor.log_epoch(after, (Y_VAL > 0).int())
    losses = binary_cross_entropy_with_logits(z, y, reduction="none")
    assert monitor.record.steps["loss"] == pytest.approx([losses.mean().item()], rel=1e-6)
    assert row["accuracy"] == pytest.approx(((z > 0) == (y > 0.5)).float().mean().item())
    expected = binary_cross_entropy_with_logits(after[:, 0], (Y_VAL > 0).float())
    assert row["val_loss"] == pytest.approx(expected.item(), rel=1e-6)
    assert monitor.record.fixed_accuracy.shape == (1,)


def test_rows_alone_are_enough_beside_a_criterion():
    model, criterion = make_model(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = TorchMonitor(model, optimizer, criterion)
    margins = []
    for epoch in range(2):
        order = torch.randperm(60)
        of_epoch = torch.full((60,), torch.nan)
        for rows in order[: 60 - 20 * epoch].split(20):  # some are left out of the second
            logits = model(X[rows]).detach()
            own = logits.gather(1, Y[rows, None])[:, 0]
            others = logits.scatter(1, Y[rows, None], -torch.inf).amax(1)
            of_epoch[rows] = own - others
            take_step(model, optimizer, X[rows], Y[rows], criterion)
            monitor.log_step(rows=rows)
        margins.append(of_epoch)
        monitor.log_epoch()
    np.testing.assert_array_equal(monitor.record.train_rows, np.arange(60))
    np.testing.assert_allclose(
        monitor.record.train_margin, torch.stack(margins), rtol=2e-3, atol=1e-3
    )


def test_of_a_regression_the_loss_alone_is_noted():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    criterion = nn.MSELoss()
    monitor = TorchMonitor(model, optimizer, criterion)
    loss = take_step(model, optimizer, X, torch.zeros(60, 3), criterion)
    row = monitor.log_epoch(val_loss=torch.tensor(0.25), val_accuracy=0.0, n_val=7)
    assert row["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert "accuracy" not in row
    assert row["val_loss"] == 0.25
    assert monitor.report().n_val == 7


def test_gradients_of_rows_alone_have_their_norm():
    torch.manual_seed(0)
    model = nn.EmbeddingBag(9, 3, sparse=True, mode="sum")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = TorchMonitor(model, optimizer)
    take_step(model, optimizer, torch.tensor([[1, 2], [2, 2]]), torch.tensor([0, 1]))
    norm = model.weight.grad.to_dense().norm().item()
    assert monitor.log_epoch()["grad_norm"] == pytest.approx(norm, rel=1e-6)


# --- other ways to step -------------------------------------------------------------------------


@pytest.mark.parametrize("as_keyword", [False, True])
@pytest.mark.parametrize("told_by", ["criterion", "closure"])
def test_of_a_closure_the_first_evaluation_counts(told_by, as_keyword):
    model = make_model()
    twin = copy.deepcopy(model)
    criterion = nn.CrossEntropyLoss()

    def run(model, monitored):
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5)
        calls = []
        monitor = None
        if monitored:
            monitor = TorchMonitor(model, optimizer, criterion if told_by == "criterion" else None)

        def closure():
            optimizer.zero_grad()
            loss = criterion(model(X), Y)
            loss.backward()
            norm = nn.utils.get_total_norm([p.grad for p in model.parameters()])
            calls[-1].append((loss.item(), norm.item()))
            return loss

        for _ in range(3):
            calls.append([])
            optimizer.step(**{"closure": closure}) if as_keyword else optimizer.step(closure)
            if monitored:
                monitor.log_epoch()
        return calls, monitor

    plain, _ = run(twin, monitored=False)
    calls, monitor = run(model, monitored=True)
    assert calls == plain
    assert min(len(of_step) for of_step in calls) > 1
    steps = monitor.record.steps
    assert steps["loss"] == pytest.approx([of_step[0][0] for of_step in calls])
    assert steps["grad_norm"] == pytest.approx([of_step[0][1] for of_step in calls])
    assert steps["n_windows"].tolist() == [60, 60, 60]
    assert np.isnan(steps["accuracy"]).all() == (told_by == "closure")


@pytest.mark.parametrize("fused", [False, True])
def test_scaled_gradients_have_their_unscaled_norm_and_a_skipped_step_no_effect(fused):
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=fused)
    criterion = nn.CrossEntropyLoss()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    monitor = TorchMonitor(model, optimizer, criterion)
    expected = []
    for i in range(4):
        optimizer.zero_grad()
        loss = criterion(model(X), Y)
        scaler.scale(loss).backward()
        if i == 1:
            model.weight.grad[0, 0] = torch.inf
        else:
            grads = [p.grad / scaler.get_scale() for p in model.parameters()]
            expected.append(nn.utils.get_total_norm(grads).item())
        scaler.step(optimizer)
        scaler.update()
    row = monitor.log_epoch()
    norms = monitor.record.steps["grad_norm"]
    assert norms[np.isfinite(norms)] == pytest.approx(expected, rel=1e-5)
    assert row["grad_norm"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert row["loss"] > 0
    assert monitor.report().n_train == 240


def test_a_norm_that_is_told_is_that_of_its_own_step():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = TorchMonitor(model, optimizer, nn.CrossEntropyLoss())
    norms = []
    for i in range(4):
        loss = cross_entropy(model(X), Y)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        if i % 2:
            monitor.log_step(grad_norm=norm)
        optimizer.step()
        if not i % 2:
            monitor.log_step(grad_norm=norm.item())
        norms.append(norm.item())
    monitor.log_epoch()
    assert monitor.record.steps["grad_norm"] == pytest.approx(norms)
    assert min(norms) > 0.01


def test_after_an_exception_in_the_loop_the_monitor_goes_on():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    criterion = nn.CrossEntropyLoss()
    monitor = TorchMonitor(model, optimizer, criterion)

    def closure():
        criterion(model(X), Y)
        raise OSError("a file has gone")

    with pytest.raises(OSError, match="gone"):
        optimizer.step(closure)
    optimizer.zero_grad()
    watch_steps(monitor, model, optimizer, criterion, 2)
    assert monitor.record.epoch_steps.tolist() == [0, 4, 8]
    assert monitor.record.steps["n_windows"][1:].tolist() == [16, 16, 12, 16, 16, 16, 12]


def test_a_closed_monitor_leaves_no_hook_and_keeps_what_it_has():
    model, criterion = make_model(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = TorchMonitor(model, optimizer, criterion)

    def loop():
        with monitor:
            watch_steps(monitor, model, optimizer, criterion, 2)
            take_step(model, optimizer, criterion=criterion)
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        loop()
    assert not model._forward_hooks
    assert not criterion._forward_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert len(monitor.history) == 2
    assert isinstance(monitor.report(), FluctuationReport)
    for call in (monitor.log_step, monitor.log_epoch, lambda: monitor.validate([])):
        with pytest.raises(ArgumentError, match="closed"):
            call()


def test_passes_in_evaluation_mode_or_without_gradients_are_not_training():
    model, criterion = make_model(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = TorchMonitor(model, optimizer, criterion)
    take_step(model, optimizer, criterion=criterion)
    model.eval()
    criterion(model(100 * X_VAL), Y_VAL)
    model.train()
    with torch.no_grad():
        criterion(model(100 * X_VAL), Y_VAL)
    take_step(model, optimizer, criterion=criterion)
    monitor.log_epoch()
    assert monitor.record.steps["n_windows"].tolist() == [60, 60]


# --- the end of an epoch ------------------------------------------------------------------------


def test_validation_windows_are_followed_one_by_one():
    model, criterion = make_model(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    by_loader, by_logits = (TorchMonitor(model, optimizer, criterion) for _ in range(2))
    groups = np.array(["b", "a", "c", "a"] * 5)
    truth = []
    for _ in range(3):
        take_step(model, optimizer, criterion=criterion)
        logits = model(X_VAL).detach()
        truth.append(logits)
        first = by_loader.validate(
            DataLoader(TensorDataset(X_VAL, Y_VAL), batch_size=7), groups=groups
        )
        second = by_logits.log_epoch(logits, Y_VAL.numpy(), val_groups=list(groups))
        assert first["val_loss"] == pytest.approx(cross_entropy(logits, Y_VAL).item(), rel=1e-6)
        assert first["val_accuracy"] == (logits.argmax(1) == Y_VAL).double().mean().item()
        assert second["val_loss"] == pytest.approx(first["val_loss"], rel=1e-6)
    own = [logits[torch.arange(20), Y_VAL] for logits in truth]
    others = [logits.scatter(1, Y_VAL[:, None], -torch.inf).amax(1) for logits in truth]
    for monitor in (by_loader, by_logits):
        record = monitor.record
        np.testing.assert_array_equal(record.val_rows, np.arange(20))
        np.testing.assert_array_equal(record.val_target, Y_VAL)
        np.testing.assert_array_equal(record.val_groups, [1, 0, 2, 0] * 5)
        np.testing.assert_array_equal(record.val_predicted, [part.argmax(1) for part in truth])
        margin = torch.stack(own) - torch.stack(others)
        np.testing.assert_allclose(record.val_margin, margin, rtol=2e-3, atol=1e-3)
        assert record.val_margin.dtype == np.float16
        assert record.val_correct.mean(axis=1) == pytest.approx(monitor.history["val_accuracy"])
        report = monitor.report(best_epoch=2)
        assert (report.n_val, report.n_train, report.n_classes) == (20, 60, 3)
        assert report.best_epoch == 2
        assert report.record.val_correct.shape == (3, 20)


def test_the_fixed_subset_is_evaluated_without_dropout_after_every_epoch():
    model, criterion = make_noisy_model(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = TorchMonitor(model, optimizer, criterion, n_fixed=24)  # one batch and a half
    given = TorchMonitor(model, optimizer, n_fixed=0)
    given.watch(X[30:].double().numpy(), Y[30:].numpy())
    none = TorchMonitor(model, optimizer, criterion, n_fixed=0)
    expected = {"first": [], "given": []}
    for _ in range(2):
        model.train()
        for start in (0, 16, 32):
            x, y = X[start : start + 16].clone(), Y[start : start + 16]
            take_step(model, optimizer, x, y, criterion)
            x.zero_()  # a buffer that is filled anew
        for monitor in (first, given, none):
            monitor.log_epoch()
        model.eval()
        for name, part in (("first", slice(24)), ("given", slice(30, 60))):
            logits = model(X[part])
            hits = (logits.argmax(1) == Y[part]).double().mean().item()
            expected[name].append((cross_entropy(logits, Y[part]).item(), hits))
    for name, monitor in (("first", first), ("given", given)):
        record = monitor.record
        losses, accuracies = np.transpose(expected[name])
        np.testing.assert_allclose(record.fixed_loss, losses, rtol=1e-5)
        np.testing.assert_allclose(record.fixed_accuracy, accuracies)
    assert len(first.record.fixed_rows) == 24
    assert not len(none.record.fixed_loss)


class _TimeFirst(nn.Module):
    """Takes (T, N, C) and keywords, and gives logits."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 5), nn.Linear(5, 3)

    def forward(self, x, *, gains):
        return self.head(self.lstm(x * gains["all"])[0][-1])


def test_inputs_that_cannot_be_cut_are_kept_whole():
    torch.manual_seed(0)
    model, criterion = _TimeFirst(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = TorchMonitor(model, optimizer, criterion, n_fixed=5)
    x = torch.randn(7, 30, 2)
    gains = {"all": torch.tensor(2.0)}
    loss = criterion(model(x, gains=gains), Y[:30])
    loss.backward()
    optimizer.step()
    monitor.log_epoch()
    expected = cross_entropy(model(x, gains=gains), Y[:30]).item()
    assert monitor.record.fixed_loss == pytest.approx([expected], rel=1e-5)
    assert len(monitor.record.fixed_rows) == 30
    assert monitor.record.steps["n_windows"].tolist() == [30]  # of y, not the 7 of x


def test_an_epoch_without_validation_is_a_gap():
    model, criterion = make_model(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = TorchMonitor(model, optimizer, criterion)
    for epoch in range(4):
        take_step(model, optimizer, criterion=criterion)
        if epoch % 2:
            monitor.validate([(X_VAL, Y_VAL)])
        else:
            monitor.log_epoch()
    assert np.isnan(monitor.history["val_loss"]).tolist() == [True, False, True, False]
    assert not len(monitor.record.val_rows)  # not after every epoch
    assert monitor.report().n_val == 20


def test_an_epoch_without_a_step_is_warned_of():
    model = make_model()
    other = torch.optim.SGD(make_model().parameters(), lr=0.1)
    monitor = TorchMonitor(model, other)
    take_step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.warns(UserWarning, match="no step of the monitored optimizer"):
        monitor.validate([(X_VAL, Y_VAL)])
    assert "Whether the model itself moves cannot be told" in " ".join(monitor.report().explanation)


def test_what_was_not_given_is_said_not_to_be_known():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = TorchMonitor(model, optimizer, nn.CrossEntropyLoss())
    watch_steps(monitor, model, optimizer, nn.CrossEntropyLoss(), 2)  # another module: not heard
    with pytest.raises(ArgumentError, match="at least one of loss, val_loss"):
        monitor.report()
    monitor = TorchMonitor(model, optimizer)
    for _ in range(2):
        monitor.log_step(take_step(model, optimizer))
        monitor.log_epoch(val_loss=1.0, val_accuracy=0.5)
    text = " ".join(monitor.report().explanation)
    assert "give n_val" in text
    assert "Whether it beats guessing cannot be told" in text


@pytest.mark.parametrize("case", ["sizes unknown", "a last epoch without steps", "no figures"])
def test_a_report_is_made_of_records_with_gaps(case):
    monitor = Monitor("torch")
    for epoch in range(25):
        n_steps = 0 if case == "a last epoch without steps" and epoch == 24 else 4
        sizes = np.full(n_steps, np.nan if case == "sizes unknown" else 8.0)
        loss = RNG.uniform(1, 1.1, n_steps) + np.exp(-epoch / 3)
        steps = {"n_windows": sizes, "loss": loss}
        if case == "no figures":
            steps = {"learning_rate": loss}
        monitor._close_epoch(steps, {"loss": 0.5 + np.exp(-epoch / 3)})
    report = monitor.report()
    assert report.verdict == "normal"
    assert report.n_train == (32 if case == "a last epoch without steps" else None)
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.trains
def test_a_hot_loop_is_told_from_a_calm_one():
    torch.manual_seed(0)
    y = torch.randint(0, 2, (200,))
    x = torch.randn(200, 4) + 1.2 * y[:, None]
    verdicts = {}
    for name, rate in (("hot", 5.0), ("calm", 0.02)):
        torch.manual_seed(1)
        model, criterion = nn.Linear(4, 2), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        with TorchMonitor(model, optimizer, criterion) as monitor:
            for _ in range(24):
                for rows in torch.randperm(160).split(8):
                    take_step(model, optimizer, x[rows], y[rows], criterion)
                monitor.validate([(x[160:], y[160:])])
        report = monitor.report()
        verdicts[name] = report.verdict
        assert not any(cause.recommendation for cause in report.causes)
        assert name == "calm" or "torch" in report.causes[0].advice
    assert verdicts == {"hot": "fluctuating", "calm": "normal"}


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"model": 3}, "model is a int"),
        ({"optimizer": []}, "optimizer is a list; expected one torch.optim.Optimizer"),
        ({"criterion": cross_entropy}, "criterion is a function.*log_step"),
        ({"n_fixed": -1}, "n_fixed=-1"),
    ],
)
def test_wrong_arguments_are_named(arguments, says):
    model = make_model()
    whole = {"model": model, "optimizer": torch.optim.SGD(model.parameters())} | arguments
    with pytest.raises(ArgumentError, match=says):
        TorchMonitor(**whole)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.log_step(logits=torch.zeros(3, 2)), "both logits and y"),
        (lambda m: m.log_step(1.0, torch.zeros(3, 2), torch.zeros(4)), r"\(3, 2\) and y \(4,\)"),
        (lambda m: m.log_step(1.0, n_windows=0), "n_windows=0"),
        (lambda m: m.log_step(1.0, rows=[3]), "rows has 1 entries for no windows"),
        (lambda m: m.log_step(1.0, torch.zeros(2, 2), Y[:2], rows=[3]), "1 entries for 2 windows"),
        (lambda m: m.log_epoch(torch.zeros(3, 2)), "both val_logits and val_y"),
        (lambda m: m.log_epoch(torch.zeros(3, 2), [0, 1, 2]), "class 2, but .* 2 columns"),
        (lambda m: m.log_epoch(torch.zeros(3, 2), [0, 1]), r"shape \(3, 2\) for 2 classes"),
        (lambda m: m.log_epoch(torch.zeros(2, 2), ["a", "b"]), "code the classes 0 to K - 1"),
        (lambda m: m.log_epoch(torch.zeros(2, 2), [0, 1], val_groups=[1]), "one for each"),
        (lambda m: m.log_epoch(val_loss=1.0, n_val=0), "n_val=0"),
        (lambda m: m.validate([X_VAL]), "the loader gives a Tensor"),
        (lambda m: m.validate([]), "no batch to validate on"),
        (lambda m: m.watch(X, Y[:3]), "X has 60 windows, y has 3"),
        (lambda m: m.report(), "no epoch has ended"),
    ],
)
def test_what_does_not_fit_is_named_with_the_way_out(call, says):
    model = make_model()
    monitor = TorchMonitor(model, torch.optim.SGD(model.parameters()))
    with pytest.raises(ArgumentError, match=says):
        call(monitor)
    assert len(monitor.history) == 0


def test_validation_windows_in_another_order_are_refused():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = TorchMonitor(model, optimizer)
    monitor.log_step(take_step(model, optimizer))
    monitor.log_epoch(model(X_VAL), Y_VAL, val_groups=np.arange(20))
    for y, groups, says in ((Y_VAL.flip(0), None, "shuffle=False"), (Y_VAL, Y_VAL, "groups are")):
        monitor.log_step(take_step(model, optimizer))
        with pytest.raises(ArgumentError, match=says):
            monitor.log_epoch(model(X_VAL), y, val_groups=groups)
    assert len(monitor.history) == 1


def test_a_model_that_gives_no_logits_is_refused_with_the_way_out():
    model = nn.LSTM(2, 3)
    monitor = TorchMonitor(model, torch.optim.SGD(model.parameters()))
    with pytest.raises(ArgumentError, match=r"gives a tuple, not logits.*log_epoch"):
        monitor.validate([(torch.zeros(4, 5, 2), Y[:4])])


# --- the package --------------------------------------------------------------------------------


def test_the_package_imports_neither_torch_nor_keras():
    code = (
        "import sys, sensorseq.fluctuation as f; f.FluctuationReport; f.KerasMonitor;"
        " assert 'TorchMonitor' in dir(f);"
        " print(*sorted({'torch', 'keras'} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


def test_without_keras_its_monitor_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    keras_monitor._as_callback.cache_clear()
    with pytest.raises(EnvironmentProblemError, match="pip install keras"):
        KerasMonitor()


def test_a_name_that_is_not_there_is_an_attribute_error():
    import sensorseq.fluctuation

    with pytest.raises(AttributeError, match="no attribute 'Monitor'"):
        _ = sensorseq.fluctuation.Monitor


def test_the_example_in_the_docstring_is_true():
    outcome = doctest.testmod(monitor_module)
    assert outcome.attempted > 0
    assert outcome.failed == 0
