"""Bad input to either estimator gives one clear error, or a warning, before any training."""

import numpy as np
import pandas as pd
import pytest
from fits import plain_classifier

from sensorseq import SensorLSTMClassifier, WindowSet
from sensorseq.errors import ArgumentError, InputError, OutputError

RNG = np.random.default_rng(0)
N = 24
X = RNG.normal(size=(N, 10, 3))
Y = np.arange(N) % 2
SETTINGS = {"hidden_size": 2, "max_epochs": 1, "device": "cpu", "random_state": 0}


def classifier(**arguments):
    return plain_classifier(**{**SETTINGS, **arguments})


def with_value(value, at, dtype=None):
    windows = X.astype(dtype or X.dtype)
    windows[at] = value
    return windows


WINDOWS = {
    "swapped axes": (
        RNG.normal(size=(N, 3, 100)),
        r"24 windows of 3 steps and 100 channels; as \(n, c, t\) they are windows of 100 steps and"
        r" 3 channels.* X.transpose\(0, 2, 1\)",
    ),
    "NaN": (with_value(np.nan, (5, 7, 2)), "X has NaN in window 5, step 7, channel 2"),
    "infinity": (with_value(-np.inf, (0, 9, 1)), "infinity .* in window 0, step 9, channel 1"),
    "too large": (with_value(-1e300, (1, 2, 0)), r"X has -1e\+300 in window 1, step 2, channel"),
    "text in an object array": (
        with_value("wheel", (3, 2, 1), object),
        "X has .* object .*'wheel'",
    ),
    "an object array of None": (np.full(N, None), r"X has shape \(24,\); expected \(n_windows,"),
    "text": (np.full((N, 10, 3), "a"), "X has type <U1 and is not numeric"),
    "complex": (X + 0j, "Complex data not supported: X has type complex128"),
    "nothing": (None, "X is a NoneType; expected an array of shape .* a list of arrays"),
    "a number": (5, "X is a int; expected an array of shape"),
    "a set": ({1, 2}, "X is a set; expected an array of shape"),
    "no windows": (X[:0], r"X has shape \(0, 10, 3\): no windows"),
    "no steps": (X[:, :0], r"X has shape \(24, 0, 3\): no timesteps"),
    "no channels": (X[:, :, :0], r"X has shape \(24, 10, 0\): no channels"),
    "an empty list": ([], "X is empty. Give an array of shape"),
    "1-D": (
        X[0, :, 0],
        r"Reshape your data: one window of one channel is .*np.reshape\(X, \(1, -1, 1\)\)\.$",
    ),
    "4-D": (X[None], r"X has shape \(1, 24, 10, 3\); expected \(n_windows, n_timesteps"),
    "a list whose channels differ": (
        [X[0], X[1][:, :2], *X[2:]],
        r"X\[1\] has shape \(10, 2\); .* with as many channels as the first",
    ),
    "a list with a window of no channels": (
        [X[0], X[1][:, 0], *X[2:]],
        r"X\[1\] has shape \(10,\)",
    ),
    "a ragged table": ([[1.0], [1.0, 2.0]], "X is ragged"),
    "a list with a window of no steps": (
        [X[0][:0], *X[1:]],
        r"lengths\[0\] is 0; .* 1 to 10 steps",
    ),
}


@pytest.mark.parametrize(("windows", "message"), WINDOWS.values(), ids=WINDOWS)
def test_windows_that_cannot_be_used_are_named(windows, message):
    with pytest.raises(InputError, match=message):
        classifier().fit(windows, Y)


BESIDE = {
    "lengths below": ({"lengths": np.zeros(N, int)}, r"lengths\[0\] is 0; .* 1 to 10 steps"),
    "lengths above": ({"lengths": np.r_[[10] * 23, 11]}, r"lengths\[23\] is 11; .* 1 to 10 steps"),
    "lengths of another length": ({"lengths": [5] * 23}, "lengths has 23 values, but X has 24"),
    "lengths in columns": ({"lengths": np.full((N, 1), 5)}, r"lengths has shape"),
    "lengths with fractions": (
        {"lengths": np.full(N, 5.0)},
        "lengths must be whole numbers of steps",
    ),
    "groups of another length": ({"groups": np.arange(23)}, "groups has 23 values, but X has 24"),
    "groups in columns": ({"groups": np.zeros((N, 2))}, r"groups has shape \(24, 2\)"),
    "a missing group": ({"groups": [None, *range(23)]}, r"groups\[0\] is None"),
    "weights negative": ({"sample_weight": -np.ones(N)}, r"sample_weight\[0\] is -1.0"),
    "weights NaN": ({"sample_weight": np.full(N, np.nan)}, r"sample_weight\[0\] is nan"),
    "weights infinite": ({"sample_weight": np.full(N, np.inf)}, r"sample_weight\[0\] is inf"),
    "weights all zero": ({"sample_weight": np.zeros(N)}, "zero for every window"),
    "weights of another length": ({"sample_weight": np.ones(25)}, "sample_weight has 25 .* 24"),
    "weights of text": ({"sample_weight": ["a"] * N}, "sample_weight has type <U1"),
    "y of another length": ({"y": Y[:-1]}, r"y has (23 values|shape \(23,\)), but X has 24"),
    "no y": ({"y": None}, "requires y to be passed"),
    "X_val without y_val": ({"X_val": X}, "X_val is given without y_val"),
    "X_val with other channels": ({"X_val": X[:, :, :2], "y_val": Y}, "X_val .* 2 channels, .* 3"),
    "NaN in X_val": (
        {"X_val": with_value(np.nan, (2, 3, 1)), "y_val": Y},
        "X_val has NaN in window 2, step 3, channel 1",
    ),
    "lengths_val out of range": (
        {"X_val": X, "y_val": Y, "lengths_val": [12] * N},
        r"lengths_val\[0\] is 12",
    ),
    "a group on both sides": (
        {"X_val": X, "y_val": Y, "groups": ["a"] * N, "groups_val": ["a"] * N},
        "group 'a' is in both groups and groups_val",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BESIDE.values(), ids=BESIDE)
def test_what_does_not_fit_the_windows_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        classifier().fit(X, **{"y": Y, **arguments})


# Labels.


@pytest.mark.parametrize("y", [RNG.normal(size=N), np.round(RNG.normal(size=N) * 2) / 2])
def test_numbers_with_fractions_are_refused_as_classes(y):
    with pytest.raises(InputError, match=r"Unknown label type: y has .* strings or whole numbers"):
        classifier().fit(X, y)


@pytest.mark.parametrize(
    "y",
    [
        np.arange(N),
        np.arange(N) * 7 % 23,
        np.array([f"drive {i}" for i in range(N)]),
        np.eye(30)[np.arange(N)],
        np.eye(N)[np.arange(N)],
    ],
    ids=["a number each", "nearly", "a name each", "more classes than windows", "one-hot"],
)
def test_as_many_classes_as_windows_are_named(y):
    with pytest.raises(InputError, match="classes for 24 windows, fewer than two per class"):
        classifier().fit(X, y)


def test_a_few_windows_may_each_have_their_own_class():
    lonely = classifier(early_stopping=False).fit(X[:4], np.arange(4))
    assert lonely.classes_.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("groups", [None, np.arange(N) // 2], ids=["alone", "in groups"])
def test_a_class_with_one_member_is_named(groups):
    y = np.where(np.arange(N) == 5, "mud", np.array(["ice", "sand"])[Y])
    with pytest.warns(UserWarning, match=r"class 'mud' of y has only one window \(1 such") as got:
        fitted = classifier().fit(X, y, groups=groups)
    assert got[0].filename == __file__
    assert fitted.classes_.tolist() == ["ice", "mud", "sand"]


def test_two_members_are_enough():
    y = np.where(np.isin(np.arange(N), (5, 8)), 2, Y)
    classifier().fit(X, y)


def test_a_class_that_only_validation_has_is_named():
    y_val = np.array(["ice", "sand", "mud"])[np.arange(N) % 3]
    with pytest.raises(InputError, match=r"y_val\[2\] is 'mud', which is not in the y of fit"):
        classifier().fit(X, np.array(["ice", "sand"])[Y], X_val=X, y_val=y_val)


def test_a_class_found_only_in_the_stored_validation_part_is_accepted():
    split = np.repeat(["train", "validation"], [16, 8])
    y = np.where(np.arange(N) >= 20, 2, Y)
    fitted = classifier().fit(WindowSet(X.astype(np.float32), y=y, split=split))
    assert fitted.classes_.tolist() == [0, 1, 2]


def test_a_table_of_text_is_named():
    with pytest.raises(InputError, match=r"X does not consist of numbers \(could not .*'wheel'"):
        classifier().fit(np.full((N, 10), "wheel", object), Y)


@pytest.mark.parametrize("seed", ["a", -1, 1.5, 2**32, np.random.default_rng(0)])
def test_an_invalid_random_state_is_named_in_the_error(seed):
    with pytest.raises(ArgumentError, match=r"random_state=.* integer from 0 to"):
        classifier(random_state=seed).fit(X, Y)


def test_files_that_cannot_be_written_are_named_and_no_other_file_is(tmp_path):
    fitted = classifier().fit(X, Y)
    nowhere = tmp_path / "no" / "file.png"
    for write in (fitted.save, fitted.history_.to_json):
        with pytest.raises(OutputError, match=r"no/file\.png: .* create it"):
            write(nowhere)
        with pytest.raises(OutputError, match="is a folder; give a file name"):
            write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_gpu_as_device_is_corrected_to_cuda_when_fitting_and_loading(tmp_path):
    with pytest.raises(ArgumentError, match=r"device='gpu' is not known. Did you mean 'cuda'"):
        classifier(device="gpu").fit(X, Y)
    classifier().fit(X, Y).save(tmp_path / "m")
    with pytest.raises(ArgumentError, match=r"device='gpu' is not known. Did you mean 'cuda'"):
        SensorLSTMClassifier.load(tmp_path / "m", device="gpu")


def test_recordings_given_as_weights_are_redirected_to_groups():
    with pytest.raises(InputError, match=r"sample_weight .* give recordings as groups="):
        classifier().fit(X, Y, [f"run_{i // 4}" for i in range(N)])


@pytest.mark.parametrize(("X", "is_number"), [(3, True), ({1}, False), (None, False)])
def test_only_a_number_is_described_as_a_number(X, is_number):
    with pytest.raises(InputError, match="expected an array of shape") as caught:
        classifier().fit(X, Y)
    assert ("A single number" in str(caught.value)) is is_number


N_MARKED = 90
MARKED = np.random.default_rng(0).normal(size=(N_MARKED, 12, 2)).astype(np.float32)
CLASS = np.arange(N_MARKED) % 3
IS_MARKED = np.arange(N_MARKED) % 4 == 0


def fit_marked(X, y, **given):
    return plain_classifier(max_epochs=1, hidden_size=2).fit(X, y, **given)


def said_code(error, before, after):
    return str(error).partition(before)[2].partition(after)[0]


@pytest.mark.parametrize(
    ("y", "mark"),
    [
        (np.where(IS_MARKED, -1, CLASS), -1),
        (np.where(IS_MARKED, -1.0, CLASS), -1.0),
        (CLASS - 1, -1),  # may mean left, straight and right
        (np.where(IS_MARKED, "-1", CLASS.astype(str)), "-1"),
        (np.where(IS_MARKED, "-1", np.array(["ice", "mud", "sand"])[CLASS]), "-1"),
        (np.where(IS_MARKED, "nan", np.array(["Ice", "Mud", "Sand"])[CLASS]), "nan"),
        (np.where(IS_MARKED, "None", np.array(["ice", "mud", "sand"])[CLASS]), "None"),
        (np.where(IS_MARKED, None, CLASS).astype(str), "None"),
    ],
)
def test_a_label_that_marks_unlabeled_windows_is_named_with_remedies(y, mark):
    sentence = rf"y is {mark!r} for \d+ of 90 windows, alongside .* learned like any other class"
    with pytest.warns(UserWarning, match=sentence) as caught:
        fit_marked(MARKED, y)
    names = {"np": np, "y": y}
    weight = eval(said_code(caught[0].message, "sample_weight=", ". If it is"), names)
    assert mark not in fit_marked(MARKED, y, sample_weight=weight).classes_.tolist()
    named = eval(said_code(caught[0].message, "another name: ", ".END").removesuffix("."), names)
    classes = fit_marked(MARKED, named).classes_.tolist()
    assert len(classes) == len(np.unique(y))
    assert mark not in classes


def test_it_is_an_error_if_most_windows_have_no_label():
    y = np.where(np.arange(N_MARKED) % 5 > 0, -1, CLASS)
    with pytest.raises(InputError, match=r"-1 for 72 of 90 windows, alongside .* sample_weight="):
        fit_marked(MARKED, y)
    windows = WindowSet(MARKED, y=y.astype(str))
    with pytest.raises(InputError, match="'-1' for 72 of 90 windows"):
        fit_marked(windows, None)
    fit_marked(windows, None, sample_weight=np.not_equal(windows.y, "-1"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "y",
    [
        np.where(CLASS == 0, -1, 1),
        np.where(CLASS == 0, "-1", "+1"),
        np.arange(N_MARKED) % 5 - 2,
        np.array(["None", "Mild", "Severe"])[CLASS],
        np.array(["none", "mild", "severe"])[CLASS],
        np.array(["unknown", "a", "b"])[CLASS],
        np.eye(3)[CLASS],
    ],
)
def test_classes_that_look_like_a_mark_are_fine(y):
    fit_marked(MARKED, y)


@pytest.mark.parametrize(
    ("y", "row"),
    [
        (np.where(IS_MARKED, None, CLASS), "None"),
        (np.where(IS_MARKED, None, np.array(["ice", "mud", "sand"], object)[CLASS]), "None"),
        (np.where(IS_MARKED, np.nan, CLASS), "nan"),
        (np.where(IS_MARKED, np.inf, CLASS), "inf"),
        (np.where(IS_MARKED, " ", np.array(["ice", "mud", "sand"])[CLASS]), "' '"),
        (pd.Series(np.where(IS_MARKED, None, CLASS), dtype="Int64"), "nan|<NA>"),
        (np.ma.masked_array(CLASS, IS_MARKED), "masked"),
    ],
)
def test_windows_without_a_label_are_named_with_a_remedy(y, row):
    sentence = rf"(y\[0\]|y) is ({row}).*23 of 90 windows"
    with pytest.raises(InputError, match=sentence) as caught:
        fit_marked(MARKED, y)
    keep = eval(said_code(caught.value, "keep = ", ", then"), {"np": np, "pandas": pd, "y": y})
    assert len(fit_marked(MARKED[keep], y[keep]).classes_) == 3


def test_a_score_names_windows_without_a_label():
    fitted = fit_marked(MARKED, CLASS)
    y = np.where(IS_MARKED, -1, CLASS)
    with pytest.warns(UserWarning, match=r"y is -1 for 23 of 90 windows\. .* keep = np.not_equal"):
        fitted.score(MARKED, y)
    keep = np.not_equal(y, -1)
    fitted.score(MARKED[keep], y[keep])


def test_masked_samples_are_missing():
    X = np.ma.masked_greater(MARKED, 3.0)
    with pytest.raises(InputError, match="X has NaN in window"):
        fit_marked(X, CLASS)
