import numpy as np
import pytest
import torch
from fits import reloaded
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from sensorseq import SensorLSTMClassifier, SensorLSTMRegressor
from sensorseq.errors import ArgumentError, InputError, ModelFileError
from sensorseq.training import TrainingConfig
from sensorseq.training.losses import Objective, make_loss


def small(**arguments):
    settings = {"hidden_size": 6, "max_epochs": 6, "learning_rate": 0.03, "device": "cpu"}
    return SensorLSTMRegressor(**{**settings, "random_state": 0, **arguments})


def make_windows(n=60, n_timesteps=24, seed=0):
    """Sines of random frequency and phase; their frequency is the target."""
    rng = np.random.default_rng(seed)
    frequency = rng.uniform(0.2, 0.9, n)
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    X = np.sin(np.arange(n_timesteps) * frequency[:, None] + phase)
    return X[:, :, None] + 0.05 * rng.normal(size=(n, n_timesteps, 1)), frequency


X, Y = make_windows()


@pytest.mark.trains
@parametrize_with_checks(
    [
        small(hidden_size=16, max_epochs=100),
        small(hidden_size=8, max_epochs=60, dtype="float64", pooling="last", random_state=None),
    ],
    expected_failed_checks=lambda _: {
        "check_sample_weight_equivalence_on_dense_data": (
            "a window of weight 2 fills one place of a mini-batch, two copies fill two"
        ),
    },
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.trains
@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("seed", range(3))
def test_it_learns_a_frequency_on_windows_it_has_not_seen(loss, seed):
    fitted = small(loss=loss, hidden_size=12, max_epochs=80, random_state=seed)
    fitted.fit(*make_windows(200, seed=seed))
    unseen, target = make_windows(100, seed=100 + seed)
    assert fitted.score(unseen, target) > 0.8
    assert fitted.score(unseen, target) == r2_score(target, fitted.predict(unseen))


@pytest.mark.trains
@pytest.mark.parametrize("seed", range(3))
def test_wild_targets_move_mae_and_huber_less_than_mse(seed):
    train, target = make_windows(200, seed=seed)
    wild = target.copy()
    wild[::12] += 30.0
    unseen, wanted = make_windows(100, seed=100 + seed)
    miss = {}
    for loss in ("mse", "mae", "huber"):
        fitted = small(loss=loss, hidden_size=12, max_epochs=40, random_state=seed)
        miss[loss] = np.median(np.abs(fitted.fit(train, wild).predict(unseen) - wanted))
    assert miss["mae"] < miss["mse"] / 2
    assert miss["huber"] < miss["mse"] / 1.5


def test_the_unit_of_the_target_does_not_matter():
    one, other = small().fit(X, Y), small().fit(X, 1024.0 * Y - 4096.0)
    np.testing.assert_allclose(other.predict(X), 1024.0 * one.predict(X) - 4096.0, rtol=1e-4)
    assert other.history_["loss"] == pytest.approx(one.history_["loss"], rel=1e-3)
    raw = small(target_scale=None).fit(X, Y)
    assert raw.target_mean_.tolist() == [0.0]
    assert raw.target_sd_.tolist() == [1.0]


def test_the_target_is_scaled_by_the_training_part_alone():
    X_val, y_val = make_windows(20, seed=5)
    fitted = small().fit(X, Y, X_val=X_val, y_val=y_val + 1e3)
    assert fitted.target_mean_[0] == pytest.approx(Y.mean())
    assert fitted.target_sd_[0] == pytest.approx(Y.std())


def test_several_values_are_predicted_at_once_and_keep_their_shape():
    both = np.stack([Y, 5 - 2 * Y], axis=1)
    fitted = small(hidden_size=12, max_epochs=60).fit(X, both)
    assert fitted.predict(X).shape == (60, 2)
    assert fitted.score(X, both) > 0.9
    assert small().fit(X, Y[:, None]).predict(X).shape == (60, 1)
    assert small().fit(X, Y).predict(X).shape == (60,)


def test_the_history_has_scikit_learns_r2():
    X_val, y_val = make_windows(20, seed=5)
    fitted = small(restore_best=False).fit(X, Y, X_val=X_val, y_val=y_val)
    row = fitted.history_[-1]
    columns = "epoch loss r2 learning_rate grad_norm val_loss val_r2 duration_s"
    assert list(row) == columns.split()
    assert row["val_r2"] == pytest.approx(fitted.score(X_val, y_val), abs=1e-5)
    miss = fitted.predict(X_val) - y_val
    assert row["val_loss"] == pytest.approx((miss**2).mean() / Y.var(), rel=1e-4)


@pytest.mark.parametrize("monitor", ["val_r2", "r2", "val_loss"])
def test_the_best_epoch_is_that_of_the_monitored_column(monitor):
    fitted = small(monitor=monitor, max_epochs=12).fit(X, Y)
    column = fitted.history_[monitor]
    best = column.argmin() if monitor == "val_loss" else column.argmax()
    assert fitted.best_epoch_ == best + 1


@pytest.mark.parametrize(
    ("loss", "theirs"),
    [
        ("mse", torch.nn.MSELoss(reduction="none")),
        ("mae", torch.nn.L1Loss(reduction="none")),
        ("huber", torch.nn.HuberLoss(reduction="none")),
    ],
)
def test_losses_are_torchs(loss, theirs):
    generator = torch.Generator().manual_seed(0)
    outputs, target = (3 * torch.randn(7, 2, generator=generator) for _ in range(2))
    own = make_loss(loss, task="regression")(outputs, target)
    torch.testing.assert_close(own, theirs(outputs, target).mean(dim=1))


def test_an_output_that_does_not_vary_counts_as_zero():
    target = torch.stack([torch.arange(5.0), torch.ones(5)], dim=1)
    objective = Objective(TrainingConfig(n_outputs=2, task="regression", loss="mse"), target)
    assert objective.scores(target, target).mean().item() == pytest.approx(0.5)


def test_a_callable_loss_gets_values_and_targets():
    def cubic(outputs, target):
        return (outputs - target).abs().pow(3).mean(dim=1)

    assert small(loss=cubic, hidden_size=12, max_epochs=60).fit(X, Y).score(X, Y) > 0.8


def test_weights_of_zero_take_no_part_and_the_unit_of_weights_does_not_matter():
    weight = np.where(np.arange(60) < 40, 2.0, 0.0)
    some, fewer = small().fit(X, Y, weight), small().fit(X[:40], Y[:40])
    np.testing.assert_allclose(some.predict(X), fewer.predict(X), rtol=1e-5)


def test_it_is_cloned_pickled_saved_and_loaded(tmp_path):
    fitted = small(augment={"jitter": 0.1}).fit(X, np.stack([Y, -Y], axis=1))
    predicted = fitted.predict(X)
    for again in reloaded(fitted, tmp_path):
        np.testing.assert_array_equal(again.predict(X), predicted)
        assert again.n_outputs_ == 2
    np.testing.assert_array_equal(clone(fitted).fit(X, np.stack([Y, -Y], 1)).predict(X), predicted)
    with pytest.raises(ModelFileError, match=r"regression, .* SensorLSTMRegressor"):
        SensorLSTMClassifier.load(tmp_path / "model")


def test_lengths_and_lists_agree():
    lengths = np.arange(60) % 9 + 12
    fitted = small().fit(X, Y, lengths=lengths)
    as_list = [window[:n] for window, n in zip(X, lengths, strict=True)]
    np.testing.assert_allclose(fitted.predict(as_list), fitted.predict(X, lengths=lengths))
    assert cross_val_score(small(), X, Y, cv=3).shape == (3,)


def test_warm_start_goes_on():
    fitted = small(warm_start=True).fit(X, Y)
    mean = fitted.target_mean_.copy()
    first = fitted.history_["loss"][0]
    fitted.fit(X, Y + 0.01)
    assert fitted.history_["loss"][0] < first
    np.testing.assert_array_equal(fitted.target_mean_, mean)
    with pytest.raises(InputError, match="2 values for each window, but earlier calls had 1"):
        fitted.fit(X, np.stack([Y, Y], 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "cross_entropy"}, "loss='cross_entropy' is not known"),
        ({"monitor": "val_accuracy"}, "monitor='val_accuracy' is not known"),
        ({"target_scale": "max"}, "target_scale='max' is not known"),
        ({"engine": "native"}, "engine='native' .* only classifiers"),
        ({"augment": "jitter"}, "augment='jitter' must be None, 'standard'"),
        ({"augment": {"jiter": 0.1}}, "Did you mean 'jitter'"),
    ],
)
def test_a_bad_argument_is_one_clear_error(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        small(**arguments).fit(X, Y)
