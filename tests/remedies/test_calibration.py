import numpy as np
import pytest
from remedy_problems import compare, mislabelled, tones

from sensorseq.evaluation.calibration import calibration_error

pytestmark = pytest.mark.trains


def test_calibration_halves_the_error_on_windows_that_took_no_part():
    def error_and_accuracy(classifier, data):
        X, y = tones(1000, 5000, noise=1.0)
        p = classifier.predict_proba(X)
        error = calibration_error(y, p, classifier.classes_, n_resamples=2)
        return error.value, classifier.score(X, y)

    raw, calibrated = compare(
        mislabelled,
        error_and_accuracy,
        {"calibrate": False},
        {"calibrate": True},
        hidden_size=16,
        max_epochs=80,
    )
    assert np.median(calibrated[:, 0]) < np.median(raw[:, 0]) / 2
    assert (calibrated[:, 0] < raw[:, 0]).sum() >= 4
    np.testing.assert_array_equal(calibrated[:, 1], raw[:, 1])  # the labels stay
