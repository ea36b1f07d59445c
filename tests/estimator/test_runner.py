"""A fit can be rerun from the start, bit for bit, from a snapshot, or with one setting changed."""

import numpy as np
import pytest
import torch
from fits import plain_classifier

from sensorseq.diagnosis.trials import OUT_OF_TIME, Rerun
from sensorseq.errors import ArgumentError

N_EPOCHS = 4


def make_data(seed=0, n_windows=60, n_timesteps=12):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n_windows)
    X = rng.normal(size=(n_windows, n_timesteps, 2)) + y[:, None, None]
    return X, y


def fit(**options):
    X, y = make_data()
    defaults = {"hidden_size": 6, "max_epochs": N_EPOCHS, "early_stopping": False}
    keywords = {name: options.pop(name) for name in ("groups", "lengths") if name in options}
    classifier = plain_classifier(**{**defaults, "random_state": 4, **options})
    report = classifier.fit(X, y, **keywords).fluctuation_
    return classifier, report, report.origin.open(report.record, X, y, **keywords)


OPTIONS = {
    "plain": {},
    "autograd": {"engine": "autograd"},
    "dropout": {"dropout": 0.4, "recurrent_dropout": 0.2},
    "dropout by autograd": {"dropout": 0.4, "engine": "autograd"},
    "average": {"ema_decay": 0.9},
    "plateau": {"lr_schedule": "plateau", "patience": 4, "learning_rate": 0.1},
    "normalized head": {"head_norm": "batch"},
    "crops": {"max_timesteps": 7, "crop": "random"},
    "augmented": {"augment": {"jitter": 0.1}},
    "balanced": {"sampler": "balanced"},
    "root of the counts": {"sampler": "sqrt"},
    "epochs found by steps": {"max_epochs": "auto", "max_steps": 2 * N_EPOCHS},
    "share of warm-up": {"warmup_epochs": 0.2, "max_steps": 10_000},
    "weighted": {"class_weight": "balanced"},
    "momentum": {"optimizer": "sgd", "learning_rate": 0.1},
    "no seed": {"random_state": None},
    "lengths": {"lengths": np.random.default_rng(1).integers(3, 13, 60)},
    "groups": {"groups": np.arange(60) // 5},
    "double": {"dtype": "float64"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_an_unchanged_rerun_equals_the_run(options):
    _, report, runner = fit(**options)
    record = report.record
    (whole,) = runner.run([Rerun("whole", N_EPOCHS)])
    if options.get("lr_schedule") != "plateau":
        assert np.array_equal(whole.fixed_loss, record.fixed_loss)


WITH_STATE = ("plain", "autograd", "dropout", "average", "plateau", "crops", "momentum", "double")


@pytest.mark.parametrize("options", [OPTIONS[name] for name in WITH_STATE], ids=WITH_STATE)
def test_a_rerun_from_a_snapshot_begins_in_the_state_of_the_run(options):
    _, report, runner = fit(**{"learning_rate": 1e-9, **options})
    record = report.record
    start = len(record.snapshots) - 2
    snapshot = record.snapshots[start]
    (rerun,) = runner.run([Rerun("end", 2, start=start)])
    assert not rerun.failed
    assert len(rerun.fixed_loss) == 2
    assert rerun.record.steps["learning_rate"][0] <= record.steps["learning_rate"].max()
    if runner.arguments["learning_rate"] == 1e-9:
        before = record.fixed_loss[snapshot.epoch - 1]
        assert rerun.fixed_loss == pytest.approx([before] * 2, abs=1e-5)


@pytest.mark.parametrize("engine", ["native", "autograd"])
def test_a_rerun_leaves_no_trace(engine):
    classifier, report, runner = fit(engine=engine, ema_decay=0.9)
    again = Rerun("again", 3, start=1)
    first = runner.run([again])[0].fixed_loss
    before = {k: v.clone() for k, v in classifier.module_.state_dict().items()}
    states = [snapshot.state["module"] for snapshot in report.record.snapshots]
    kept = [{k: v.clone() for k, v in state.items()} for state in states]
    torch_before = torch.get_rng_state()
    runner.run([Rerun("new", 2, change={"hidden_size": 3})])
    assert all(torch.equal(before[k], v) for k, v in classifier.module_.state_dict().items())
    for state, copy in zip(states, kept, strict=True):
        assert all(torch.equal(copy[name], tensor) for name, tensor in state.items())
    assert torch.equal(torch_before, torch.get_rng_state())
    assert np.array_equal(runner.run([again])[0].fixed_loss, first)


def test_reruns_from_one_state_see_the_windows_in_one_order():
    _, _, runner = fit(sampler="shuffle", batch_size=16)
    reruns = [Rerun("one", 2, start=1), Rerun("two", 2, start=1), Rerun("other order", 2, start=2)]
    one, two, other = [rerun.record.class_counts for rerun in runner.run(reruns)]
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_the_rate_of_a_decaying_rerun_falls_to_nearly_zero():
    _, report, runner = fit(lr_schedule="cosine", batch_size=16, max_epochs=10)
    rates, per_epoch = report.record.steps["learning_rate"], runner.steps_per_epoch
    start = 2
    first = report.record.snapshots[start].step
    (rerun,) = runner.run([Rerun("decays", 4, start=start)])
    share = rerun.record.steps["learning_rate"] / rates[first : first + 4 * per_epoch]
    done = np.arange(4 * per_epoch) / (4 * per_epoch)
    assert share == pytest.approx(0.01 + 0.99 * (0.5 + 0.5 * np.cos(np.pi * done)))


def test_windows_of_the_runner_are_those_of_the_fit():
    groups = np.arange(60) // 5
    classifier, _, runner = fit(groups=groups)
    X, y = make_data()
    train, validation = runner.train, runner.validation
    assert np.array_equal(np.sort(np.r_[train.rows, validation.rows]), np.arange(60))
    assert np.array_equal(y[train.rows], train.target)
    assert np.array_equal(groups[validation.rows], validation.groups)
    assert np.allclose(classifier.scaler_.transform(X[train.rows]), train.X, atol=1e-6)


def test_the_kept_weights_are_those_of_the_best_epoch():
    classifier, report, runner = fit(early_stopping=True, max_epochs=30, learning_rate=0.05)
    assert runner.kept_epoch == classifier.best_epoch_ < runner.n_epochs
    module = runner.kept_module()
    assert not module.training
    X, y = (torch.from_numpy(part) for part in (runner.validation.X, runner.validation.target))
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(module(X), y).item()
        module.linear.weight.zero_()
    assert loss == pytest.approx(report.history["val_loss"][runner.kept_epoch - 1], rel=1e-5)
    assert classifier.module_.linear.weight.any()


def test_a_rerun_that_diverges_reports_it():
    _, _, runner = fit(max_grad_norm=None, optimizer="sgd")
    (rerun,) = runner.run([Rerun("too fast", 5, change={"learning_rate": 1e38})])
    assert "not finite" in rerun.failed
    assert len(rerun.fixed_loss) < 5


@pytest.mark.parametrize("engine", ["native", "autograd"])
def test_when_the_time_is_up_the_current_epoch_is_finished_and_no_other_run_begins(engine):
    _, _, runner = fit(engine=engine)
    (whole,) = runner.run([Rerun("first", 5)])
    asked = []

    def is_over():
        asked.append(None)
        return len(asked) > 2  # there is time before and after the first epoch

    reruns = [Rerun("first", 5), Rerun("late", 5, change={"hidden_size": 3})]
    first, late = runner.run(reruns, is_over)
    assert np.array_equal(first.fixed_loss, whole.fixed_loss[:2])
    assert not first.failed
    assert first.val_outputs is not None
    assert (late.failed, len(late.fixed_loss)) == (OUT_OF_TIME, 0)


def test_data_that_differ_from_those_of_the_fit_are_refused():
    _, report, _ = fit()
    X, y = make_data()
    relabeled = np.where(np.arange(60) < 5, (y + 1) % 3, y)
    for other in ((X[:40], y[:40]), (X[:, ::-1].copy(), y), (X, relabeled), (X[::-1], y[::-1])):
        with pytest.raises(ArgumentError, match="not the data of the fit"):
            report.origin.open(report.record, *other)


def test_a_member_of_an_ensemble_is_run_again():
    _, report, runner = fit(n_models=2)
    (whole,) = runner.run([Rerun("whole", N_EPOCHS)])
    assert np.array_equal(whole.fixed_loss, report.record.fixed_loss)


def test_fits_that_cannot_be_rerun_are_refused():
    _, _, runner = fit()
    with pytest.raises(ArgumentError, match="can change only the learning rate"):
        runner.run([Rerun("smaller", 2, start=1, change={"batch_size": 3})])
    X, y = make_data()
    settings = {"hidden_size": 4, "max_epochs": 2, "early_stopping": False, "random_state": 0}
    warm = plain_classifier(**settings, warm_start=True)
    warm.fit(3 * X + 1, y)
    report = warm.fit(X, y).fluctuation_
    runner = report.origin.open(report.record, X, y)
    with pytest.raises(ArgumentError, match="continued another"):
        runner.run([Rerun("anew", 2)])
    (rerun,) = runner.run([Rerun("end", 2, start=0)])
    assert not rerun.failed
