"""The agenda for a GPU, done dry; and that its programs need only torch and numpy."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import gpu_agenda
import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = {"gpu_agenda.log", "measurements.json", "smoke.jsonl", "tests.xml"} | {
    f"cuda{table}.json" for table in ("", "_steps", "_quick", "_models")
}


def agenda(*arguments, out, **environment):
    return subprocess.run(
        [ROOT / "benchmarks" / "gpu_agenda.sh", *arguments],
        env={**os.environ, "PYTHON": sys.executable, "OUT": str(out), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


# In place of a package, as where it is not installed.
ABSENT = 'raise ModuleNotFoundError("No module named {name!r}", name={name!r})'
# Gives float64's own values, but for one case, which never ends.
WORKER = """
import sys, time
from sensorseq.gpu_check import cases, worker

def compute(case, device):
    if case.name == "fp16x3 H=29 T=5":
        time.sleep(1000)
    return cases.expected(case)

worker.compute = compute
sys.exit(worker.main())
"""


@pytest.fixture
def bare(tmp_path):
    """A folder for PYTHONPATH in which only torch, numpy and pytest can be imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]["dev"] + project["optional-dependencies"]["plot"]
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
def test_it_runs_dry_on_a_bare_machine_past_a_kernel_that_hangs(tmp_path, bare):
    worker, out = tmp_path / "worker.py", tmp_path / "out"
    worker.write_text(WORKER)
    command = f"{sys.executable} {worker}"
    done = agenda("--dry-run", "--worker", command, "all", out=out, PYTHONPATH=bare)
    log = (out / "gpu_agenda.log").read_text()
    assert done.returncode == 1, done.stdout[-4000:] + done.stderr
    _, summary = log.split("---- summary of a dry run: nothing ran on a GPU\n")
    failed = [line for line in summary.splitlines() if not line.endswith(" ok")]
    assert len(failed) == 1, log
    assert "every kernel against float64" in failed[0]
    assert failed[0].endswith("FAILED: exit code 1")
    assert summary in done.stdout

    rows = [json.loads(line) for line in (out / "smoke.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    assert {row["case"]: row["outcome"] for row in rows if row["outcome"] != "passed"} == {
        "fp16x3 H=29 T=5": "hung"
    }
    assert all(f"{row['outcome']:<7}  {row['case']}" in log for row in rows)

    left = {path.name for path in out.iterdir()}
    assert len(FILES) <= 8
    assert left == {name.replace("cuda", "cuda_dry") for name in FILES} - {"measurements.json"}
    for path in out.glob("cuda_dry*.json"):
        assert json.loads(path.read_text())["rows"]
    assert ("all compiled" in log) == bool(shutil.which("nvcc"))

    sanitizer_runs = [sys.executable, "-c", TO_SANITIZE, out / "smoke.jsonl"]
    assert subprocess.check_output(sanitizer_runs, cwd=ROOT, text=True) == "['fp16x3 H=29 T=5']\n"


TO_SANITIZE = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/gpu")
import sanitize
failed = sanitize.first_failure(Path(sys.argv[1]))
print([name for name, _ in sanitize.calls(failed, "cuda")])
"""
COLLECT = """
import gpu_agenda, pytest
chosen = [["--padded-hidden", sizes, f"tests/gpu/{file}"] for _, file, sizes in gpu_agenda.GROUPS]
for arguments in ["tests/gpu"], *chosen:
    print("====")
    assert pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *arguments]) == 0
"""


@pytest.mark.benchmarks
def test_every_test_on_a_gpu_is_in_one_group():
    done = subprocess.run(
        [sys.executable, "-c", COLLECT],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/benchmarks"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.split("====\n")[1:]
    known, *groups = (re.findall(r"^tests/gpu/.*", part, re.MULTILINE) for part in said)
    on_gpu = {test for test in known if re.search(r"test_device|\[.*cuda", test)}
    assert all(groups)
    assert on_gpu <= set().union(*groups)
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert not any("[cpu" in test or "-cpu" in test for group in groups for test in group)


def test_no_stage_lasts_ten_minutes(tmp_path, monkeypatch):
    limits = {}

    def run(agenda, limit_s, name, arguments, **environment):
        limits[number].append(limit_s)
        return 0

    monkeypatch.setattr(gpu_agenda.Agenda, "run", run)
    for number in gpu_agenda.STAGES:
        limits[number] = []
        gpu_agenda.Agenda(tmp_path).stage(number)
    assert set(map(len, limits.values())) == {2, 3, 6, 10}
    assert all(sum(of_stage) <= gpu_agenda.STAGE_S < 600 for of_stage in limits.values())


def test_a_group_that_is_killed_leaves_the_reports_of_the_others(tmp_path, monkeypatch):
    def run(agenda, limit_s, name, arguments):
        report = Path(arguments[-1].removeprefix("--junitxml="))
        if not name.startswith("test_device"):
            suite = f'<testsuite name="{name}" hostname="here"/>' if "64" not in name else "<test"
            report.write_text(f"<testsuites>{suite}</testsuites>")

    monkeypatch.setattr(gpu_agenda.Agenda, "run", run)
    gpu_agenda.tests(gpu_agenda.Agenda(tmp_path))
    kept = (tmp_path / "tests.xml").read_text()
    assert kept.count("<testsuite name=") == len(gpu_agenda.GROUPS) - 3
    assert "hostname" not in kept


def test_a_program_that_is_killed_leaves_what_it_said_and_no_child(tmp_path):
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    running = gpu_agenda.Agenda(tmp_path)
    running.stage_end = float("inf")
    assert running.run(3, "a hang", ["-c", script]) == gpu_agenda.OVER_TIME
    assert running.failed
    assert running.summary[0].endswith("FAILED: over its time")
    of_child = Path("/proc", (tmp_path / "gpu_agenda.log").read_text().splitlines()[-1])
    deadline = time.monotonic() + 20
    while of_child.exists() and (of_child / "cmdline").read_bytes():  # a zombie has none
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
