"""Our estimator learns BasicMotions, a data set in aeon, with aeon's own train and test parts."""

import numpy as np
import pytest
from fits import plain_classifier

pytestmark = pytest.mark.peers


def test_basic_motions_is_learned():
    datasets = pytest.importorskip("aeon.datasets")

    X, y = datasets.load_basic_motions(split="train")
    X_test, y_test = datasets.load_basic_motions(split="test")
    clf = plain_classifier(
        learning_rate=1e-2,
        max_epochs=60,
        batch_size=8,
        validation_fraction=0.0,
        early_stopping=False,
        random_state=0,
    )
    clf.fit(np.swapaxes(X, 1, 2), y)  # aeon keeps channels first
    assert clf.score(np.swapaxes(X_test, 1, 2), y_test) >= 0.9
