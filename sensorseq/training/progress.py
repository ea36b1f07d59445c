"""Progress output of `verbose=1`: a bar on a terminal, a line in a notebook, or a log."""

import os
import statistics
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from sensorseq.history import History
from sensorseq.training.callbacks import Callback
from sensorseq.training.config import TrainingConfig

LINES = 20  # about as many as a log of one fit should have
_SCORES = {"accuracy": "{:.1%}", "r2": "{:.3f}"}
_RECENT = 10  # epochs whose median duration foretells the rest


class ProgressReport(Callback):
    """Show epoch, losses, scores, learning rate and the time left, on stderr.

    A terminal shows a bar above a line of figures, a notebook one line that is updated, anything
    else a log of about twenty lines, or with `every_epoch` one line per epoch. The time left is for
    `max_epochs`; early stopping ends sooner. `title` is a line to write first.
    """

    def __init__(
        self, *, every_epoch: bool = False, console: Console | None = None, title: str = ""
    ) -> None:
        self._every_epoch, self._title = every_epoch, title
        self._notebook = _notebook_display() if console is None else None
        self._console = console or _Stderr(stderr=True, force_jupyter=False)
        self._bar: _Bar | None = None
        self._line: Any = None  # IPython's handle of the line in a notebook
        self._max_epochs = 0

    def on_fit_begin(self, module: Any, config: TrainingConfig) -> None:
        """Open the bar."""
        self._max_epochs = config.n_epochs
        if self._title:
            self._write(self._title)
        if self._notebook is not None:
            self._line = self._notebook(_plain("training"), raw=True, display_id=True)
        elif self._console.is_terminal:
            self._bar = _Bar(self._console, config.n_epochs)
            self._bar.start()

    def on_epoch_end(self, module: Any, history: History) -> None:
        """Advance the bar, update the line, or write another line."""
        row = history[-1]
        epoch, left = int(row["epoch"]), _time_left(history, self._max_epochs)
        figures = "  ".join(_figures(row))
        line = f"epoch {epoch}/{self._max_epochs}  {figures}  left {left}"
        if self._bar is not None:
            self._bar.advance_to(epoch, left, figures)
        elif self._line is not None:
            self._line.update(_plain(line), raw=True)
        else:
            step = 1 if self._every_epoch else max(1, self._max_epochs // LINES)
            if epoch in (1, self._max_epochs) or epoch % step == 0:
                self._write(line)

    def on_fit_end(self, module: Any, history: History) -> None:
        """Close the bar; show the number of epochs and the time they took."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        total_s = sum(row.get("duration_s", 0.0) for row in history)
        ending = f"{len(history)} epochs in {total_s:.1f} s"
        if self._line is None:
            self._write(ending)
            return
        figures = "  ".join(_figures(history[-1])) if len(history) else ""
        self._line.update(_plain(f"{ending}  {figures}".rstrip()), raw=True)
        self._line = None

    def _write(self, line: str) -> None:
        with suppress(OSError):  # of a full disk: no reason to lose a training
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Stderr(Console):
    def on_broken_pipe(self) -> None:
        # Nobody reads any more, as in `| head`: no reason to lose a training.
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


class _Bar(Progress):
    """A bar with the epoch and the time left; below it the figures, which need a line of 80."""

    def __init__(self, console: Console, max_epochs: int) -> None:
        self._figures = ""
        super().__init__(
            TextColumn("epoch"),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            BarColumn(),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
            console=console,
        )
        self.add_task("fit", total=max_epochs, left="")

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self._figures:
            yield Text(self._figures)

    def advance_to(self, epoch: int, left: str, figures: str) -> None:
        self._figures = figures
        self.update(self.task_ids[0], completed=epoch, left=f"left {left}")


def _figures(row: Mapping[str, Any]) -> list[str]:
    shown = []
    for name in ("loss", "accuracy", "r2", "val_loss", "val_accuracy", "val_r2"):
        value = row.get(name)
        if value is not None:
            score = _SCORES.get(name.removeprefix("val_"))
            shown.append(f"{name} {score.format(value) if score else _loss(value)}")
    if row.get("learning_rate") is not None:
        shown.append(f"rate {row['learning_rate']:.1e}")
    return shown


def _loss(value: float) -> str:
    for limit, n_decimals in ((10, 3), (100, 2), (1000, 1)):
        if abs(value) < limit:
            return f"{value:.{n_decimals}f}"
    return f"{value:.1e}"


def _time_left(history: History, max_epochs: int) -> str:
    recent = [row.get("duration_s", 0.0) for row in history.to_rows()[-_RECENT:]]
    left_s = round(statistics.median(recent) * (max_epochs - int(history[-1]["epoch"])))
    minutes, seconds = divmod(left_s, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _notebook_display() -> Any:
    """Return IPython's `display` when a notebook's kernel runs this; else None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display  # type: ignore[import-not-found]

    return display


def _plain(line: str) -> dict[str, str]:
    return {"text/plain": line}
