"""Display the progress of a fit: a bar on a terminal, a line in a notebook, or a log."""

import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text
from torch import nn

from sensorseq.base.text import percent
from sensorseq.history import History
from sensorseq.training.callbacks import Callback, NoProgress
from sensorseq.training.config import TrainingConfig

LINES = 20  # approximate number of lines in the log of a fit
_RECENT = 10  # number of epochs whose median duration predicts the remaining time


class ProgressReport(NoProgress, Callback):
    """Shows the progress of a fit and the remaining time on stderr.

    This object is a callback for all networks of the fit. A terminal shows one bar above a line of
    metrics, and a notebook shows one line that is updated. Any other output gets a log of about
    twenty lines or, with `every_epoch`, one line per epoch. The remaining time covers all epochs of
    all networks; early stopping may end the fit sooner.
    """

    def __init__(self, *, every_epoch: bool = False, console: Console | None = None) -> None:
        self._every_epoch = every_epoch
        self._n_networks = 1
        self._notebook = _notebook_display() if console is None else None
        self._console = console or _Stderr(stderr=True, force_jupyter=False)
        self._bar: _Bar | None = None
        self._line: Any = None  # IPython's handle for the line in a notebook
        self._networks: list[_Network] = []
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._figures = ""
        self._started: float | None = None

    @property
    def callbacks(self) -> tuple[Any, ...]:
        """A tuple that contains only this object."""
        return (self,)

    def say(self, stage: str) -> None:
        """Show a message before the first epoch, or between two networks."""
        self._open()
        self._show(stage, "", is_due=False)

    def expect(self, n_networks: int) -> None:
        """Set the number of networks that will be trained."""
        self._n_networks = n_networks

    def on_fit_begin(self, module: nn.Module, config: TrainingConfig) -> None:
        """Add the network and the number of its epochs."""
        self._open()
        self._networks.append(_Network(module, config.n_epochs))

    def on_epoch_end(self, module: nn.Module, history: History) -> None:
        """Advance the bar, update the line in the notebook, or write a line to the log."""
        row = history[-1]
        epoch = int(row["epoch"])
        network = next(network for network in self._networks if network.module is module)
        self._figures = "  ".join(_figures(row))
        before = self._done
        network.done = epoch
        self._recent.append(row.get("duration_s", 0.0))
        every = 1 if self._every_epoch else max(1, self._total // LINES)
        is_due = before == 0 or before // every < self._done // every or self._done == self._total
        self._show(f"{self._name(network)}epoch {epoch}/{network.n_epochs}", self._left(), is_due)

    def on_fit_end(self, module: nn.Module, history: History) -> None:
        """Reduce the total by the number of epochs that early stopping skipped."""
        for network in self._networks:
            if network.module is module:
                network.n_epochs, network.has_ended = network.done, True

    def close(self) -> None:
        """Close the bar and show the total time; do nothing if nothing was shown."""
        if self._started is None:
            return
        if self._bar is not None:
            self._bar.stop()
        n_networks = len(self._networks)
        networks = "1 network" if n_networks == 1 else f"{n_networks} networks"
        seconds = time.perf_counter() - self._started
        ending = f"{self._done} epochs of {networks}, {seconds:.1f} s in all"
        if self._line is None:
            self._write(ending)
        else:
            self._line.update(_as_mime(f"{ending}  {self._figures}".rstrip()), raw=True)
        self._bar = self._line = self._started = None

    @property
    def _done(self) -> int:
        return sum(network.done for network in self._networks)

    @property
    def _total(self) -> int:
        """Total number of epochs, if each remaining network has as many as the latest network."""
        n_others = max(0, self._n_networks - len(self._networks))
        n_started = sum(network.n_epochs for network in self._networks)
        return n_started + n_others * self._networks[-1].n_epochs

    def _name(self, network: "_Network") -> str:
        """Return a label such as "network 2/5  "; empty if the fit has only one network."""
        n_networks = max(self._n_networks, len(self._networks))
        if n_networks == 1:
            return ""
        training = [n for n, other in enumerate(self._networks, 1) if not other.has_ended]
        if len(training) > 1:
            return f"networks {training[0]}-{training[-1]}/{n_networks}  "
        return f"network {self._networks.index(network) + 1}/{n_networks}  "

    def _left(self) -> str:
        left_s = round(statistics.median(self._recent) * (self._total - self._done))
        minutes, seconds = divmod(left_s, 60)
        hours, minutes = divmod(minutes, 60)
        return f"left {hours}:{minutes:02}:{seconds:02}"

    def _open(self) -> None:
        if self._started is not None:
            return
        self._started = time.perf_counter()
        if self._notebook is not None:
            self._line = self._notebook(_as_mime("training"), raw=True, display_id=True)
        elif self._console.is_terminal:
            self._bar = _Bar(self._console)
            self._bar.start()

    def _show(self, stage: str, left: str, is_due: bool) -> None:
        if self._bar is not None:
            total = self._total if self._networks else None
            self._bar.show(stage, self._done, total, left, self._figures)
            return
        line = "  ".join(part for part in (stage, self._figures, left) if part)
        if self._line is not None:
            self._line.update(_as_mime(line), raw=True)
        elif is_due:
            self._write(line)

    def _write(self, line: str) -> None:
        with suppress(OSError):  # a full disk must not end training
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Network:
    """The progress of one network."""

    def __init__(self, module: nn.Module, n_epochs: int) -> None:
        self.module, self.n_epochs = module, n_epochs
        self.done, self.has_ended = 0, False


class _Stderr(Console):
    def on_broken_pipe(self) -> None:
        # The reader has closed the output, as `| head` does; training continues.
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


class _Bar(Progress):
    """A bar with the stage and the remaining time, above the metrics, within 80 columns."""

    def __init__(self, console: Console) -> None:
        self._figures = ""
        super().__init__(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
            console=console,
        )
        self.add_task("", total=None, left="")

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self._figures:
            yield Text(self._figures)

    def show(self, stage: str, done: int, total: int | None, left: str, figures: str) -> None:
        self._figures = figures
        self.update(self.task_ids[0], description=stage, completed=done, total=total, left=left)


def _figures(row: Mapping[str, Any]) -> list[str]:
    shown = []
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        value = row.get(name)
        if value is not None:
            digits = 1 if value < 0.9995 else 0  # all figures then fit into 80 columns
            words = _loss(value) if name.endswith("loss") else percent(value, digits)
            shown.append(f"{name} {words}")
    if row.get("learning_rate") is not None:
        shown.append(f"rate {row['learning_rate']:.1e}")
    return shown


def _loss(value: float) -> str:
    for limit, n_decimals in ((10, 3), (100, 2), (1000, 1)):
        if abs(value) < limit:
            return f"{value:.{n_decimals}f}"
    return f"{value:.1e}"


def _notebook_display() -> Any:
    """Return IPython's `display` in the kernel of a notebook, otherwise None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    return sys.modules["IPython.display"].display


def _as_mime(line: str) -> dict[str, str]:
    return {"text/plain": line}
