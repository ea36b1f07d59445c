import pytest


@pytest.fixture(scope="module")
def few_features():
    """Fit a twentieth of the features, of every kind: compilers take seconds for all weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sensorseq.estimator.feature_head.ROCKET_FEATURES", 504)
        patch.setattr("sensorseq.features.grow_trees._TREES", 20)
        yield
