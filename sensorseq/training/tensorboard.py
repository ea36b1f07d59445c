"""TensorBoardLog: write the history of a fit to an event file, epoch by epoch."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import nn

from sensorseq.errors import EnvironmentProblemError, reason_of, warn_caller, writing
from sensorseq.history import History
from sensorseq.training.callbacks import EpochLog, describe_config
from sensorseq.training.config import TrainingConfig

_ALONE = ("learning_rate", "grad_norm", "duration_s")  # columns without a validation counterpart


class TensorBoardLog(EpochLog):
    """Write every epoch's figures for TensorBoard: ``tensorboard --logdir FOLDER``.

    The scalars are `loss/train` and `loss/validation`, the same for the score, `learning_rate`,
    `grad_norm` and `duration_s`, for each epoch. The training arguments are written as text and,
    together with the figures of the best epoch, to the HParams tab.

    Parameters
    ----------
    folder : str or path
        Folder of the runs; created if needed.
    run : str, optional
        Name of the run's subfolder. By default each fit uses the next free name of ``fit_1``,
        ``fit_2``, ..., so the folds and candidates of a search appear next to each other.

    Raises
    ------
    EnvironmentProblemError
        When the fit begins, if tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], *, run: str | None = None) -> None:
        self.folder = folder
        self.run = run
        self.path_: Path | None = None
        self._writer: Any = None

    def __repr__(self) -> str:
        return f"TensorBoardLog({os.fspath(self.folder)!r}, run={self.run!r})"

    def on_fit_begin(self, module: nn.Module, config: TrainingConfig) -> None:
        """Open the event file and write the arguments."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise EnvironmentProblemError(
                'TensorBoardLog needs tensorboard: pip install "sensorseq[tensorboard]"'
            ) from error
        with writing(self.folder, folder=True):
            self.path_ = self._make_folder()
            self._open(config)
            self._writer = SummaryWriter(str(self.path_))
        table = [f"| {name} | `{value}` |" for name, value in describe_config(config).items()]
        self._writer.add_text("config", "\n".join(["| argument | value |", "|---|---|", *table]))

    def _write_row(self, row: dict[str, Any]) -> None:
        if self._writer is None:
            return
        epoch = int(row.pop("epoch"))
        with self._going_on():
            for name, value in row.items():
                self._writer.add_scalar(tag_of(name), value, epoch)
            self._writer.flush()

    def on_fit_end(self, module: nn.Module, history: History) -> None:
        """Write remaining rows and the figures of the best epoch; close the file."""
        if self._writer is None:
            return
        self.on_epoch_end(module, history)  # the row of an epoch in which training diverged
        best = self._best_row(history)
        figures = {f"best/{name}": value for name, value in best.items() if name not in _ALONE}
        if self._writer is None:
            return
        with self._going_on():
            self._writer.add_hparams(describe_config(self._config), figures, run_name=".")
            self._writer.close()
        self._writer = None

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Warn that the log cannot be written, for example on a full disk; training continues."""
        try:
            yield
        except OSError as problem:
            warn_caller(
                f"{self.path_}: cannot be written ({reason_of(problem)}). Training continues"
                " without this log."
            )
            self._writer = None

    def _make_folder(self) -> Path:
        folder = Path(self.folder)
        if self.run is not None:
            (folder / self.run).mkdir(parents=True, exist_ok=True)
            return folder / self.run
        folder.mkdir(parents=True, exist_ok=True)
        # Two fits that start at the same time get separate folders.
        for number in itertools.count(1):
            path = folder / f"fit_{number}"
            with suppress(FileExistsError):
                path.mkdir()
                break
        return path


def tag_of(name: str) -> str:
    """Return TensorBoard's tag of a column; the part before the slash groups charts."""
    if name in _ALONE:
        return name
    if name.startswith("val_"):
        return f"{name.removeprefix('val_')}/validation"
    return f"{name}/train"
