"""Write files atomically, and keep two runs from writing the same file."""

import errno
import fcntl
import glob
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sensorseq.errors import MisplacedOutputError, OutputError, writing

_WAIT_S = 10.0  # maximum wait in seconds for another process that writes the same file
_OWNER_BYTES = 300  # size of a lock file: its owner's name, padded with spaces
# errors on network disks that do not support locks
_NO_LOCKS = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS)


@dataclass
class _Lock:
    """A lock file of this process with `n_users` users, one of which may be a run."""

    path: Path
    descriptor: int
    n_users: int = 0
    has_run: bool = False


_locks: dict[str, _Lock] = {}  # locks of this process, by the real path of the locked file
_guard = threading.Lock()


@contextmanager
def locking(path: str | os.PathLike[str], *, run: bool = False) -> Iterator[Path]:
    """Lock a file against writes by other processes; yield its path (for a link, its target).

    Temporary files of killed processes are removed. With `run`, the lock is held during a run,
    which writes the file at its end; an `OutputError` is raised if another run, in this or another
    process, holds the lock. Other callers write immediately, but wait while another process is
    writing. The lock is an `flock` on ``.<name>.lock``, a file that names the process and its host.
    The lock is released when the process ends. On disks without `flock` there is no lock.
    """
    file = real_file(path)
    key = os.path.realpath(file)
    until_s = time.monotonic() + (0.0 if run else _WAIT_S)
    while isinstance(lock := _add_user(key, file, run), str):
        if time.monotonic() >= until_s:
            raise OutputError(
                f"{path}: another run ({lock}) is writing this file; wait until it ends, or choose"
                " another output."
            )
        time.sleep(0.02)
    try:
        yield file
    finally:
        with _guard:
            lock.n_users -= 1
            lock.has_run &= not run
            if not lock.n_users and _locks.get(key) is lock:  # false in a forked process
                del _locks[key]
                with suppress(OSError):  # the folder may have become read-only
                    lock.path.unlink()
                os.close(lock.descriptor)


def real_file(path: str | os.PathLike[str]) -> Path:
    """Return the file to write for `path` (the target of a link); refuse all but regular files."""
    file = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    if file.exists() and not file.is_file():
        kind = "a folder" if file.is_dir() else "a device"
        raise MisplacedOutputError(f"{path}: is {kind}; give a file name.")
    return file


def permissions_of(file: Path) -> int | None:
    """Return the permissions of a file, or None if there is no such file."""
    try:
        return file.stat().st_mode & 0o777
    except FileNotFoundError:
        return None


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create the folder `path`, or the folder to which the link `path` points."""
    with writing(path, folder=True):
        folder = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _add_user(key: str, file: Path, run: bool) -> _Lock | str:
    """Add a user to the lock of a file, or return the name of another process that has the lock."""
    with _guard:
        lock = _locks.get(key) or _new_lock(file)
        if isinstance(lock, str):
            return lock
        if run and lock.has_run:
            return "in this process"
        _locks[key] = lock
        lock.n_users += 1
        lock.has_run |= run
        return lock


def _new_lock(file: Path) -> _Lock | str:
    """Lock a file for this process, and remove temporary files of killed processes."""
    path = file.with_name(f".{file.name}.lock")
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
    except PermissionError:
        if not path.exists():
            raise
        descriptor = os.open(path, os.O_RDONLY | flags)  # left by a process of another user
    with ExitStack() as stack:
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(path.stat(), os.fstat(descriptor)):
                raise FileNotFoundError
            with suppress(OSError):  # on a full disk the lock file stays empty
                name = f"process {os.getpid()} on {os.uname().nodename}"
                os.pwrite(descriptor, name.encode().ljust(_OWNER_BYTES), 0)
            with suppress(OSError):
                for part in file.parent.glob(f".{glob.escape(file.name)}.{'[0-9a-f]' * 32}.tmp"):
                    part.unlink()
        except BlockingIOError:
            owner = os.pread(descriptor, _OWNER_BYTES, 0).decode(errors="replace").strip()
            return owner or "another process"
        except FileNotFoundError:  # the owner of the file has just removed it
            return _new_lock(file)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        stack.pop_all()
    return _Lock(path, descriptor)


def _close_inherited_locks() -> None:
    """Close the locks in a forked child, because they belong to the parent."""
    global _guard
    _guard = threading.Lock()
    for lock in _locks.values():
        with suppress(OSError):
            os.close(lock.descriptor)
    _locks.clear()


os.register_at_fork(after_in_child=_close_inherited_locks)


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield an empty temporary file in the file's folder; rename it unless an error occurs.

    If the file exists, the new file gets its permissions, and nobody else can read it before.
    """
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")
    mode = permissions_of(file)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(part, flags, 0o666 if mode is None else 0o600))
        yield part
        if mode is not None and mode != permissions_of(part):
            part.chmod(mode)
        part.replace(file)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def write_whole(path: str | os.PathLike[str], content: bytes, *, force: bool = False) -> None:
    """Write a file atomically: write a temporary file in the same folder, then rename it.

    A file that is replaced keeps its permissions. With `force`, the file is flushed to disk first,
    so that it survives a power failure. If the path is a link, its target is replaced. On failure,
    an `OutputError` is raised and no partial file remains.
    """
    write_together({Path(path): content}, force=force)


def write_together(contents: Mapping[Path, bytes], *, force: bool = True) -> None:
    """Write several files, or none of them if an error occurs; see `write_whole`."""
    with ExitStack() as stack:
        for path, content in contents.items():
            stack.enter_context(writing(path))
            part = stack.enter_context(replacing(stack.enter_context(locking(path))))
            with part.open("wb") as file:
                file.write(content)
                if force:
                    file.flush()
                    os.fsync(file.fileno())
