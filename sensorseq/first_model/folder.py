"""The folder of a run: its files, what is finished in it, and whether it may be written."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sensorseq.base.text import listed
from sensorseq.errors import InputError, MisplacedOutputError, writing
from sensorseq.io.atomic import locking, make_folder, write_whole

_STATE = "run.json"


class RunFolder:
    """The files of one run; `state` records which steps are finished, and for which inputs."""

    def __init__(self, path: str | os.PathLike[str], request: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.windows = self.path / "windows.h5"
        self.model = self.path / "model.safetensors"
        self.page = self.path / "page.html"
        self.commands = self.path / "commands.txt"
        self.lengths = self.path / "lengths"
        self.state: dict[str, Any] = {"request": json.loads(json.dumps(request))}
        self._check()

    def _check(self) -> None:
        """Raise an error if the folder is not empty, unless it belongs to the same run."""
        if not self.path.exists():
            if not self.path.absolute().parent.is_dir():
                raise InputError(f"{self.path}: the folder above it is missing; create it.")
            return
        if not self.path.is_dir():
            raise MisplacedOutputError(f"{self.path}: is a file; give a new folder.")
        file = self.path / _STATE
        if not file.exists():
            if any(not each.name.startswith(".") for each in self.path.iterdir()):
                raise MisplacedOutputError(
                    f"{self.path}: contains files of others, which stay; give a new folder."
                )
            return
        try:
            state = json.loads(file.read_text("utf-8"))
            request = state["request"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{file}: cannot be read; give a new folder.") from error
        if request != self.state["request"]:
            raise MisplacedOutputError(
                f"{self.path}: belongs to another run (on {request.get('logs')}, perhaps with other"
                " options), and is not overwritten; give a new folder."
            )
        self.state = state

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder, and keep other runs out of it; remove it if nothing was written."""
        is_new = not self.path.exists()
        make_folder(self.path)
        try:
            with writing(self.path / _STATE), locking(self.path / _STATE, run=True):
                self._check()  # another run may have finished since
                yield
        except KeyboardInterrupt as stopped:
            files = [path.name for path in (self.windows, self.model, self.page) if path.exists()]
            kept = f"complete in {self.path}: {listed(files)}" if files else "no file is complete"
            stopped.__notes__ = [f"{kept}; the same command goes on"]  # not with prepare's `resume`
            raise
        finally:
            if is_new:
                with suppress(OSError):  # not empty
                    self.path.rmdir()

    def begin(self, inputs: str) -> None:
        """Forget what was finished with other inputs."""
        if self.state.get("inputs") != inputs:
            self.state = {"request": self.state["request"], "inputs": inputs}
            self.save()

    def save(self, **finished: Any) -> None:
        """Record finished steps."""
        self.state |= finished
        write_whole(self.path / _STATE, json.dumps(self.state, indent=1).encode())

    @property
    def is_trained(self) -> bool:
        """Whether the model was trained on the present inputs."""
        return "suspects" in self.state and self.model.exists()
