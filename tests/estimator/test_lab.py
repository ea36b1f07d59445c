"""A fit is run again bit for bit, as a whole and from its snapshots, and changed in one thing."""

import numpy as np
import pytest
import torch
from fits import plain_classifier

from sensorseq import SensorLSTMRegressor
from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.probes.arm import Arm

N_EPOCHS = 10


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
    "channels left out": {"input_dropout": 0.3},
    "balanced": {"sampler": "balanced"},
    "some windows an epoch": {"windows_per_epoch": 37, "sampler": "sqrt"},
    "permuted over epochs": {"windows_per_epoch": 25},
    "epochs found by steps": {"max_epochs": "auto", "max_steps": 2 * N_EPOCHS},
    "share of warm-up": {"warmup_epochs": 0.2, "max_steps": 10_000},
    "weighted": {"class_weight": "balanced", "last_batch": "merge"},
    "momentum": {"optimizer": "sgd", "learning_rate": 0.1},
    "no seed": {"random_state": None},
    "lengths": {"lengths": np.random.default_rng(1).integers(3, 13, 60)},
    "groups": {"groups": np.arange(60) // 5},
    "double": {"dtype": "float64"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_an_unchanged_arm_is_the_run(options):
    _, report, lab = fit(**options)
    record = report.record
    whole, *rest = lab.run(
        [
            Arm("whole", N_EPOCHS),
            *(Arm("rest", 2, start=i, seed=None) for i in range(len(record.snapshots))),
        ]
    )
    if options.get("lr_schedule") != "plateau":  # whose patience is not that of so short a run
        assert np.array_equal(whole.fixed_loss, record.fixed_loss)
    for arm, snapshot in zip(rest, record.snapshots, strict=True):
        expected = record.fixed_loss[snapshot.epoch : snapshot.epoch + 2]
        assert len(arm.fixed_loss) == 2
        assert np.array_equal(arm.fixed_loss[: len(expected)], expected)
        assert np.array_equal(
            arm.val_loss[: len(expected)],
            report.history["val_loss"][snapshot.epoch : snapshot.epoch + 2],
        )


OF_WINDOWS = {
    "input_dropout": ({"input_dropout": 0.3}, {"input_dropout": 0.0}),
    "augment": ({"augment": {"jitter": 0.1}}, {"augment": None}),
    "class_weight": ({"class_weight": {0: 1.0, 1: 5.0, 2: 1.0}}, {"class_weight": None}),
    "crop": ({"max_timesteps": 7, "crop": "random"}, {"crop": "head"}),
}


@pytest.mark.parametrize(("own", "other"), OF_WINDOWS.values(), ids=OF_WINDOWS)
def test_what_is_done_to_windows_may_change_from_a_snapshot_on(own, other):
    _, report, lab = fit(**own)
    epoch = report.record.snapshots[1].epoch
    same, changed = lab.run(
        [
            Arm("the same once more", 2, start=1, seed=None, change=own),
            Arm("changed", 2, start=1, seed=None, change=other),
        ]
    )
    assert np.array_equal(same.fixed_loss, report.record.fixed_loss[epoch : epoch + 2])
    assert not np.array_equal(changed.fixed_loss, same.fixed_loss)


@pytest.mark.parametrize("engine", ["native", "autograd"])
def test_an_arm_leaves_no_trace(engine):
    classifier, report, lab = fit(engine=engine, ema_decay=0.9)
    again = Arm("again", 3, start=1, seed=5)
    first = lab.run([again])[0].fixed_loss
    before = {k: v.clone() for k, v in classifier.module_.state_dict().items()}
    states = [snapshot.state["module"] for snapshot in report.record.snapshots]
    kept = [{k: v.clone() for k, v in state.items()} for state in states]
    torch_before = torch.get_rng_state()
    lab.run([Arm("fast", 2, start=1, rate_factor=9.0), Arm("new", 2, change={"hidden_size": 3})])
    assert all(torch.equal(before[k], v) for k, v in classifier.module_.state_dict().items())
    for state, copy in zip(states, kept, strict=True):
        assert all(torch.equal(copy[name], tensor) for name, tensor in state.items())
    assert torch.equal(torch_before, torch.get_rng_state())
    assert np.array_equal(lab.run([again])[0].fixed_loss, first)


def test_arms_of_a_seed_see_the_windows_in_one_order():
    _, _, lab = fit(sampler="shuffle", batch_size=16)
    plain, slower, other = lab.run(
        [
            Arm("as it was", 2, start=0, seed=1),
            Arm("slower", 2, start=0, seed=1, rate_factor=1e-9),
            Arm("other order", 2, start=0, seed=2),
        ]
    )
    counts = [arm.record.class_counts for arm in (plain, slower, other)]
    assert np.array_equal(counts[0], counts[1])
    assert not np.array_equal(counts[0], counts[2])
    assert np.ptp(slower.fixed_loss) < 1e-6 < np.ptp(plain.fixed_loss)


def test_an_average_of_the_weights_begins_at_the_snapshot_and_leaves_every_step_as_it_is():
    averaged = {}
    for engine in ("native", "autograd"):
        _, _, lab = fit(engine=engine, dtype="float64", batch_size=8, learning_rate=0.05)
        plain, average = lab.run(
            [
                Arm("as it was", 3, start=2, seed=1),
                Arm("average", 3, start=2, seed=1, change={"ema_decay": 0.9}),
            ]
        )
        assert np.array_equal(average.loss, plain.loss)
        averaged[engine] = average.fixed_loss
        assert not np.array_equal(averaged[engine], plain.fixed_loss)
        still = Arm("still", 1, start=2, change={"ema_decay": 0.9}, rate_factor=1e-9)
        before = lab.record.fixed_loss[lab.record.snapshots[2].epoch - 1]
        assert lab.run([still])[0].fixed_loss[0] == pytest.approx(before, abs=1e-6)
    assert averaged["native"] == pytest.approx(averaged["autograd"], rel=1e-9)


@pytest.mark.parametrize("lengths", [None, np.random.default_rng(1).integers(3, 13, 60)])
def test_rescaling_keeps_the_function(lengths):
    _, report, lab = fit(lengths=lengths, bidirectional=True, dtype="float64")
    by = np.array([3.0, -1.0]), np.array([7.0, 0.2])
    (arm,) = lab.run([Arm("rescaled", 1, start=1, rescale=by, rate_factor=1e-12)])
    epoch = report.record.snapshots[1].epoch
    assert arm.fixed_loss[0] == pytest.approx(report.record.fixed_loss[epoch - 1], abs=1e-9)
    assert arm.val_loss[0] == pytest.approx(report.history["val_loss"][epoch - 1], abs=1e-9)
    (moved,) = lab.run([Arm("rescaled", 3, start=1, rescale=by)])
    (plain,) = lab.run([Arm("restarted", 3, start=1, restarts_optimizer=True)])
    assert not np.allclose(moved.fixed_loss, plain.fixed_loss, rtol=1e-3)


def test_the_rate_of_a_decaying_arm_falls_to_nearly_nothing():
    _, _, lab = fit(lr_schedule="constant", batch_size=16)
    (arm,) = lab.run([Arm("decays", 4, start=0, decays=True)])
    rate = arm.record.steps["learning_rate"]
    assert rate[0] == 1e-3
    assert (np.diff(rate) < 0).all()
    assert rate[-1] < 0.05 * rate[0]


def test_larger_batches_read_the_schedule_at_their_own_pace():
    _, report, lab = fit(lr_schedule="cosine", batch_size=6)
    own = report.record.steps["learning_rate"]
    (arm,) = lab.run([Arm("4 B", N_EPOCHS, start=0, change={"batch_size": 24})])
    assert len(arm.record.steps["learning_rate"]) == N_EPOCHS * 2
    assert np.array_equal(arm.record.steps["learning_rate"], own[::4])


def test_folds_are_predicted_by_a_network_that_has_not_seen_them():
    _, _, lab = fit(dtype="float64")
    n_train = len(lab.train.target)
    held = np.arange(0, n_train, 3)
    rest = np.setdiff1d(np.arange(n_train), held)
    arm = Arm("fold", 3, train_rows=rest, predict_rows=held)
    (result,) = lab.run([arm])
    assert result.outputs.shape == (len(held), 3)
    assert result.record.steps["n_windows"].sum() == 3 * len(rest)
    assert lab.cost_of(arm) == pytest.approx(3 * len(rest) / n_train)


def test_windows_of_the_lab_are_those_of_the_fit():
    groups = np.arange(60) // 5
    classifier, _, lab = fit(groups=groups)
    X, y = make_data()
    train, validation = lab.train, lab.validation
    assert np.array_equal(np.sort(np.r_[train.rows, validation.rows]), np.arange(60))
    assert np.array_equal(y[train.rows], train.target)
    assert np.array_equal(groups[validation.rows], validation.groups)
    assert np.allclose(classifier.scaler_.transform(X[train.rows]), train.X, atol=1e-6)


def test_weights_of_a_snapshot():
    _, report, lab = fit()
    module = lab.module_at(0)
    assert not module.training
    state = report.record.snapshots[0].state["module"]
    assert all(torch.equal(state[name], part) for name, part in module.state_dict().items())
    with torch.no_grad():
        module.linear.weight.zero_()
    assert state["linear.weight"].any()


def test_an_arm_that_diverges_says_so():
    _, _, lab = fit(max_grad_norm=None, optimizer="sgd")
    (arm,) = lab.run([Arm("too fast", 5, start=0, rate_factor=1e42)])
    assert "not finite" in arm.failed
    assert len(arm.fixed_loss) < 5


def test_what_cannot_be_run_again():
    _, report, lab = fit()
    with pytest.raises(ArgumentError, match="fewer than fit had"):
        report.origin.open(report.record, *(part[:40] for part in make_data()))
    with pytest.raises(ArgumentError, match="max_epochs"):
        lab.run([Arm("longer", 2, start=0, change={"max_epochs": 3})])
    X, y = make_data()
    regressor = SensorLSTMRegressor(hidden_size=4, max_epochs=2).fit(X, y.astype(float))
    report = regressor.fluctuation_
    with pytest.raises(ArgumentError, match="regression"):
        report.origin.open(report.record, X, y)
    warm = plain_classifier(
        hidden_size=4, max_epochs=2, early_stopping=False, warm_start=True, random_state=0
    )
    warm.fit(X, y)
    report = warm.fit(X, y).fluctuation_
    lab = report.origin.open(report.record, X, y)
    with pytest.raises(ArgumentError, match="went on"):
        lab.run([Arm("anew", 2)])
    (arm,) = lab.run([Arm("again", 2, start=0, seed=None)])
    assert np.array_equal(arm.fixed_loss, report.record.fixed_loss)
