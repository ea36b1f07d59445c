"""Tests a dry run of the GPU agenda, whose programs need only torch and numpy."""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import gpu_agenda
import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "first": {
        "gpu_agenda.log",
        "gpu_check.json",
        "cuda_steps.json",
        "tests.xml",
    },
    "second": {
        "gpu_agenda.log",
        "gpu_check.json",
        "cuda_quick.json",
        "cuda_models.json",
        "tests.xml",
    },
}


def agenda(*arguments, out, **environment):
    return subprocess.run(
        [ROOT / "benchmarks" / "gpu_agenda.sh", *arguments],
        env={**os.environ, "PYTHON": sys.executable, "OUT": str(out), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


# Code of a stub module that makes a package look uninstalled.
ABSENT = 'raise ModuleNotFoundError("No module named {name!r}", name={name!r})'
# Returns the float64 values, but one kernel never ends and another returns wrong values.
WORKER = """
import sys, time
from sensorseq.ops import kernel_cases

def compute(case, device):
    if case.kernel == ("fp16x3", 64):
        time.sleep(1000)
    computed = kernel_cases.expected(case)
    if case.kernel == ("fp16", 128):
        computed = {**computed, "gradient gates": computed["gradient gates"] * 1.1}
    return computed

kernel_cases.compute = compute
sys.exit(kernel_cases.main())
"""


@pytest.fixture
def bare(tmp_path):
    """Return a folder for PYTHONPATH with which only torch, numpy and pytest can be imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]["dev"]
    wanted = {entry.split(">=")[0] for entry in project["dependencies"] + optional}
    imports = {"scikit-learn": "sklearn", "imbalanced-learn": "imblearn"}
    names = {imports.get(name, name) for name in wanted} - {"torch", "numpy", "pytest"}
    assert {"pydantic", "typer", "sklearn", "h5py", "hypothesis"} <= names
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in names:
        (folder / f"{name}.py").write_text(ABSENT.format(name=name))
    pydantic = [sys.executable, "-c", "import pydantic"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    refused = subprocess.run(pydantic, env=environment, capture_output=True, check=False)
    assert b"No module named 'pydantic'" in refused.stderr
    return str(folder)


@pytest.mark.benchmarks
@pytest.mark.parametrize("stage", FILES)
def test_a_dry_run_on_a_bare_machine_continues_after_hanging_and_wrong_kernels(
    tmp_path, bare, stage
):
    worker, out = tmp_path / "worker.py", tmp_path / "out"
    worker.write_text(WORKER)
    command = f"{sys.executable} {worker}"
    done = agenda("--dry-run", "--worker", command, stage, out=out, PYTHONPATH=bare)
    log = (out / "gpu_agenda.log").read_text()
    assert done.returncode == 1, done.stdout[-4000:] + done.stderr
    _, summary = log.split("---- summary of a dry run: nothing ran on a GPU\n")
    assert summary in done.stdout
    failed = [line for line in summary.splitlines() if "FAILED" in line]
    assert len(failed) == 1, log
    assert "every kernel against float64" in failed[0]

    rows = json.loads((out / "gpu_check.json").read_text())["rows"]["kernels"]["rows"]
    bad = {row["case"]: row["outcome"] for row in rows if row["outcome"] != "passed"}
    assert bad == {
        "fp16x3 H=61 T=2": "hung",
        "fp16x3 H=61 T=3": "not run",
        "fp16 H=125 T=2": "wrong",
        "fp16 H=125 T=3": "wrong",
    }
    assert len(rows) == 18
    assert all(re.search(f"{row['outcome']} +{row['case']} ", done.stdout) for row in rows)
    assert "gradient gates is off by 1e-01, allowed 1e-02" in done.stdout

    # failed kernels are not called again
    chosen = re.findall(r"--padded-hidden (\S+)", log)
    assert not {"64", "128"} & {size for sizes in chosen for size in sizes.split(",")}
    assert ("256" in chosen) == (stage == "second")
    left_out = [line for line in summary.splitlines() if "left out: its kernels" in line]
    assert len(left_out) == {"first": 1, "second": 2}[stage]

    assert len(FILES[stage]) <= 8
    left = {path.name for path in out.iterdir()}
    of_gpu = {"tests.xml"} if stage == "first" else set()
    assert left == {name.replace("cuda", "cuda_dry") for name in FILES[stage] - of_gpu}
    for path in out.glob("cuda_dry*.json"):
        assert json.loads(path.read_text())["rows"]
    to_sanitize = [sys.executable, "-c", TO_SANITIZE, out / "gpu_check.json"]
    assert subprocess.check_output(to_sanitize, cwd=ROOT, text=True) == "['fp16 H=125 T=2']\n"


TO_SANITIZE = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/gpu")
import sanitize
failed = sanitize.first_failure(Path(sys.argv[1]))
print([name for name, _ in sanitize.calls(failed, "cuda")])
"""


@pytest.mark.parametrize("stage", FILES)
def test_both_calls_fit_into_fifteen_minutes_with_their_starts(tmp_path, monkeypatch, stage):
    limits = {}

    def run(agenda, limit_s, name, arguments, **environment):
        limits[name] = limit_s
        return 0

    monkeypatch.setattr(gpu_agenda.Agenda, "run", run)
    monkeypatch.setattr(gpu_agenda.Agenda, "sizes", lambda agenda, *wanted: wanted)
    gpu_agenda.Agenda(tmp_path).stage(stage)
    assert sum(limits.values()) <= gpu_agenda.STAGE_S
    start_s = 110
    assert 2 * (start_s + gpu_agenda.STAGE_S) <= 900
    judged = list(limits).index("every kernel against float64")
    assert sum(list(limits.values())[: judged + 1]) <= 120
    assert len(limits) == {"first": 7, "second": 9}[stage]


def test_a_group_that_is_killed_leaves_the_reports_of_the_others(tmp_path, monkeypatch):
    def run(agenda, limit_s, name, arguments, **environment):
        report = Path(str(arguments[-1]).removeprefix("--junitxml="))
        if name.startswith("test_") and not name.startswith("test_device"):
            suite = f'<testsuite name="{name}" hostname="here"/>' if "64" not in name else "<test"
            report.write_text(f"<testsuites>{suite}</testsuites>")

    monkeypatch.setattr(gpu_agenda.Agenda, "run", run)
    monkeypatch.setattr(gpu_agenda.Agenda, "sizes", lambda agenda, *wanted: wanted)
    running = gpu_agenda.Agenda(tmp_path)
    gpu_agenda.second(running)
    kept = (tmp_path / "tests.xml").read_text()
    assert kept.count("<testsuite name=") == 2  # one each for sizes 128 and 256
    assert "hostname" not in kept


@pytest.mark.benchmarks
def test_a_program_that_is_killed_leaves_its_output_and_no_child(tmp_path):
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    running = gpu_agenda.Agenda(tmp_path)
    running.stage_end = float("inf")
    assert running.run(1.5, "a hang", ["-c", script]) == gpu_agenda.OVER_TIME
    assert running.failed
    assert running.summary[0].endswith("FAILED: over its time")
    of_child = Path("/proc", (tmp_path / "gpu_agenda.log").read_text().splitlines()[-1])
    deadline = time.monotonic() + 20
    while of_child.exists() and (of_child / "cmdline").read_bytes():  # empty for a zombie
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_skips_without_a_gpu_are_not_counted(tmp_path):
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
