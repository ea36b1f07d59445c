import numpy as np
import pytest
from fits import small_classifier as small
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.training.augment import drop_inputs, epoch_changes


def make_windows(n, seed, *, is_broken=False):
    """Two sensors read the same: one cleanly, until it breaks, the other in noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    level = np.where(y, 1.0, -1.0)[:, None]
    clean = np.zeros((n, 20)) if is_broken else level + 0.1 * rng.normal(size=(n, 20))
    return np.stack([clean, level + 1.5 * rng.normal(size=(n, 20))], axis=2), y


X, Y = make_windows(48, 0)


@pytest.mark.trains
def test_dropped_inputs_teach_to_rely_on_every_sensor():
    better = []
    for seed in range(8):
        train, test = make_windows(100, seed), make_windows(400, 100 + seed, is_broken=True)
        plain, dropped = (
            small(
                input_dropout=share,
                random_state=seed,
                max_epochs=40,
                pooling="mean",
                restore_best=False,
            )
            .fit(*train)
            .score(*test)
            for share in (0.0, 0.5)
        )
        better.append(dropped - plain)
    assert np.median(better) > 0.02
    assert sum(gain > 0 for gain in better) >= 6


@given(st.integers(0, 2**31), st.integers(1, 50), st.permutations(range(6)))
def test_the_mask_of_a_window_depends_on_its_place_and_the_epoch_alone(seed, epoch, order):
    whole = np.ones((6, 5, 2), np.float32)
    drop_inputs(whole, np.arange(6), 0.4, seed, epoch)
    some = np.ones((6, 5, 2), np.float32)
    for start in (0, 3):
        rows = np.array(order[start : start + 3])
        drop_inputs(some[start : start + 3], rows, 0.4, seed, epoch)
    np.testing.assert_array_equal(some, whole[np.array(order)])
    assert set(np.unique(whole)) <= {np.float32(0), np.float32(1 / 0.6)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mask_is_that_of_numpys_philox(dtype):
    X = np.random.default_rng(0).normal(size=(3, 7, 5)).astype(dtype)
    expected, rows = X.copy(), np.array([4, 0, 2**40])
    for window, row in zip(expected, rows, strict=True):
        counter, key = np.array([0, 9, 0, 0], np.uint64), np.array([123, row], np.uint64)
        drawn = np.random.Generator(np.random.Philox(counter=counter, key=key))
        is_zero = drawn.random(window.shape, np.float32) < 0.37
        window *= np.where(is_zero, 0, dtype(1 / (1 - 0.37)))
    drop_inputs(X, rows, 0.37, 123, 9)
    np.testing.assert_array_equal(X, expected)


def test_the_asked_share_is_dropped_and_the_mean_stays():
    ones = np.ones((200, 50, 4), np.float32)
    drop_inputs(ones, np.arange(200), 0.3, 1, 1)
    assert (ones == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert ones.mean() == pytest.approx(1.0, abs=0.02)
    again = np.ones((200, 50, 4), np.float32)
    drop_inputs(again, np.arange(200), 0.3, 1, 2)
    assert 0.35 < ((again == 0) != (ones == 0)).mean() < 0.49  # 2 * 0.3 * 0.7


def test_windows_read_from_a_file_are_dropped_as_those_in_memory():
    seed = np.random.SeedSequence(3)
    change = epoch_changes(None, None, 0.5, seed)(7)
    held, read = np.ones((4, 3, 2), np.float32), np.ones((2, 3, 2), np.float32)
    change.scaled(held, np.arange(4))
    change.scaled(read, np.array([3, 1]))
    np.testing.assert_array_equal(read, held[[3, 1]])


def test_both_engines_take_the_same_trajectory():
    first, second = (
        small(input_dropout=0.3, augment={"jitter": 0.1}, engine=engine, dtype="float64").fit(X, Y)
        for engine in ("native", "autograd")
    )
    np.testing.assert_allclose(first.history_["loss"], second.history_["loss"], rtol=1e-9)
    assert first.history_["loss"][-1] != small(dtype="float64").fit(X, Y).history_["loss"][-1]


def test_validation_and_prediction_drop_nothing():
    X_val, y_val = make_windows(20, 9)
    given = X.astype(np.float32)
    before = given.copy()
    clf = small(input_dropout=0.5, scale=None, restore_best=False)
    clf.fit(given, Y, X_val=X_val, y_val=y_val)
    np.testing.assert_array_equal(given, before)
    assert clf.history_["val_accuracy"][-1] == clf.score(X_val, y_val)
    np.testing.assert_array_equal(clf.predict_proba(X), clf.predict_proba(X))


def test_an_ensemble_drops_inputs_too():
    ensemble = small(input_dropout=0.3, n_models=2).fit(X, Y)
    alone = small(input_dropout=0.3).fit(X, Y)
    assert ensemble.histories_[0]["loss"].tolist() == alone.history_["loss"].tolist()
    assert ensemble.histories_[1]["loss"].tolist() != alone.history_["loss"].tolist()
