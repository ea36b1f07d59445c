import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, InputError
from sensorseq.evaluation.calibration import calibration_error
from sensorseq.evaluation.metrics import score_predictions


def two_columns(sure):
    return np.column_stack([1 - sure, sure])


def measure(sure, right, **arguments):
    """Return the calibration error of a classifier that always predicts class 1 of two classes."""
    how = {"n_resamples": 2, **arguments}
    return calibration_error(np.asarray(right, int), two_columns(sure), [0, 1], **how)


def draw(rng, n, too_sure=0.0):
    sure = rng.uniform(0.55, 0.95, n)
    return sure, rng.random(n) < sure - too_sure


@pytest.mark.trains
@pytest.mark.parametrize("n", [40, 300, 2000])
def test_the_mean_squared_error_of_a_calibrated_classifier_is_zero_only_if_debiased(n):
    rng = np.random.default_rng(n)
    drawn = [draw(rng, n) for _ in range(400)]
    without_bias = np.array([measure(*pair).squared for pair in drawn])
    plain = np.array([measure(*pair, debias=False).squared for pair in drawn])
    standard_error = without_bias.std() / np.sqrt(len(drawn))
    assert abs(without_bias.mean()) < 3 * standard_error
    assert plain.mean() > 10 * standard_error


@pytest.mark.parametrize(("n", "too_sure"), [(60, 0.3), (1000, 0.1)])
def test_a_known_miscalibration_is_measured_correctly(too_sure, n):
    rng = np.random.default_rng(1)
    squared = np.array([measure(*draw(rng, n, too_sure)).squared for _ in range(300)])
    error = squared.mean() - too_sure**2
    assert abs(error) < 3 * squared.std() / np.sqrt(len(squared))
    assert measure(*draw(rng, 20_000, too_sure)).value == pytest.approx(too_sure, abs=0.015)


@given(seed=st.integers(0, 10**6), n=st.integers(150, 400))
def test_for_constant_probabilities_it_equals_the_published_estimator(seed, n):
    """Kumar et al. use for each bin: (p - accuracy)^2 - accuracy (1 - accuracy) / (n - 1)."""
    rng = np.random.default_rng(seed)
    levels = np.array([0.55, 0.7, 0.9])
    level = rng.integers(0, 3, n)
    right = rng.random(n) < 0.7
    error = measure(levels[level], right)
    assert [p for _, p, _ in error.bins] == pytest.approx(levels)
    expected = sum(k * ((p - a) ** 2 - a * (1 - a) / (k - 1)) for k, p, a in error.bins) / n
    assert error.squared == pytest.approx(expected)


def test_windows_of_one_recording_do_not_look_miscalibrated():
    """All windows of a recording are correct, or none is; the classifier is calibrated."""
    rng = np.random.default_rng(2)
    by_recording, by_window = [], []
    for _ in range(300):
        sure = np.repeat(rng.uniform(0.55, 0.95, 40), 10)
        right = np.repeat(rng.random(40), 10) < sure
        by_recording.append(measure(sure, right, groups=np.repeat(np.arange(40), 10)).squared)
        by_window.append(measure(sure, right).squared)
    standard_error = np.std(by_recording) / np.sqrt(300)
    assert abs(np.mean(by_recording)) < 3 * standard_error
    assert np.mean(by_window) > 10 * standard_error


@pytest.mark.parametrize("too_sure", [0.0, 0.1, 0.25])
def test_intervals_by_recording_contain_the_true_error_about_as_often_as_stated(too_sure):
    rng = np.random.default_rng(3)
    held = []
    for trial in range(120):
        sure = rng.uniform(0.55, 0.95, (30, 15))
        level = rng.normal(scale=0.08, size=(30, 1))  # offset of the recording
        right = rng.random((30, 15)) < sure - too_sure + level
        how = {"groups": np.repeat(np.arange(30), 15), "n_resamples": 200, "seed": trial}
        error = measure(sure.ravel(), right.ravel(), **how)
        held.append(error.interval.low <= too_sure <= error.interval.high)
    assert np.mean(held) > 0.88


def test_equal_probabilities_share_a_bin_and_the_order_of_windows_does_not_matter():
    rng = np.random.default_rng(4)
    sure, right, groups = rng.choice([0.6, 0.8], 90), rng.random(90) < 0.7, rng.integers(0, 9, 90)
    error = measure(sure, right, groups=groups, n_resamples=50)
    assert [point.probability for point in error.bins] == pytest.approx([0.6, 0.8])
    order = rng.permutation(90)
    assert error == measure(sure[order], right[order], groups=groups[order], n_resamples=50)


def test_one_group_gives_no_error_and_a_score_that_is_no_probability_none_either():
    error = measure(np.full(30, 0.8), np.ones(30), groups=np.zeros(30))
    assert np.isnan([error.value, error.squared, *error.interval]).all()
    scored = score_predictions([0, 1], [[2.0, 1.0], [0.0, 3.0]], [0, 1])
    assert np.isnan(scored.scores["calibration_error"])
    assert scored.to_dict()["calibration_error"] is None


def test_an_evaluation_contains_it_with_intervals_by_group():
    rng = np.random.default_rng(5)
    sure, right = draw(rng, 400, 0.2)
    groups = np.repeat(np.arange(40), 10)
    how = {"recording_id": groups, "seed": 3}
    scored = score_predictions(right.astype(int), two_columns(sure), [0, 1], **how)
    error = measure(sure, right, groups=groups, n_resamples=2000, seed=3)
    assert scored.scores["calibration_error"] == error.value
    assert scored.intervals["calibration_error"] == error.interval


def test_decisions_per_recording_have_intervals_by_group():
    """Ten robots have three drives each; all drives of a robot are correct, or none is."""
    robot = np.repeat(np.arange(10), 6)
    drive = np.repeat(np.arange(30), 2)
    y = np.repeat(np.arange(30) % 2, 2)
    sure = np.where(robot < 3, 0.1, 0.9)  # probability of the true class
    probability = np.where(y[:, None] == [0, 1], sure[:, None], 1 - sure[:, None])
    scored = score_predictions(y, probability, [0, 1], recording_id=drive, groups=robot)
    for name in ("recording_vote", "recording_mean"):
        low, high = scored.intervals[name]
        assert scored.scores[name] == pytest.approx(0.7)
        assert low == pytest.approx(0.4, abs=0.11)
        assert high == pytest.approx(1.0, abs=0.11)
        assert scored.to_dict()["intervals"][name] == [low, high]


@pytest.mark.parametrize(
    ("probability", "arguments", "error", "message"),
    [
        (np.zeros((0, 2)), {"y": []}, InputError, "no windows"),
        ([[0.5, 0.5, 0.0]] * 2, {}, InputError, r"need \(2, 2\)"),
        ([[0.9, 0.3]] * 2, {}, InputError, "must sum to 1"),
        ([[np.nan, 1.0]] * 2, {}, InputError, "must sum to 1"),
        ([[0.9, 0.1]] * 2, {"y": [0, 7]}, InputError, "7 is not one of the classes"),
        ([[1.0]], {"y": ["ICY"], "classes": ["ICE"]}, InputError, "'ICY' .* Did you mean 'ICE'"),
        ([[0.9, 0.1]] * 2, {"groups": [1]}, InputError, "groups has 1 value, but y has 2"),
        ([[0.9, 0.1]] * 2, {"n_bins": 0}, ArgumentError, "n_bins=0"),
    ],
)
def test_invalid_arguments_are_reported(probability, arguments, error, message):
    keywords = {"y": [0, 1], "classes": [0, 1], **arguments}
    with pytest.raises(error, match=message):
        calibration_error(probability=probability, **keywords)
    if not keywords.keys() & {"groups", "n_bins"} and "sum to 1" not in message:
        with pytest.raises(error, match=message):
            score_predictions(probability=probability, **keywords)


def test_scores_print_as_text_of_eighty_columns():
    y = np.arange(40) % 2
    probability = np.where(y[:, None] == [0, 1], 0.8, 0.2)
    text = str(score_predictions(y, probability, [0, 1], recording_id=y))
    assert text.splitlines()[1].split()[:3] == ["accuracy", "100.0", "%"]
    assert "true \\ predicted" in text
    assert max(map(len, text.splitlines())) <= 80
