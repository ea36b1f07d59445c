"""The example of docs/bugs.md finds losses that are wrong."""

import numpy as np
import pytest
import torch
from checkout import code_in, page_of
from torch.nn import functional

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import LeakWarning


def cross_entropy(logits, target):
    return functional.cross_entropy(logits, target, reduction="none")


@pytest.mark.parametrize(
    ("loss", "is_learned", "is_repeated"),
    [
        ("cross_entropy", True, True),
        (lambda logits, y: -cross_entropy(logits, y).clamp(max=20), False, True),
        (lambda logits, y: cross_entropy(logits, torch.zeros_like(y)), False, True),
        (lambda logits, y: cross_entropy(logits, y) + torch.rand(len(y)), True, False),
    ],
    ids=["correct", "wrong sign", "ignores the labels", "random"],
)
def test_the_example_tells_a_wrong_loss_from_a_correct_one(loss, is_learned, is_repeated):
    y = np.arange(30) % 3
    waves = np.sin(np.arange(40) * (0.3 + 0.3 * y[:, None]))[:, :, None]
    X = waves + 0.3 * np.random.default_rng(0).normal(size=waves.shape)
    names = {"np": np, "SensorLSTMClassifier": SensorLSTMClassifier, "X": X, "y": y, "loss": loss}
    (code,) = code_in(page_of("bugs.md"))
    with pytest.warns(LeakWarning):
        exec(code, names)
    assert (names["memorized"] == 1) == is_learned
    assert (len(set(names["val_loss"])) == 1) == is_repeated
