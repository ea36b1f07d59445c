"""Findings about the data of a fit reach the fit's report; a saved model does not need them."""

from functools import partial

import numpy as np
import pytest
from fits import small_classifier

from sensorseq.estimator import fit
from sensorseq.estimator.report import make_report

rng = np.random.default_rng(0)
X = rng.normal(size=(48, 16, 3))
Y = np.arange(48) % 2
GROUPS = np.arange(48) // 4
small = partial(small_classifier, hidden_size=2, max_epochs=1)


def still():
    flat = X.copy()
    flat[:, :, 1] = 3.0
    return flat


@pytest.mark.parametrize(
    ("windows", "labels", "arguments", "kinds"),
    [
        (X, Y, {}, []),
        (still(), Y, {}, ["constant_channels"]),
        (100 * X, Y, {"scale": None}, ["not_scaled"]),
        (np.concatenate([X[:24], X[:24]]), Y, {}, ["windows_overlap"]),
        (X, np.where(np.arange(48) < 46, 0, 1), {}, ["dominant_class", "single_group"]),
    ],
)
@pytest.mark.filterwarnings("ignore::sensorseq.errors.LeakWarning")
def test_facts_of_the_data_reach_the_report(windows, labels, arguments, kinds, monkeypatch):
    received = {}

    def watched(*_, **facts):
        received.update(facts)
        return make_report(*_, **facts)

    monkeypatch.setattr(fit, "make_report", watched)
    groups = None if kinds == ["windows_overlap"] else GROUPS
    small(**arguments).fit(windows, labels, groups=groups)
    found_kinds = {finding.kind for finding in received["data_facts"]}
    assert set(kinds) <= found_kinds <= {*kinds, "windows_in_both_parts", "copied_windows"}
