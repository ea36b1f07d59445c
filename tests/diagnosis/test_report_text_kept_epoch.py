"""An epoch to keep is recommended only if the accuracy fell, not if only the loss rose."""

import numpy as np
import pytest

from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.report_text import list_steps


@pytest.mark.parametrize("accuracy_falls", [False, True])
def test_an_epoch_to_keep_is_named_if_the_accuracy_fell(accuracy_falls):
    epochs, rng = np.arange(60), np.random.default_rng(0)
    fall = 0.4 * accuracy_falls * np.clip(epochs - 20, 0, 20) / 20
    history = {
        "loss": np.exp(-epochs / 20),
        "val_loss": 0.5 + 0.03 * np.abs(epochs - 8),
        "val_accuracy": rng.binomial(200, 0.9 - fall) / 200,
    }
    report = FluctuationReport.from_history(history, n_val=200, n_train=100, best_epoch=60)
    assert report.generalization == "overfitting"
    (step,) = [step for step in list_steps(report) if step.name == "generalize"]
    best = int(history["val_accuracy"].argmax()) + 1
    assert (f"Keep the weights of epoch {best}." in step.text) == accuracy_falls
    assert "epoch 9" not in step.text  # the epoch with the lowest loss
