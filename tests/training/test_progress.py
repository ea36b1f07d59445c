import contextlib
import io
import re
import sys
import types

import pytest
from rich.console import Console

from sensorseq.history import History
from sensorseq.training.config import TrainingConfig
from sensorseq.training.progress import ProgressReport

FIGURES = {
    "loss": 0.5,
    "accuracy": 0.625,
    "val_loss": 0.25,
    "val_accuracy": 0.75,
    "learning_rate": 0.001,
    "grad_norm": 1.0,
    "duration_s": 0.5,
}
WIDEST = {
    **FIGURES,
    "loss": 11.76724,
    "accuracy": 1.0,
    "val_loss": 123456.0,
    "val_accuracy": 1.0,
    "learning_rate": 9.87e-4,
    "duration_s": 20.0,
}


def watch(progress, n_epochs, max_epochs, figures=FIGURES):
    with progress:
        train(progress, [object()], n_epochs, max_epochs, figures)


def train(progress, networks, n_epochs, max_epochs, figures=FIGURES):
    history = History()
    for network in networks:
        progress.on_fit_begin(network, TrainingConfig(n_outputs=2, max_epochs=max_epochs))
    for epoch in range(1, n_epochs + 1):
        history.append({"epoch": epoch, **figures})
        for network in networks:
            progress.on_epoch_end(network, history)
    for network in networks:
        progress.on_fit_end(network, history)


def report(n_epochs, max_epochs, *, terminal=False, width=120, figures=FIGURES, **arguments):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=width)
    watch(ProgressReport(console=console, **arguments), n_epochs, max_epochs, figures)
    return text.getvalue()


def without_control_codes(shown):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def test_without_a_terminal_a_fit_writes_about_twenty_lines():
    lines = report(200, 200).splitlines()
    assert lines[0] == (
        "epoch 1/200  loss 0.500  accuracy 62.5 %  val_loss 0.250  val_accuracy 75.0 %"
        "  rate 1.0e-03  left 0:01:40"
    )
    assert lines[-2].startswith("epoch 200/200 ")
    assert lines[-2].endswith("left 0:00:00")
    assert re.fullmatch(r"200 epochs of 1 network, \d\.\d s in all", lines[-1])
    assert 20 <= len(lines) <= 23


def test_every_epoch_can_be_written():
    assert len(report(7, 100, every_epoch=True).splitlines()) == 8


@pytest.mark.parametrize("figures", [FIGURES, WIDEST])
@pytest.mark.parametrize("max_epochs", [10, 200, 100_000])
def test_eighty_columns_show_every_figure_in_full(max_epochs, figures):
    shown = without_control_codes(report(3, max_epochs, terminal=True, width=80, figures=figures))
    lines = [line for part in shown.split("\n") for line in part.split("\r")]
    assert max(map(len, lines)) <= 80
    assert "…" not in shown
    assert f"3/{max_epochs}" in shown
    assert re.search(r"left \d+:\d\d:\d\d", shown)
    if figures is WIDEST:
        row = "loss 11.77  accuracy 100 %  val_loss 1.2e+05  val_accuracy 100 %  rate 9.9e-04"
    else:
        row = "loss 0.500  accuracy 62.5 %  val_loss 0.250  val_accuracy 75.0 %  rate 1.0e-03"
    assert row in [line.strip() for line in lines]


def test_the_bar_shows_the_time_to_the_last_epoch():
    shown = without_control_codes(report(3, 10, terminal=True, figures=WIDEST))
    assert "left 0:02:20" in shown


def test_a_fit_that_failed_before_its_first_epoch_is_reported_too():
    assert report(0, 10).startswith("0 epochs of 1 network, ")


def test_one_bar_is_for_everything_that_a_fit_does():
    """The first network stops early, which skips only its own epochs; two more train together."""
    text = io.StringIO()
    with ProgressReport(console=Console(file=text, width=120), every_epoch=True) as progress:
        progress.expect(3)
        progress.say("features")
        train(progress, [object()], 2, 10)
        train(progress, [object(), object()], 4, 4)
    *shown, ending = [re.sub("  loss .*left", "", line) for line in text.getvalue().splitlines()]
    of_first = ["network 1/3  epoch 1/10 0:00:14", "network 1/3  epoch 2/10 0:00:14"]
    left = ("0:00:04", "0:00:03", "0:00:02", "0:00:02", "0:00:02", "0:00:01", "0:00:00", "0:00:00")
    of_others = [f"networks 2-3/3  epoch {1 + n // 2}/4 {time}" for n, time in enumerate(left)]
    assert shown == of_first + of_others
    assert ending.startswith("10 epochs of 3 networks, ")


def test_networks_that_are_not_trained_after_all_leave_the_bar():
    text = io.StringIO()
    with ProgressReport(console=Console(file=text, width=120)) as progress:
        progress.expect(3)
        train(progress, [object()], 10, 10)
    assert text.getvalue().splitlines()[-1].startswith("10 epochs of 1 network, ")


def test_a_fit_that_fails_before_anything_is_shown_prints_nothing():
    text = io.StringIO()
    with ProgressReport(console=Console(file=text)):
        pass
    assert text.getvalue() == ""


class StandIn(types.ModuleType):
    """The part of IPython that the display calls, with or without a notebook kernel."""

    def __init__(self, has_kernel):
        super().__init__("IPython")
        self.shown = []
        self.display = types.ModuleType("IPython.display")
        self.display.display = self._display
        self._shell = types.SimpleNamespace(kernel=object()) if has_kernel else object()

    def get_ipython(self):
        return self._shell

    def update(self, data, raw):
        self._display(data, raw=raw, display_id=True)

    def _display(self, data, raw, display_id):
        assert raw
        assert display_id
        self.shown.append(data["text/plain"])
        return self


@pytest.fixture
def ipython(request, monkeypatch):
    stand_in = StandIn(request.param)
    monkeypatch.setitem(sys.modules, "IPython", stand_in)
    monkeypatch.setitem(sys.modules, "IPython.display", stand_in.display)
    return stand_in


@pytest.mark.parametrize("ipython", [True], indirect=True)
def test_a_notebook_shows_one_line_that_is_overwritten(ipython, capsys):
    watch(ProgressReport(), 2, 10)
    *shown, ending = ipython.shown
    assert shown == [
        "training",
        "epoch 1/10  loss 0.500  accuracy 62.5 %  val_loss 0.250  val_accuracy 75.0 %"
        "  rate 1.0e-03  left 0:00:04",
        "epoch 2/10  loss 0.500  accuracy 62.5 %  val_loss 0.250  val_accuracy 75.0 %"
        "  rate 1.0e-03  left 0:00:04",
    ]
    assert re.fullmatch(r"2 epochs of 1 network, .* s in all  loss 0.500 .*  rate 1.0e-03", ending)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("ipython", [False], indirect=True)
def test_ipython_in_a_terminal_is_not_taken_for_a_notebook(ipython, capsys):
    watch(ProgressReport(), 2, 10)
    assert ipython.shown == []
    assert "\n2 epochs of 1 network, " in capsys.readouterr().err


def test_a_full_disk_for_the_log_does_not_end_the_fit():
    full = open("/dev/full", "w")  # noqa: SIM115, PTH123  which cannot be closed in peace
    watch(ProgressReport(console=Console(file=full)), 3, 3)
    with contextlib.suppress(OSError):
        full.close()
