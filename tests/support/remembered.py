"""Remembers which tests of the native core passed, so that they run again only after a change.

These tests compile the core and run it for minutes, under sanitizers and in emulators. A test that
passed is skipped while `digest` stays the same, and says so. Passes are kept outside the checkout,
in `$XDG_CACHE_HOME/sensorseq/passed`; SENSORSEQ_NO_CACHE=1 ignores them.
"""

import contextlib
import datetime
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

PASSED = "passed at this digest on"
NO_CACHE = "SENSORSEQ_NO_CACHE"


class Kind(NamedTuple):
    """Tests that depend on the same files; a folder stands for all files in it."""

    tests: tuple[str, ...]
    marker: str
    inputs: tuple[str, ...]


_ALWAYS = (
    "build_cuda.py",
    "csrc",
    "pyproject.toml",
    "requirements/core.txt",
    "setup.py",
    "tests/conftest.py",
    "tests/native",
    "tests/rounding",
    "tests/support/aarch64.py",
    "tests/support/checkout.py",
    "tests/support/remembered.py",
)
KINDS = {
    "native": Kind(
        ("tests/native/", "tests/cuda/"),
        "native",
        (
            *_ALWAYS,
            # what the checks of the GPU kernels load
            "sensorseq/__init__.py",
            "sensorseq/base",
            "sensorseq/errors.py",
            "sensorseq/io/__init__.py",
            "sensorseq/io/atomic.py",
            "sensorseq/ops",
            "tests/cuda",
            *(f"tests/support/{name}.py" for name in ("cuda_mutants", "ptxas", "sass")),
        ),
    ),
    "arm": Kind(
        # not the test of the toolkit, whose wheel is built elsewhere
        ("tests/runtime/test_arm.py::test_models", "tests/runtime/test_arm.py::test_the_command"),
        "slow",
        (
            *_ALWAYS,
            "data",
            "Makefile",
            "requirements/wheels.txt",
            "runtime",
            "scripts/build_wheels.py",
            "scripts/old_systems.cpp",
            "sensorseq",
            "tests/runtime",
            "tests/support",
        ),
    ),
}
# the variables that compilers, sanitizers, emulators and the tests read
VARIABLES = ("CXX", "CC", "CUDA_HOME", "NVCC_", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH")
VARIABLES += ("LIBRARY_PATH", "LD_", "COMPILER_PATH", "GCC_", "GCOV_", "SOURCE_DATE_EPOCH")
VARIABLES += ("ASAN_", "LSAN_", "TSAN_", "UBSAN_", "QEMU_", "GLIBC_", "MALLOC_", "CUDA_")
VARIABLES += ("SENSORSEQ_", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "PYTHON", "OPENBLAS_")
PROGRAMS = ("gcc", "nvcc", "aarch64-linux-gnu-g++", "qemu-aarch64", "qemu-aarch64-static", "ld")
PROGRAMS += ("as", "c++filt")
MOST_FILES = 40  # of passes, for as many states of the code


def digest(kind, root, environ=os.environ):
    """Return a digest of all that the tests of a kind depend on."""
    hashed = hashlib.sha256()
    for path in _files(kind, root):
        content = path.read_bytes()
        hashed.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    compilers = [environ.get("CXX", "g++"), environ.get("CXX_AARCH64", "")]
    compilers += [f"{environ['CUDA_HOME']}/bin/nvcc"] if environ.get("CUDA_HOME") else []
    facts = {
        "variables": {
            name: value.replace(str(root), "")  # wherever the checkout is
            for name, value in sorted(environ.items())
            if name.startswith(VARIABLES) and name != NO_CACHE
        },
        "programs": {name: _version(name, environ) for name in (*compilers, *PROGRAMS)},
        # of the environment alone, because tests extend sys.path
        "packages": sorted(
            f"{found.name} {found.version}"
            for found in importlib.metadata.distributions(path=[sysconfig.get_path("platlib")])
        ),
        "machine": [platform.python_version(), *platform.libc_ver(), *_processor()],
    }
    hashed.update(json.dumps(facts).encode())
    return hashed.hexdigest()


def _files(kind, root):
    for name in KINDS[kind].inputs:
        path = root / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        found = [p for p in found if p.parent.name != "__pycache__" and p.suffix != ".so"]
        yield from (p for p in found if p.is_file())


def _version(name, environ):
    """Return what a program says about its version, and where it is."""
    words = name.split()
    program = words and shutil.which(words[0], path=environ.get("PATH"))
    if not program:
        return "none"
    command = [program, *words[1:], "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(environ))
    return [os.path.realpath(program), said.stdout]


def _processor():
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("ascii", "replace").split("\n") if cpuinfo.exists() else []
    named = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    facts = [value for name, value in named.items() if name.strip() in wanted]
    return [platform.machine(), os.cpu_count(), *facts]


def _store(key):
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "sensorseq" / "passed" / f"{key}.json"


def _read(key):
    try:
        return dict(json.loads(_store(key).read_text()))
    except (OSError, RuntimeError, ValueError):  # RuntimeError: no home directory
        return {}


def _update(key, passed, failed):
    """Add the tests that passed to those of earlier runs, and remove those that failed."""
    file = _store(key)
    file.parent.mkdir(parents=True, exist_ok=True)
    with (file.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be ending, too
        before = _read(key)
        now = {name: date for name, date in (before | passed).items() if name not in failed}
        if now != before:
            unfinished = file.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(now, indent=1))
            unfinished.replace(file)
        files = sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for old in files[:-MOST_FILES]:
            old.unlink()


def _clean_commit(root):
    """Return the commit of a tree without changes; None if there are changes or no git."""

    def git(*words):
        try:
            done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    return git("rev-parse", "HEAD") if git("status", "--porcelain") == "" else None


class Remembered:
    """A pytest plugin that skips tests that passed before, and remembers those that pass now."""

    def __init__(self, config):
        self.root = config.rootpath
        self.is_worker = hasattr(config, "workerinput")
        self.commit = None if self.is_worker else _clean_commit(self.root)
        self.digests, self.before = {}, {}
        self.passed, self.failed = {}, {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        kind = _kind_of(item.nodeid)
        if kind is None or item.get_closest_marker(KINDS[kind].marker) is None:
            return
        key = self._digest(kind)
        item.user_properties.append(("digest", key))
        if key not in self.before:
            self.before[key] = _read(key)
        date = self.before[key].get(item.nodeid)
        if date and os.environ.get(NO_CACHE, "") in ("", "0"):
            pytest.skip(f"{PASSED} {date}")

    def pytest_runtest_logreport(self, report):
        kind = _kind_of(report.nodeid)
        if kind is None or self.is_worker:
            return
        key = dict(getattr(report, "user_properties", ())).get("digest")
        if report.failed:  # if the process of the test has died, its report has no digest
            self.failed.setdefault(key or self._digest(kind), set()).add(report.nodeid)
        elif key and report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            today = str(datetime.datetime.now(datetime.UTC).date())
            self.passed.setdefault(key, {})[report.nodeid] = today

    def pytest_sessionfinish(self):
        if self.is_worker:
            return
        is_clean = self.commit is not None and _clean_commit(self.root) == self.commit
        for key in {*self.passed, *self.failed}:
            passed = self.passed.get(key, {}) if is_clean else {}
            with contextlib.suppress(OSError, RuntimeError):  # no home, or it cannot be written
                _update(key, passed, self.failed.get(key, ()))

    def _digest(self, kind):
        if kind not in self.digests:
            self.digests[kind] = digest(kind, self.root)
        return self.digests[kind]


def _kind_of(nodeid):
    return next((name for name in KINDS if nodeid.startswith(KINDS[name].tests)), None)
