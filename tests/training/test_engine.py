import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from training_jobs import few_windows

from sensorseq.errors import ArgumentError
from sensorseq.nn import LSTMLinear
from sensorseq.training import TrainingConfig, TrainingData, engine, train_network
from sensorseq.training.evaluation import evaluate, make_loss

TRAIN, VALIDATION = few_windows()
CROSS_ENTROPY = make_loss("cross_entropy")


def make_module(**arguments):
    torch.manual_seed(0)
    return LSTMLinear(2, 4, 3, **arguments)


def train(module, train_part=TRAIN, validation=VALIDATION, seed=0, callbacks=(), **arguments):
    config = TrainingConfig(n_outputs=3, **{"max_epochs": 5, **arguments})
    seed = np.random.SeedSequence(seed)
    return train_network(module, train_part, validation, config, seed=seed, callbacks=callbacks)


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        ("adam", lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1)),
        ("adamw", lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1)),
        ("rmsprop", lambda p: torch.optim.RMSprop(p, 0.01, weight_decay=0.1)),
        ("sgd", lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, weight_decay=0.1)),
    ],
)
def test_full_batch_training_equals_the_plain_torch_loop(optimizer, make):
    module = make_module()
    twin = copy.deepcopy(module)
    settings = {"optimizer": optimizer, "learning_rate": 0.01, "lr_schedule": "constant"}
    settings |= {"batch_size": None, "early_stopping": False, "restore_best": False}
    result = train(module, max_grad_norm=0.05, weight_decay=0.1, **settings)
    steps = make(twin.parameters())
    losses, norms = [], []
    for _ in range(5):
        steps.zero_grad()
        loss = functional.cross_entropy(twin(TRAIN.X), TRAIN.target)
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(twin.parameters(), 0.05).item())
        steps.step()
        losses.append(loss.item())
    assert result.history["loss"] == pytest.approx(losses, rel=1e-5)
    assert result.history["grad_norm"] == pytest.approx(norms, rel=1e-4)
    for ours, theirs in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_weights_act_as_in_a_weighted_torch_loss_up_to_its_unit():
    module = make_module()
    twin = copy.deepcopy(module)
    class_weight = torch.tensor([1.0, 2.0, 5.0])
    weight = class_weight[TRAIN.target]
    weighted = TrainingData(TRAIN.X, None, TRAIN.target, weight / weight.mean())
    settings = {"optimizer": "sgd", "learning_rate": 0.1, "lr_schedule": "constant"}
    settings |= {"batch_size": None, "max_grad_norm": None, "restore_best": False}
    train(module, weighted, max_epochs=3, **settings)
    steps = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9)
    for _ in range(3):
        steps.zero_grad()
        functional.cross_entropy(twin(TRAIN.X), TRAIN.target, class_weight).backward()
        steps.step()
    for ours, theirs in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_no_two_gradients_share_memory_so_clipping_in_place_scales_each_once():
    module = make_module(bidirectional=True, num_layers=2)
    functional.cross_entropy(module(TRAIN.X), TRAIN.target).backward()
    before = {name: p.grad.clone() for name, p in module.named_parameters()}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.grad.mul_(0.5)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, 0.5 * before[name], msg=name)


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy", "loss"])
def test_the_restored_weights_are_those_of_the_best_epoch_of_the_history(monitor):
    module = make_module(dropout=0.5)
    result = train(
        module,
        max_epochs=25,
        learning_rate=0.2,
        lr_schedule="constant",
        monitor=monitor,
        patience=8,
    )
    column = result.history[monitor]
    best = column.max() if monitor.endswith("accuracy") else column.min()
    assert result.best_score == best
    assert result.history[result.best_epoch - 1][monitor] == best
    loss, accuracy = evaluate(module, VALIDATION, CROSS_ENTROPY)
    row = result.history[result.best_epoch - 1]
    assert (loss, accuracy) == (row["val_loss"], row["val_accuracy"])


def test_without_restoring_the_weights_are_the_last_epochs():
    module = make_module()
    result = train(module, max_epochs=8, learning_rate=0.5, restore_best=False, patience=50)
    assert result.best_epoch == 8
    loss, _ = evaluate(module, VALIDATION, CROSS_ENTROPY)
    assert loss == result.history[-1]["val_loss"]


def test_training_stops_when_patience_has_passed_without_a_gain_beyond_tol():
    result = train(make_module(), max_epochs=50, patience=4, tol=10.0)
    assert result.ended_by == "early_stopping"
    assert len(result.history) == 5  # the first epoch always counts as an improvement


def test_without_early_stopping_every_epoch_runs():
    result = train(make_module(), max_epochs=12, patience=1, tol=10.0, early_stopping=False)
    assert (result.ended_by, len(result.history)) == ("max_epochs", 12)


def test_early_stopping_without_validation_needs_a_training_column():
    with pytest.raises(ArgumentError, match="early_stopping=True with monitor='val_loss'"):
        train(make_module(), validation=None)
    assert train(make_module(), validation=None, monitor="loss").best_epoch >= 1


def test_without_validation_there_are_no_validation_columns_and_the_last_epoch_is_kept():
    result = train(make_module(), validation=None, early_stopping=False)
    assert "val_loss" not in result.history
    assert result.best_epoch == 5


def test_history_has_the_documented_columns():
    assert train(make_module()).history.names == (
        "epoch",
        "loss",
        "accuracy",
        "learning_rate",
        "grad_norm",
        "val_loss",
        "val_accuracy",
        "duration_s",
    )


def test_the_same_seed_gives_equal_bits_and_the_global_generator_is_unchanged():
    def weights(global_seed, seed):
        module = make_module(dropout=0.4, recurrent_dropout=0.3)
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        train(module, seed=seed, batch_size=5, max_timesteps=4, crop="random")
        assert torch.equal(before, torch.get_rng_state())
        return nn.utils.parameters_to_vector(module.parameters()).detach()

    assert torch.equal(weights(1, 7), weights(2, 7))
    assert not torch.equal(weights(1, 7), weights(1, 8))


def test_a_loss_that_becomes_nan_ends_training_with_the_best_weights():
    calls = []

    def sick(logits, target):
        calls.append(0)
        losses = functional.cross_entropy(logits, target, reduction="none")
        return losses * float("nan") if len(calls) > 6 else losses

    module = make_module()
    result = train(module, loss=sick, batch_size=None, max_epochs=10)
    assert result.ended_by == "diverged"
    assert (len(result.history), result.best_epoch) == (4, 3)
    assert np.isnan(result.history["loss"][-1])
    loss, _ = evaluate(module, VALIDATION, CROSS_ENTROPY)
    assert loss == result.history[2]["val_loss"]


def test_a_loss_that_is_never_finite_leaves_no_best_epoch():
    result = train(make_module(), loss=lambda logits, y: logits.sum(1) * float("inf"))
    assert (result.ended_by, result.best_epoch, len(result.history)) == ("diverged", 0, 1)


class Watcher:
    def __init__(self, act=lambda history: None):
        self.seen = []
        self.act = act

    def on_fit_begin(self, module, config):
        self.seen.append("begin")

    def on_epoch_end(self, module, history):
        assert not module.training
        self.seen.append(len(history))
        return self.act(history)

    def on_fit_end(self, module, history):
        self.seen.append("end")


def test_an_interrupt_keeps_the_best_weights_so_far():
    def interrupt(history):
        if len(history) == 3:
            raise KeyboardInterrupt

    watcher = Watcher(interrupt)
    module = make_module()
    result = train(module, max_epochs=50, callbacks=[watcher])
    assert result.ended_by == "interrupted"
    assert watcher.seen[-1] == "end"
    loss, _ = evaluate(module, VALIDATION, CROSS_ENTROPY)
    assert loss == result.history["val_loss"].min()


def test_a_second_interrupt_soon_after_the_first_is_passed_on(monkeypatch):
    def interrupt(history):
        raise KeyboardInterrupt

    now_s = [100.0]
    monkeypatch.setattr(engine.time, "monotonic", lambda: now_s[0])
    arguments = {"max_epochs": 5, "callbacks": [Watcher(interrupt)]}
    assert train(make_module(), **arguments).ended_by == "interrupted"
    now_s[0] += 2.1
    assert train(make_module(), **arguments).ended_by == "interrupted"
    now_s[0] += 1.9
    with pytest.raises(KeyboardInterrupt):
        train(make_module(), **arguments)


@pytest.mark.parametrize(("answer", "n_epochs"), [(True, 1), (np.True_, 1), (np.False_, 4), (1, 4)])
def test_only_true_including_numpys_ends_training(answer, n_epochs):
    result = train(make_module(), max_epochs=4, callbacks=[Watcher(lambda history: answer)])
    assert len(result.history) == n_epochs


def test_an_interrupt_before_the_end_of_the_first_epoch_is_passed_on():
    def interrupt(logits, target):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(make_module(), loss=interrupt)


def test_the_average_of_weights_is_what_is_validated_and_kept():
    module = make_module()
    result = train(module, ema_decay=0.9, learning_rate=0.1, max_epochs=6)
    loss, _ = evaluate(module, VALIDATION, CROSS_ENTROPY)
    assert loss == result.history["val_loss"].min()
    plain = train(make_module(), learning_rate=0.1, max_epochs=6)
    assert plain.history[0]["loss"] == result.history[0]["loss"]
    assert plain.history[0]["val_loss"] != result.history[0]["val_loss"]


def test_a_loss_of_the_whole_batch_trains_as_one_of_each_window_but_cannot_be_weighted():
    weighted = TrainingData(TRAIN.X, None, TRAIN.target, torch.ones(18))
    with pytest.raises(ArgumentError, match="sample_weight and class_weight need one for"):
        train(make_module(), weighted, loss=nn.CrossEntropyLoss())
    mean, each = (
        train(make_module(), loss=nn.CrossEntropyLoss(reduction=reduction)).history["val_loss"]
        for reduction in ("mean", "none")
    )
    assert mean == pytest.approx(each, rel=1e-4)


def test_batch_normalization_never_sees_a_batch_of_one():
    result = train(make_module(head_norm="batch"), batch_size=17)  # the last batch has one window
    assert len(result.history) == 5
    with pytest.raises(ArgumentError, match="head_norm='batch' needs two windows"):
        train(make_module(head_norm="batch"), batch_size=1)


def test_the_running_loss_weights_each_window_equally_whatever_its_batch():
    settings = {"learning_rate": 1e-12, "max_epochs": 1, "lr_schedule": "constant"}
    whole = train(make_module(), batch_size=None, **settings).history[0]
    uneven = train(make_module(), batch_size=7, **settings).history[0]
    assert uneven["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert uneven["accuracy"] == whole["accuracy"]


def test_a_learning_rate_that_float32_cannot_represent_is_refused():
    with pytest.raises(ArgumentError, match=r"learning_rate=1e\+300 .* torch.float32"):
        train(make_module(), learning_rate=1e300)
