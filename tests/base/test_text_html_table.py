"""Results are displayed as a line or, in a notebook, as a table."""

import numpy as np
import pytest

from sensorseq import Recording
from sensorseq.estimator.explain import Explanation
from sensorseq.evaluation.metrics import score_predictions
from sensorseq.prediction.outside import OutsideWindows


def results(names):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(20_000, 2)).astype(np.float32)
    yield Recording.evenly_sampled(x, 50.0, names, "drive <1>", label="ice"), names
    reasons = np.array([["", "values"], ["", ""], ["spread", "values"]])
    yield OutsideWindows(reasons, np.ones((3, 2)), names), names
    contributions = rng.normal(size=(5, 4, 2))
    edges = np.array([0, 5, 10, 15, 20])
    explained = Explanation(np.full(5, "ice"), np.ones(5), contributions, edges)
    yield explained, ("steps 5 to 9", "5 window")
    y = np.repeat(["ice", "snow"], 10)
    shares = np.stack([y == "ice", y == "snow"], axis=1).astype(float)
    yield score_predictions(y, shares, ["ice", "snow"]), ("100.0 %",)


@pytest.mark.parametrize("names", [("ax", "ay"), ("m <1>", "m 2")])
def test_a_result_is_a_line_and_in_a_notebook_a_table(names):
    for result, words in results(names):
        assert len(repr(result)) < 160
        table = result._repr_html_()
        assert table.count("<table>") == 1
        for word in words:
            assert word.replace("<", "&lt;").replace(">", "&gt;") in table
        assert "<1>" not in table
