"""The example of docs/validation.md with captum runs."""

import numpy as np
import pytest
import torch
from checkout import code_in, page_of
from fits import plain_classifier

pytestmark = pytest.mark.peers


def test_captums_contributions_add_up_to_the_change_of_the_logit():
    pytest.importorskip("captum.attr", reason="captum is not installed")
    y = np.arange(90) % 3
    windows = 0.3 * np.random.default_rng(0).normal(size=(90, 40, 3))
    windows[:, 16:24, 1] += y[:, None] - 1.0
    settings = {"hidden_size": 8, "max_epochs": 30, "pooling": "mean", "random_state": 0}
    clf = plain_classifier(**settings, patch=None).fit(windows, y)
    code = code_in(page_of("validation.md").split("## Explaining a decision")[1])[1]
    names = {"clf": clf, "torch": torch, "windows": windows}
    exec(code, names)
    x = names["x"]
    change = clf.module_(x)[:, 1] - clf.module_(torch.zeros_like(x))[:, 1]
    sums = names["contributions"].sum((1, 2))
    np.testing.assert_allclose(sums.detach(), change.detach(), atol=1e-3)
