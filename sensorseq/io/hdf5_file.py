"""Read and write prepared files as HDF5; `foreign` reads HDF5 files of other programs."""

import errno
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import (
    InputError,
    MisplacedOutputError,
    OutputError,
    PreparedFileError,
    PreparedOutputError,
    reason_of,
    ways_out,
)
from sensorseq.io import checksums
from sensorseq.io.atomic import locking, replacing
from sensorseq.io.checksums import CheckedFile

_CHUNK_BYTES = 64 * 1024  # a compromise between reading single rows and streaming
_WAYS_OUT = "make one from recordings with `sensorseq prepare`."


@contextmanager
def opened_prepared(
    path: Path, *, verify: bool, whole: bool, verified_pieces: bytearray | None = None
) -> Iterator[tuple[h5py.File, CheckedFile | None]]:
    """Open a prepared file; also yield its `CheckedFile`, which is None without verification.

    Each piece is verified when it is read; if `whole` is true, a file that is not large is verified
    when it is opened. Pieces marked in `verified_pieces` are skipped, and newly verified pieces are
    marked there.
    """
    with naming(path, PreparedFileError, "a prepared file"), ExitStack() as stack:
        checked = stack.enter_context(CheckedFile(path)) if verify else None
        if checked is not None:
            checked.begin(whole=whole, verified_pieces=verified_pieces)
        try:
            yield stack.enter_context(h5py.File(checked or path, "r")), checked
        except Exception as problem:
            if checked is None or checked.failure is None:
                raise
            raise checked.failure from problem


@contextmanager
def naming(path: Path, error: type[InputError], expected: str) -> Iterator[None]:
    """Check a file as far as possible without HDF5; convert exceptions to the type `error`."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            advice = _WAYS_OUT if error is PreparedFileError else "give a file."
            raise error(f"{path}: is a folder, not {expected}; {advice}")
        if size == 0:
            raise error(f"{path}: the file is empty.")
        if not checksums.are_in(path) and not h5py.is_hdf5(path):
            consequence = f"so it is not {expected}; {_WAYS_OUT}"
            if error is not PreparedFileError:
                consequence = "or is truncated; check the file."
            raise error(f"{path}: is not an HDF5 file, {consequence}")
        yield
    except InputError:
        raise
    except OSError as problem:
        if problem.errno in (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.EISDIR):
            reason = os.strerror(problem.errno).lower()
            raise error(f"{path}: cannot be read ({reason}).") from problem
        raise error(
            f"{path}: is truncated or damaged ({problem}); copy it again from its source, or make"
            " it again."
        ) from problem
    except (RuntimeError, KeyError) as problem:  # errors that h5py raises for damaged structures
        raise error(
            f"{path}: is damaged ({problem}); copy it again from its source, or make it again."
        ) from problem


class Hdf5Writer:
    """A writer of an HDF5 file, or of a group in the file; created by `writing`."""

    def __init__(self, file: h5py.Group, guarded: "_GuardedFile") -> None:
        self._file, self._guarded = file, guarded

    def group(self, name: str) -> "Hdf5Writer":
        """Return a writer for a group of the file."""
        return Hdf5Writer(self._file.create_group(name), self._guarded)

    def attribute(self, name: str, value: str | int | float) -> None:
        """Store an attribute of the file or group."""
        self._file.attrs[name] = value

    def array(self, name: str, values: ArrayLike) -> None:
        """Store an array of numbers, or of UTF-8 strings padded to a common length."""
        array = np.asarray(values)
        dtype = array.dtype
        if dtype.kind == "U":
            encoded = [text.encode() for text in array.tolist()]
            dtype = h5py.string_dtype("utf-8", max([1, *map(len, encoded)]))
            array = np.array(encoded, dtype)
        self.blocks(name, array.shape, dtype, [array])

    def choices(self, name: str, values: ArrayLike, among: Sequence[str]) -> None:
        """Store strings with only a few distinct values as an enumeration."""
        codes = np.array([among.index(word) for word in np.asarray(values).tolist()], np.uint8)
        dtype = h5py.enum_dtype({word: code for code, word in enumerate(among)}, basetype="u1")
        self.blocks(name, codes.shape, dtype, [codes])

    def json(self, name: str, value: object) -> None:
        """Store plain values as a JSON string."""
        encoded = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        dtype = h5py.string_dtype("utf-8", max(1, len(encoded)))
        self._file.create_dataset(name, data=np.array(encoded, dtype), track_times=False)
        self._guarded.check()

    def blocks(
        self, name: str, shape: tuple[int, ...], dtype: Any, blocks: Iterable[NDArray[Any]]
    ) -> None:
        """Store an array from blocks along its first axis; only one block is in memory at once."""
        layout: dict[str, Any] = {}
        if all(shape):
            row_bytes = np.dtype(dtype).itemsize * int(np.prod(shape[1:]))
            n_rows = min(shape[0], max(1, _CHUNK_BYTES // row_bytes))
            layout = {"chunks": (n_rows, *shape[1:]), "fletcher32": True}
        dataset = self._file.create_dataset(name, shape, dtype, track_times=False, **layout)
        row = 0
        for block in blocks:
            if block.size:
                dataset[row : row + len(block)] = block
                row += len(block)
                self._guarded.check()


@contextmanager
def writing(path: Path) -> Iterator[Hdf5Writer]:
    """Write a file that gets its name when it is complete; until then, an existing file is kept.

    The file ends with its checksums. The same content gives the same bytes, because no time is
    stored.
    """
    try:
        with (
            locking(path) as target,
            replacing(target) as temporary,
            _GuardedFile(temporary, "w+") as guarded,
        ):
            with h5py.File(guarded, "w") as file:
                yield Hdf5Writer(file, guarded)
            guarded.check()
            checksums.append(guarded)
            guarded.check()
            os.fsync(guarded.fileno())
    except OSError as problem:
        raise cannot_write(path, problem) from problem


def cannot_write(path: Path, problem: OSError) -> PreparedFileError:
    """Return the error for a file that cannot be written."""
    if isinstance(problem, MisplacedOutputError):
        return PreparedFileError(str(problem))
    if isinstance(problem, OutputError):
        return PreparedOutputError(str(problem))
    kind: type[PreparedFileError] = PreparedOutputError
    hint = ways_out(problem).lower()
    if problem.errno in (errno.ENOENT, errno.ENOTDIR):
        kind, hint = PreparedFileError, f"create the folder {path.parent}, or {hint}"
    return kind(
        f"{path}: cannot be written ({reason_of(problem)}); {hint}. No partial file remains."
    )


class _GuardedFile(io.FileIO):
    """A file that hides I/O errors, because HDF5 would abort the process; `check` raises them.

    After the first error, nothing more is written to the disk, and reading returns zeros.
    """

    _failure: BaseException | None = None

    def check(self) -> None:
        """Raise the first error that was hidden."""
        if self._failure is not None:
            raise self._failure

    def _try(self, call: Callable[[Any], int], argument: Any) -> int:
        try:
            return 0 if self._failure is not None else call(argument)
        except BaseException as failure:  # also for an interrupt, which HDF5 cannot propagate
            self._failure = failure
            return 0

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        n_bytes = self._try(super().readinto, view)
        view[n_bytes:] = bytes(len(view) - n_bytes)
        return len(view)

    def write(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        unwritten = view
        while unwritten and (n_bytes := self._try(super().write, unwritten)):
            unwritten = unwritten[n_bytes:]
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        return self._try(super().truncate, size)


class RowReader:
    """A reader of rows that bypasses HDF5, which would be slower and verify the rows again.

    Arrays that another program stored in a different layout are read with HDF5.
    """

    def __init__(self, dataset: h5py.Dataset, checked: CheckedFile | None) -> None:
        self._dataset, self._checked = dataset, checked
        self._handle = dataset.file.id.get_vfd_handle() if checked is None else checked.fileno()
        self._places = _chunk_places(dataset)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows with the indices `rows`, which must increase."""
        dataset, places = self._dataset, self._places
        X = np.empty((len(rows), *dataset.shape[1:]), dataset.dtype)
        if not X.size:
            return X
        if places is None:
            return np.asarray(dataset[rows])
        view: Any = X.reshape(-1).view(np.uint8)
        row_bytes, chunk_rows = X[:1].nbytes, dataset.chunks[0]
        starts = places[rows // chunk_rows] + rows % chunk_rows * row_bytes
        ends = np.flatnonzero(np.diff(starts) != row_bytes) + 1
        for first, last in pairwise([0, *ends.tolist(), len(rows)]):
            run, start = view[first * row_bytes : last * row_bytes], int(starts[first])
            if self._checked is not None:
                self._checked.check(start, start + len(run))
            if os.preadv(self._handle, [run], start) != len(run):
                raise OSError("the file ends too early")
        return X


def _chunk_places(dataset: h5py.Dataset) -> NDArray[np.int64] | None:
    """Return the file offset of each chunk of rows; None if rows cannot be read directly.

    Rows can be read directly if chunks contain complete rows in this machine's byte order, with no
    filter except a checksum.
    """
    plain = dataset.chunks is not None and dataset.chunks[1:] == dataset.shape[1:]
    filtered = dataset.compression or dataset.shuffle or dataset.scaleoffset
    moved = not dataset.dtype.isnative or dataset.file.userblock_size or not hasattr(os, "preadv")
    if not plain or filtered or moved or dataset.file.driver not in ("sec2", "fileobj"):
        return None
    places = np.full(-(-dataset.shape[0] // dataset.chunks[0]), -1, np.int64)

    def note(chunk: Any) -> None:
        places[chunk.chunk_offset[0] // dataset.chunks[0]] = chunk.byte_offset

    dataset.id.chunk_iter(note)
    return places if (places >= 0).all() else None


def read_array(dataset: h5py.Dataset) -> NDArray[Any]:
    """Return the numbers of a dataset, or its strings as an array of str."""
    return words_of(dataset[()]) if is_text(dataset) else np.asarray(dataset[()])


def words_of(values: NDArray[Any]) -> NDArray[np.str_]:
    """Return strings of a file as an array of str."""
    # Decode only the distinct words, because a list of all decoded words would take more memory
    # than the array.
    code_of: dict[object, int] = {}
    codes = np.fromiter((code_of.setdefault(text, len(code_of)) for text in values.flat), np.int64)
    return np.array([_as_text(text) for text in code_of], dtype=np.str_)[codes]


def read_choices(dataset: h5py.Dataset) -> NDArray[np.str_]:
    """Return the strings of an enumeration."""
    names = {code: word for word, code in (h5py.check_enum_dtype(dataset.dtype) or {}).items()}
    distinct, codes = np.unique(dataset[()], return_inverse=True)
    return np.array([names[code] for code in distinct.tolist()], dtype=np.str_)[codes]


def read_json(dataset: h5py.Dataset) -> Any:
    """Return the plain values of a JSON string."""
    return json.loads(_as_text(dataset[()]))


def is_text(dataset: h5py.Dataset) -> bool:
    """Test whether a dataset contains strings."""
    return h5py.check_string_dtype(dataset.dtype) is not None


def attribute_texts(holder: Any, name: str) -> list[str]:
    """Return the string or strings in an attribute as a list."""
    return [_as_text(text) for text in np.atleast_1d(holder.attrs[name]).tolist()]


def _as_text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
