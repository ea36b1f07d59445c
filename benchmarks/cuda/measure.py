"""Builds the measurements in this folder in advance, and runs them on a machine with a GPU.

`python benchmarks/cuda/measure.py build` compiles the measurements into build/gpu, which git
ignores, and also compiles the bridge test with planted faults. `python benchmarks/cuda/measure.py
run FILE NAME...` runs the named programs one after another; each prints one JSON object, which is
stored in FILE under the program's name. A program that is not built yet is compiled first.
`bridge_faults` runs the bridge test with each fault, which the test must find.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))
import bridge_mutants
from common.results_file import keep_measurement

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILT = ROOT / "build" / "gpu"
LIMIT_S = 25
FAULTS = "bridge_faults"


def main():
    """Return 1 if a program does not compile or finds an error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("build", help="compile all; needs nvcc")
    run = actions.add_parser("run", help="run some and store their output")
    run.add_argument("file", type=Path)
    run.add_argument("name", nargs="+")
    options = parser.parse_args()
    names = [source.stem for source in sorted(HERE.glob("*.cu"))]
    if options.action == "build" and not shutil.which("nvcc"):
        print("nothing is compiled: nvcc was not found")
        return 0
    if options.action == "run":
        names = [n for n in options.name if n != FAULTS and not (BUILT / n).exists()]
    failed = [f"compile {name}" for name in compile_programs(names)]
    for name in getattr(options, "name", []):
        if f"compile {name}" not in failed:
            start = run_faults if name == FAULTS else run_program
            failed += start(name, options.file)
    print(*failed or [f"all {'compiled' if options.action == 'build' else 'measured'}"], sep="\n")
    return int(bool(failed))


def compile_programs(names):
    """Compile programs into build/gpu, in parallel; return the programs that failed."""
    BUILT.mkdir(parents=True, exist_ok=True)
    running = {}
    for name in names:
        command = [*bridge_mutants.NVCC, "-o", BUILT / name, HERE / f"{name}.cu"]
        if name == "bridge":
            command = [sys.executable, bridge_mutants.__file__, BUILT]
        try:
            running[name] = subprocess.Popen(command)
        except OSError as error:
            print(error)
            return names
    return [name for name, compiler in running.items() if compiler.wait()]


def run_program(name, file):
    """Run a program and store its output, even if it fails; return the errors."""
    print(f"-- {name}", flush=True)
    try:
        done = subprocess.run(
            [BUILT / name], stdout=subprocess.PIPE, text=True, check=False, timeout=LIMIT_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        return [f"{name}: {error}"]
    print(done.stdout, flush=True)
    try:
        keep_measurement(file, json.loads(done.stdout))
    except ValueError:
        return [f"{name}: no JSON object, exit code {done.returncode}"]
    return [f"{name}: exit code {done.returncode}"] if done.returncode else []


def run_faults(name, file):
    """Run the bridge test with each fault; store whether it was found, and return the errors."""
    rows = []
    for number, mutant in enumerate(bridge_mutants.OF_DEVICE, 1):
        command = [BUILT / f"bridge_fault_{number}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=LIMIT_S
            )
            bad = [row["what"] for row in json.loads(done.stdout)["rows"] if not row["right"]]
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            bad = [f"{type(error).__name__}: {error}"]
        is_found = any(row.startswith(mutant.row) for row in bad)
        rows.append({"fault": mutant.new, "row": mutant.row, "bad": bad, "right": is_found})
        print(rows[-1], flush=True)
    right = all(row["right"] for row in rows)
    keep_measurement(file, {"measurement": name, "right": right, "rows": rows})
    return [] if right else ["a planted fault was not found"]


if __name__ == "__main__":
    sys.exit(main())
