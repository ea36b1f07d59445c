"""Compiles each program once per run, even if several processes run the tests."""

import fcntl
import shutil

import pytest


@pytest.fixture(scope="session")
def built_once(request, tmp_path_factory):
    """Return a function that takes a name and `build(folder)`; only one process calls `build`."""
    base = tmp_path_factory.getbasetemp()
    # a worker of pytest-xdist; workers share the parent folder
    if hasattr(request.config, "workerinput"):
        base = base.parent

    def built(name, build):
        folder, unfinished = base / name, base / f"{name}-unfinished"
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                build(unfinished)
                unfinished.rename(folder)
        return folder

    return built
