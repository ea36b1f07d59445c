"""Read the HDF5 files of others in a child process, so that a crash of HDF5 does no harm.

The child is started for the first such file and reads all that follow. Requests and answers are
lines of JSON, and the bytes of numbers. Nothing is unpickled.
"""

import atexit
import fcntl
import json
import math
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import PreparedFileError, RecordingError, printable
from sensorseq.io import hdf5
from sensorseq.io.scratch import blocks
from sensorseq.memory import check_unpacked

SILENCE_S = 8.0
"""Time without a byte from the child after which it is taken to hang."""

_START_S = 120.0  # to import what it needs, on a busy machine
_MOST_BYTES = 4 << 30  # of memory, for a child
_ATTRIBUTES = ("unit", "columns", "MATLAB_class")
_PIPE_BYTES = 1 << 20
_WINDOWS = 256  # of a prepared file, read at once
_PROGRAM = "import sys; sys.path[:] = {}; from sensorseq.io.isolated import serve; serve()"


class _LostError(Exception):
    """The child has crashed or hangs."""


class _Child:
    def __init__(self) -> None:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # each takes address space
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        if hasattr(fcntl, "F_SETPIPE_SZ") and self._process.stdout is not None:
            with suppress(OSError):  # a limit of the system
                fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._read_ahead = bytearray()
        self._patience_s = _START_S
        self.has_file = False
        self.n_bytes = 0  # of numbers that were asked for in the file

    def ask(self, **request: Any) -> Any:
        """Send a request and return the answer."""
        assert self._process.stdin is not None
        if self._patience_s == _START_S:
            self.answer()  # it is ready: from now on it must answer sooner
        with suppress(BrokenPipeError):  # the answer will be missing, too
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        return self.answer()

    def close_file(self) -> None:
        """Be ready for another file."""
        self.ask()
        self.has_file = False

    def answer(self) -> Any:
        """Return the next line."""
        end = self._read_ahead.find(b"\n")
        while end < 0:
            piece, n_before = bytearray(1 << 16), len(self._read_ahead)
            self._read_ahead += piece[: self._receive(memoryview(piece))]
            end = self._read_ahead.find(b"\n", n_before)
        line, self._read_ahead = self._read_ahead[:end], self._read_ahead[end + 1 :]
        found = json.loads(line)
        if "refused" in found:
            self.has_file = False
            raise RecordingError(found["refused"])
        return found

    def fill(self, view: memoryview) -> None:
        """Fill a buffer with the bytes that come next."""
        n_here = min(len(view), len(self._read_ahead))
        view[:n_here] = self._read_ahead[:n_here]
        del self._read_ahead[:n_here]
        while n_here < len(view):
            n_here += self._receive(view[n_here:])

    def _receive(self, view: memoryview) -> int:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], self._patience_s)[0]:
            raise _LostError(f"did not answer for {self._patience_s:g} s")
        self._patience_s = SILENCE_S
        n_bytes = os.readv(self._process.stdout.fileno(), [view])
        if not n_bytes:
            raise _LostError("crashed")
        return n_bytes

    def end(self, *, by_force: bool = False) -> None:
        """End the process, which ends by itself when nothing more can come."""
        if by_force:
            self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()


_idle: list[_Child] = []
_of_parent: list[_Child] = []  # in a forked process: not its own children


def _after_fork() -> None:
    _of_parent.extend(_idle)
    _idle.clear()


os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()


@contextmanager
def _child(path: Path) -> Iterator[_Child]:
    """Lend a child; it is used again if it waits for another file."""
    child = _idle.pop() if _idle else _Child()
    try:
        yield child
    except _LostError as problem:
        child.end(by_force=True)
        raise RecordingError(
            f"{path}: is damaged: the HDF5 library {problem} when reading it; copy it again from"
            " its source, or leave it out."
        ) from None
    except BaseException as error:
        if child.has_file or not isinstance(error, RecordingError):
            child.end(by_force=True)
        else:
            _idle.append(child)
        raise
    _idle.append(child)


class RemoteDataset:
    """A dataset that the child has open; as much like one of h5py as readers need."""

    def __init__(self, child: _Child, path: Path, name: str, facts: Mapping[str, Any]) -> None:
        self._child, self.path, self._name = child, path, name
        self.shape = tuple(facts["shape"])
        self.dtype = hdf5.text_dtype() if facts["is_text"] else np.dtype(facts["dtype"])
        self.attrs: Mapping[str, Any] = facts["attrs"]
        self.ndim, self.size = len(self.shape), math.prod(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        first, stop = 0, None
        if rows != ():
            first, stop, _ = rows.indices(len(self))
        n_rows = () if not self.ndim else ((len(self) if stop is None else stop) - first,)
        self._child.n_bytes += self.dtype.itemsize * math.prod((*n_rows, *self.shape[1:]))
        check_unpacked(self.path, self._child.n_bytes, self.path.stat().st_size)
        if self.dtype.kind == "O":
            return np.array(self._child.ask(name=self._name, rows=[first, stop])["texts"], object)
        X = np.empty((*n_rows, *self.shape[1:]), self.dtype)
        view: Any = X.reshape(-1).view(np.uint8)
        at = self._child.ask(name=self._name, rows=[first, stop])["n_bytes"]
        done = 0
        while at:
            self._child.fill(memoryview(view[done : done + at]))
            done += at
            at = self._child.answer()["n_bytes"]
        return X


class RemoteGroup:
    """A group that the child has open, or the file."""

    def __init__(self, child: _Child, path: Path, name: str) -> None:
        found = child.ask(name=name)
        self._child, self._path, self._name = child, path, name
        self.attrs: Mapping[str, Any] = found["attrs"]
        self.place: int = found["place"]
        self.datasets = {
            one: RemoteDataset(child, path, f"{name}/{one}", facts)
            for one, facts in found["datasets"].items()
        }
        self._groups: list[str] = found["groups"]

    @property
    def groups(self) -> dict[str, "RemoteGroup"]:
        """The groups in it by name."""
        return {
            name: RemoteGroup(self._child, self._path, f"{self._name}/{name}")
            for name in self._groups
        }

    def get(self, name: str) -> RemoteDataset | None:
        """Return a dataset, None if there is none of this name."""
        return self.datasets.get(name)


@contextmanager
def opened(path: Path, what: str) -> Iterator[RemoteGroup]:
    """Open a recording for reading; any problem is a `RecordingError` with the file's name."""
    with hdf5.naming(path, RecordingError, what), _child(path) as child:
        child.ask(path=str(path.absolute()), shown=str(path), what=what)
        child.has_file, child.n_bytes = True, 0
        try:
            yield RemoteGroup(child, path, "")
        except RecordingError:
            if child.has_file:  # it is not the child that refused the file
                child.close_file()
            raise
        child.close_file()


def try_prepared(path: Path) -> None:
    """Read a prepared file without checksums once in the child; an error if that fails."""
    try:
        with _child(path) as child:
            found = child.ask(prepared=str(path.absolute()), shown=str(path))
            while not found["is_last"]:
                found = child.answer()
    except RecordingError as error:
        raise PreparedFileError(str(error)) from None


# In the child.


def serve() -> None:
    """Answer requests until there are no more."""
    import resource

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    _say(answers)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (used + _MOST_BYTES, resource.RLIM_INFINITY))
    for line in sys.stdin:
        request = json.loads(line)
        given = request.get("path") or request["prepared"]
        try:
            if "prepared" in request:
                _read_all(Path(given), answers)
            else:
                with hdf5.opened(Path(given), RecordingError, request["what"]) as file:
                    _say(answers)
                    while asked := json.loads(sys.stdin.readline()):
                        _answer(file, asked, answers)
                _say(answers)
        except Exception as error:
            text = str(error).replace(given, request["shown"])  # which may be shown with escapes
            text = text.replace(printable(given), request["shown"])
            _say(answers, refused=text if request["shown"] in text else _unreadable(request, error))


def _unreadable(request: Mapping[str, Any], error: Exception) -> str:
    reason = str(error) or type(error).__name__
    return f"{request['shown']}: is truncated or damaged ({reason}); copy it again from its source."


def _say(answers: BinaryIO, **answer: Any) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def _answer(file: Any, asked: Mapping[str, Any], answers: BinaryIO) -> None:
    item = file[asked["name"] or "/"]
    if "rows" not in asked:
        found = {
            name: {
                "shape": dataset.shape,
                "dtype": dataset.dtype.str if dataset.dtype.kind in "fiub" else "V1",
                "is_text": hdf5.is_text(dataset),
                "attrs": _attributes(dataset),
            }
            for name, dataset in hdf5.datasets_of(item).items()
            if dataset.shape is not None
        }
        groups = list(hdf5.groups_of(item))
        _say(answers, datasets=found, groups=groups, attrs=_attributes(item), place=hash(item))
        return
    first, stop = asked["rows"]
    if hdf5.is_text(item):
        _say(answers, texts=hdf5.read_texts(item[first:stop] if item.ndim else item).tolist())
        return
    n_rows = (len(item) if stop is None else stop) if item.ndim else 1
    n_columns = max(1, item.size // max(1, len(item))) if item.ndim else 1
    for at, end in blocks(n_rows - first, n_columns=n_columns):
        X = np.ascontiguousarray(item[first + at : first + end] if item.ndim else item[()])
        if X.nbytes:
            _say(answers, n_bytes=X.nbytes)
            answers.write(X.reshape(-1).view(np.uint8).data)
            answers.flush()
    _say(answers, n_bytes=0)


def _attributes(holder: Any) -> dict[str, Any]:
    found: dict[str, Any] = {name: hdf5.attribute_texts(holder, name) for name in _ATTRIBUTES}
    found = {name: texts for name, texts in found.items() if texts is not None}
    rate = holder.attrs.get("sample_rate_hz")
    if rate is not None:
        try:
            found["sample_rate_hz"] = float(np.asarray(rate).item())
        except (TypeError, ValueError):
            found["sample_rate_hz"] = float("nan")
    return found


def _read_all(path: Path, answers: BinaryIO) -> None:
    from sensorseq.io.prepared import PreparedFile

    with PreparedFile(path, verify=False) as file:
        file.record()
        for at, stop in blocks(len(file), step=_WINDOWS):
            file.samples(np.arange(at, stop))
            _say(answers, is_last=False)
    _say(answers, is_last=True)
