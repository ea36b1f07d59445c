import numpy as np
import pytest
from fits import AfterEpoch
from fits import small_classifier as small

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ArgumentError
from sensorseq.preprocessing import Augmentation
from sensorseq.training.window_format import check_augment
from sensorseq.windows import WindowSet


def make_windows(n, seed, *, confounded=False):
    """Two surfaces that differ in ripple; if `confounded`, each has its own gain."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    ripple = np.sin(np.arange(40) * np.where(y, 0.8, 0.4)[:, None] + phase)
    gain = np.where(y, 1.6, 1.0) if confounded else rng.uniform(0.7, 2.0, n)
    X = gain[:, None] * (ripple + 0.2 * rng.normal(size=(n, 40)))
    return X[:, :, None], y


X, Y = make_windows(48, 0)


@pytest.mark.trains
def test_a_random_gain_removes_the_effect_of_a_gain_confounded_with_the_class():
    better = []
    for seed in range(5):
        train, test = make_windows(60, seed, confounded=True), make_windows(200, 100 + seed)
        plain, augmented = (
            small(max_epochs=40, augment=augment, random_state=seed).fit(*train).score(*test)
            for augment in (None, {"scaling": 0.5})
        )
        better.append(augmented - plain)
    assert np.median(better) > 0.15
    assert min(better) > 0


def test_both_engines_take_the_same_trajectory_on_augmented_windows():
    first, second = (
        small(augment="standard", engine=engine, dtype="float64", max_epochs=3).fit(X, Y)
        for engine in ("native", "autograd")
    )
    np.testing.assert_allclose(first.history_["loss"], second.history_["loss"], rtol=1e-9)
    plain = small(dtype="float64", max_epochs=3).fit(X, Y)
    assert first.history_["loss"][-1] != plain.history_["loss"][-1]


def test_every_epoch_draws_anew_and_the_same_seed_draws_the_same():
    seen = []

    def loss(logits, class_index):
        return logits.square().mean(dim=1)

    watch = AfterEpoch(lambda module, history: seen.append(history[-1]["loss"]))
    arguments = {"augment": {"jitter": 1.0}, "batch_size": None, "learning_rate": 1e-12}
    arguments |= {"loss": loss, "max_epochs": 3, "callbacks": [watch]}
    for _ in range(2):
        small(**arguments).fit(X, Y)
    assert seen[:3] == seen[3:]
    assert len(set(seen)) == 3


def test_validation_windows_and_the_callers_windows_are_unchanged():
    original = X.astype(np.float32)
    before = original.copy()
    X_val, y_val = make_windows(20, 9)
    clf = small(augment={"jitter": 3.0}, scale=None, restore_best=False)
    clf.fit(original, Y, X_val=X_val, y_val=y_val)
    np.testing.assert_array_equal(original, before)
    assert clf.history_["val_accuracy"][-1] == clf.score(X_val, y_val)


def test_an_augmentation_of_no_strength_changes_no_bit():
    plain = small().fit(X, Y).predict_proba(X)
    for augment in ({}, Augmentation(), {"jitter": 0.0}):
        np.testing.assert_array_equal(small(augment=augment).fit(X, Y).predict_proba(X), plain)


def test_channels_to_mirror_are_known_by_name_or_number(tmp_path):
    rng = np.random.default_rng(0)
    named = WindowSet(
        X=rng.normal(size=(40, 12, 3)).astype(np.float32) + Y[:40, None, None],
        lengths=np.full(40, 12),
        y=Y[:40],
        channels=("left", "right", "yaw"),
    )
    how = {"mirror": ["yaw"], "swap": [("left", "right")]}
    by_name = small(augment=how, max_epochs=3).fit(named)
    by_number = small(augment={"mirror": [2], "swap": [(0, 1)]}, max_epochs=3).fit(named.X, named.y)
    plain = small(max_epochs=3).fit(named)
    losses = [list(clf.history_["loss"]) for clf in (by_name, by_number, plain)]
    assert losses[0] == losses[1] != losses[2]
    by_name.save(tmp_path / "model")
    again = SensorLSTMClassifier.load(tmp_path / "model")
    assert check_augment(again.augment) == check_augment(how)
    with pytest.raises(ArgumentError, match=r"'yow'.*Did you mean 'yaw'"):
        small(augment={"mirror": ["yow"]}).fit(named)
    with pytest.raises(ArgumentError, match="'yaw', but the windows have no channel names"):
        small(augment=how).fit(named.X, named.y)


def test_axes_to_rotate_are_found_by_name_and_stored_as_given(tmp_path):
    rng = np.random.default_rng(0)
    windows = WindowSet(
        X=rng.normal(size=(40, 12, 4)).astype(np.float32) + Y[:40, None, None],
        lengths=np.full(40, 12),
        y=Y[:40],
        channels=("speed", "acc.z", "acc.x", "acc.y"),
    )
    by_number = {"rotation_deg": 30.0, "axes": [(2, 3, 1)]}
    hows = ({"rotation_deg": 30.0}, by_number, Augmentation(**by_number), None)
    fits = [small(augment=how, max_epochs=3).fit(windows) for how in hows]
    losses = [fit.history_["loss"].tolist() for fit in fits]
    assert losses[0] == losses[1] == losses[2] != losses[3]
    fits[2].save(tmp_path / "model")
    again = SensorLSTMClassifier.load(tmp_path / "model")
    assert check_augment(again.augment) == Augmentation(**by_number)
    with pytest.raises(ArgumentError, match=r"no channel names; name the axes as triples"):
        small(augment={"rotation_deg": 30.0}).fit(windows.X, windows.y)


def test_steps_beyond_the_lengths_do_not_count():
    lengths = np.arange(48) % 20 + 20
    other = np.where(np.arange(40)[None, :, None] < lengths[:, None, None], X, np.nan)
    first, second = (
        small(augment="standard").fit(windows, Y, lengths=lengths) for windows in (X, other)
    )
    assert first.history_["loss"].tolist() == second.history_["loss"].tolist()


@pytest.mark.parametrize(
    "value",
    ["jitter", 0.1, {"jiter": 0.1}, {"jitter": -1}, {"offset": -1}, {"mirror": "jitter"}],
)
def test_an_invalid_augmentation_is_named(value):
    with pytest.raises(ArgumentError, match=r"augment|jitter|offset"):
        small(augment=value).fit(X, Y)
