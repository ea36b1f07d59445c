import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sensorseq.errors import ArgumentError, InputError, SignalError
from sensorseq.preprocessing import SignalSteps
from sensorseq.preprocessing.pipeline import PreparePipeline
from sensorseq.preprocessing.steps import Detrend, Difference, make_step
from sensorseq.recording import Recording
from sensorseq.windows import WindowSet

DIFFERENCE = {"kind": "difference", "keep": False}
WITH_MOVING = {"kind": "moving", "window_s": 0.5}
RNG = np.random.default_rng(0)


@parametrize_with_checks([SignalSteps(), SignalSteps([DIFFERENCE], sample_rate_hz=10.0)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def recording(n=200, rate=20.0, name="drive"):
    return Recording.evenly_sampled(RNG.normal(size=(n, 2)), rate, ("a", "b"), name, label="ice")


def test_recordings_go_through_the_steps_one_after_another():
    given = [recording(name="one"), recording(150, name="other")]
    steps = [Difference(keep=False), {"kind": "detrend", "window_s": 1.0}]
    made = SignalSteps(steps).fit_transform(given)
    for before, after in zip(given, made, strict=True):
        alike = Detrend(window_s=1.0).apply(Difference(keep=False).apply(before))
        np.testing.assert_array_equal(after.values, alike.values)
        assert (after.recording_id, after.label) == (before.recording_id, before.label)


def test_a_window_is_a_recording_of_its_own():
    X = RNG.normal(size=(5, 40, 2))
    made = SignalSteps([WITH_MOVING], sample_rate_hz=20.0).fit_transform(X)
    for row, window in enumerate(X):
        alone = Recording.evenly_sampled(window, 20.0, ("channel_0", "channel_1"), "alone")
        np.testing.assert_array_equal(made[row], make_step(WITH_MOVING).apply(alone).values)


def test_a_window_set_says_its_new_channels():
    windows = WindowSet(
        RNG.normal(size=(4, 40, 2)).astype(np.float32),
        y=np.array(list("abab")),
        groups=np.arange(4),
        channels=("x", "y"),
        sample_rate_hz=20.0,
    )
    made = SignalSteps([WITH_MOVING]).fit_transform(windows)
    step = make_step(WITH_MOVING)
    assert made.sample_rate_hz == 20.0
    assert made.n_channels == len(made.channels) == made.X.shape[2] > 2
    np.testing.assert_array_equal(made.y, windows.y)
    alone = Recording.evenly_sampled(windows.X[1], 20.0, ("x", "y"), "alone")
    np.testing.assert_array_equal(made.X[1], step.apply(alone).values.astype(np.float32))
    none = SignalSteps([WITH_MOVING]).fit_transform(windows.take(np.arange(0)))
    assert (none.X.shape, none.channels) == ((0, *made.X.shape[1:]), made.channels)


def test_the_transformer_works_in_a_pipeline_before_a_classifier():
    t = np.arange(60) / 20
    y = np.repeat([0, 1], 30)
    X = np.sin(2 * np.pi * (1 + 2 * y[:, None]) * t + RNG.uniform(0, 6, (60, 1)))
    steps = [{"kind": "difference", "keep": False, "absolute": True}]
    model = make_pipeline(SignalSteps(steps, sample_rate_hz=20.0), LogisticRegression())
    assert model.fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.9


@pytest.mark.parametrize(
    ("steps", "X", "said"),
    [
        ([DIFFERENCE], np.zeros((2, 9)), "give sample_rate_hz"),
        ([{"kind": "differense"}], np.zeros((2, 9)), "difference"),
        (DIFFERENCE, np.zeros((2, 9)), "give a list"),
        ([], recording(), "give a list of recordings"),
    ],
)
def test_invalid_input_is_an_error_with_the_way_out(steps, X, said):
    with pytest.raises(InputError, match=said):
        SignalSteps(steps).fit_transform(X)


def test_padded_windows_are_refused():
    windows = WindowSet(
        np.zeros((2, 9, 1)), lengths=np.array([9, 4]), sample_rate_hz=10.0, channels=("x",)
    )
    with pytest.raises(InputError, match="padded"):
        SignalSteps([DIFFERENCE]).fit_transform(windows)


def test_a_different_number_of_dimensions_from_the_fit_is_refused():
    steps = SignalSteps([DIFFERENCE], sample_rate_hz=10.0).fit(np.zeros((3, 9, 2)))
    with pytest.raises(InputError, match="2 dimensions"):
        steps.transform(np.zeros((3, 9)))


def test_fit_checks_the_steps_against_the_channels():
    missing = [{"kind": "difference"}, {"kind": "detrend", "window_s": 1, "channels": ["curent"]}]
    recording = Recording.evenly_sampled(np.ones((60, 1)), 20.0, ["current"], "r")
    windows = PreparePipeline(window_s=1.0, split=None).prepare([recording])
    for given in ([recording], windows):
        with pytest.raises(ArgumentError, match="Did you mean 'current'") as caught:
            SignalSteps(missing).fit(given)
        assert "steps[1]" in str(caught.value.__notes__)
    steps = SignalSteps([{"kind": "difference"}], sample_rate_hz=20.0).fit(np.zeros((3, 9, 2)))
    with pytest.raises(SignalError, match="3 channels, but SignalSteps was fitted on 2"):
        steps.transform(np.zeros((3, 9, 3)))
