"""Read foreign HDF5 files in a child process, so that a crash of HDF5 does no harm.

The child is started for the first such file and also reads all later ones. Requests are JSON. Each
answer is an error as JSON, or null, followed by JSON or by the raw bytes of numbers. Nothing is
unpickled.
"""

import atexit
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sensorseq.checks import check_unpacked
from sensorseq.errors import InputError, RecordingError
from sensorseq.io import hdf5
from sensorseq.io.scratch import blocks

SILENCE_S = 8.0
"""Time without an answer from the child after which it is taken to hang."""

_START_S = 120.0  # time to import the libraries on a busy machine
_MOST_BYTES = 4 << 30  # memory limit of the child
_ATTRIBUTES = ("unit", "units", "columns", "MATLAB_class", "format", "version")
_PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value")  # as netCDF names them
_PROGRAM = "import sys; sys.path[:] = {}; from sensorseq.io.isolated import serve; serve()"


class _LostError(Exception):
    """The child has crashed or hangs."""


class _Child:
    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(sys.path)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each thread takes address space
            )
        self._has_begun = False
        self.is_waiting = False  # the child waits for a request
        self.n_bytes = 0  # size of the numbers requested from the file

    def ask(self, request: Mapping[str, Any], into: memoryview | None = None) -> Any:
        """Send a request; return the answer or fill a buffer. An `OSError` if the child failed."""
        if not self._has_begun:
            self._receive(_START_S)
            self._has_begun = True
        self.is_waiting = False
        with suppress(OSError):  # if it failed, the answer will be missing, too
            self._pipe.send_bytes(json.dumps(request).encode())
        failure, answer = json.loads(self._receive()), None
        if failure is None and into is None:
            answer = json.loads(self._receive())
        while failure is None and into:  # read straight into the buffer, without a copy
            into = into[self._receive(into=into) :]
        self.is_waiting = True
        if failure is not None:
            error = OSError(failure[1])
            error.errno = failure[0]
            raise error
        return answer

    def _receive(self, patience_s: float | None = None, into: memoryview | None = None) -> Any:
        """Receive a message, or read into a buffer and return the number of bytes."""
        patience_s = patience_s or SILENCE_S
        try:
            if not self._pipe.poll(patience_s):
                raise _LostError(f"did not answer for {patience_s:g} s")
            if into is None:
                return self._pipe.recv_bytes()
            if n_bytes := os.readv(self._pipe.fileno(), [into]):
                return n_bytes
        except (EOFError, OSError):
            pass
        raise _LostError("crashed")

    def end(self) -> None:
        """Kill the process, which has no state to lose."""
        self._process.kill()
        self._pipe.close()
        self._process.wait()


idle: list[_Child] = []
_of_parent: list[_Child] = []  # after a fork, the children of the parent process


def _after_fork() -> None:
    _of_parent.extend(idle)
    idle.clear()


os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def end_all() -> None:
    """End every child that waits for a file."""
    while idle:
        idle.pop().end()


class Dataset:
    """A dataset that the child has open, with the part of h5py's interface that readers use."""

    def __init__(self, child: _Child, path: Path, name: str, facts: Mapping[str, Any]) -> None:
        self._child, self._path, self._name = child, path, name
        self.shape, self.ndim = tuple(facts["shape"]), len(facts["shape"])
        self.size = math.prod(self.shape)
        self.dtype, self.is_text = np.dtype(facts["dtype"]), facts["dtype"] == "O"
        self.attrs: Mapping[str, Any] = facts["attrs"]

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return a slice of rows, or the whole dataset for ()."""
        of_all = self.shape or (1,)
        first, stop, _ = (slice(None) if rows == () else rows).indices(of_all[0])
        n_columns = math.prod(of_all[1:])
        self._child.n_bytes += self.dtype.itemsize * n_columns * (stop - first)
        check_unpacked(self._path, self._child.n_bytes, self._path.stat().st_size)
        X = np.empty((stop - first, *of_all[1:]), self.dtype)
        for at, end in blocks(len(X), n_columns=n_columns):
            request = {"name": self._name, "rows": [first + at, first + end]}
            if self.is_text:
                X[at:end] = self._child.ask(request)
            else:
                view: Any = X[at:end].reshape(-1).view(np.uint8)
                self._child.ask(request, view.data)
        return X if self.shape else X.reshape(())


class Group:
    """A group, or the root of a file, that the child has open."""

    def __init__(self, child: _Child, path: Path, name: str) -> None:
        found = child.ask({"name": name})
        self._child, self._path, self._name = child, path, name
        self.attrs: Mapping[str, Any] = found["attrs"]
        self.place: int = found["place"]
        self.datasets = {
            one: Dataset(child, path, f"{name}/{one}", facts)
            for one, facts in found["datasets"].items()
        }
        self._groups: list[str] = found["groups"]

    @property
    def groups(self) -> dict[str, "Group"]:
        """The groups in it, by name."""
        return {
            name: Group(self._child, self._path, f"{self._name}/{name}") for name in self._groups
        }


@contextmanager
def opened(path: Path, what: str, error: type[InputError] = RecordingError) -> Iterator[Group]:
    """Open a file for reading; problems are raised as `error` with the file's name.

    `what` describes the expected file in the message, such as ``"an HDF5 recording"``.
    """
    with hdf5.naming(path, error, what):
        child = idle.pop() if idle else _Child()
        try:
            child.n_bytes = 0
            child.ask({"path": str(path.absolute())})
            try:
                yield Group(child, path, "")
            finally:
                if child.is_waiting:
                    child.ask({"path": None})
        except _LostError as problem:
            raise error(
                f"{path}: is damaged: the HDF5 library {problem} when reading it; copy it again"
                " from its source, or leave it out."
            ) from None
        finally:
            if child.is_waiting:
                idle.append(child)
            else:
                child.end()


# The rest runs in the child.


def serve() -> None:
    """Answer requests until the input ends."""
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (used + _MOST_BYTES, resource.RLIM_INFINITY))
    pipe, file = Connection(0), None

    def say(value: Any) -> None:
        pipe.send_bytes(json.dumps(value).encode())

    say(None)  # report that it is ready; from now on, answers are expected sooner
    with suppress(EOFError):
        while True:
            asked = json.loads(pipe.recv_bytes())
            answer = failure = None
            try:
                if "name" in asked:
                    answer = _answer(file, asked)
                else:
                    earlier, file = file, None
                    if earlier is not None:
                        earlier.close()
                    if asked["path"] is not None:
                        file = h5py.File(asked["path"], "r")
            except Exception as error:
                failure = [getattr(error, "errno", None), str(error) or type(error).__name__]
            say(failure)
            if isinstance(answer, np.ndarray):
                rest = answer.data
                while rest:
                    rest = rest[os.write(0, rest) :]
            elif failure is None:
                say(answer)


def _answer(file: Any, asked: Mapping[str, Any]) -> Any:
    item = file[asked["name"] or "/"]
    if "rows" in asked:
        rows = np.atleast_1d(item[slice(*asked["rows"])] if item.ndim else item[()])
        if hdf5.is_text(item):
            return hdf5.words_of(rows).tolist()
        return np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
    inner = {name: item.get(name) for name in item}
    arrays = {name: one for name, one in inner.items() if isinstance(one, h5py.Dataset)}
    return {
        "datasets": {name: _facts(one) for name, one in arrays.items() if one.shape is not None},
        "groups": [name for name, one in inner.items() if isinstance(one, h5py.Group)],
        "attrs": _attributes(item),
        "place": hash(item),
    }


def _facts(dataset: Any) -> dict[str, Any]:
    dtype = dataset.dtype.str if dataset.dtype.kind in "fiub" else "V1"
    dtype = "O" if hdf5.is_text(dataset) else dtype
    return {"shape": dataset.shape, "dtype": dtype, "attrs": _attributes(dataset)}


def _attributes(holder: Any) -> dict[str, Any]:
    there = {name: holder.attrs[name] for name in _ATTRIBUTES + _PACKING if name in holder.attrs}
    there = {name: one for name, one in there.items() if not isinstance(one, h5py.Empty)}
    found: dict[str, Any] = {
        name: [_number(value) for value in np.ravel(one)]
        if name in _PACKING
        else hdf5.attribute_texts(holder, name)
        for name, one in there.items()
    }
    rate = holder.attrs.get("sample_rate_hz")
    if rate is not None:
        try:
            found["sample_rate_hz"] = float(np.asarray(rate).item())
        except (TypeError, ValueError):
            found["sample_rate_hz"] = float("nan")
    return found


def _number(value: Any) -> int | float | str:
    """Return an attribute's number, with all digits of a whole one, or its text."""
    if isinstance(value, np.integer):
        return int(value)
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    try:
        return float(text)
    except ValueError:
        return text
