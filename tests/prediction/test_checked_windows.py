import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import InputError
from sensorseq.prediction.checked_windows import is_table, windows_of
from sensorseq.training.inputs import check_axis_order
from sensorseq.training.labels import from_one_hot
from sensorseq.windows import WindowSet


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_a_list_of_sequences_is_padded_and_unpads_to_itself(lengths):
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(length, 2)) for length in lengths]
    read = windows_of(parts)
    assert read.X.shape == (len(lengths), max(lengths), 2)
    assert read.lengths.tolist() == lengths
    for part, row, length in zip(parts, read.X, lengths, strict=True):
        np.testing.assert_array_equal(row[:length], part)
        assert (row[length:] == 0).all()


def test_steps_beyond_the_lengths_are_not_read():
    X = np.ones((2, 4, 1))
    X[0, 2:] = np.nan
    X[1, 3:] = np.inf
    read = windows_of(X, [2, 3])
    assert np.isfinite(read.X).all()
    assert np.isnan(X[0, 2:]).all()  # the caller's array is unchanged


@pytest.mark.parametrize("kind", ["list of lists", "torch", "float16", "int", "read-only"])
def test_windows_of_any_number_type_are_read_the_same_way(kind):
    X = np.arange(24.0).reshape(2, 4, 3)
    weights = {
        "list of lists": X.tolist(),
        "torch": torch.tensor(X),
        "float16": X.astype(np.float16),
        "int": X.astype(int),
        "read-only": np.frombuffer(X.tobytes()).reshape(2, 4, 3),
    }[kind]
    np.testing.assert_array_equal(windows_of(weights).X, X)


def test_a_ragged_nested_list_is_a_list_of_sequences():
    read = windows_of([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]])
    assert read.lengths.tolist() == [1, 2]


def test_an_object_array_of_sequences_is_read_as_a_list():
    parts = [np.ones((3, 2)), np.zeros((5, 2))]
    boxed = np.empty(2, object)
    boxed[:] = parts
    assert not is_table(boxed)
    check_axis_order(boxed, None)
    read, listed = windows_of(boxed), windows_of(parts)
    np.testing.assert_array_equal(read.X, listed.X)
    np.testing.assert_array_equal(read.lengths, listed.lengths)


def test_a_window_set_provides_its_lengths():
    windows = WindowSet(np.ones((3, 5, 2), np.float32), lengths=np.array([1, 5, 2]))
    assert windows_of(windows).lengths.tolist() == [1, 5, 2]
    with pytest.raises(InputError, match="leave lengths=None"):
        windows_of(windows, [1, 1, 1])


def test_tables_are_distinguished_from_sequences():
    assert is_table([[1.0, 2.0], [3.0, 4.0]])
    assert is_table(np.zeros((3, 4)))
    assert not is_table(np.zeros((3, 4, 1)))
    assert not is_table([np.zeros((4, 1)), np.zeros((2, 1))])
    assert not is_table([[1.0], [1.0, 2.0]])


def smooth(shape, axis):
    """Return the cumulative sum of noise along an axis."""
    return np.random.default_rng(0).normal(size=shape).cumsum(axis=axis)


@pytest.mark.parametrize("shape", [(98, 1, 100), (98, 1, 2), (98, 6, 100), (10, 16, 32)])
def test_the_error_for_few_steps_of_many_channels_gives_both_readings(shape):
    n, t, c = shape
    both = f" {t} steps? and {c} channels; as .* windows of {c} steps and {t} channels?\\."
    X = smooth(shape, 2)
    with pytest.raises(InputError, match=both):
        check_axis_order(X, None)
    check_axis_order(X, np.full(n, t))
    check_axis_order(list(X), None)
    check_axis_order(X.transpose(0, 2, 1), None)


@pytest.mark.parametrize("shape", [(98, 13, 32), (98, 13, 100), (10, 16, 32)])
def test_few_steps_of_many_channels_are_accepted(shape):
    n, t, c = shape
    level, noise = (np.random.default_rng(0).normal(size=size) for size in (c, shape))
    check_axis_order(smooth(shape, 1) + 50 * level, None)
    check_axis_order(smooth((98, 6, 100), 1).cumsum(axis=1), None)
    for X in (noise, np.zeros(shape)):
        reading = rf"read as {n} windows of {t} steps and {c} channels\. .* X.transpose\(0, 2, 1\)"
        with pytest.warns(UserWarning, match=reading):
            check_axis_order(X, None)
        check_axis_order(X, np.full(n, t))


@pytest.mark.parametrize(
    "shape", [(98, 100, 1), (98, 1, 1), (10, 2, 31), (10, 17, 32), (10, 46, 156)]
)
def test_ordinary_windows_are_not_suspected(shape):
    check_axis_order(np.zeros(shape), None)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_one_hot_rows_are_their_labels(labels):
    for dtype in (bool, int, np.float32):
        one_hot = np.eye(5)[labels].astype(dtype)
        assert from_one_hot(one_hot).tolist() == labels


@pytest.mark.parametrize("row", [[1, 1, 0], [0, 0, 0], [0.5, 0.5, 0], [2, 0, 0], [np.nan, 1, 0]])
def test_half_one_hot_rows_are_named(row):
    y = np.eye(3)
    y[1] = row
    with pytest.raises(InputError, match=r"y has shape .*read as one-hot, but row 1 is"):
        from_one_hot(y)
