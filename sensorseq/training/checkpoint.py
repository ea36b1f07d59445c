"""Checkpoint: write the state of a run to a file, and resume the run from it."""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import CheckpointError, warn_caller
from sensorseq.history import History
from sensorseq.storage.checkpoint_file import (
    CheckpointFile,
    check_replaceable,
    lay_out,
    read_checkpoint,
)
from sensorseq.storage.model_file import from_jsonable, to_jsonable
from sensorseq.training.arguments import check_checkpoint
from sensorseq.training.identity import changed_surroundings, differences, plain_arguments
from sensorseq.training.state import pack_state, unpack_state

_HISTORY = "history"
_T = TypeVar("_T")


class Resumable(Protocol):
    """What a checkpoint keeps: a run that has just ended an epoch."""

    history: History

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values, nested, without the history."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from where `state_dict` was called."""


class _State(NamedTuple):
    """A run after an epoch, in memory of its own."""

    arrays: dict[str, NDArray[Any]]
    plain: Any
    rows: list[dict[str, Any]]  # of the history, those since the state written before


class Checkpoint:
    """Write a run to a file, and resume from it.

    The file is replaced as a whole after every `every`-th epoch and after the last one, so a killed
    process leaves the last complete file. A thread writes it during the next epoch and is never
    more than one epoch behind. If a run ends early (Ctrl-C, a callback, an error), its last
    finished epoch is written. A resumed run is bit for bit the same as an uninterrupted one, except
    for `duration_s`.

    Parameters
    ----------
    path : str or path
        The file. A new run overwrites a checkpoint with this name, but no other file.
    every : int, default=1
        Epochs between writes. The file has about four times the size of the network, plus the
        record of the run: some bytes per epoch for each window that is followed.
    resume : bool, default=False
        Resume from the file if it exists. A run that was complete (by `max_epochs`, early stopping
        or divergence) is returned as it ended. Without a file a new run starts.
    arguments : mapping, optional
        Further arguments that affect the run besides the `TrainingConfig`, by name; a checkpoint
        with other values is rejected.

    Raises
    ------
    ArgumentError
        If `path` is not a valid file name.
    CheckpointError
        If the file is damaged, from a newer version or not a checkpoint.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every: int = 1,
        resume: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        check_checkpoint(path, every, resume)
        self.path = Path(path)
        self._arguments = dict(arguments or {})
        self._every = every
        self._stored: tuple[dict[str, NDArray[Any]], Any] | None = None
        self._identity_text = "{}"
        self._rows = bytearray()  # the history as it is written, a line of JSON for each epoch
        self._n_rows = 0  # that were taken in
        self._pending: _State | None = None
        self._writing: Future[None] | None = None
        self._writer = ThreadPoolExecutor(1, "checkpoint")  # no thread before there is work
        self._file: CheckpointFile | None = None
        if self.path.exists():
            if resume:
                self._stored = read_checkpoint(self.path)
            else:
                check_replaceable(self.path)

    @property
    def entropy(self) -> Any:
        """Of the seed that the run in the file was started with; None where none is gone on."""
        if self._stored is None:
            return None
        return self._read(lambda: self._description["identity"]["contents"]["random_state"][0])

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Take in what the run is known by, and compare it with what is in the file.

        Parameters
        ----------
        identity : mapping
            See `make_identity`.

        Raises
        ------
        CheckpointError
            If the checkpoint is of another configuration or of other data.
        """
        named = {**identity["arguments"], **plain_arguments(self._arguments)}
        self._identity_text = json.dumps(to_jsonable({**identity, "arguments": named}))
        if self._stored is not None:
            self._check_identity(from_jsonable(json.loads(self._identity_text)))
        self._file = CheckpointFile(self.path)

    def discard(self) -> None:
        """Remove the file of an earlier run when this one starts over later."""
        if self._stored is None:
            self.path.unlink(missing_ok=True)

    def restore(self, run: Resumable) -> None:
        """Bring a run that is about to begin to where the checkpoint left it, if there is one."""
        if self._stored is not None:
            self._read(lambda: self._restore(run))
            self._stored = None

    def keep(self, run: Resumable, *, last: bool) -> None:
        """Take in the state of a run after an epoch; write it when it is time, or the last.

        It is written while the next epoch is under way; this returns when the one before is there.
        """
        arrays, plain = pack_state(run.state_dict())
        n_epochs = len(run.history)
        rows = [] if self._pending is None else self._pending.rows
        rows += [run.history[i] for i in range(self._n_rows, n_epochs)]
        self._n_rows = n_epochs
        state, self._pending = _State(arrays, plain, rows), None
        if last or n_epochs % self._every == 0:
            self._wait()
            self._writing = self._writer.submit(self._write, state, last)
        else:
            self._pending = state

    def close(self) -> None:
        """Write what is not written yet, and remove what was only of use on the way."""
        if self._file is None:
            return
        try:
            try:
                self._wait()
            finally:
                self._writer.shutdown()
            if self._pending is not None:
                self._write(self._pending, last=True)
        finally:
            self._pending = None
            self._file.close()

    def _wait(self) -> None:
        """Wait until what is being written is there; raise what went wrong with it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, state: "_State", last: bool) -> None:
        assert self._file is not None
        plain = json.dumps(state.plain)
        description = f'{{"identity":{self._identity_text},"state":{plain}}}'
        for row in state.rows:
            self._rows += json.dumps(row).encode() + b"\n"
        history = np.frombuffer(bytes(self._rows), np.uint8)
        self._file.write(lay_out({**state.arrays, _HISTORY: history}, description), last=last)

    @property
    def _description(self) -> Any:
        assert self._stored is not None
        return self._stored[1]

    def _check_identity(self, here: Mapping[str, Any]) -> None:
        there = self._read(lambda: from_jsonable(self._description["identity"]))
        found = self._read(lambda: differences(here, there))
        if found:
            raise CheckpointError(
                f"the checkpoint {self.path} is from another run: {'; '.join(found)}. Use the same"
                " arguments and data, give checkpoint= another name, or set resume=False to"
                " overwrite it."
            )
        changed = self._read(lambda: changed_surroundings(here, there))
        if changed:
            warn_caller(
                f"the checkpoint {self.path} was made in another environment: {'; '.join(changed)}."
                " The run resumes, but its result may not be bit for bit the same.",
            )

    def _restore(self, run: Resumable) -> None:
        assert self._stored is not None
        arrays, description = self._stored
        self._rows = bytearray(arrays[_HISTORY].tobytes())
        rows = [json.loads(line) for line in self._rows.decode().splitlines()]
        self._n_rows = len(rows)
        run.load_state_dict(unpack_state(arrays, description["state"]))
        run.history = History(rows)

    def _read(self, take: Callable[[], _T]) -> _T:
        """Take something out of what the file holds, which may be anything under the right sum."""
        try:
            return take()
        except CheckpointError:
            raise
        except (LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"the checkpoint {self.path} is inconsistent: {error}. Delete it to start over, or"
                " give checkpoint= another name."
            ) from error
