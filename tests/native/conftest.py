"""What is compiled is compiled once in a run, whichever processes run the tests."""

import fcntl
import shutil

import pytest


@pytest.fixture(scope="session")
def built_once(request, tmp_path_factory):
    """A function of a name and `build(folder)`, which the first process that needs it calls."""
    base = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # of pytest-xdist, whose workers share the parent
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
