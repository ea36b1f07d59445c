"""Advice about the epoch to keep says what was kept."""

import numpy as np
import pytest

from sensorseq.fluctuation.report.report import FluctuationReport
from sensorseq.fluctuation.report.words import list_steps


@pytest.mark.parametrize(("kept", "best"), [(60, 8), (45, 12), (8, 8), (None, 8)])
def test_the_epoch_that_is_kept_is_named_next_to_the_best(kept, best, monkeypatch):
    epochs = np.arange(1, 61)
    val_loss = 0.3 + 0.01 * np.abs(epochs - best)
    rows = [
        {"loss": float(np.exp(-n / 20)), "val_loss": float(v)}
        for n, v in zip(epochs, val_loss, strict=True)
    ]
    report = FluctuationReport.from_history(rows, n_val=100, n_train=100, best_epoch=kept)
    monkeypatch.setattr(FluctuationReport, "generalization", "overfitting")
    (text,) = [step.text for step in list_steps(report) if step.name == "generalize"]
    if kept is None:
        assert "Keep the weights of the best epoch" in text
    else:
        assert (f"epoch {kept}, " in text and f"epoch {best}" in text) == (kept != best)
        assert "Keep the weights of the best epoch" not in text
