"""Tests of the core that passed are skipped while nothing they depend on changes."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import remembered
from checkout import ROOT
from remembered import KINDS, NO_CACHE, PASSED, digest

OF_OPS = ("sensorseq.ops.gpu_check", "sensorseq.ops.kernel_cases", "sensorseq.ops.train_epoch")

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Copy the files that the tests depend on, with a page beside them."""
    root = tmp_path_factory.mktemp("checkout")
    for name in sorted({name for kind in KINDS.values() for name in kind.inputs}):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(ROOT / name, root / name, ignore=ignored, dirs_exist_ok=True)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    (root / "docs").mkdir()
    (root / "docs" / "page.md").write_text("A page.\n")
    return root


def test_every_input_exists():
    assert [n for kind in KINDS.values() for n in kind.inputs if not (ROOT / n).exists()] == []


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("csrc/cuda/forward.cuh", {"native", "arm"}),
        ("csrc/base/a_new_file.h", {"native", "arm"}),
        ("setup.py", {"native", "arm"}),  # its flags
        ("build_cuda.py", {"native", "arm"}),
        ("tests/conftest.py", {"native", "arm"}),
        ("tests/native/test_native.py", {"native", "arm"}),  # its flags
        ("tests/cuda/resources.json", {"native"}),
        ("tests/support/cuda_mutants.py", {"native", "arm"}),
        ("sensorseq/ops/gpu_check.py", {"native", "arm"}),
        ("sensorseq/prediction/model.py", {"arm"}),
        ("scripts/build_wheels.py", {"arm"}),
        ("docs/page.md", set()),
    ],
)
def test_one_changed_byte_changes_the_digest_of_the_tests_that_depend_on_it(inputs, name, kinds):
    path, before = inputs / name, {kind: digest(kind, inputs) for kind in KINDS}
    text = path.read_bytes() if path.exists() else None
    try:
        path.write_bytes((text or b"") + b" ")
        assert {kind for kind in KINDS if digest(kind, inputs) != before[kind]} == kinds
    finally:
        if text is None:
            path.unlink()
        else:
            path.write_bytes(text)
    assert {kind: digest(kind, inputs) for kind in KINDS} == before


@pytest.mark.parametrize(
    ("variable", "counts"),
    [
        ("CXX", True),
        ("CXX_AARCH64", True),
        ("NVCC_CCBIN", True),
        ("ASAN_OPTIONS", True),
        ("SENSORSEQ_CPU_ISA", True),
        ("QEMU_CPU", True),
        (NO_CACHE, False),
        ("HOME", False),
    ],
)
def test_variables_that_the_tests_read_count(inputs, variable, counts):
    changed = {**os.environ, variable: "another value"}
    assert (digest("native", inputs, changed) != digest("native", inputs)) == counts


def test_the_place_of_the_checkout_does_not_count(inputs, tmp_path):
    root = tmp_path / "elsewhere"
    shutil.copytree(inputs, root)
    here, there = (
        digest("native", folder, {**os.environ, "PYTHONPATH": f"{folder}/tests/rounding"})
        for folder in (inputs, root)
    )
    assert here == there != digest("native", root)


def test_what_tests_add_to_the_path_does_not_count(inputs, tmp_path, monkeypatch):
    before = digest("native", inputs)
    (tmp_path / "another-1.dist-info").mkdir()
    (tmp_path / "another-1.dist-info" / "METADATA").write_text("Name: another\nVersion: 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert digest("native", inputs) == before


@pytest.mark.parametrize(
    "program", ["g++", "nvcc", "aarch64-linux-gnu-g++", "qemu-aarch64", "another-g++"]
)
def test_another_version_of_a_compiler_or_emulator_changes_the_digest(inputs, tmp_path, program):
    def with_version(number):
        path = tmp_path / program
        path.write_text(f"#!/bin/sh\necho {program} {number}\n")
        path.chmod(0o755)
        environ = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        environ["CXX"] = "another-g++" if program == "another-g++" else "g++"
        return digest("native", inputs, environ)

    assert with_version("12.2.0") == with_version("12.2.0") != with_version("12.2.1")


def test_another_processor_changes_the_digest(inputs, monkeypatch):
    before = digest("native", inputs)
    monkeypatch.setattr(remembered, "_processor", lambda: ["x86_64", 2, "another"])
    assert digest("native", inputs) != before


# ---- the list of inputs is complete


def is_input(path, kind):
    return any(path == ROOT / name or ROOT / name in path.parents for name in KINDS[kind].inputs)


def test_every_included_header_is_an_input():
    folders = [ROOT / name for name in ("csrc", "tests/native", "tests/cuda", "benchmarks/cuda")]
    include = [ROOT / "csrc", ROOT / "tests/native", ROOT / "tests/native/cuda", folders[-1]]
    files = [p for folder in folders for p in folder.rglob("*") if p.suffix[:2] in (".h", ".c")]
    files = [p for p in files if p.suffix in (".h", ".cpp", ".cu", ".cuh")]
    named = {
        (path.parent, name)
        for path in files
        for name in re.findall(r'#include "([^"]+)"', path.read_text())
    }
    assert len(named) > 100
    for parent, name in named:
        found = [folder / name for folder in (parent, *include) if (folder / name).exists()]
        assert found, f"{name}, included in {parent}"
        assert all(is_input(path.resolve(), "native") for path in found)


def test_every_imported_file_is_an_input():
    """Follow the imports of helpers; the package's modules are those of the next test."""
    todo = [p for name in ("native", "cuda") for p in (ROOT / "tests" / name).rglob("*.py")]
    seen = set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        assert is_input(path, "native"), path
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in names:
                for folder in ("tests/support", "tests/cuda", "tests/native", "benchmarks"):
                    helper = ROOT / folder / f"{name.replace('.', '/')}.py"
                    todo += [helper] if helper.exists() else []
                if name.startswith("sensorseq."):
                    module = ROOT / name.replace(".", "/")
                    module = module if module.is_dir() else module.with_suffix(".py")
                    assert is_input(module, "native") or not module.exists(), module


def test_every_module_that_the_gpu_check_loads_is_an_input():
    program = f"import sys, {', '.join(OF_OPS)}; print(*(getattr(m, '__file__', None)"
    program += " for n, m in sys.modules.items() if n.split('.')[0] == 'sensorseq'), sep='\\n')"
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = [Path(line) for line in said.stdout.split()]
    assert len(loaded) > 10
    assert [path for path in loaded if not is_input(path, "native")] == []


# ---- what is remembered

CONFTEST = """
import remembered

def pytest_configure(config):
    config.pluginmanager.register(remembered.Remembered(config))
"""
TEST = """
import os
import pytest

@pytest.mark.native
def test_of_the_core():
    if "DIES" in os.environ:
        os._exit(1)
    assert "FAILS" not in os.environ

@pytest.mark.native
def test_that_skips():
    pytest.skip("no compiler")

def test_of_something_else():
    pass
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Make a small repository with the plugin; return a function that runs its tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(NO_CACHE, raising=False)
    root = tmp_path / "checkout"
    for name in ("tests/native", "csrc"):
        (root / name).mkdir(parents=True)
    (root / "tests" / "conftest.py").write_text(CONFTEST)
    (root / "tests" / "native" / "test_core.py").write_text(TEST)
    (root / "csrc" / "core.h").write_text("int core;\n")
    (root / "pytest.ini").write_text("[pytest]\nmarkers = native: compiles\n")
    (root / ".gitignore").write_text("__pycache__\n.pytest_cache\n")
    for name in sorted({name for kind in KINDS.values() for name in kind.inputs}):
        if not (root / name).exists() and Path(name).suffix:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]

    def commit():
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "a"]):
            subprocess.run([*git, *words], cwd=root, check=True)

    def run(*options, **environ):
        paths = [ROOT / "tests" / "support", *sys.path]
        command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *options]
        command += ["-p", "xdist.plugin"] if "-n" in options else []
        done = subprocess.run(
            command,
            cwd=root,
            capture_output=True,
            text=True,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
                "PYTHONPATH": os.pathsep.join(map(str, paths)),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                **environ,
            },
        )
        counts = re.findall(r"(\d+) (passed|failed|skipped)", done.stdout)
        return {word: int(n) for n, word in counts}, done.stdout

    commit()
    run.root, run.commit = root, commit
    return run


RUN, REMEMBERED = {"passed": 2, "skipped": 1}, {"passed": 1, "skipped": 2}


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_a_test_that_passed_is_not_run_again_and_says_so(checkout, options):
    assert checkout(*options)[0] == RUN
    counts, text = checkout(*options)
    assert counts == REMEMBERED
    assert re.search(rf"{PASSED} \d{{4}}-\d\d-\d\d", text)
    assert checkout(*options, **{NO_CACHE: "1"})[0] == RUN


def test_a_change_of_the_core_ends_it_and_a_change_of_a_page_does_not(checkout):
    checkout()
    (checkout.root / "page.md").touch()
    assert checkout()[0] == REMEMBERED
    (checkout.root / "csrc" / "core.h").write_text("int core ;\n")
    assert checkout()[0] == RUN


@pytest.mark.parametrize("change", ["page.md", "csrc/core.h"])
def test_from_a_tree_with_changes_nothing_is_remembered(checkout, change):
    (checkout.root / change).write_text("changed\n")
    assert checkout()[0] == checkout()[0] == RUN
    checkout.commit()
    assert checkout()[0] == RUN
    assert checkout()[0] == REMEMBERED


def test_without_git_nothing_is_remembered(checkout):
    shutil.rmtree(checkout.root / ".git")
    assert checkout()[0] == checkout()[0] == RUN


def test_a_failure_is_never_remembered_and_ends_an_earlier_pass(checkout):
    failed = {"failed": 1, "passed": 1, "skipped": 1}
    assert checkout(FAILS="1")[0] == failed
    assert checkout()[0] == RUN
    assert checkout(FAILS="1")[0] == REMEMBERED
    assert checkout(FAILS="1", **{NO_CACHE: "1"})[0] == failed
    assert checkout()[0] == RUN


def test_the_end_of_a_tests_process_ends_an_earlier_pass(checkout):
    two = ("-n", "2")
    assert checkout(*two)[0] == RUN
    died = checkout(*two, DIES="1", **{NO_CACHE: "1"})[0]
    assert died["failed"] == 1
    assert checkout(*two)[0] == RUN


def test_a_cache_that_cannot_be_written_changes_no_outcome(checkout, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert checkout()[0] == checkout()[0] == RUN


def test_the_skips_of_a_run_are_counted_by_these_words():
    assert f'"{PASSED}"' in (ROOT / ".ci" / "count_skips.py").read_text()


def test_a_damaged_file_of_passes_counts_as_none(checkout, tmp_path):
    checkout()
    for file in (tmp_path / "cache").rglob("*.json"):
        file.write_text("{")
    assert checkout()[0] == RUN
