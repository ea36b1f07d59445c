"""Results name the code that was measured; uncommitted and changed code is refused."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from common import measured_code
from common.measured_code import MeasuredCode, digest_of
from common.results_file import begin, keep_measurement, write_results

FACTS = {"processor": "P"}


def git(folder, *words):
    named = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ["git", *named, *words]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Return a checkout with a benchmark that imports the folder `tools` and another benchmark."""
    monkeypatch.delenv("SENSORSEQ_COMMIT", raising=False)
    texts = {
        "sensorseq/a.py": "",
        "csrc/cpu/a.h": "",
        "runtime/a.py": "",
        "setup.py": "",
        "docs/a.md": "",
        "benchmarks/bench_x.py": "from tools.data import a\n    import bench_z\nimport json\n",
        "benchmarks/bench_y.py": "",
        "benchmarks/bench_z.py": "",
        "benchmarks/x/a.cu": "",
        "benchmarks/common/a.py": "",
        "benchmarks/common/test_a.py": "",
        "benchmarks/tools/data.py": "",
        "benchmarks/results/x.json": "{}",
        ".gitignore": "",
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "measured")
    return tmp_path.resolve()


def write(checkout, code, *, folder=None, rows=(), **more):
    """Write results of the benchmark; return what their file says."""
    folder = folder or checkout / "benchmarks" / "results"
    write_results("x", list(rows), code=code, partial=False, folder=folder, facts=FACTS, **more)
    return json.loads((folder / "x.json").read_text())["environment"]


MEASURED = (
    *("sensorseq/a.py", "csrc/cpu/a.h", "benchmarks/bench_x.py", "benchmarks/x/a.cu"),
    *("benchmarks/common/a.py", "benchmarks/tools/data.py", "benchmarks/bench_z.py"),
    *("runtime/a.py", "setup.py"),
)
OTHER = (
    *("docs/a.md", "benchmarks/bench_y.py", "benchmarks/common/test_a.py", ".gitignore"),
    "benchmarks/results/x.json",
)


@pytest.mark.parametrize("name", MEASURED + OTHER)
def test_the_digest_changes_with_each_byte_that_is_measured_and_with_no_other(checkout, name):
    script = checkout / "benchmarks" / "bench_x.py"
    before = digest_of(script)
    with (checkout / name).open("a") as file:
        file.write("#")
    assert (digest_of(script) != before) == (name in MEASURED)
    code = MeasuredCode.of(script)
    assert code.changed == ((name,) if name in MEASURED else ())


def test_the_digest_changes_if_a_file_is_renamed_or_removed(checkout):
    script = checkout / "benchmarks" / "bench_x.py"
    digests = {digest_of(script)}
    (checkout / "sensorseq" / "a.py").rename(checkout / "sensorseq" / "b.py")
    digests.add(digest_of(script))
    assert MeasuredCode.of(script).changed == ("sensorseq/a.py", "sensorseq/b.py")
    (checkout / "sensorseq" / "b.py").unlink()
    digests.add(digest_of(script))
    assert len(digests) == 3
    assert MeasuredCode.of(script).changed == ("sensorseq/a.py",)


def test_results_of_committed_code_have_its_digest_commit_date_and_processor(checkout):
    script = checkout / "benchmarks" / "bench_x.py"
    code = begin(script, folder=checkout / "benchmarks" / "results")
    (checkout / "docs" / "a.md").write_text("not measured")
    said = write(checkout, code)
    assert said["digest"] == digest_of(script)
    assert said["commit"] == git(checkout, "rev-parse", "--short", "HEAD")
    assert said["benchmark"] == "benchmarks/bench_x.py"
    assert said["processor"] == measured_code.processor()
    assert len(said["date"].split("-")) == 3
    assert write(checkout, code)["commit"] == said["commit"]  # results are not measured code


@pytest.mark.parametrize("name", ["sensorseq/a.py", "csrc/cpu/new.cpp", "benchmarks/x/a.cu"])
def test_uncommitted_code_is_refused_before_the_measurement(checkout, tmp_path, name):
    script, results = checkout / "benchmarks" / "bench_x.py", checkout / "benchmarks" / "results"
    (checkout / name).write_text("changed")
    with pytest.raises(SystemExit, match=f"have changes: {name}. Commit them first, or choose"):
        begin(script, folder=results)
    code = begin(script, partial=True, folder=results)
    with pytest.raises(SystemExit, match="have changes"):
        write(checkout, code)
    with pytest.raises(SystemExit, match="have changes"):
        keep_measurement(results / "y.json", {"measurement": "m"}, code=code)
    assert (results / "x.json").read_text() == "{}"
    elsewhere = tmp_path / "elsewhere"
    assert begin(script, folder=elsewhere) == code
    assert write(checkout, code, folder=elsewhere)["commit"].endswith("-dirty")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "changed")
    with pytest.raises(SystemExit, match="the code changed during the measurement"):
        write(checkout, code)


def test_code_that_changes_during_the_measurement_is_refused(checkout, tmp_path):
    script, results = checkout / "benchmarks" / "bench_x.py", checkout / "benchmarks" / "results"
    code = begin(script, folder=results)
    (checkout / "sensorseq" / "a.py").write_text("changed")
    with pytest.raises(SystemExit, match=r"have changes: sensorseq/a\.py"):
        write(checkout, code)
    said = write(checkout, code, folder=tmp_path / "elsewhere")
    assert (said["digest"], said["commit"]) == (code.digest, f"{code.commit}-dirty")
    git(checkout, "commit", "-am", "changed")
    with pytest.raises(SystemExit, match="the code changed during the measurement"):
        write(checkout, code)
    assert (results / "x.json").read_text() == "{}"


def test_without_git_results_have_the_digest_and_the_commit_that_was_given(checkout, monkeypatch):
    script = checkout / "benchmarks" / "bench_x.py"
    with_git = MeasuredCode.of(script)
    monkeypatch.setenv("SENSORSEQ_COMMIT", "given")
    assert MeasuredCode.of(script) == with_git
    (checkout / ".git").rename(checkout / "gone")
    said = write(checkout, MeasuredCode.of(script))
    assert (said["digest"], said["commit"]) == (with_git.digest, "given")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("SENSORSEQ_COMMIT")
    assert write(checkout, MeasuredCode.of(script))["commit"] == "unknown"
    (checkout / "sensorseq" / "a.py").write_text("changed")
    assert MeasuredCode.of(script).digest != with_git.digest


def test_each_benchmark_that_writes_results_notes_its_code_at_the_start():
    folder = Path(measured_code.__file__).parents[1]
    texts = {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*.py")
        if path.parent.name != "common" and not path.name.startswith("test_")
    }
    writers = re.compile(r"\b(write_results|keep_measurement)\b")
    writing = {name for name, text in texts.items() if writers.search(text)}
    assert {"bench_cpu.py", "harden/run.py", "cuda/smoke.py"} <= writing
    assert writing == {name for name, text in texts.items() if "begin(__file__" in text}


def test_the_git_of_a_folder_around_the_checkout_does_not_count(checkout):
    inner = checkout / "copy" / "benchmarks"
    inner.mkdir(parents=True)
    (inner / "bench_x.py").write_text("")
    assert MeasuredCode.of(inner / "bench_x.py").commit == "unknown"


def test_rows_of_several_runs_keep_their_own_stamps(checkout):
    script = checkout / "benchmarks" / "bench_x.py"
    first = MeasuredCode.of(script).stamp()
    old = {"value": 1, "commit": "1234567-dirty"}  # before there were digests
    rows = [old, *({"value": n, **first} for n in (2, 3)), {"value": 4}]
    (checkout / "sensorseq" / "a.py").write_text("changed")
    dirty = MeasuredCode.of(script).stamp()
    git(checkout, "commit", "-am", "changed")
    second = MeasuredCode.of(script)
    said = write(checkout, second, rows=[*rows, {"value": 5, **second.stamp()}])
    assert said["measurements"] == [{"commit": old["commit"]}, first, second.stamp()]
    assert said["digest"] == second.digest
    said = write(checkout, second, rows=[{"mean": 1}], measured=[{}, first])
    assert said["measurements"] == [{}, first]
    with pytest.raises(SystemExit, match="some rows were measured on code with changes"):
        write(checkout, second, rows=[*rows, {"value": 5, **dirty}])
