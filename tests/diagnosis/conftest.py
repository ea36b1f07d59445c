import pytest


@pytest.fixture(scope="module")
def few_features():
    """Let probes and fits that use features learn a part of them, of every kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sensorseq.estimator.feature_head.ROCKET_FEATURES", 504)
        patch.setattr("sensorseq.features.grow_trees._TREES", 10)
        yield
