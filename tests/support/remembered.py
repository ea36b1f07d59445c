"""Remembers which tests of the native core passed, so that they run again only after a change.

These tests compile the core and run it for minutes, under sanitizers and in emulators. A test that
passed is skipped while `digest` stays the same, and says so. Passes are kept outside the checkout,
in `$XDG_CACHE_HOME/sensorseq/passed`; SENSORSEQ_NO_CACHE=1 ignores them.
"""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
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
            "benchmarks/cuda",
            # what the checks of the GPU kernels load
            "sensorseq/__init__.py",
            "sensorseq/base",
            "sensorseq/errors.py",
            "sensorseq/io/__init__.py",
            "sensorseq/io/atomic.py",
            "sensorseq/ops",
            "tests/cuda",
            *(
                f"tests/support/{name}.py"
                for name in ("bridge_mutants", "cuda_mutants", "ptxas", "sass")
            ),
        ),
    ),
    "arm": Kind(
        ("tests/runtime/test_arm.py",),
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
PROGRAMS = ("gcc", "nvcc", "aarch64-linux-gnu-g++", "qemu-aarch64", "ld", "as", "c++filt")
MOST_FILES = 40  # of passes, for as many states of the code


def digest(kind, root, environ=os.environ):
    """Return a digest of all that the tests of a kind depend on."""
    hashed = hashlib.sha256()
    for path in _files(kind, root):
        content = path.read_bytes()
        hashed.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    compilers = (environ.get("CXX", "g++"), environ.get("CXX_AARCH64", ""))
    facts = {
        "variables": {
            name: value
            for name, value in sorted(environ.items())
            if name.startswith(VARIABLES) and name != NO_CACHE
        },
        "programs": {name: _version(name, environ) for name in (*compilers, *PROGRAMS)},
        "packages": sorted(
            f"{found.name} {found.version}" for found in importlib.metadata.distributions()
        ),
        "machine": [platform.python_version(), *platform.libc_ver(), *_processor()],
    }
    hashed.update(json.dumps(facts).encode())
    return hashed.hexdigest()


def _files(kind, root):
    for name in KINDS[kind].inputs:
        path = root / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (p for p in found if p.is_file() and p.suffix not in (".pyc", ".so"))


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


def _write(key, passed):
    file = _store(key)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(passed, indent=1))
    unfinished.replace(file)
    for old in sorted(file.parent.glob("*.json"), key=lambda p: p.stat().st_mtime)[:-MOST_FILES]:
        old.unlink(missing_ok=True)


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
        self.passed, self.failed = {}, set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        kind = next((name for name in KINDS if _is_of(item, KINDS[name])), None)
        if kind is None:
            return
        if kind not in self.digests:
            self.digests[kind] = digest(kind, self.root)
            self.before |= {(kind, name): date for name, date in _read(self.digests[kind]).items()}
        item.user_properties.append(("digest", self.digests[kind]))
        date = self.before.get((kind, item.nodeid))
        if date and os.environ.get(NO_CACHE, "") in ("", "0"):
            pytest.skip(f"{PASSED} {date}")

    def pytest_runtest_logreport(self, report):
        key = dict(report.user_properties).get("digest")
        if key is None or self.is_worker:
            return
        if report.failed:
            self.failed.add((key, report.nodeid))
        elif report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            self.passed[key, report.nodeid] = str(datetime.datetime.now(datetime.UTC).date())

    def pytest_sessionfinish(self):
        if self.is_worker:
            return
        is_clean = self.commit is not None and _clean_commit(self.root) == self.commit
        for key in {key for key, _ in (*self.passed, *self.failed)}:
            before = _read(key)
            now = before | {
                name: date for (of, name), date in self.passed.items() if of == key and is_clean
            }
            now = {name: date for name, date in now.items() if (key, name) not in self.failed}
            if now != before:
                _write(key, now)


def _is_of(item, kind):
    is_there = any(item.nodeid.startswith(place) for place in kind.tests)
    return is_there and item.get_closest_marker(kind.marker) is not None
