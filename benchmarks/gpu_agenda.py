"""What to run when a GPU is at hand, in stages of at most ten minutes each.

    benchmarks/gpu_agenda.sh [--dry-run] 1 | 2 | 3 | 4 | all

    1  does each kernel compute the right numbers, how long is a timestep, what can the GPU do;
       compute-sanitizer on the first kernel that failed, or on all
    2  correctness: tests/gpu, in groups by file and hidden size
    3  the benchmark on a few shapes, in every precision and mode, and models side by side
    4  the sweep; each further run continues where the last one stopped

It needs torch 2.11 or later, numpy and pytest, and no network; nvcc for the measurements of stage 1
and, with setuptools, where the operators are not built. Everything is written to $OUT, or
benchmarks/results, at most eight files in all; a program writes into the log itself, so a run that
is killed leaves its log. A step that fails says so and the next one runs. --dry-run does on a CPU
what can be done there. SENSORSEQ_COMMIT may be set.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGE_S = 585
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    "PYTHONUNBUFFERED": "1",
    "SENSORSEQ_CUDA_KERNELS": "1",  # the kernels serve, whatever a check on this GPU has found
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # the same tests whichever plugins are installed
    "KINETO_LOG_LEVEL": "5",
}
OVER_TIME = 124
LOAD = """
from sensorseq.bench.cuda import environment
from sensorseq.ops import _extension
facts = _extension.cuda_facts()
print(_extension.load(), facts, environment(), sep="\\n")
assert facts["built"], "built without CUDA"
"""
BENCH, PYTEST = ["benchmarks/bench_cuda.py"], ["-m", "pytest", "-p", "no:cacheprovider"]
# seconds, file in tests/gpu, hidden sizes of the kernels; 0: of no one size, 512: torch serves
GROUPS = [
    (75, "test_layer.py", "32"),
    (60, "test_layer.py", "64"),
    (60, "test_layer.py", "128"),
    (85, "test_layer.py", "256"),
    (75, "test_layer.py", "0"),
    (70, "test_train_epoch.py", "0,32,64"),
    (30, "test_train_epoch.py", "256"),
    (30, "test_layer.py", "512"),
    (60, "test_device.py", "0,32,128,256"),  # last: graphs, and allocations of 50 GB
]


class Agenda:
    """Runs one step after the other, none beyond the end of its stage, and keeps the log."""

    def __init__(self, out, *, dry=False, worker=None):
        self.out, self.dry, self.worker = out, dry, worker
        self.summary, self.failed, self.stage_end = [], False, 0.0

    def run(self, limit_s, name, arguments, *, program=sys.executable, **environment):
        """Run a program for at most `limit_s` seconds; return its exit code."""
        begin = time.monotonic()
        limit_s = min(limit_s, self.stage_end - begin)
        with (self.out / "gpu_agenda.log").open("ab") as log:
            log.write(f"\n== {name}: {program} {' '.join(map(str, arguments))}\n".encode())
            log.flush()
            said_from = log.tell()
            code = OVER_TIME
            if limit_s > 0:
                command = [program, *map(str, arguments)]
                code = run_limited(command, limit_s, log, {**ENVIRONMENT, **environment})
        with (self.out / "gpu_agenda.log").open("rb") as log:
            log.seek(said_from)
            said = log.read().decode(errors="replace").splitlines()
        print(f"\n== {name}", *(line[:200] for line in said[-30:]), sep="\n")
        verdict = {0: "ok", OVER_TIME: "FAILED: over its time"}
        self.failed |= code != 0
        self.summary.append(
            f"{name:44} {time.monotonic() - begin:4.0f} s"
            f" {verdict.get(code, f'FAILED: exit code {code}')}"
        )
        return code

    def leave_out(self, name, why):
        """Say in the summary that a step was not run."""
        self.summary.append(f"{name:44}        left out: {why}")

    def stage(self, number):
        """Run one stage; on a GPU, load the operators first, and build them if that fails."""
        print(f"\n==== stage {number}", flush=True)
        self.stage_end = time.monotonic() + STAGE_S
        if not self.dry and self.run(40, "load the operators", ["-c", LOAD]) not in (0, OVER_TIME):
            build = ["setup.py", "-q", "build_ext", "--inplace"]
            self.run(420, "build the operators", build, SENSORSEQ_BUILD="ops", SENSORSEQ_CUDA="1")
        STAGES[number](self)

    def bench(self, limit_s, name, *arguments, tiny=1):
        """Run bench_cuda.py, which begins nothing in the last 30 seconds."""
        dry = ["--dry-run", "--limit", tiny] if self.dry else []
        limits = ["--budget-s", limit_s - 30, "--output", self.out]
        return self.run(limit_s, name, [*BENCH, *arguments, *limits, *dry])


def run_limited(command, limit_s, log, environment):
    """Run a program in a process group of its own, which is killed when the time is over."""
    try:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **environment},
            process_group=0,
        )
    except OSError as error:
        log.write(f"{error}\n".encode())
        return 127
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return OVER_TIME
    finally:
        for kind in (signal.SIGTERM, signal.SIGKILL):
            # none is left; or one waits for the driver, which no signal ends
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, kind)
                process.wait(5)


def first(agenda):
    """Find out what works, and keep it even if a kernel hangs."""
    dry = ["--dry-run"] if agenda.dry else []
    worker = ["--worker", agenda.worker] if agenda.worker else []
    smoke = agenda.out / "smoke.jsonl"
    if agenda.dry and not worker:
        agenda.leave_out("every kernel against float64", "no GPU, and no --worker in its place")
    else:
        agenda.run(
            100, "every kernel against float64", ["benchmarks/cuda/smoke.py", smoke, *worker, *dry]
        )
    agenda.bench(80, "microseconds a timestep", "--table", "steps")
    agenda.run(
        125, "measurements", ["benchmarks/cuda/measure.py", agenda.out / "measurements.json", *dry]
    )
    if agenda.dry:
        arguments = ["tests/gpu/sanitize.py", "--device", "cpu", "--limit", "4"]
        agenda.run(60, "what the sanitizers run, on the CPU", arguments)
        return
    beside_nvcc = Path(shutil.which("nvcc") or "nvcc").resolve().with_name("compute-sanitizer")
    sanitizer = shutil.which("compute-sanitizer") or str(beside_nvcc)
    for tool in ("memcheck", "racecheck"):
        agenda.run(
            120,
            f"compute-sanitizer {tool}",
            [
                *("--tool", tool, "--kernel-regex", "kns=sensorseq", "--error-exitcode", "9"),
                *(sys.executable, "tests/gpu/sanitize.py", "--after", smoke),
            ],
            program=sanitizer,
            PYTORCH_NO_CUDA_MEMORY_CACHING="1",
        )


def tests(agenda):
    """Run tests/gpu, each group in a process of its own: an illegal access ends only that one."""
    reports = agenda.out / "tests.xml"
    if agenda.dry:
        sizes = ",".join(sorted({size for *_, sizes in GROUPS for size in sizes.split(",")}))
        arguments = ["tests/gpu", "--padded-hidden", sizes, "--collect-only", "-q"]
        agenda.run(60, "collect the tests", [*PYTEST, *arguments, f"--junitxml={reports}"])
        return
    suites = ElementTree.Element("testsuites")
    for limit_s, file, sizes in GROUPS:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.xml")
            # -v names a test before it runs: if it hangs, the log tells which one it is
            arguments = [f"tests/gpu/{file}", "--padded-hidden", sizes, "-v", "--durations=5"]
            agenda.run(
                limit_s,
                f"{file}, hidden size {sizes}",
                [*PYTEST, *arguments, "--continue-on-collection-errors", f"--junitxml={report}"],
            )
            with contextlib.suppress(OSError, ElementTree.ParseError):  # it was killed
                suites.extend(ElementTree.parse(report).getroot())
        for suite in suites:
            suite.attrib.pop("hostname", None)
        ElementTree.ElementTree(suites).write(reports, encoding="utf-8")


def quick(agenda):
    """Time a few shapes, and models side by side."""
    agenda.bench(370, "a few shapes, every precision and mode", "--quick")
    agenda.bench(170, "models side by side", "--table", "models")


def sweep(agenda):
    """Time many shapes."""
    kept = ROOT / "benchmarks" / "results" / "cuda.json"
    if not agenda.dry and kept.exists() and not (agenda.out / "cuda.json").exists():
        shutil.copy(kept, agenda.out)  # continues from there
    agenda.bench(540, "the sweep", "--resume", tiny=2)


STAGES = {"1": first, "2": tests, "3": quick, "4": sweep}


def main():
    """Run the stages that were asked for; 1 if a step failed."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("stage", nargs="+", choices=[*STAGES, "all"])
    parser.add_argument("--dry-run", action="store_true", help="what can be done on a CPU")
    parser.add_argument("--worker", help="what runs the kernels of stage 1, in a test of this file")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with what it runs
    out = Path(os.environ.get("OUT", ROOT / "benchmarks" / "results")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    agenda = Agenda(out, dry=options.dry_run, worker=options.worker)
    for stage in STAGES if "all" in options.stage else options.stage:
        agenda.stage(stage)
    head = f"\n---- summary{' of a dry run: nothing ran on a GPU' if agenda.dry else ''}"
    with (out / "gpu_agenda.log").open("a") as log:
        for file in (log, sys.stdout):
            print(head, *agenda.summary, sep="\n", file=file)
    return int(agenda.failed)


if __name__ == "__main__":
    sys.exit(main())
