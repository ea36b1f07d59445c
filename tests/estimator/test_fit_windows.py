"""The first two steps of a fit read, check and split its windows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq import SensorLSTMClassifier, WindowSet
from sensorseq.errors import ArgumentError, InputError
from sensorseq.estimator.fit_windows import check_arguments, hold_out, read_windows
from sensorseq.training import TrainingConfig
from sensorseq.training.labels import ClassTarget
from sensorseq.training.streamed_data import make_data, make_renewal
from sensorseq.training.window_format import WindowFormat

N = 24
X = np.arange(N * 5 * 2, dtype=np.float64).reshape(N, 5, 2)
Y = np.array(["gravel", "ice"])[np.arange(N) % 2]
GROUPS = np.arange(N) // 4
CONFIG = TrainingConfig(2, early_stopping=False)


def read(*args, fraction=0.25, seed=0, config=CONFIG, **given):
    parameters = SensorLSTMClassifier(validation_fraction=fraction, random_state=0).get_params()
    fields = {"config": config, "split_seed": np.random.SeedSequence(seed)}
    arguments = replace(check_arguments(parameters), **fields)
    return hold_out(arguments, read_windows(arguments, *args, **given))


def split(*args, **given):
    data = read(*args, **given)
    return data.train, data.validation


@given(seed=st.integers(0, 2**32 - 1), by_group=st.booleans())
def test_every_window_is_in_one_part_and_every_group_whole(seed, by_group):
    train, validation = split(X, Y, groups=GROUPS if by_group else None, seed=seed)
    np.testing.assert_array_equal(np.sort(np.r_[train.rows, validation.rows]), np.arange(N))
    for part in (train, validation):
        np.testing.assert_array_equal(part.X, X[part.rows])
        np.testing.assert_array_equal(part.target, np.arange(N)[part.rows] % 2)
    if by_group:
        assert not set(train.groups) & set(validation.groups)


def test_a_stored_split_is_kept_and_its_test_windows_are_left_out():
    stored = np.repeat(["train", "validation", "test"], N // 3)
    windows = WindowSet(X.astype(np.float32), y=Y, split=stored)
    data = read(windows)
    train, validation = data.train, data.validation
    np.testing.assert_array_equal(train.rows, np.flatnonzero(stored == "train"))
    np.testing.assert_array_equal(validation.rows, np.flatnonzero(stored == "validation"))
    assert not data.is_drawn


def test_separately_given_windows_are_the_validation_part_and_all_others_are_trained_on():
    data = read(X[:16], Y[:16], X_val=X[16:], y_val=Y[16:])
    assert len(data.train.target) == 16
    assert data.validation is data.given_validation
    assert data.validation.rows is None
    with pytest.raises(InputError, match="y_val is given without X_val; give both or neither"):
        read(X, Y, y_val=Y)


def test_early_stopping_without_validation_windows_is_refused():
    stops = TrainingConfig(2, early_stopping=True)
    assert read(X[:2], Y[:2]).validation is None
    with pytest.raises(ArgumentError, match="none of the 2 windows of X can be held out"):
        read(X[:2], Y[:2], config=stops)


def test_tensors_are_cropped_and_scaled_as_configured():
    part, _ = split(X, Y, fraction=0.0)
    form = WindowFormat(3, "tail", "float64")
    form = replace(form, scaler=form.fit_scaler(part, None, "standard"))
    data = make_data(part, form, ClassTarget(np.unique(Y)), training=True)
    cropped = X[:, 2:]
    wanted = (cropped - cropped.mean(axis=(0, 1))) / cropped.std(axis=(0, 1))
    np.testing.assert_allclose(data.X.numpy(), wanted, rtol=1e-12)
    np.testing.assert_array_equal(data.target.numpy(), np.arange(N) % 2)
    assert make_renewal(part, form, data, np.random.SeedSequence(0)) is None
