"""Bad input causes one clear error that names the argument, row, channel or step."""

import re

import numpy as np
import pandas as pd
import pytest
from fits import plain_classifier

from sensorseq import SensorLSTMClassifier, WindowSet
from sensorseq.errors import (
    ArgumentError,
    InputError,
    ModelFileError,
    PreparedFileError,
    SplitError,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 10, 3))
Y = np.arange(24) % 2


def readable(part):
    """Return the name of a case without addresses, which differ between processes."""
    return re.sub(" at 0x[0-9a-f]+", "", str(part))[:60]


def classifier(**arguments):
    settings = {"hidden_size": 2, "max_epochs": 1, "device": "cpu", "random_state": 0}
    return plain_classifier(**{**settings, **arguments})


@pytest.fixture(scope="module")
def fitted():
    return classifier().fit(X, Y)


def spoiled(value, row=5, step=7, channel=2):
    windows = X.copy()
    windows[row, step, channel] = value
    return windows


def with_label(value, row=4):
    labels = Y.astype(object)
    labels[row] = value
    return labels


FIT = {
    "NaN in 2-D X": ((spoiled(np.nan)[:, :, 2], Y), "X has NaN in window 5, step 7"),
    "one-hot of another length": ((X, np.eye(2)[Y][:-1]), "y has 23 one-hot rows, but X has 24"),
    "one class": ((X, np.full(24, "ICE")), "y has only one class .'ICE'."),
    "one column of one-hot": ((X, np.eye(2)[Y * 0]), "y has only one class .0."),
    "several labels": ((X, np.ones((24, 3), int)), r"row 0 is \[1, 1, 1\]"),
    "NaN label": ((X, np.where(np.arange(24) == 4, np.nan, Y)), r"y\[4\] is nan"),
    "missing label": ((X, with_label(None)), r"y\[4\] is None"),
    "label that pandas misses": ((X, with_label(pd.NA)), r"y\[4\] is <NA>"),
    "labels of samples": ((X, [Y, Y[1:]]), "y is ragged; give one label for each window"),
    "mixed labels": ((X, with_label("ICE")), r"y\[0\] is 0, y\[4\] is 'ICE'"),
    "one step of many": ((X.reshape(24, 1, 30), Y), r"of 1 step and 30 channels; .* X.transpose"),
}


@pytest.mark.parametrize(("data", "message"), FIT.values(), ids=FIT)
def test_fit_names_what_is_wrong_with_the_data(data, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(*data)


KEYWORDS = {
    "missing group": (
        {"groups": np.where(np.arange(24) == 6, np.nan, 1.0)},
        r"groups\[6\] is .*nan.*; every window needs a group",
    ),
    "y_val without X_val": ({"y_val": Y}, "y_val is given without X_val"),
    "groups_val without X_val": ({"groups_val": Y}, "groups_val is given without X_val"),
    "length of y_val": ({"X_val": X, "y_val": Y[1:]}, "y_val has 23 values, but X_val has 24"),
    "width of y_val": ({"X_val": X, "y_val": np.eye(3)[Y]}, "y_val has 3 one-hot .* 2 classes"),
    "shared group": (
        {"X_val": X, "y_val": Y, "groups": list("abcd" * 6), "groups_val": list("defg" * 6)},
        "group 'd' is in both groups and groups_val",
    ),
}


@pytest.mark.parametrize(("keywords", "message"), KEYWORDS.values(), ids=KEYWORDS)
def test_fit_names_the_keyword_that_is_wrong(keywords, message):
    with pytest.raises(InputError, match=message):
        classifier().fit(X, Y, **keywords)


def test_a_window_set_without_labels_or_train_part_is_named():
    windows = WindowSet(X.astype(np.float32))
    with pytest.raises(InputError, match="requires y to be passed"):
        classifier().fit(windows)
    split = np.where(Y, "validation", "test")
    split[0] = "validation"
    with pytest.raises(InputError, match="split without a train part"):
        classifier().fit(WindowSet(X.astype(np.float32), y=Y, split=split))


def window_set(split, **columns):
    return WindowSet(X.astype(np.float32), y=Y, split=np.array(split), **columns)


@pytest.mark.parametrize("other", ["validation", "test"])
def test_a_group_in_two_parts_of_a_split_is_named(other):
    groups = [f"robot_{i // 4}" for i in range(24)]
    split = np.repeat(["train", "validation", "test"], [12, 8, 4])
    classifier().fit(window_set(split, groups=groups))
    split[9] = other
    with pytest.raises(SplitError, match=f"group 'robot_2' in train and {other} .1 such groups"):
        classifier().fit(window_set(split, groups=groups))


def test_arguments_without_use_under_a_split_are_refused():
    split = ["train"] * 12 + ["validation"] * 12
    with pytest.raises(InputError, match="X already has a split, which groups cannot change"):
        classifier().fit(window_set(split), groups=np.arange(24))
    with pytest.raises(InputError, match="already has a validation part, so X_val"):
        classifier().fit(window_set(split), X_val=X, y_val=Y)
    train = window_set(split).part("train")
    assert classifier().fit(train, X_val=X, y_val=Y).n_iter_ == 1


def test_arguments_that_leave_no_validation_windows_are_named():
    with pytest.raises(ArgumentError, match="split of X has none, only 20 training windows"):
        classifier().fit(window_set(["train"] * 20 + ["test"] * 4))
    with pytest.raises(ArgumentError, match="none of the 2 windows of X can be held out"):
        classifier().fit(X[:2], Y[:2])
    lonely = classifier(early_stopping=False).fit(X[:2], Y[:2])
    assert "val_loss" not in lonely.history_[0]


def test_a_file_has_its_own_labels():
    with pytest.raises(InputError, match=r"the file windows\.h5 contains its own y"):
        classifier().fit("windows.h5", Y)


def test_a_missing_prepared_file_is_named():
    with pytest.raises(PreparedFileError, match=r"windows\.h5"):
        classifier().fit("windows.h5")


def test_channel_first_windows_are_recognized_at_prediction():
    deep = classifier().fit(RNG.normal(size=(12, 50, 6)), Y[:12])
    with pytest.raises(InputError) as caught:
        deep.predict(np.zeros((4, 6, 50)))
    message = str(caught.value)
    assert "read as 4 windows of 6 steps and 50 channels, but fit saw 6 channels" in message
    assert "channel-first, (n, c, t), it has windows of 50 steps and 6 channels" in message
    assert "X.transpose(0, 2, 1)" in message


PREDICT = {
    "channels": (X[:, :, :2], "2 channels, but fit saw 3 channels"),
    "one channel": (X[:, :, 0], "read as 24 windows of one channel, but fit saw 3 channels"),
    "a single window": (X[0], r"Give a single window of shape \(t, c\) as \[X\]"),
    "1-D": (X[:, 0, 0], r"^X has shape \(24,\); .* Reshape your data: .*\)\)\.$"),
    "NaN": (spoiled(np.nan), "X has NaN in window 5, step 7, channel 2"),
    "too large": (spoiled(1e300), r"X has 1e\+300 in window 5, step 7, channel 2"),
}


@pytest.mark.parametrize(("windows", "message"), PREDICT.values(), ids=PREDICT)
def test_prediction_names_what_is_wrong(fitted, windows, message):
    for method in (fitted.predict, fitted.predict_proba, fitted.decision_function):
        with pytest.raises(InputError, match=message):
            method(windows)


def test_a_value_that_only_scaling_makes_infinite_is_named_by_channel():
    quiet = X * np.array([1.0, 1e-30, 1.0])
    with pytest.raises(InputError, match="X in channel 1 is infinite after scaling in float32"):
        classifier().fit(quiet, Y).predict(X * 1e30)


def test_score_needs_labels_of_the_same_length(fitted):
    with pytest.raises(InputError, match="y has 23 values, but X has 24 windows"):
        fitted.score(X, Y[1:])
    with pytest.raises(InputError, match="y is None"):
        fitted.score(X)
    with pytest.raises(InputError, match="y has 3 one-hot columns, but fit saw 2 classes"):
        fitted.score(X, np.eye(3)[Y])


ARGUMENTS = [
    ("hidden_size", 0, "from 1 to"),
    ("hidden_size", 8.0, "must be an integer"),
    ("num_layers", True, "must be an integer"),
    ("bidirectional", "yes", "must be True or False"),
    ("pooling", "mean_max", "Did you mean 'meanmax'"),
    ("dropout", 1.0, r"must be a number in \[0, 1\)"),
    ("recurrent_dropout", -0.1, r"must be a number in \[0, 1\)"),
    ("head_norm", "batch_norm", "Did you mean 'batch'"),
    ("weight_init", "xavir", "Did you mean 'xavier'"),
    ("recurrent_init", 3, "is not known"),
    ("forget_bias", "one", "must be a number"),
    ("loss", "cross-entropy", "Did you mean 'cross_entropy'"),
    ("label_smoothing", 1.0, r"must be a number in \[0, 1\)"),
    ("class_weight", "balance", "Did you mean 'balanced'"),
    ("class_weight", [1, 2], "must be None, 'balanced' or a dict"),
    ("optimizer", "adan", "Did you mean 'adam'"),
    ("learning_rate", 0.0, r"must be a number above zero"),
    ("learning_rate", float("nan"), "must be a number"),
    ("optimizer_params", {"momentum": 1.0}, "optimizer_params"),
    ("optimizer_params", {"ep": 1}, "Did you mean 'eps'"),
    ("motors", [], "must be a list of pairs"),
    ("lr_schedule", "cosin", "Did you mean 'cosine'"),
    ("warmup_epochs", -1, "at least 0"),
    ("warmup_epochs", 1.5, r"integer of at least 0 \(epochs\), or a number in \(0, 1\)"),
    ("warmup_epochs", float("nan"), r"or a number in \(0, 1\)"),
    ("ema_decay", 1.0, r"must be a number in \[0, 1\)"),
    ("batch_size", 0, "at least 1"),
    ("sampler", "balance", "Did you mean 'balanced'"),
    ("max_epochs", 0, "an integer from 1"),
    ("max_epochs", "automatic", "must be an integer of at least 1, or 'auto'"),
    ("max_steps", 0, "at least 1"),
    ("max_grad_norm", 0, r"must be a number above zero"),
    ("weight_decay", -1, r"must be a number in \[0, inf\)"),
    ("max_timesteps", 0, "at least 1"),
    ("crop", "center", "Did you mean 'centre'"),
    ("early_stopping", 1, "must be True or False"),
    ("validation_fraction", 1.0, r"must be a number in \[0, 1\)"),
    ("patience", 0, "at least 1"),
    ("tol", -1e-3, r"must be a number in \[0, inf\)"),
    ("monitor", "val_acc", "Did you mean 'val_accuracy'"),
    ("restore_best", "best", "must be True or False"),
    ("features", "rockets", r"is not known\. Use 'auto', None, .*, a function"),
    ("features", ["rocket", 3], r"is not known\. Use 'auto', None, .*, a function"),
    ("refit", "every", "is not 'auto', 'all' or None"),
    ("missing", "expect", "Did you mean 'expected'"),
    ("patch", "all", "is not 'auto', None or a number of samples"),
    ("patch", 0, "patch=0 must be an integer of at least 1"),
    ("scale", "standart", "Did you mean 'standard'"),
    ("calibrate", "yes", "must be True or False"),
    ("device", "gpu", "Did you mean 'cuda', or 'auto'"),
    ("dtype", "float16", "Known: float32, float64"),
    ("engine", "autograde", "Did you mean 'autograd'"),
    ("warm_start", "no", "must be True or False"),
    ("checkpoint", 3, "checkpoint=3 must be the name of a file, or None"),
    ("callbacks", [object()], r"callbacks\[0\] is"),
    ("n_models", 0, "n_models=0 must be"),
    ("callbacks", "progress", "must be a list"),
    ("verbose", "loud", "must be an integer"),
]


@pytest.mark.parametrize(("argument", "value", "message"), ARGUMENTS, ids=readable)
def test_an_unknown_value_of_an_argument_is_named_with_the_nearest_known(argument, value, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        classifier(**{argument: value}).fit(X, Y)
    assert argument in str(caught.value)


def test_every_argument_is_checked_for_its_value():
    unchecked = {"augment", "random_state"}  # not in ARGUMENTS, but also checked by fits
    checked = {argument for argument, _, _ in ARGUMENTS}
    assert checked | unchecked == set(plain_classifier().get_params())


UNVALIDATED = {"early_stopping": False, "validation_fraction": 0.0}
CONTRADICTIONS = [
    ({"calibrate": True, **UNVALIDATED}, "calibrate=True needs validation windows.* give X_val"),
    ({"validation_fraction": 0.0}, "early_stopping=True with monitor='val_loss'"),
    ({"class_weight": "balanced", "sampler": "balanced"}, "overcorrect it; use one of them"),
    ({"class_weight": "balanced", "sampler": "sqrt"}, "sampler='sqrt' both correct"),
    ({"class_weight": {5: 2.0}}, r"a weight for 5, which is not a class.* \[0, 1\]"),
    ({"class_weight": {0: -1.0}}, r"class_weight\[0\]=-1.0"),
    ({"loss": lambda logits, y: logits.sum(1), "label_smoothing": 0.1}, "label_smoothing"),
    ({"head_norm": "batch", "batch_size": 1}, "head_norm='batch' needs two windows"),
]


@pytest.mark.parametrize(("arguments", "message"), CONTRADICTIONS, ids=readable)
def test_arguments_that_contradict_each_other_are_named(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        classifier(**arguments).fit(X, Y)


def test_a_warm_start_names_what_has_changed():
    warm = classifier(warm_start=True).fit(X, Y)
    with pytest.raises(ArgumentError, match=r"hidden_size=5, but warm_start=True .*hidden_size=2"):
        warm.set_params(hidden_size=5).fit(X, Y)
    warm.set_params(hidden_size=2)
    with pytest.raises(InputError, match=r"classes \[1, 2\], but warm_start=True"):
        warm.fit(X, Y + 1)
    with pytest.raises(InputError, match="2 channels, but fit saw 3"):
        warm.fit(X[:, :, :2], Y)


def test_a_wrong_class_weight_label_names_the_nearest():
    with pytest.raises(ArgumentError, match=r"'ICEE', which is not a class. Did you mean 'ICE'"):
        classifier(class_weight={"ICEE": 2.0}).fit(X, np.where(Y, "ICE", "SNOW"))


@pytest.mark.parametrize("damage", ["empty", "truncated", "foreign", "pickle"])
def test_a_file_that_is_not_a_model_is_refused_and_nothing_is_executed(damage, fitted, tmp_path):
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    ran = tmp_path / "ran"
    evil = f"cbuiltins\nexec\n(S'open({str(ran)!r}, \"w\")'\ntR.".encode()
    contents = {"empty": b"", "truncated": path.read_bytes()[:-10], "pickle": evil}
    path.write_bytes(contents.get(damage, b"time,current\n0.0,1.5\n" * 100))
    with pytest.raises(ModelFileError, match=re.escape(str(path))):
        SensorLSTMClassifier.load(path)
    assert not ran.exists()
