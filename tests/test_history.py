import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import EnvironmentProblemError
from sensorseq.history import History

number = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(10**9), 10**9) | st.none()
names = st.sampled_from(["epoch", "loss", "val_loss", "accuracy"])
rows = st.lists(st.dictionaries(names, number), max_size=8)


def same(left, right):
    """Return whether two values are equal, where NaN equals NaN."""
    return json.dumps(left) == json.dumps(right)


@given(rows=rows)
def test_given_rows_are_returned_unchanged(rows):
    history = History(rows)
    assert len(history) == len(rows)
    assert same(history.to_rows(), rows)
    assert same(list(history), rows)
    assert all(same(history[i], row) for i, row in enumerate(rows))


@given(rows=rows)
def test_json_and_back_is_identity_even_with_nan_and_infinity(rows):
    history = History(rows)
    again = History(json.loads(history.to_json()))
    assert again == history
    assert same(again.to_rows(), rows)


@given(rows=rows)
def test_appending_rows_equals_building_from_all_rows(rows):
    history = History()
    for row in rows:
        history.append(row)
    assert history == History(rows)


@given(rows=rows)
def test_columns_contain_every_entry_and_nan_or_none_for_missing_ones(rows):
    history = History(rows)
    for name in history.names:
        given_values = [row.get(name) for row in rows]
        expected = [math.nan if value is None else value for value in given_values]
        column = history[name]
        assert column.dtype == np.float64
        assert column.shape == (len(rows),)
        np.testing.assert_array_equal(column, np.array(expected, np.float64))
        assert same(history.to_columns()[name], given_values)


def test_names_come_in_order_of_first_appearance():
    history = History([{"epoch": 1, "loss": 1.0}, {"val_loss": 2.0, "loss": 0.5}])
    assert history.names == ("epoch", "loss", "val_loss")
    assert "val_loss" in history
    assert "accuracy" not in history


def test_an_unknown_column_is_an_error_that_names_the_known_ones():
    history = History([{"epoch": 1, "loss": 1.0}])
    with pytest.raises(KeyError, match="no column 'val_loss'; the columns are epoch, loss"):
        history["val_loss"]


def test_an_unknown_row_is_an_index_error():
    with pytest.raises(IndexError):
        History([{"loss": 1.0}])[1]
    assert History([{"loss": 1.0}, {"loss": 0.5}])[-1] == {"loss": 0.5}


def test_changing_given_or_returned_objects_does_not_change_the_history():
    row = {"loss": 1.0}
    history = History([row])
    row["loss"] = 9.0
    history.to_rows()[0]["loss"] = 9.0
    history[0]["loss"] = 9.0
    next(iter(history))["loss"] = 9.0
    history["loss"][0] = 9.0
    assert history.to_rows() == [{"loss": 1.0}]


def test_numpy_scalars_become_plain_numbers():
    history = History([{"loss": np.float32(0.5), "epoch": np.int64(3), "flag": np.bool_(True)}])
    assert [type(value) for value in history[0].values()] == [float, int, bool]
    assert json.loads(history.to_json()) == [{"loss": 0.5, "epoch": 3, "flag": True}]


def test_histories_with_equal_rows_are_equal_and_cannot_be_hashed():
    assert History([{"loss": math.nan}]) == History([{"loss": math.nan}])
    assert History([{"loss": 1.0}]) != History([{"loss": 2.0}])
    assert History() != []
    with pytest.raises(TypeError, match="unhashable"):
        hash(History())


def test_an_empty_history_has_no_names_and_no_columns():
    history = History()
    assert (len(history), history.names, history.to_rows()) == (0, (), [])
    with pytest.raises(KeyError, match="loss"):
        history["loss"]


def test_the_repr_has_the_length_and_the_columns():
    assert repr(History([{"epoch": 1, "loss": 1.0}])) == "History(1 epochs: epoch, loss)"


@given(rows=rows)
def test_a_json_file_contains_the_json_string(rows, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "history.json"
    history = History(rows)
    text = history.to_json(path)
    assert text == history.to_json()
    assert History(json.loads(path.read_text())) == history


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "history"
    path.write_text("old")

    def fail(self, target):
        raise OSError("no room")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="no room"):
        History([{"loss": 1.0}]).to_json(path)
    assert [file.name for file in tmp_path.iterdir()] == ["history"]
    assert path.read_text() == "old"


def test_a_frame_has_the_columns_and_nan_where_an_epoch_has_no_entry():
    pd = pytest.importorskip("pandas")
    history = History([{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": None, "val_loss": math.inf}])
    frame = history.to_frame()
    expected = {"epoch": [1, 2], "loss": [1.0, math.nan], "val_loss": [math.nan, math.inf]}
    pd.testing.assert_frame_equal(frame, pd.DataFrame(expected))
    assert History().to_frame().shape == (0, 0)


def test_without_pandas_the_error_of_a_frame_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(EnvironmentProblemError, match="pip install pandas"):
        History([{"loss": 1.0}]).to_frame()
