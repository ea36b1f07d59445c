"""Outputs are complete or absent, written by one run at a time, without leftover files."""

import errno
import os
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from preparing import names_in
from small_disk import filled, read_only, small_disk

from sensorseq.errors import MisplacedOutputError, OutputError
from sensorseq.io import atomic
from sensorseq.io.atomic import locking, write_together, write_whole
from sensorseq.io.part_files import PartFolder
from sensorseq.io.prepared import write_windows
from sensorseq.windows import WindowSet

ROOT = Path(__file__).resolve().parents[2]
LEFT = "0a" * 16  # a random part, as in the name of an unfinished file

HOLD = """
    import sys, time
    from sensorseq.io.atomic import locking
    with locking(sys.argv[1], run=True):
        print("has it", flush=True)
        sys.stdin.read()
"""


def start(program, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def held_by_another(path):
    process = start(HOLD, path)
    assert process.stdout.readline() == "has it\n"
    try:
        yield process
    finally:
        process.communicate()


def test_a_second_run_is_refused_immediately_with_the_owner_of_the_file(tmp_path):
    path = tmp_path / "model"
    with held_by_another(path) as process:
        began_s = time.monotonic()
        words = re.escape(f"{path}: another run (process {process.pid} on {socket.gethostname()})")
        with pytest.raises(OutputError, match=words + ".* wait"), locking(path, run=True):
            pass
        assert time.monotonic() - began_s < 1
    with locking(path, run=True):
        pass
    assert names_in(tmp_path) == []


def test_a_killed_run_has_no_lock_and_its_files_are_removed(tmp_path):
    path = tmp_path / "model"
    mine = tmp_path / f".model.{LEFT}.tmp"
    others = [f".models.{LEFT}.tmp", ".model.tmp", f".xmodel.{LEFT}.tmp", f"model.{LEFT}.tmp"]
    with held_by_another(path) as process:
        for name in (mine.name, *others):
            (tmp_path / name).touch()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert ".model.lock" in names_in(tmp_path)
    write_whole(path, b"new")
    assert names_in(tmp_path) == sorted([*others, "model"])
    assert path.read_bytes() == b"new"


def test_a_file_that_another_process_is_writing_is_not_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_WAIT_S", 0.1)
    path, unfinished = tmp_path / "model", tmp_path / f".model.{LEFT}.tmp"
    with held_by_another(path):
        unfinished.touch()
        with pytest.raises(OutputError, match="is writing"), locking(path):
            pass
        assert unfinished.exists()


def test_a_write_waits_for_the_write_of_another_process(tmp_path):
    path = tmp_path / "model"
    with held_by_another(path) as process:
        writer = threading.Thread(target=write_whole, args=(path, b"new"))
        writer.start()
        time.sleep(0.2)
        assert not path.exists()
        process.stdin.close()
        writer.join(10)
        process.stdin = None
    assert path.read_bytes() == b"new"


def test_a_run_may_write_its_own_file_from_any_thread(tmp_path):
    path = tmp_path / "model"
    with locking(path, run=True):
        with ThreadPoolExecutor(9) as pool:
            list(pool.map(write_whole, [path] * 9, [bytes([n]) * 1000 for n in range(9)]))
        with pytest.raises(OutputError, match="in this process"), locking(path, run=True):
            pass
    assert len(set(path.read_bytes())) == 1
    assert names_in(tmp_path) == ["model"]


def test_two_processes_never_lock_the_same_file(tmp_path):
    program = """
        import random, sys, time
        from pathlib import Path
        from sensorseq.io.atomic import locking
        from sensorseq.errors import OutputError
        path, trace = Path(sys.argv[1]), Path(sys.argv[2])
        draw = random.Random(int(sys.argv[3]))
        had = 0
        while had < 60:
            try:
                with locking(path, run=True):
                    trace.touch(exist_ok=False)  # an error where two are here at once
                    time.sleep(draw.random() * 1e-3)
                    trace.unlink()
                    had += 1
            except OutputError:
                pass
            time.sleep(draw.random() * 1e-3)
        print(had)
    """
    path, trace = tmp_path / "model", tmp_path / "trace"
    processes = [start(program, path, trace, seed) for seed in range(4)]
    assert [process.communicate()[0] for process in processes] == ["60\n"] * 4
    assert names_in(tmp_path) == []


def test_a_forked_child_does_not_keep_the_lock_of_a_killed_parent(tmp_path):
    program = """
        import os, sys, time
        from sensorseq.io.atomic import locking
        with locking(sys.argv[1], run=True):
            child = os.fork()
            if child == 0:
                print(os.getpid(), flush=True)
            time.sleep(30)
    """
    process = start(program, tmp_path / "model")
    child = int(process.stdout.readline())  # by then, the child has run its fork hooks
    process.kill()
    process.wait()
    try:
        with locking(tmp_path / "model", run=True):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_on_a_disk_without_locks_files_are_written_and_none_is_removed(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(atomic.fcntl, "flock", flock)
    (tmp_path / f".model.{LEFT}.tmp").touch()  # perhaps the file of a run on another machine
    write_whole(tmp_path / "model", b"new")
    assert names_in(tmp_path) == [f".model.{LEFT}.tmp", "model"]


class TestLinks:
    def test_the_target_of_a_link_is_replaced_and_the_link_is_kept(self, tmp_path):
        (tmp_path / "big").mkdir()
        target, link = tmp_path / "big" / "model", tmp_path / "link"
        (tmp_path / "first").symlink_to(target)
        link.symlink_to(Path("first"))
        for content in (b"new", b"newer"):  # the target is missing only the first time
            write_whole(link, content)
            assert link.is_symlink()
            assert target.read_bytes() == content
        assert names_in(tmp_path) == ["big", "first", "link"]
        assert names_in(tmp_path / "big") == ["model"]

    def test_a_link_and_its_target_are_the_same_output(self, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "model")
        with (
            held_by_another(tmp_path / "model") as process,
            pytest.raises(OutputError, match=rf"link: another run \(process {process.pid} "),
            locking(tmp_path / "link", run=True),
        ):
            pass

    def test_a_link_into_a_missing_folder_names_that_folder(self, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "none" / "model")
        words = re.escape(f"The folder {tmp_path / 'none'} is missing; create it.")
        with pytest.raises(MisplacedOutputError, match=words):
            write_whole(tmp_path / "link", b"")

    def test_a_device_is_never_replaced(self, tmp_path):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        with pytest.raises(OutputError, match="pipe: is a device; give a file name"):
            write_whole(pipe, b"")
        assert pipe.is_fifo()


class TestPermissions:
    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o666])
    def test_a_replaced_file_keeps_its_permissions(self, tmp_path, mode):
        path, link, prepared = tmp_path / "model", tmp_path / "link", tmp_path / "w.h5"
        for file in (path, prepared):
            file.write_bytes(b"old")
            file.chmod(mode)
        link.symlink_to(path)
        write_whole(path, b"new")
        write_together({link: b"newer"})
        windows = WindowSet(np.zeros((2, 3, 1), np.float32), channels=("a",), sample_rate_hz=1.0)
        write_windows(prepared, windows)
        assert path.read_bytes() == b"newer"
        assert [atomic.permissions_of(file) for file in (path, prepared)] == [mode] * 2

    def test_a_new_file_has_the_permissions_of_the_umask(self, tmp_path):
        before = os.umask(0o027)
        try:
            write_whole(tmp_path / "model", b"new")
        finally:
            os.umask(before)
        assert atomic.permissions_of(tmp_path / "model") == 0o640

    @pytest.mark.parametrize(("mode", "folder_mode"), [(0o600, 0o700), (0o644, 0o755)])
    def test_unfinished_content_is_as_private_as_the_file(self, tmp_path, mode, folder_mode):
        path = tmp_path / "model"
        path.write_bytes(b"old")
        path.chmod(mode)
        with atomic.replacing(path) as part:
            part.write_bytes(b"new")
            assert atomic.permissions_of(part) == 0o600
        with PartFolder(path, keep=False) as parts:
            assert atomic.permissions_of(parts.path) == folder_mode


class TestDisks:
    def test_a_full_disk_keeps_the_earlier_file_and_the_error_names_a_remedy(self, tmp_path):
        with small_disk(tmp_path / "disk") as disk:
            write_whole(disk / "model", b"old")
            words = r"model: cannot be written \(no space left on device\)\. Free disk space"
            with filled(disk):
                for force in (False, True):
                    with pytest.raises(OutputError, match=words):
                        write_whole(disk / "model", bytes(100_000), force=force)
                assert names_in(disk) == ["fill", "model"]
            assert (disk / "model").read_bytes() == b"old"

    def test_a_read_only_disk_is_refused_before_the_work(self, tmp_path):
        with small_disk(tmp_path / "disk") as disk, read_only(disk):
            words = r"cannot be written \(read-only file system\)\. Choose another location\."
            with (
                pytest.raises(OutputError, match=words),
                atomic.writing(disk / "model"),
                locking(disk / "model", run=True),
            ):
                pytest.fail("the work has begun")

    def test_files_that_belong_together_are_replaced_all_or_none(self, tmp_path):
        with small_disk(tmp_path / "disk") as disk:
            paths = [disk / "model.h", disk / "model.c"]
            write_together(dict.fromkeys(paths, b"old"))
            with pytest.raises(OutputError, match=r"model\.c: cannot be written \(no space left"):
                write_together({paths[0]: b"new", paths[1]: bytes(1 << 21)})
            assert [path.read_bytes() for path in paths] == [b"old"] * 2
            assert names_in(disk) == ["model.c", "model.h"]


def test_a_write_that_fails_anywhere_leaves_the_earlier_file(tmp_path, monkeypatch):
    """Each system call in turn fails as it would on a full disk."""
    path, draw = tmp_path / "model", random.Random(0)
    write_whole(path, b"old")
    calls = [(os, "open"), (os, "pwrite"), (os, "fsync"), (Path, "replace")]
    for holder, name in calls:
        failing = draw.choice((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES))

        def fail(*_, failing=failing, **__):
            raise OSError(failing, os.strerror(failing))

        with monkeypatch.context() as changed:
            changed.setattr(holder, name, fail)
            if name == "pwrite":  # if it fails, only the owner is missing from the lock file
                write_whole(path, b"old", force=True)
            else:
                with pytest.raises(OutputError) as caught:
                    write_whole(path, b"new", force=True)
                assert "Errno" not in str(caught.value)
        assert (path.read_bytes(), names_in(tmp_path)) == (b"old", ["model"])
