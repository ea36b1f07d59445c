import numpy as np
import pytest

from sensorseq import SensorLSTMClassifier
from sensorseq.estimator.whole_data import N_FOLDS
from sensorseq.evaluation.baselines import Alternative, try_boosting
from sensorseq.evaluation.page import PagePart, make_page
from sensorseq.windows import WindowSet


def thresholds(n_groups=36, per_group=8):
    """Windows whose class is whether their mean is in the middle: boosting's own ground."""
    rng = np.random.default_rng(0)
    n = n_groups * per_group
    level = rng.uniform(-3, 3, n)
    X = (level[:, None, None] + rng.normal(size=(n, 20, 1))).astype(np.float32)
    part = np.repeat(["train", "validation", "test"], [18, 9, 9])
    return WindowSet(
        X=X,
        y=np.where(np.abs(level) < 1.5, "in", "out"),
        groups=np.repeat(np.arange(n_groups), per_group),
        split=np.repeat(part, per_group),
    )


@pytest.fixture(scope="module")
def fitted():
    classifier = SensorLSTMClassifier(hidden_size=2, max_epochs=2, features=["rocket"])
    return classifier.set_params(random_state=0).fit(thresholds())


@pytest.mark.trains
def test_boosting_is_tried_on_the_windows_that_may_be_trained_on(fitted):
    windows = thresholds()
    found = try_boosting(fitted, windows)
    assert found.n_windows == (windows.split != "test").sum()
    assert found.model == fitted.features_.candidates[-1].accuracy
    assert found.boosting > 0.8  # the middle has to be cut out on two sides
    changed = thresholds()
    changed.X[changed.split == "test"] += 100.0
    assert try_boosting(fitted, changed) == found


@pytest.mark.trains
def test_without_folds_there_is_nothing_to_compare():
    alone = SensorLSTMClassifier(hidden_size=2, max_epochs=2, features=None, random_state=0)
    assert try_boosting(alone.fit(thresholds()), thresholds()) is None


@pytest.mark.parametrize(
    ("model", "boosting", "n_windows", "is_better"),
    [
        (0.70, 0.80, 1000, True),
        (0.70, 0.72, 100, False),  # within the standard error
        (0.700, 0.705, 10**6, False),  # not worth another model
        (0.80, 0.70, 1000, False),
        (1.0, 1.0, 10, False),
    ],
)
def test_better_is_more_than_a_point_and_than_chance(model, boosting, n_windows, is_better):
    assert Alternative(model, boosting, n_windows).is_better == is_better


@pytest.mark.trains
def test_the_page_of_a_fit_shows_the_validation_part_by_networks_that_have_not_seen_it(fitted):
    windows = thresholds()
    part = PagePart.of(fitted, windows, "validation")
    rows, probability = fitted.held_out_predictions(len(windows.part("validation")))
    np.testing.assert_array_equal(part.probability, probability)
    assert len(rows) == len(part.windows) == (windows.split == "validation").sum()
    assert not np.array_equal(probability, fitted.predict_proba(windows.part("validation")))
    page = make_page(fitted, part, title="fit")
    assert "by networks that were not trained on them" in page
    assert "weighed the features" in page


@pytest.mark.trains
def test_the_time_left_is_told_before_the_folds_and_after_each(fitted):
    told = []
    try_boosting(fitted, thresholds(), progress=lambda *one: told.append(one))
    assert [one[:2] for one in told] == [(done, N_FOLDS) for done in range(N_FOLDS + 1)]
    assert told[0][2] > 0
    assert told[-1][2] == 0
