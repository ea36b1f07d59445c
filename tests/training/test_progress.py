import io

import pytest
from rich.console import Console

from sensorseq.history import History
from sensorseq.training.config import TrainingConfig
from sensorseq.training.progress import ProgressReport


def report(n_epochs, max_epochs, *, terminal=False, width=120, loss=0.5, **arguments):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=width)
    progress = ProgressReport(console=console, **arguments)
    history = History()
    progress.on_fit_begin(None, TrainingConfig(n_outputs=2, max_epochs=max_epochs))
    for epoch in range(1, n_epochs + 1):
        figures = {"loss": loss, "val_loss": 0.25, "val_accuracy": 0.75, "duration_s": 0.5}
        history.append({"epoch": epoch, **figures})
        progress.on_epoch_end(None, history)
    progress.on_fit_end(None, history)
    return text.getvalue()


def test_without_a_terminal_a_fit_writes_about_twenty_lines():
    lines = report(200, 200).splitlines()
    assert lines[0] == "epoch 1/200  loss 0.5000  val_loss 0.2500  val_accuracy 75.0%"
    assert lines[-1] == "200 epochs in 100.0 s"
    assert 20 <= len(lines) <= 23


def test_every_epoch_can_be_written():
    assert len(report(7, 100, every_epoch=True).splitlines()) == 8


def test_a_terminal_shows_epoch_figures_and_time():
    shown = report(3, 10, terminal=True)
    assert "3/10" in shown
    assert "val_accuracy 75.0%" in shown


@pytest.mark.parametrize("max_epochs", [10, 200, 1000])
def test_eighty_columns_show_every_figure_in_full(max_epochs):
    shown = report(3, max_epochs, terminal=True, width=80, loss=11.76724)
    assert "…" not in shown
    assert f"3/{max_epochs}" in shown
    assert "loss 11.767  val_loss 0.250  val_accuracy 75.0%" in shown
    assert "left" in shown
