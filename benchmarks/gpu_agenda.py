"""Runs everything that needs a GPU machine in two calls, without preparing the machine.

    benchmarks/gpu_agenda.sh first      check the numbers of every kernel, and time a timestep
    benchmarks/gpu_agenda.sh second     after fixes: tests/gpu and the comparison with cuDNN

`first` and `second` end within STAGE_S seconds each, so that both fit into fifteen minutes even if
the machine is started for each. They need torch 2.11 or later, numpy and pytest, but no network.
The operators, sensorseq/_ops.abi3.so of the same commit, are built beforehand and copied. All
results go to $OUT (default: benchmarks/results) in at most eight files per call; the end of each
step's output is also printed. A step that fails or hangs is ended, and the next step runs; a kernel
that hung or was wrong is not used again. --dry-run runs, on a CPU, the steps that need no GPU.
SENSORSEQ_COMMIT may give the commit for the results if there is no git.
"""

import argparse
import contextlib
import importlib.util
import json
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
STAGE_S = 330
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    "PYTHONUNBUFFERED": "1",
    "SENSORSEQ_CUDA_KERNELS": "auto",  # only kernels that passed their check on this GPU are used
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # so that installed plugins do not change the tests
    "KINETO_LOG_LEVEL": "5",
}
OVER_TIME = 124
LOAD = """
from cuda.steps import environment
from sensorseq.ops import _extension
facts = _extension.cuda_facts()
print(_extension.load(), facts, environment(), sep="\\n")
assert facts["built"], "built without CUDA"
"""
SMI = ["--query-gpu=name,driver_version,clocks.sm,clocks.max.sm,temperature.gpu,power.draw"]
BENCH, PYTEST = ["benchmarks/bench_cuda.py"], ["-m", "pytest", "-p", "no:cacheprovider"]
SMOKE = "benchmarks/cuda/smoke.py"
# tests that take many seconds or allocate tens of gigabytes
LONG_TESTS = "2_to_the_31 or long_sequence or compiled"


class Agenda:
    """Runs steps one after another within the time limit of their stage, and writes the log."""

    def __init__(self, out, *, dry=False, worker=None):
        self.out, self.dry, self.worker = out, dry, worker
        self.summary, self.failed, self.stage_end = [], False, 0.0
        self.patience = 4 if dry else 1  # a CPU gets more time because it is slower than a GPU

    def run(self, limit_s, name, arguments, *, program=sys.executable, n_lines=30, **environment):
        """Run a program for at most `limit_s` seconds; return its exit code.

        Print the last `n_lines` lines of the program's output.
        """
        begin = time.monotonic()
        limit_s = min(self.patience * limit_s, self.stage_end - begin)
        with (self.out / "gpu_agenda.log").open("ab") as log:
            log.write(f"\n== {name}: {program} {' '.join(map(str, arguments))}\n".encode())
            log.flush()
            output_from = log.tell()
            code = OVER_TIME
            if limit_s > 0:
                command = [program, *map(str, arguments)]
                code = run_limited(command, limit_s, log, {**ENVIRONMENT, **environment})
        with (self.out / "gpu_agenda.log").open("rb") as log:
            log.seek(output_from)
            lines = log.read().decode(errors="replace").splitlines()
        print(f"\n== {name}", *(line[:160] for line in lines[-n_lines:]), sep="\n", flush=True)
        verdict = {0: "ok", OVER_TIME: "FAILED: over its time"}
        self.failed |= code != 0
        self.summary.append(
            f"{name:44} {time.monotonic() - begin:4.0f} s"
            f" {verdict.get(code, f'FAILED: exit code {code}')}"
        )
        return code

    def leave_out(self, name, why):
        """Note in the summary that a step was not run, and why."""
        self.summary.append(f"{name:44}        left out: {why}")

    def stage(self, name):
        """Run one stage; on a GPU, first load the operators, or build them if loading fails."""
        print(f"\n==== {name}", flush=True)
        self.stage_end = time.monotonic() + self.patience * STAGE_S
        if not self.dry:
            self.run(5, "nvidia-smi", [*SMI, "--format=csv"], program="nvidia-smi")
            if self.run(30, "load the operators", ["-c", LOAD]) not in (0, OVER_TIME):
                build = ["setup.py", "-q", "build_ext", "--inplace"]
                self.run(
                    120,
                    "build the operators",
                    build,
                    SENSORSEQ_BUILD="ops",
                    SENSORSEQ_CUDA_ARCHS="9.0",
                )
        STAGES[name](self)

    def smoke(self, limit_s, repeats):
        """Check every kernel and store the verdicts."""
        name = "every kernel against float64"
        if self.dry and not self.worker:
            self.leave_out(name, "no GPU, and no --worker instead")
            return
        more = ["--dry-run"] if self.dry else []
        more += ["--worker", self.worker] if self.worker else []
        limits = ["--repeats", repeats, "--limit-s", self.patience * limit_s - 5]
        self.run(limit_s, name, [SMOKE, self.out / "gpu_check.json", *limits, *more])

    def kernels(self):
        """Return the rows of the kernel check and the kernels that passed."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            verdicts = json.loads((self.out / "gpu_check.json").read_text())["rows"]["kernels"]
            return verdicts["rows"], {tuple(kernel) for kernel in verdicts["passed"]}
        return [], set()

    def sizes(self, *wanted):
        """Return the wanted sizes whose kernels passed in both precisions.

        Size 0 stands for tests without a fixed size, which use narrow layers.
        """
        _, passed = self.kernels()
        return [h for h in wanted if {("fp16", h or 64), ("fp16x3", h or 64)} <= passed]

    def bench(self, limit_s, name, *arguments, n_lines=30, tiny=1):
        """Run bench_cuda.py, which starts no case in the last 15 seconds of its limit."""
        dry = ["--dry-run", "--limit", tiny] if self.dry else []
        limits = ["--budget-s", limit_s - 15, "--output", self.out, "--at-least-s", 5e-3]
        # one thread, because with more threads the benchmark pauses before each timing
        program = [*BENCH, *arguments, *limits, "--rounds", 7, *dry]
        return self.run(limit_s, name, program, n_lines=n_lines, OMP_NUM_THREADS="1")

    def tests(self, groups):
        """Run each group of tests/gpu in its own process, which an illegal access would end."""
        reports = self.out / "tests.xml"
        suites = ElementTree.Element("testsuites")
        for limit_s, file, *wanted in groups:
            name = f"{file}, hidden size {', '.join(map(str, wanted))}"
            sizes = self.sizes(*wanted)
            if not sizes:
                self.leave_out(name, "its kernels did not pass")
                continue
            with tempfile.TemporaryDirectory() as folder:
                report = Path(folder, "report.xml")
                chosen = ["--padded-hidden", ",".join(map(str, sizes)), "-k", f"not ({LONG_TESTS})"]
                arguments = [f"tests/gpu/{file}", *chosen, "-v", "--tb=short", "--durations=3"]
                if self.dry:
                    arguments += ["--collect-only", "-q"]
                elif importlib.util.find_spec("xdist"):
                    arguments += ["-p", "xdist", "-n", "5"]
                arguments += [f"--junitxml={report}"]
                self.run(limit_s, name, [*PYTEST, *arguments], n_lines=12, OMP_NUM_THREADS="3")
                with contextlib.suppress(OSError, ElementTree.ParseError):  # the process was killed
                    suites.extend(ElementTree.parse(report).getroot())
            for suite in suites:
                suite.attrib.pop("hostname", None)
            ElementTree.ElementTree(suites).write(reports, encoding="utf-8")

    def memcheck(self, limit_s):
        """Check memory accesses in the first failed case, or in every kernel if no case failed."""
        outcomes = {row["outcome"] for row in self.kernels()[0]}
        failed = outcomes & {"wrong", "died"}
        if self.dry:
            program = ["tests/gpu/sanitize.py", "--device", "cpu", "--limit", "4"]
            self.run(60, "what the sanitizer runs, on the CPU", program)
            return
        if "hung" in outcomes and not failed:
            self.leave_out("memcheck of every kernel", "one hung, and would be called again")
            return
        beside_nvcc = Path(shutil.which("nvcc") or "nvcc").resolve().with_name("compute-sanitizer")
        self.run(
            limit_s,
            f"memcheck of {'what failed' if failed else 'every kernel'}",
            [
                *("--tool", "memcheck", "--kernel-regex", "kns=sensorseq", "--error-exitcode", "9"),
                *(sys.executable, "tests/gpu/sanitize.py", "--after", self.out / "gpu_check.json"),
            ],
            program=shutil.which("compute-sanitizer") or str(beside_nvcc),
            PYTORCH_NO_CUDA_MEMORY_CACHING="1",
        )


def run_limited(command, limit_s, log, environment):
    """Run a program in its own process group, which is killed when the time is up."""
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
            # no process is left, or a process waits for the driver, which signals cannot interrupt
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, kind)
                process.wait(5)


def first(agenda):
    """Check every kernel, and store the results even if a kernel hangs."""
    agenda.smoke(75, repeats=5)
    file, dry = agenda.out / "gpu_check.json", ["--dry-run"] if agenda.dry else []
    agenda.run(15, "TF32 of torch and ours", ["benchmarks/cuda/tf32_error.py", file, *dry])
    agenda.bench(75, "microseconds a timestep", "--table", "steps")
    agenda.tests([(45, "test_train_epoch.py", 0, 64)])
    agenda.memcheck(45)


def second(agenda):
    """Test the kernels that passed and compare them with cuDNN, starting where torch is slowest."""
    agenda.smoke(40, repeats=2)
    agenda.tests(
        [
            (30, "test_layer.py", 64),
            (30, "test_layer.py", 128),
            (30, "test_layer.py", 256),
            (35, "test_device.py", 0, 64, 128, 256),
        ]
    )
    agenda.bench(85, "a few shapes against cuDNN", "--quick", n_lines=45)
    agenda.bench(40, "models side by side", "--table", "models", n_lines=10)


STAGES = {"first": first, "second": second}


def main():
    """Run one stage; return 1 if a step failed."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--dry-run", action="store_true", help="only the steps that a CPU can run")
    parser.add_argument("--worker", help="program that runs the kernels in a test of this file")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # also ends the running step
    out = Path(os.environ.get("OUT", ROOT / "benchmarks" / "results")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    agenda = Agenda(out, dry=options.dry_run, worker=options.worker)
    agenda.stage(options.stage)
    head = f"\n---- summary{' of a dry run: nothing ran on a GPU' if agenda.dry else ''}"
    with (out / "gpu_agenda.log").open("a") as log:
        for file in (log, sys.stdout):
            print(head, *agenda.summary, sep="\n", file=file)
    return int(agenda.failed)


if __name__ == "__main__":
    sys.exit(main())
