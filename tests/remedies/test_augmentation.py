import numpy as np
import pytest
from remedy_problems import compare, gap, last, pairs_of, tones

pytestmark = pytest.mark.trains

KINDS = {
    "standard": "standard",
    "jitter": {"jitter": 0.5},
    "window_shift": {"window_shift": 0.3},
    "time_warp": {"time_warp": 0.1},
    "magnitude_warp": {"magnitude_warp": 0.4},
}


def validation_accuracy(classifier, data):
    return classifier.score(*data[2:])


@pytest.mark.parametrize("kind", KINDS)
def test_a_handful_of_windows_is_learned_less_by_heart_with(kind):
    plain, augmented = compare(
        pairs_of(tones, n=18, noise=0.5),
        lambda c, data: (gap(c, data), last("val_loss", 5)(c, data)),
        {"augment": None},
        {"augment": KINDS[kind]},
        max_epochs=80,
    )
    assert np.median(augmented[:, 0]) < 0.8 * np.median(plain[:, 0])
    assert np.median(augmented[:, 1]) < 0.8 * np.median(plain[:, 1])
    assert (augmented < plain).all(axis=1).sum() >= 4


def test_jitter_prepares_for_a_noisier_sensor():
    def problem(seed):
        return (*tones(60, seed, noise=0.05), *tones(150, 1000 + seed, noise=0.8))

    plain, augmented = compare(
        problem, validation_accuracy, {"augment": None}, {"augment": {"jitter": 1.0}}
    )
    assert np.median(augmented) > np.median(plain) + 0.15
    assert (augmented > plain).all()


def test_magnitude_warp_prepares_for_a_gain_that_drifts():
    def problem(seed):
        X, y, X_val, y_val = pairs_of(tones, noise=0.1)(seed)
        phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, (len(X_val), 1))
        gain = np.exp(0.8 * np.sin(np.arange(24) / 4 + phase))
        return X, y, X_val * gain[:, :, None], y_val

    plain, augmented = compare(
        problem,
        validation_accuracy,
        {"augment": None},
        {"augment": {"magnitude_warp": 0.6}},
        max_epochs=60,
    )
    assert np.median(augmented) > np.median(plain) + 0.05
    assert (augmented > plain).sum() >= 4
