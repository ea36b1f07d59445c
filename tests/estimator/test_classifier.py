import functools
import hashlib
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from fits import InterruptAfter, plain_classifier, reloaded, weights, without_time
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks
from threads import torch_threads

import sensorseq.estimator.classifier
from sensorseq import SensorLSTMClassifier, WindowSet
from sensorseq.errors import (
    ArgumentError,
    DivergedError,
    EnvironmentProblemError,
    InputError,
)


def small(**arguments):
    settings = {"hidden_size": 6, "max_epochs": 6, "learning_rate": 0.03, "device": "cpu"}
    return plain_classifier(**{**settings, "random_state": 0, **arguments})


def make_windows(n=60, n_timesteps=20, n_channels=2, n_classes=3, seed=0):
    """Sines whose frequency depends on the class, with random phases and a little noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    t = np.arange(n_timesteps)[None, :, None]
    phase = rng.uniform(0, 2 * np.pi, (n, 1, n_channels))
    X = np.sin(t * (0.2 + 0.5 * y[:, None, None]) + phase)
    return X + 0.1 * rng.normal(size=X.shape), y


X, Y = make_windows()


def assert_same_fit(first, second):
    assert weights(first) == weights(second)
    assert without_time(first.history_) == without_time(second.history_)


EXPECTED_FAILED_CHECKS = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a window of weight 2 fills one place of a mini-batch, two copies fill two; weight 0 is"
        " removal exactly, which a test of its own shows"
    ),
}


@parametrize_with_checks(
    [small(hidden_size=8, max_epochs=8, learning_rate=0.1)],
    expected_failed_checks=lambda _: EXPECTED_FAILED_CHECKS,
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.trains
@parametrize_with_checks(
    [SensorLSTMClassifier(hidden_size=4, max_epochs=3, device="cpu", random_state=0)],
    expected_failed_checks=lambda _: EXPECTED_FAILED_CHECKS,
)
def test_scikit_learns_checks_with_features_and_a_refit(estimator, check):
    check(estimator)


# Learning.


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(plain_classifier, learning_rate=0.01, max_epochs=40),
        pytest.param(SensorLSTMClassifier, marks=pytest.mark.trains),
    ],
    ids=["quick", "defaults"],
)
def test_the_classic_task_works_on_one_hot_labels(make):
    rng = np.random.default_rng(0)
    y = np.arange(98) % 6
    X = np.sin(np.arange(100) * (0.1 + 0.15 * y[:, None]) + rng.uniform(0, 6, (98, 1)))[:, :, None]
    classifier = make(random_state=0).fit(X, np.eye(6)[y])
    assert classifier.score(X, np.eye(6)[y]) > 0.9
    assert classifier.classes_.tolist() == list(range(6))
    assert classifier.fluctuation_.verdict in {"normal", "fluctuating"}
    assert classifier.history_[classifier.best_epoch_ - 1]["val_accuracy"] > 0.8


@pytest.mark.trains
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"bidirectional": True, "num_layers": 2, "dropout": 0.1, "recurrent_dropout": 0.1},
        {"pooling": "last", "head_norm": "batch"},
        {"pooling": "max", "head_norm": "layer", "optimizer": "adamw", "weight_decay": 0.01},
        {"loss": "focal", "sampler": "balanced"},
        {"optimizer": "rmsprop", "lr_schedule": "plateau", "learning_rate": 0.01},
        {"optimizer": "sgd", "learning_rate": 0.3, "max_grad_norm": 0.5},
        {"weight_init": "he", "recurrent_init": "xavier", "ema_decay": 0.9, "warmup_epochs": 2},
        {"scale": "robust", "label_smoothing": 0.1, "class_weight": "balanced"},
        {"scale": None, "max_timesteps": 15, "crop": "random"},
        {"dtype": "float64", "batch_size": None, "learning_rate": 0.1, "max_grad_norm": None},
        {"loss": torch.nn.CrossEntropyLoss(), "weight_init": "uniform"},
    ],
    ids=lambda arguments: "+".join(arguments) or "defaults",
)
def test_planted_frequencies_are_learned_with_every_choice(arguments):
    settings = {"hidden_size": 16, "max_epochs": 30, "early_stopping": False}
    classifier = small(**{**settings, **arguments}).fit(*make_windows(n=240))
    assert classifier.score(*make_windows(n=240, seed=1)) > 0.9


def test_a_slice_of_an_array_is_predicted_like_its_copy():
    clf = small(scale=None, max_epochs=1).fit(X.astype(np.float32), Y)
    part = X.astype(np.float32)[:, 3:12]
    np.testing.assert_array_equal(clf.predict_proba(part), clf.predict_proba(part.copy()))


# The same seed gives the same result.


def test_the_seed_determines_the_result_bit_for_bit():
    settings = {"dropout": 0.3, "recurrent_dropout": 0.2, "max_timesteps": 15, "crop": "random"}
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  the test is about the global state
    first = small(**settings).fit(X, Y)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    before = torch.get_rng_state()
    second = small(**settings).fit(X, Y)
    assert torch.equal(before, torch.get_rng_state())
    assert_same_fit(first, second)
    assert weights(first) != weights(small(**settings, random_state=1).fit(X, Y))


def digest(classifier):
    return hashlib.sha256(b"".join(weights(classifier).values())).hexdigest()


@pytest.mark.long
def test_the_seed_determines_the_result_in_another_process():
    script = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r};"
        "from test_classifier import X, Y, digest, small;"
        "print(digest(small(dropout=0.3).fit(X, Y)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest(small(dropout=0.3).fit(X, Y))


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_the_number_of_threads_changes_no_bit(options):
    fitted = []
    for n_threads in (1, 3):
        clf = plain_classifier(hidden_size=64, max_epochs=1, random_state=0, **options)
        with torch_threads(n_threads):
            fitted.append(clf.fit(*make_windows(180)))
    assert weights(fitted[0]) == weights(fitted[1])


def test_fits_in_threads_do_not_disturb_each_other():
    alone = small(dropout=0.3).fit(X, Y)
    before = torch.get_rng_state()
    fitted = [small(dropout=0.3) for _ in range(4)]
    threads = [threading.Thread(target=clf.fit, args=(X, Y)) for clf in fitted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for clf in fitted:
        assert_same_fit(alone, clf)
    assert torch.equal(before, torch.get_rng_state())


def test_an_unrelated_argument_changes_no_initial_weight():
    plain, cropped = (small(max_epochs=1, crop=c).fit(X, Y) for c in ("head", "random"))
    assert_same_fit(plain, cropped)


# Input data.


def test_one_hot_columns_stand_for_the_classes_fit_saw():
    names = np.array(["ICE", "SAND", "SNOW"])
    other, of_other = make_windows(30, seed=1)
    classifier = small().fit(X, names[Y], X_val=other, y_val=np.eye(3)[of_other])
    assert_same_fit(classifier, small().fit(X, names[Y], X_val=other, y_val=names[of_other]))
    assert classifier.score(X, np.eye(3)[Y]) == classifier.score(X, names[Y]) > 0.5


def test_one_channel_is_the_same_in_two_and_three_dimensions():
    flat, deep = small().fit(X[:, :, 0], Y), small().fit(X[:, :, :1], Y)
    assert_same_fit(flat, deep)
    assert (flat.n_features_in_, deep.n_features_in_) == (20, 1)
    np.testing.assert_array_equal(flat.predict_proba(X[:, :, :1]), deep.predict_proba(X[:, :, 0]))


def test_3d_windows_may_have_any_length_but_flat_windows_may_not():
    deep = small().fit(X, Y)
    assert deep.predict(X[:, :7]).shape == (60,)
    flat = small().fit(X[:, :, 0], Y)
    with pytest.raises(ValueError, match=r"X has 7 features, but .* expecting 20"):
        flat.predict(X[:, :7, 0])


def test_steps_beyond_the_lengths_change_nothing():
    lengths = np.random.default_rng(0).integers(5, 21, len(X))
    filled, hollow = X.copy(), X.copy()
    hollow[np.arange(20) >= lengths[:, None]] = np.nan
    settings = {"bidirectional": True, "max_timesteps": 12, "crop": "tail"}
    first = small(**settings).fit(filled, Y, lengths=lengths)
    second = small(**settings).fit(hollow, Y, lengths=lengths)
    assert_same_fit(first, second)
    predicted = [first.predict_proba(windows, lengths) for windows in (filled, hollow)]
    np.testing.assert_array_equal(*predicted)
    listed = [window[:length] for window, length in zip(X, lengths, strict=True)]
    assert_same_fit(first, small(**settings).fit(listed, Y))
    np.testing.assert_array_equal(first.predict(listed), first.predict(hollow, lengths))


def test_the_scaler_learns_from_the_training_part_alone():
    X_val, y_val = make_windows(seed=1)
    near = small().fit(X, Y, X_val=X_val, y_val=y_val)
    far = small().fit(X, Y, X_val=1e3 + X_val, y_val=y_val)
    np.testing.assert_array_equal(near.scaler_.channel_center, far.scaler_.channel_center)
    np.testing.assert_allclose(near.scaler_.channel_center, X.mean((0, 1)), rtol=1e-6)
    held_out = small(validation_fraction=0.4).fit(X * 3, Y)
    assert not np.allclose(held_out.scaler_.channel_center, 3 * X.mean((0, 1)), rtol=1e-6)


def test_a_window_set_that_is_split_is_used_as_split():
    split = np.array(["train", "validation", "test"])[np.arange(60) // 3 % 3]
    poisoned = X.copy()
    poisoned[split == "test"] = 1e6
    windows = WindowSet(poisoned.astype(np.float32), y=Y, split=split)
    whole = small().fit(windows)
    train, validation = windows.part("train"), windows.part("validation")
    apart = small().fit(train.X, train.y, X_val=validation.X, y_val=validation.y)
    assert_same_fit(whole, apart)
    assert whole.score(windows.part("validation")) == apart.score(validation.X, validation.y)


def test_windows_of_weight_zero_take_no_part():
    weight = np.ones(len(X))
    weight[[3, 10, 11]] = 0
    spoiled = X.copy()
    spoiled[3] = 1e9
    left_out = small().fit(X[weight > 0], Y[weight > 0])
    assert_same_fit(small().fit(spoiled, Y, sample_weight=weight), left_out)


def test_the_unit_of_sample_weights_does_not_matter():
    weight = np.random.default_rng(0).uniform(0.5, 2, len(X))
    first, second = (small(dtype="float64").fit(X, Y, weight * unit) for unit in (1.0, 64.0))
    np.testing.assert_allclose(first.predict_proba(X), second.predict_proba(X), rtol=1e-9)


def test_a_heavier_class_is_predicted_more_often():
    noise = np.random.default_rng(0).normal(size=(90, 5, 1))
    y = np.arange(90) % 3
    counts = [
        (small(class_weight=weight, max_epochs=15).fit(noise, y).predict(noise) == 2).sum()
        for weight in (None, {2: 20.0})
    ]
    assert counts[1] > counts[0] + 20


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_the_validation_curve_is_the_mean_loss_without_class_weights(loss):
    X_val, y_val = make_windows(seed=1)
    settings = {"loss": loss, "class_weight": {2: 20.0}, "restore_best": False}
    classifier = small(**settings).fit(X, Y, X_val=X_val, y_val=y_val)
    p = classifier.predict_proba(X_val)
    true = p[np.arange(len(p)), y_val]
    expected = {
        "cross_entropy": -np.log(true),
        "focal": -((1 - true) ** 2) * np.log(true),
    }
    assert classifier.history_[-1]["val_loss"] == pytest.approx(expected[loss].mean(), rel=1e-4)


def test_balanced_class_weights_are_n_over_k_counts():
    y = np.repeat([0, 1], [45, 15])
    windows, _ = make_windows(n_classes=2)
    X_val, y_val = make_windows(n_classes=2, seed=1)
    fit = functools.partial(SensorLSTMClassifier.fit, X=windows, y=y, X_val=X_val, y_val=y_val)
    balanced = fit(small(class_weight="balanced"))
    assert_same_fit(balanced, fit(small(class_weight={0: 60 / 90, 1: 60 / 30})))


def test_warm_start_continues_from_the_weights_and_the_scaling():
    classifier = small(warm_start=True, max_epochs=40).fit(X, Y)
    loss = classifier.best_score_
    center = classifier.scaler_.channel_center
    classifier.fit(X + 0.1, Y)
    assert classifier.history_[0]["val_loss"] < 2 * loss + 0.2
    assert classifier.history_[0]["val_loss"] < small().fit(X, Y).history_[0]["val_loss"]
    np.testing.assert_array_equal(classifier.scaler_.channel_center, center)


def test_without_warm_start_a_second_fit_starts_anew():
    twice = small().fit(X * 5, (Y + 1) % 3).fit(X, Y)
    assert_same_fit(twice, small().fit(X, Y))


# How a fit ends.


def test_divergence_keeps_the_best_weights_and_gives_a_warning():
    calls = []

    def sick(logits, target):
        calls.append(0)
        losses = torch.nn.functional.cross_entropy(logits, target, reduction="none")
        return losses * float("inf") if len(calls) > 20 else losses

    classifier = small(loss=sick, batch_size=None, max_epochs=50)
    with pytest.warns(ConvergenceWarning, match="training diverged in epoch 11"):
        classifier.fit(X, Y)
    assert classifier.fluctuation_.verdict == "diverged"
    assert classifier.best_epoch_ == 10
    assert np.isfinite(classifier.predict_proba(X)).all()


def test_divergence_in_the_first_epoch_is_an_error_with_a_report():
    classifier = small(loss=lambda logits, target: logits.sum(1) * float("nan"))
    with pytest.raises(DivergedError, match=r"first epoch: .* learning_rate") as raised:
        classifier.fit(X, Y)
    assert raised.value.fluctuation.verdict == "diverged"
    with pytest.raises(NotFittedError):
        classifier.predict(X)


@pytest.mark.parametrize("loss", ["focal", torch.nn.CrossEntropyLoss()], ids=str)
def test_only_cross_entropy_is_judged_in_nats(loss):
    report = small(loss=loss, max_epochs=40, early_stopping=False).fit(X, Y).fluctuation_
    assert "nats" not in " ".join(report.explanation[:-1])
    assert "is not cross-entropy in nats and was not judged" in report.explanation[-1]
    in_nats = {name for name, figure in report.statistics.items() if figure.unit == "nats"}
    assert in_nats <= {"val_prediction_entropy"}  # a statistic of the predictions, not of a loss
    alone = small(loss=loss, max_epochs=3, early_stopping=False, validation_fraction=0.0)
    report = alone.fit(X, Y).fluctuation_
    assert report.verdict == "too_short_to_tell"
    assert "was not judged" in str(report)


def test_auto_chooses_as_many_epochs_as_the_training_part_needs():
    calls = []

    class Watch:
        def on_fit_begin(self, module, config):
            calls.append(config.max_epochs)

    def auto(batch_size, **arguments):
        settings = {"hidden_size": 2, "batch_size": batch_size, "early_stopping": False}
        return small(**{**settings, "max_epochs": "auto", "callbacks": [Watch()], **arguments})

    fitted = auto(6).fit(X, Y)  # 8 batches from the 48 training windows
    assert (fitted.n_iter_, calls) == (50, [50])
    assert fitted.get_params()["max_epochs"] == "auto"
    same = auto(6, max_epochs=50).fit(X, Y)
    assert without_time(same.history_) == without_time(fitted.history_)
    assert auto(1, sampler="balanced").fit(X, Y).n_iter_ == 24
    assert auto(6, max_steps=21).fit(X, Y).n_iter_ == 3
    ensemble = auto(16, n_models=2, max_steps=60, callbacks=None).fit(X, Y)
    assert [len(history) for history in ensemble.histories_] == [20, 20]
    with pytest.warns(UserWarning, match="interrupted after epoch 1 of 50;"):
        auto(6, callbacks=[InterruptAfter(1)]).fit(X, Y)


def sick(logits, target):
    return logits.sum(1) * float("nan")


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(
    ("changes", "y", "error"),
    [
        ({}, np.zeros(len(X)), InputError),
        ({"scale": "phys"}, Y, ArgumentError),
        ({"loss": sick}, Y, DivergedError),
        ({"callbacks": [InterruptAfter(1)], "max_epochs": 2}, Y, None),
    ],
    ids=["one class", "argument", "diverged", "interrupted twice"],
)
@pytest.mark.filterwarnings("ignore")
def test_a_fit_that_fails_leaves_the_estimator_as_it_was(
    warm_start, changes, y, error, monkeypatch
):
    classifier = small(warm_start=warm_start).fit(X, Y)
    before, state = pickle.dumps(classifier), set(vars(classifier))
    expected = classifier.predict_proba(X)
    if error is None:  # interrupted while the report is being made
        error = KeyboardInterrupt

        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(sensorseq.estimator.classifier, "report_fit", interrupted)
    arguments = classifier.get_params()
    classifier.set_params(**changes)
    with pytest.raises(error):
        classifier.fit(X, y)
    classifier.set_params(**arguments)
    assert set(vars(classifier)) == state
    assert pickle.dumps(classifier) == before
    np.testing.assert_array_equal(classifier.predict_proba(X), expected)


def test_the_engine_states_the_reason_why_it_ran():
    assert small().fit(X, Y).engine_.name == "native"
    assert str(small(engine="autograd").fit(X, Y).engine_) == "autograd (requested)"
    engine = small(loss=torch.nn.functional.cross_entropy).fit(X, Y).engine_
    assert engine.name == "autograd"
    assert "the loss is a callable" in engine.reason
    with pytest.raises(ArgumentError, match=r"engine='native' .* the loss"):
        small(loss=torch.nn.functional.cross_entropy, engine="native").fit(X, Y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_gives_a_clear_error():
    with pytest.raises(EnvironmentProblemError, match="device='cuda' is not available"):
        small(device="cuda").fit(X, Y)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_fit_is_repeatable_and_predicts_without_a_gpu(tmp_path):
    settings = {"device": "cuda", "dropout": 0.3}
    first, second = small(**settings).fit(X, Y), small(**settings).fit(X, Y)
    assert first.module_.linear.weight.is_cuda
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    first.save(tmp_path / "model")
    on_cpu = SensorLSTMClassifier.load(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(on_cpu.predict_proba(X), first.predict_proba(X), atol=1e-5)
    assert not pickle.loads(pickle.dumps(first)).module_.linear.weight.is_cuda


# With scikit-learn.


def test_a_clone_of_a_fitted_classifier_gives_the_same_fit():
    classifier = small(optimizer_params={"eps": 1e-6}, class_weight={0: 2.0}).fit(X, Y)
    twin = clone(classifier)
    assert not hasattr(twin, "module_")
    assert_same_fit(classifier, twin.fit(X, Y))


# The model file.


WITH_FEATURES = [
    {},
    {"features": "rocket", "refit": None, "n_models": 2},
    {"features": ["summary", "boosting"], "refit": None, "dtype": "float64"},
    {"features": "summary", "max_timesteps": 9, "crop": "random", "refit": "all"},
    {"features": None, "refit": "all"},
]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (plain_classifier, {}),
        (plain_classifier, {"head_norm": "batch", "bidirectional": True, "num_layers": 2}),
        (plain_classifier, {"scale": None, "optimizer_params": {"betas": (0.8, 0.99)}}),
        (plain_classifier, {"class_weight": {0: 2.0}, "dtype": "float64", "scale": "robust"}),
        (plain_classifier, {"max_timesteps": 15, "crop": "tail"}),
        (plain_classifier, {"n_models": 3, "head_norm": "batch"}),
        *(
            pytest.param(SensorLSTMClassifier, arguments, marks=pytest.mark.trains)
            for arguments in WITH_FEATURES
        ),
    ],
    ids=lambda given: getattr(given, "__name__", str(given)),
)
def test_a_file_and_a_pickle_contain_the_same_classifier(kind, arguments, tmp_path):
    settings = {"hidden_size": 6, "max_epochs": 4, "learning_rate": 0.03, "random_state": 0}
    classifier = kind(**{**settings, "device": "cpu", **arguments}).fit(X, Y)
    new, _ = make_windows(9, seed=1)
    new[4] *= 1000
    outside = classifier.outside(new)
    of_file, of_pickle = reloaded(classifier, tmp_path)
    content = (tmp_path / "model").read_bytes()
    for again in (of_file, of_pickle):
        assert list(map(weights, again.modules_)) == list(map(weights, classifier.modules_))
        assert again.get_params() == classifier.get_params()
        assert again.histories_ == classifier.histories_
        assert again.fluctuation_.to_dict() == classifier.fluctuation_.to_dict()
        for name in ("best_epoch_", "best_score_", "n_iter_", "n_features_in_", "engine_"):
            assert getattr(again, name) == getattr(classifier, name)
        assert again.features_ == classifier.features_
        assert str(again.features_) == str(classifier.features_)
        np.testing.assert_array_equal(again.predict_proba(new), classifier.predict_proba(new))
        for part in ("reasons", "ratio"):
            found = getattr(again.outside(new), part)
            np.testing.assert_array_equal(found, getattr(outside, part))
        again.save(tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == content


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["b", "a", "c"]),
        np.array(["b", "a", "c"], dtype=object),
        np.array([-3, 10, 4]),
        np.array([1.0, 2.0, 7.0]),
        np.array([True, False, True]),
    ],
    ids=lambda labels: labels.dtype.str,
)
def test_saved_labels_keep_their_type(labels, tmp_path):
    classifier = small(max_epochs=1).fit(X, labels[Y])
    predicted = reloaded(classifier, tmp_path)[0].predict(X)
    assert predicted.dtype == classifier.predict(X).dtype == labels.dtype
    np.testing.assert_array_equal(predicted, classifier.predict(X))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("loss", torch.nn.CrossEntropyLoss()),
        ("weight_init", lambda name, tensor, generator: tensor.fill_(0.1)),
        ("callbacks", [type("Quiet", (), {"on_fit_end": lambda *_: None})()]),
        ("random_state", np.random.RandomState(0)),
    ],
)
def test_an_argument_that_only_code_can_restore_is_not_saved(argument, value, tmp_path):
    classifier = small(**{argument: value}).fit(X, Y)
    with pytest.raises(InputError, match=f"^{argument}=.* cannot be saved"):
        classifier.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())
    plain = plain_classifier().get_params()[argument]
    classifier.set_params(**{argument: plain}).save(tmp_path / "model")


def test_an_unfitted_classifier_has_nothing_to_save(tmp_path):
    with pytest.raises(NotFittedError):
        small().save(tmp_path / "model")


def test_loading_does_not_touch_the_global_generator(tmp_path):
    small(max_epochs=1).fit(X, Y).save(tmp_path / "model")
    before = torch.get_rng_state()
    SensorLSTMClassifier.load(tmp_path / "model")
    assert torch.equal(before, torch.get_rng_state())
