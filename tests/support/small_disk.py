"""A small disk that tests fill or make read-only."""

import contextlib
import subprocess

import pytest


def _mount(*words):
    return subprocess.run(["mount", *words], capture_output=True, text=True, check=False)


@contextlib.contextmanager
def small_disk(folder, size_bytes=1 << 20):
    """Mount memory of this size on a new folder; skip the test if that is not permitted."""
    folder.mkdir()
    done = _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder))
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def filled(disk):
    """Fill a disk, so that less than a block is free."""
    file = disk / "fill"
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as fill:
        while True:
            fill.write(bytes(4096))
    try:
        yield
    finally:
        file.unlink()


@contextlib.contextmanager
def read_only(disk):
    """Make a disk read-only within a `with` block."""
    assert not _mount("-o", "remount,ro", str(disk)).returncode
    try:
        yield
    finally:
        assert not _mount("-o", "remount,rw", str(disk)).returncode
