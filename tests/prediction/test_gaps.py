"""Missing samples in windows: interpolation, missing channels, and failed sensors."""

import copy

import numpy as np
import pytest
from fits import class_shares_of, fused_classifier, plain_classifier
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import InputError
from sensorseq.prediction.gaps import COMPLETE, DOUBTFUL, EMPTY, bridge_gaps, judge_windows
from sensorseq.prediction.loading import load

SETTINGS = {"features": ("summary",), "max_epochs": 2, "hidden_size": 4, "random_state": 0}


def line_of(window, length):
    """Bridge gaps with numpy's interpolation, one channel at a time."""
    bridged, steps = window.copy(), np.arange(length)
    for channel in bridged.T:
        is_number = np.isfinite(channel[:length])
        channel[:length] = (
            np.interp(steps, steps[is_number], channel[:length][is_number])
            if (is_number.any())
            else np.nan
        )
    return bridged


@given(st.data())
def test_gaps_are_bridged_as_by_the_interpolation_of_numpy(data):
    n, t, c = (data.draw(st.integers(1, most)) for most in (4, 9, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    X = rng.normal(size=(n, t, c))
    X[rng.random(X.shape) < data.draw(st.sampled_from([0, 0.3, 0.9]))] = np.nan
    lengths = rng.integers(1, t + 1, n)
    before = X.copy()
    expected = np.stack([line_of(*each) for each in zip(X, lengths, strict=True)])
    np.testing.assert_allclose(bridge_gaps(X, lengths), expected, atol=1e-12)
    np.testing.assert_array_equal(X, before)


def test_many_windows_are_bridged_in_blocks():
    X = np.arange(600.0 * 3).reshape(600, 3, 1)
    holed = X.copy()
    holed[:, 1] = np.nan
    np.testing.assert_allclose(bridge_gaps(holed, np.full(600, 3)), X)
    assert bridge_gaps(holed.astype(np.float32), np.full(600, 3)).dtype == np.float32


def test_windows_are_judged_by_their_channels_without_a_number():
    X = np.zeros((4, 2, 4))
    for row, n in enumerate((0, 2, 3, 4)):
        X[row, :, :n] = np.nan
    assert judge_windows(X).tolist() == [COMPLETE, COMPLETE, DOUBTFUL, EMPTY]


def windows(n=160, seed=0):
    """Return windows whose level and frequency depend on their class."""
    rng = np.random.default_rng(seed)
    y, t = np.arange(n) % 4, np.arange(40)
    wave = np.sin(t * np.where(y % 2, 0.4, 1.2)[:, None])
    X = np.stack([wave, np.broadcast_to((y // 2)[:, None], wave.shape), wave[:, ::-1]], axis=2)
    return (X + 0.1 * rng.normal(size=X.shape)).astype(np.float32), y, np.arange(n) // 4


def holed(X, seed=1):
    """Remove an eighth of each channel of each window."""
    holes = np.random.default_rng(seed).integers(0, 36, (len(X), 1, X.shape[2]))
    at = np.arange(X.shape[1])[:, None]
    return np.where((at >= holes) & (at < holes + 5), np.nan, X)


@pytest.fixture(scope="module")
def fitted():
    X, y, groups = windows()
    return plain_classifier(**SETTINGS, missing="expected").fit(holed(X), y, groups=groups)


def test_a_model_learns_the_same_from_windows_with_gaps_and_from_bridged_ones(fitted):
    X, y, groups = windows()
    full = np.full(len(X), X.shape[1])
    bridged = plain_classifier(**SETTINGS).fit(bridge_gaps(holed(X), full), y, groups=groups)
    X, y, _ = windows(seed=5)
    np.testing.assert_array_equal(fitted.predict_proba(X), bridged.predict_proba(X))
    assert fitted.score(holed(X), y) > 0.9


def test_a_channel_without_a_number_counts_as_its_mean_in_training(fitted):
    X, _, _ = windows(seed=6)
    lost, mean = X.copy(), X.copy()
    lost[:, :, 1] = np.nan
    mean[:, :, 1] = fitted.scaler_.channel_center[1]
    np.testing.assert_allclose(fitted.predict_proba(lost), fitted.predict_proba(mean), atol=1e-5)
    assert not fitted.outside(lost).mask.any()


def test_a_window_without_a_number_has_no_class(fitted, tmp_path):
    X, _, _ = windows(seed=7)
    X[3] = np.nan
    assert np.flatnonzero(~fitted.predict_or_abstain(X, threshold=0.0).answered).tolist() == [3]
    with pytest.raises(InputError, match="window 3 has no number"):
        fitted.predict(X)
    fitted.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again.missing == "expected"
    for model in (fitted, again):
        timeline = model.timeline(holed(X), start_s=np.arange(160.0), smooth="none")
        np.testing.assert_allclose(timeline.probabilities[3], class_shares_of(fitted))
        np.testing.assert_array_equal(model.predict(holed(X)[4:]), fitted.predict(holed(X)[4:]))


def test_windows_without_a_number_do_not_affect_a_timeline():
    X, y, _ = windows()
    rows = np.flatnonzero((y < 3) | (np.arange(len(y)) % 16 == 3))  # one class is rare
    model = plain_classifier(**SETTINGS, missing="expected").fit(X[rows], y[rows])
    assert class_shares_of(model).min() < 0.2
    nothing = model.timeline(np.full_like(X[:20], np.nan), start_s=np.arange(20.0))
    np.testing.assert_allclose(nothing.probabilities, 0.25, atol=1e-6)


def test_missing_samples_are_an_error_unless_they_are_expected(fitted):
    X, y, groups = windows()
    with pytest.raises(InputError, match=r"NaN in window 0.*missing='expected' bridges NaN"):
        plain_classifier(**SETTINGS).fit(holed(X), y, groups=groups)
    lost = holed(X)
    lost[2:4, :, 1] = np.nan
    with pytest.raises(InputError, match=r"no number in channel 1 of window 2 \(2 such windows\)"):
        plain_classifier(**SETTINGS, missing="expected").fit(lost, y, groups=groups)
    X[0, 0, 0] = np.inf
    with pytest.raises(InputError, match="infinity"):
        fitted.predict(X)


FAILURES = {"stuck": lambda x: 0 * x + x[:, :1], "wrong unit": lambda x: 1000 * x}


@pytest.fixture(scope="module", params=["outside", "expected"])
def of_two(request):
    """Return a model whose second sensor has the same information as the first, with more noise."""
    X, y, groups = windows(320)
    both = {"good": X, "poor": X[:, ::2] + 0.3 * windows(320, 3)[0][:, ::2]}
    return fused_classifier(**SETTINGS, missing=request.param).fit(both, y, groups=groups)


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failed_sensor_is_left_out_if_this_is_requested(of_two, failure):
    X, _, _ = windows(seed=8)
    poor = X[:, ::2]
    found = of_two.predict_proba({"good": failure(X), "poor": poor})
    is_left_out = np.allclose(found, of_two.predict_proba({"poor": poor}))
    assert is_left_out == (of_two.model_.missing == "outside")
    assert not np.allclose(of_two.predict_proba({"good": X, "poor": poor}), found)


def test_a_single_stuck_channel_is_replaced_and_its_sensor_stays(of_two):
    X, _, _ = windows(seed=9)
    stuck, lost = X.copy(), X.copy()
    stuck[:, :, 0], lost[:, :, 0] = 0.9, np.nan
    both = [{"good": windows, "poor": X[:, ::2]} for windows in (stuck, lost)]
    stuck, lost = map(of_two.predict_proba, both)
    assert np.allclose(stuck, lost) == (of_two.model_.missing == "outside")
    explanations = of_two.explain(both[0], n_regions=2)
    for explanation in explanations.values():  # each sensor explains the joint decision
        np.testing.assert_allclose(explanation.probability, stuck.max(axis=1), atol=1e-6)


@pytest.mark.parametrize("missing", ["expected", "outside"])
def test_a_model_that_expects_missing_samples_can_be_adapted_and_explained(fitted, missing):
    X, y, _ = windows(seed=10)
    model = copy.copy(fitted).set_params(missing=missing)
    model.model_ = model.model_.with_input(missing=missing)
    adapted = model.adapt(1000 * X, y)
    assert adapted.score(1000 * X, y) > 0.9
    failed = X[:8].copy()
    failed[:, :, 0] = 0.9
    found = model.explain(failed, n_regions=2)
    np.testing.assert_allclose(found.probability, model.predict_proba(failed).max(axis=1))
    with pytest.raises(InputError, match=r"no number in channel 1 of window 0"):
        model.adapt(np.where(np.arange(3) == 1, np.nan, X), y)
    with pytest.raises(InputError, match="window 0 has no number"):
        model.explain(np.full_like(X[:2], np.nan))
