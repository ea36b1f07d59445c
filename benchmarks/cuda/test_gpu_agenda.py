"""The agenda for a GPU, done dry; and that its programs need only torch and numpy."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("1_first", "2_tests", "3_sanitize", "4_quick", "5_sweep")


def agenda(*arguments, out, python=sys.executable):
    return subprocess.run(
        [ROOT / "benchmarks" / "gpu_agenda.sh", *arguments],
        env={**os.environ, "OUT": str(out), "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.benchmarks
def test_every_stage_runs_dry(tmp_path):
    done = agenda("--dry-run", "all", out=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    _, summary = done.stdout.split("---- summary of a dry run: nothing ran on a GPU\n")
    lines = summary.strip().splitlines()
    assert len(lines) >= 9
    assert all(line.endswith(" ok") or "left out: there is no nvcc" in line for line in lines)
    if shutil.which("nvcc"):
        sources = sorted((ROOT / "benchmarks" / "cuda").glob("*.cu"))
        assert len(sources) >= 4
        assert all(f"compile {source.stem} " in summary for source in sources)
    for name in STAGES:
        assert (tmp_path / f"{name}.log").stat().st_size > 0
    for table in ("cuda_dry", "cuda_dry_quick", "cuda_dry_cudnn", "cuda_dry_models"):
        assert json.loads((tmp_path / f"{table}.json").read_text())["rows"]


@pytest.mark.benchmarks
def test_a_stage_that_fails_says_so_and_the_next_one_runs(tmp_path):
    done = agenda("--dry-run", "2", "3", out=tmp_path, python="false")
    assert done.returncode == 1
    assert done.stdout.count("FAILED: exit code 1") == 2
    assert "collect the tests" in done.stdout
    assert "what the sanitizers run" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("6",), ("1", "--dry")])
def test_without_a_known_stage_it_says_what_there_is(arguments, tmp_path):
    done = agenda(*arguments, out=tmp_path / "none")
    assert done.returncode == 2
    assert "5 " in done.stdout + done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.benchmarks
def test_what_a_measurement_says_is_kept_beside_the_others(tmp_path):
    for name, rows in (("one", 1), ("two", 2), ("one", 3)):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho \'{{"measurement": "{name}", "rows": {rows}}}\'\n')
        program.chmod(0o755)
        keep(tmp_path, program, 0)
    kept = json.loads((tmp_path / "first.json").read_text())
    assert {name: said["rows"] for name, said in kept["rows"].items()} == {"one": 3, "two": 2}
    assert kept["commit"]
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexit 4\n")
    silent.chmod(0o755)
    assert "did not print a JSON object" in keep(tmp_path, silent, 4).stderr


def keep(folder, program, code):
    script = ROOT / "benchmarks" / "cuda/keep_json.py"
    done = subprocess.run(
        [sys.executable, script, folder / "first.json", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


BLOCKED = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}")

sys.meta_path.insert(0, Blocked())
folders = ("", "/tests/support", "/benchmarks", "/tests/gpu")
sys.path[:0] = [{root!r} + folder for folder in folders]
for name in {modules!r}:
    __import__(name)
"""


@pytest.mark.benchmarks
def test_operators_modules_and_benchmarks_need_only_torch_and_numpy():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]["dev"] + project["optional-dependencies"]["plot"]
    wanted = {entry.split(">=")[0] for entry in project["dependencies"] + optional}
    imports = {"scikit-learn": "sklearn", "imbalanced-learn": "imblearn"}
    names = {imports.get(name, name) for name in wanted} - {"torch", "numpy", "pytest"}
    assert {"pydantic", "typer", "sklearn", "h5py", "hypothesis"} <= names
    # torch itself takes these where they are
    names -= {"scipy", "ninja", "pandas"}
    modules = [
        *("sensorseq.ops", "sensorseq.nn", "sensorseq.ops.train_epoch", "sensorseq.benchmark"),
        *("sensorseq.benchmark_cuda", "bench_cuda", "cuda.models_side_by_side", "cuda.keep_json"),
        *("layer_laws", "sanitize"),
    ]
    script = BLOCKED.format(names=names, root=str(ROOT), modules=modules)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_skips_for_want_of_a_gpu_are_not_counted(tmp_path):
    report, allowed = tmp_path / "report.xml", tmp_path / "allowed"
    allowed.write_text("0\n")
    script = [sys.executable, ROOT / ".ci" / "count_skips.py", report, allowed]
    for reason, code in (("needs a GPU: torch sees none here", 0), ("no network", 1)):
        report.write_text(
            f'<testsuite><testcase><skipped type="pytest.skip" message="{reason}"/>'
            "</testcase></testsuite>"
        )
        done = subprocess.run(script, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout
