"""What `verbose=1` shows while training: a bar on a terminal, some lines elsewhere."""

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from sensorseq.history import History
from sensorseq.training.callbacks import Callback
from sensorseq.training.config import TrainingConfig

LINES = 20  # about as many as a log of one fit should have


class ProgressReport(Callback):
    """Show epoch, losses, validation accuracy and the time left, on stderr.

    Parameters
    ----------
    every_epoch : bool, default=False
        Where there is no terminal: one line for each epoch instead of about twenty in all.
    console : rich.console.Console, optional
        Where to write; stderr when not given.
    """

    def __init__(self, *, every_epoch: bool = False, console: Console | None = None) -> None:
        self._every_epoch = every_epoch
        self._console = console or Console(stderr=True)
        self._progress: Progress | None = None
        self._max_epochs = 0

    def on_fit_begin(self, module: Any, config: TrainingConfig) -> None:
        """Open the bar."""
        self._max_epochs = config.max_epochs
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("epoch"),
                MofNCompleteColumn(table_column=Column(no_wrap=True)),
                BarColumn(),  # the one column that gives way on a narrow terminal
                TextColumn("{task.fields[figures]}"),
                TextColumn("left"),
                TimeRemainingColumn(table_column=Column(no_wrap=True)),
                console=self._console,
            )
            self._progress.start()
            self._progress.add_task("fit", total=config.max_epochs, figures="")

    def on_epoch_end(self, module: Any, history: History) -> None:
        """Move the bar, or write a line."""
        row = history[-1]
        if self._progress is not None:
            self._progress.update(
                self._progress.task_ids[0],
                completed=row["epoch"],
                figures=_figures(row, n_decimals=3),  # all of it fits into 80 columns
            )
            return
        step = 1 if self._every_epoch else max(1, self._max_epochs // LINES)
        if row["epoch"] == 1 or row["epoch"] % step == 0 or row["epoch"] == self._max_epochs:
            self._write(f"epoch {row['epoch']}/{self._max_epochs}  {_figures(row, n_decimals=4)}")

    def on_fit_end(self, module: Any, history: History) -> None:
        """Close the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        total_s = sum(row["duration_s"] for row in history)
        self._write(f"{len(history)} epochs in {total_s:.1f} s")

    def _write(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _figures(row: dict[str, Any], n_decimals: int) -> str:
    parts = [f"{name} {row[name]:.{n_decimals}f}" for name in ("loss", "val_loss") if name in row]
    if "val_accuracy" in row:
        parts.append(f"val_accuracy {row['val_accuracy']:.1%}")
    else:
        parts.append(f"accuracy {row['accuracy']:.1%}")
    return "  ".join(parts)
