"""Padding within the given lengths causes a warning or an error."""

import numpy as np
import pytest
from fits import plain_classifier

from sensorseq import WindowSet
from sensorseq.errors import InputError
from sensorseq.prediction.checked_windows import windows_of
from sensorseq.prediction.loading import load
from sensorseq.prediction.padding import warn_of_zero_ends

N, T = 40, 60
RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=(N, T, 3)) + 2.0
LENGTHS = RNG.integers(20, T, N)


def padded(side="behind", value=0.0, lengths=LENGTHS):
    """Return the signal, padded with a value or with its own first or last step."""
    X = np.empty((len(lengths), T, 3))
    for row, signal, n in zip(X, SIGNAL, lengths, strict=True):
        before = {"behind": 0, "in front": T - n, "both": (T - n) // 2}[side]
        if value == "edge":
            row[:before], row[before:] = signal[0], signal[n - 1]
        else:
            row[:] = value
        row[before : before + n] = signal[:n]
    return X


@pytest.mark.parametrize("value", [0.0, -1.0, "edge"])
def test_the_warning_about_padding_in_front_has_code_that_gives_the_same_windows(value):
    X = padded("in front", value)
    with pytest.warns(
        UserWarning, match=r"X is padded in front: \d\d of \d\d .*np\.roll"
    ) as caught:
        windows_of(X, LENGTHS)
    code = str(caught[0].message).partition("X = ")[2].partition(", or give")[0]
    rolled = eval(code, {"np": np, "X": X, "lengths": LENGTHS})
    listed = [x[-n:] for x, n in zip(X, LENGTHS, strict=True)]
    expected = windows_of(padded(), LENGTHS).X
    np.testing.assert_array_equal(windows_of(rolled, LENGTHS).X, expected)
    np.testing.assert_array_equal(windows_of(listed).X, expected[:, : LENGTHS.max()])


@pytest.mark.parametrize("missing", ["error", "expected"])
@pytest.mark.parametrize("side", ["in front", "both"])
def test_missing_numbers_in_front_are_padding(side, missing):
    with pytest.raises(InputError, match=rf"X is padded {side.replace('both', 'at both ends')}"):
        windows_of(padded(side, np.nan), LENGTHS, missing=missing)


@pytest.mark.parametrize("value", [0.0, "edge"])
def test_padding_at_both_ends_is_reported(value):
    with pytest.warns(UserWarning, match="X is padded at both ends: .* as a list of arrays"):
        windows_of(padded("both", value), LENGTHS)


@pytest.mark.parametrize("unit", [10, 25])
def test_lengths_in_a_different_unit_are_reported(unit):
    lengths = np.maximum(LENGTHS // unit, 1)
    with pytest.warns(UserWarning, match=r"lengths are not in steps: .* as many steps"):
        windows_of(padded(), lengths)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("X", "lengths"),
    [
        *[(padded(value=value), LENGTHS) for value in (0.0, np.nan, "edge")],
        (SIGNAL, LENGTHS),  # values beyond the lengths are arbitrary
        (padded(), np.minimum(LENGTHS, 30)),  # lengths may end before the signal
        (padded(), np.full(N, 30)),
        (np.where(np.arange(T)[:, None] < 9, 0.0, SIGNAL), LENGTHS),  # at rest for 9 steps
        (padded("in front"), np.full(N, T)),
        (np.zeros((N, T, 3)), LENGTHS),
        (padded()[:, :2], np.full(N, 1)),
    ],
)
def test_padding_at_the_end_and_other_contents_cause_no_warning(X, lengths):
    windows_of(X, lengths, missing="expected")


def test_every_call_with_lengths_checks_the_padding(tmp_path):
    y, front = np.arange(N) % 2, padded("in front").astype(np.float32)
    model = plain_classifier(max_epochs=1, hidden_size=2)
    with pytest.warns(UserWarning, match="X is padded in front"):
        model.fit(front, y, lengths=LENGTHS)
    with pytest.warns(UserWarning, match="X is padded in front"):
        model.fit(WindowSet(front, lengths=LENGTHS), y)
    model.fit(padded(), y, lengths=LENGTHS)
    model.save(tmp_path / "model")
    for loaded in (model, load(tmp_path / "model")):
        for call in (loaded.predict, loaded.outside):
            with pytest.warns(UserWarning, match="X is padded in front"):
                call(front, LENGTHS)


def test_zeros_at_an_end_of_windows_to_predict_are_counted():
    X, full = np.ones((5, 8, 2)), np.full(5, 8)
    X[[1, 3], -2:] = 0.0
    with pytest.warns(UserWarning, match="2 of the 5 windows end with zeros"):
        warn_of_zero_ends(X, full)
    with pytest.warns(UserWarning, match="2 of the 5 windows begin with zeros"):
        warn_of_zero_ends(X[:, ::-1], full)
    warn_of_zero_ends(X, full - 1)
    warn_of_zero_ends(X[[0, 2]], full[:2])


def test_a_loaded_model_knows_that_it_had_lengths(tmp_path):
    model = plain_classifier(max_epochs=1, hidden_size=2)
    model.fit(padded(), np.arange(N) % 2, lengths=LENGTHS).save(tmp_path / "model")
    for loaded in (type(model).load(tmp_path / "model"), load(tmp_path / "model")):
        with pytest.warns(UserWarning, match=r"windows end with zeros .* as a list of arrays"):
            loaded.predict(padded())
        loaded.predict(padded(), LENGTHS)
