"""DataFrames are read by column name, and give the same fits as their arrays."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from fits import plain_classifier, reloaded, weights
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from sensorseq import PreparePipeline, Recording, WindowSet
from sensorseq.errors import InputError
from sensorseq.prediction.checked_windows import windows_of

RNG = np.random.default_rng(0)
NAMES = ["acc_x", "acc_y", "gyro"]
Y = np.array(["ice", "mud"])[np.arange(40) % 2]
SIZES = RNG.integers(9, 14, 40)
ARRAYS = [RNG.normal(scale=[1, 3, 9], size=(n, 3)) + i % 2 for i, n in enumerate(SIZES)]


def frames(arrays=ARRAYS, names=NAMES):
    return [pd.DataFrame(array, columns=names) for array in arrays]


def shuffled(given, seed=1):
    rng = np.random.default_rng(seed)
    return [frame[rng.permutation(frame.columns).tolist()] for frame in given]


def classifier(**arguments):
    settings = {"hidden_size": 4, "max_epochs": 2, "device": "cpu", "random_state": 0}
    return plain_classifier(**{**settings, **arguments})


@pytest.fixture(scope="module")
def fitted():
    return classifier().fit(frames(), Y)


@pytest.fixture(scope="module")
def of_arrays():
    return classifier().fit(ARRAYS, Y)


@given(st.permutations(range(4)), st.integers(0, 9))
def test_columns_in_any_order_are_read_in_the_order_of_the_first_frame(order, seed):
    X = np.random.default_rng(seed).normal(size=(3, 5, 4))
    first, *further = frames(X, list("abcd"))
    read = windows_of([first, *(other.iloc[:, list(order)] for other in further)])
    np.testing.assert_array_equal(read.X, X)
    assert read.channels == list("abcd")


def test_a_fit_on_frames_is_the_fit_on_their_arrays(fitted, of_arrays):
    first, *further = frames()
    assert weights(fitted) == weights(of_arrays)
    assert weights(classifier().fit([first, *shuffled(further)], Y)) == weights(of_arrays)
    assert fitted.feature_names_in_.tolist() == NAMES
    assert fitted.n_features_in_ == 3
    assert not hasattr(of_arrays, "feature_names_in_")


def test_columns_in_a_different_order_predict_the_same_bits(fitted, of_arrays):
    expected = of_arrays.predict_proba(ARRAYS)
    for given_as in (frames(), shuffled(frames()), ARRAYS):
        np.testing.assert_array_equal(fitted.predict_proba(given_as), expected)


def test_columns_outside_the_training_are_named(fitted):
    result = fitted.outside(shuffled(frame * [1, 1, 1000] for frame in frames()))
    assert result.channels == tuple(NAMES)
    assert "channel 'gyro' varies" in str(result)


def test_a_model_fitted_to_arrays_reads_the_columns_of_frames_in_order(of_arrays):
    renamed = frames(names=["c", "b", "a"])
    np.testing.assert_array_equal(of_arrays.predict_proba(renamed), of_arrays.predict_proba(ARRAYS))


@pytest.mark.parametrize("names", [range(3), [2, 4, 7]])
def test_columns_numbered_in_order_have_no_names(names, of_arrays):
    clf = classifier().fit(frames(names=names), Y)
    assert not hasattr(clf, "feature_names_in_")
    assert weights(clf) == weights(of_arrays)


@pytest.mark.parametrize(
    "names", [[2, 0, 1], [1, 1, 2], ["a", "b", 3], [0.5, 1.5, 2.5], [("imu", c) for c in "xyz"]]
)
def test_columns_that_only_their_position_identifies_are_refused(names, of_arrays):
    X = [*ARRAYS[:3], pd.DataFrame(ARRAYS[3]).set_axis(pd.Index(names), axis=1)]
    for read in (of_arrays.predict, lambda X: classifier().fit(X, Y[:4])):
        with pytest.raises(InputError, match=r"X\[3\] has the column .* whose name is not"):
            read(X)


CHANGES = {
    "renamed": (
        lambda frame: frame.rename(columns={"acc_x": "accx"}),
        "lacks the column 'acc_x' of {owner} .*1 of 3.* 'accx'",
    ),
    "missing": (lambda frame: frame.drop(columns="gyro"), "lacks the column 'gyro' of {owner}"),
    "more": (lambda frame: frame.assign(t=1.0), "has the column 't', which {owner} lacks"),
    "twice": (lambda frame: frame[[*NAMES, "gyro"]], "has the column 'gyro' more than once"),
    "times": (
        lambda frame: frame.apply(pd.to_datetime, unit="s"),
        r"has type datetime64\[ns\]: times are no",
    ),
    "text": (lambda frame: frame.assign(gyro="x"), "has type object and is not numeric"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_frame_that_differs_is_named_with_its_column(fitted, change):
    changed, words = CHANGES[change]
    X = frames()
    X[3] = changed(X[3])
    with pytest.raises(InputError, match=r"X\[3\] " + words.format(owner="the model")):
        fitted.predict(X)
    with pytest.raises(InputError, match=r"X_val\[3\] " + words.format(owner="the model")):
        classifier().fit(frames(), Y, X_val=X, y_val=Y)
    owner = re.escape("X[0]")
    with pytest.raises(InputError, match=r"X\[3\] " + words.format(owner=owner)):
        classifier().fit(X, Y)


def test_a_single_frame_is_an_error_that_suggests_a_list(fitted):
    with pytest.raises(InputError, match=r"Give a single window of shape \(t, c\) as \[X\]\."):
        fitted.predict(frames()[0])


def test_names_are_kept_by_every_copy_except_a_clone(fitted, tmp_path):
    expected = fitted.predict_proba(ARRAYS)
    for copy in reloaded(fitted, tmp_path):
        assert copy.feature_names_in_.tolist() == NAMES
        np.testing.assert_array_equal(copy.predict_proba(shuffled(frames())), expected)
    assert not hasattr(clone(fitted), "feature_names_in_")


def test_a_new_fit_forgets_the_names():
    clf = classifier()
    assert clf.fit(frames(), Y).feature_names_in_.tolist() == NAMES
    clf.fit(ARRAYS, Y)
    assert not hasattr(clf, "feature_names_in_")


def test_continued_fits_keep_the_names():
    clf, plain = (classifier(warm_start=True).fit(X, Y) for X in (frames(), ARRAYS))
    clf.fit(shuffled(frames()), Y)
    assert weights(clf) == weights(plain.fit(ARRAYS, Y))
    with pytest.raises(InputError, match=r"X\[0\] lacks the column 'gyro' of the model"):
        clf.fit([frame[NAMES[:2]] for frame in frames()], Y)


def test_searches_and_cross_validation_accept_frames():
    of_frames, plain = (cross_val_score(classifier(), X, Y, cv=2) for X in (frames(), ARRAYS))
    np.testing.assert_array_equal(of_frames, plain)
    search = GridSearchCV(classifier(), {"hidden_size": [2, 3]}, cv=2)
    search, same = (clone(search).fit(X, Y) for X in (frames(), ARRAYS))
    assert search.best_params_ == same.best_params_
    np.testing.assert_array_equal(search.predict(shuffled(frames())), same.predict(ARRAYS))
    assert search.best_estimator_.feature_names_in_.tolist() == NAMES


def window_set(channels):
    X = np.stack([array[:9] for array in ARRAYS]).astype(np.float32)
    return WindowSet(X, y=Y, channels=channels)


def test_the_channels_of_a_window_set_are_the_column_names():
    clf = classifier().fit(window_set(NAMES))
    cut = [frame[:9].astype(np.float32) for frame in frames()]
    expected = clf.predict_proba(window_set(NAMES))
    np.testing.assert_array_equal(clf.predict_proba(shuffled(cut)), expected)
    with pytest.raises(InputError, match=r"X\[0\] lacks the column 'gyro' of the model"):
        clf.predict([frame[NAMES[:2]] for frame in cut])
    validated = classifier().fit(window_set(NAMES), X_val=shuffled(cut), y_val=Y)
    same = classifier().fit(window_set(NAMES), X_val=window_set(NAMES), y_val=Y)
    assert weights(validated) == weights(same)


def test_numbered_channels_of_a_window_set_do_not_require_column_names():
    clf = classifier().fit(window_set(()))
    cut = [frame[:9].astype(np.float32) for frame in frames()]
    expected = clf.predict_proba(window_set(()))
    np.testing.assert_array_equal(clf.predict_proba(cut), expected)
    numbered = [frame.set_axis([f"channel_{i}" for i in range(3)], axis=1) for frame in cut]
    np.testing.assert_array_equal(clf.predict_proba(shuffled(numbered)), expected)


def test_a_window_set_in_a_different_order_than_the_frames_is_refused(fitted):
    with pytest.raises(InputError, match=r"trained on acc_x, acc_y, gyro\. The order differs"):
        fitted.predict(window_set(NAMES[::-1]))
    fitted.predict(window_set(NAMES))


def test_columns_are_the_channels_that_augmentation_names():
    how = {"mirror": ["gyro"]}, {"mirror": [2]}
    named, numbered = (classifier(augment=augment).fit(frames(), Y) for augment in how)
    assert weights(named) == weights(numbered) != weights(classifier().fit(frames(), Y))


class Columns:
    """The interface of a polars frame: `columns`, `shape`, access by names and as an array."""

    def __init__(self, frame):
        self.frame, self.columns, self.shape = frame, frame.columns.tolist(), frame.shape

    def __getitem__(self, names):
        return Columns(self.frame[names])

    def __array__(self, dtype=None, copy=None):
        return self.frame.to_numpy(dtype)


def test_frames_of_a_different_library_are_read_the_same_way(fitted):
    polars_like = [Columns(frame) for frame in shuffled(frames())]
    np.testing.assert_array_equal(fitted.predict_proba(polars_like), fitted.predict_proba(ARRAYS))


INDEXES = {
    "times": pd.date_range("2024-05-01", periods=9, freq="20ms", tz="UTC"),
    "durations": pd.to_timedelta(np.arange(9), unit="s"),
    "periods": pd.period_range("2024-05", periods=9, freq="s"),
    "numbers": pd.RangeIndex(9),
    "seconds": pd.Index(np.arange(9) / 7),
    "texts": pd.Index([f"2024-05-01T23:59:{s:02}" for s in range(9)]),
    "numbers as texts": pd.Index(list(map(str, range(4, 13)))),
    "window and step": pd.MultiIndex.from_product([[3], range(9)]),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_rows_that_are_not_in_the_order_of_their_index_are_refused(kind, fitted):
    X = [frame[:9].set_axis(INDEXES[kind]) for frame in frames()]
    cut = [array[:9] for array in ARRAYS]
    np.testing.assert_array_equal(fitted.predict_proba(X), fitted.predict_proba(cut))
    for order in ([0, 1, 2, 4, 3, 5, 6, 7, 8], range(8, -1, -1)):
        mixed = [*X[:3], X[3].iloc[list(order)], *X[4:]]
        at = 4 if order[0] == 0 else 1
        for read in (fitted.predict, lambda X: classifier().fit(X, Y)):
            with pytest.raises(
                InputError, match=rf"X\[3\] has the index .* in row {at}, .*sort_ind"
            ):
                read(mixed)


@pytest.mark.parametrize("labels", [list("hgfedcbai"), [1, 1, 2, 2, 3, 3, 4, 4, 5]])
def test_an_index_without_an_order_or_with_equal_values_is_accepted(labels, fitted):
    cut = [array[:9] for array in ARRAYS]
    X = [pd.DataFrame(array, columns=NAMES, index=labels) for array in cut]
    np.testing.assert_array_equal(fitted.predict_proba(X), fitted.predict_proba(cut))


def test_one_table_of_many_windows_is_refused_with_the_call_that_splits_it(fitted):
    table = pd.concat(frames(), keys=range(40), names=["window", "step"])
    windows = [window for _, window in table.groupby(level=0, sort=False)]
    np.testing.assert_array_equal(fitted.predict_proba(windows), fitted.predict_proba(ARRAYS))
    for read in (
        fitted.predict,
        fitted.model_.logits_and_lacks,
        lambda X: classifier().fit(X, Y),
        lambda X: classifier().fit(frames(), Y, X_val=X, y_val=Y),
    ):
        with pytest.raises(
            InputError, match=r"is one table.* for _, window in X.*groupby\(level=0"
        ):
            read(table)


def test_a_table_with_a_window_in_each_row_may_have_an_index_of_two_levels():
    X = pd.DataFrame([array[:9, 0] for array in ARRAYS])
    indexed = X.set_axis(pd.MultiIndex.from_product([range(4), range(10)]))
    plain, clf = (classifier().fit(table, Y) for table in (X, indexed))
    np.testing.assert_array_equal(clf.predict_proba(indexed), plain.predict_proba(X))


def test_cells_that_are_sequences_are_refused_with_the_call_that_unpacks_them(fitted):
    nested = pd.DataFrame({name: [frame[name] for frame in frames()] for name in NAMES})
    windows = [pd.DataFrame(row.to_dict()) for _, row in nested.iterrows()]
    np.testing.assert_array_equal(fitted.predict_proba(windows), fitted.predict_proba(ARRAYS))
    for read in (fitted.predict, lambda X: classifier().fit(X, Y)):
        with pytest.raises(InputError, match=r"X has a sequence in each cell.*row\.to_dict"):
            read(nested)


@pytest.mark.parametrize("kind", ["Float64", "double[pyarrow]", "object", "array", "Float32"])
def test_missing_values_of_any_column_type_are_nan(kind):
    if "pyarrow" in kind:
        pytest.importorskip("pyarrow")
    dtype = "float32" if kind == "Float32" else "float64"
    gaps = [frame.astype(dtype).mask(frame > 1.5) for frame in frames()]
    typed = [frame.astype("Float64" if kind == "array" else kind) for frame in gaps]
    if kind == "array":
        typed = [frame.to_numpy(object) for frame in typed]
    read, plain = (windows_of(X, missing="expected") for X in (typed, gaps))
    assert np.isnan(np.concatenate(gaps)).any()
    np.testing.assert_allclose(read.X, plain.X, rtol=1e-5 if kind == "Float32" else 0)
    with pytest.raises(InputError, match=r"X has NaN in window .*missing='expected' bridges NaN"):
        windows_of(typed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_tensors_of_half_precision_are_read_by_value(dtype):
    X = torch.from_numpy(np.stack([array[:9] for array in ARRAYS])).to(dtype)
    for given_as in (X, list(X)):
        np.testing.assert_array_equal(windows_of(given_as).X, X.float().numpy())


def test_a_stream_reads_the_columns_of_frames_by_name():
    drives = [
        Recording.evenly_sampled(RNG.normal(size=(120, 3)) + i % 2, 10.0, NAMES, f"r{i}", label=y)
        for i, y in enumerate(Y[:8])
    ]
    clf = classifier().fit(PreparePipeline(window_s=1, split=None).prepare(drives))
    samples = pd.DataFrame(drives[0].values, columns=NAMES)
    in_order, permuted = clf.stream(), clf.stream()
    expected = in_order.push(samples.to_numpy())
    assert permuted.push(samples[NAMES[::-1]]) == expected
    assert len(expected) == 12
    with pytest.raises(InputError, match="samples lacks the column 'gyro' of the model"):
        permuted.push(samples[NAMES[:2]])
