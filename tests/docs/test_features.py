"""The examples of docs/features.md run, and its statements about arguments are true."""

import numpy as np
import pytest
from checkout import code_in, page_of

from sensorseq.estimator import plan
from sensorseq.features import SummarySteps
from sensorseq.features.ridge import STRENGTHS
from sensorseq.features.summary import FEATURES
from sensorseq.learners import all_windows, boosting, learner, linear

PAGE = page_of("features.md")


@pytest.mark.trains
def test_the_examples_run(capsys):
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    names = {
        "X": rng.normal(size=(40, 10, 1)) + y[:, None, None],
        "y": y,
        "recording": np.arange(40) // 4,
        "X_new": rng.normal(size=(6, 10, 1)),
    }
    first, second = code_in(PAGE)
    exec(first, names)
    printed = capsys.readouterr().out
    assert printed.startswith(
        ("log-loss of 40 windows left out in 3 fold(s)", "no features lowered")
    )
    for line in code_in(PAGE, "text")[0].splitlines()[1:]:
        assert line.split()[0] in printed
    exec(second, names)
    np.testing.assert_allclose(names["probabilities"].sum(axis=1), 1)
    assert not np.allclose(names["probabilities"], names["clf"].predict_proba(names["X_new"]))


def test_the_numbers_of_the_page_agree_with_the_code():
    assert f"up to {plan.FEW_WINDOWS:,} windows" in PAGE
    assert f"at most {plan.MOST_WINDOWS:,} windows" in PAGE
    assert f"about {linear.ROCKET_FEATURES:,} random convolutions" in PAGE
    assert f"if there are more than {linear.MANY_WINDOWS:,} windows" in PAGE
    assert f"| {len(FEATURES)} statistics of each channel" in PAGE
    assert f"in windows of {learner.SPECTRUM_STEPS} steps or more" in PAGE
    assert f"into {SummarySteps().n_steps} ranges" in PAGE
    assert f"if there are more than {linear.STEPPED_STATISTICS} statistics" in PAGE
    n_boosted = boosting.BOOSTED_STATISTICS
    assert f"if there are more than {n_boosted}, only on the most important" in PAGE
    assert "Of five penalties, ridge regression uses the penalty" in " ".join(PAGE.split())
    assert len(STRENGTHS) == 5
    assert "three folds: the validation part, and two folds of" in PAGE
    assert all_windows.N_FOLDS == 3
