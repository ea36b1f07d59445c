"""Runs the bindings under sanitizers: `python benchmarks/harden/sanitizers.py [asan tsan]`.

Builds both extensions with AddressSanitizer and UBSan (asan) or ThreadSanitizer (tsan) into
build/harden, and runs `drawn_calls.py` with the sanitizer's library preloaded. Python and torch are
not instrumented, so only this package's own C++ code is checked. The last line of the output is a
JSON summary.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "harden"
KINDS = {
    "asan": ("-fsanitize=address,undefined -fno-sanitize-recover=undefined", "libasan.so", 1),
    "tsan": ("-fsanitize=thread", "libtsan.so", 2),
}
# torch's own threads and pybind11's locks are not instrumented. Each suppression must match the
# name of exactly one library.
UNWATCHED = ("libtorch_cpu.so", "libtorch_python.so", "libc10.so", "libgomp.so.1")
SUPPRESSIONS = "\n".join(
    [f"called_from_lib:{name}" for name in UNWATCHED]
    + ["mutex:capsule_dealloc"]  # a lock that torch uses when Python exits
    + [f"race:{name}" for name in (*UNWATCHED, "libgomp", "openblas", "_multiarray_umath")]
)


def build(kind):
    """Compile the extensions in a copy of the tree; return the folder that contains the package."""
    tree = BUILD / kind
    tree.mkdir(parents=True, exist_ok=True)
    for name in ("csrc", "sensorseq"):
        shutil.copytree(ROOT / name, tree / name, dirs_exist_ok=True)
    for library in (tree / "sensorseq").glob("_*.so"):
        library.unlink()
    for name in ("build_cuda.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, tree)
    # with a sanitizer, compiling at -O3 takes many minutes
    setup = (ROOT / "setup.py").read_text().replace('"-O3"', '"-O1", "-g1"')
    (tree / "setup.py").write_text(setup)
    flags = KINDS[kind][0]
    environment = {"CFLAGS": f"{flags} -fno-omit-frame-pointer", "LDFLAGS": flags}
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    subprocess.run(
        command,
        cwd=tree,
        env={**os.environ, "SENSORSEQ_CUDA": "0", "MAX_JOBS": "1", "CXX": "g++", **environment},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return tree


def run(kind, seconds):
    """Return the number of calls under one sanitizer and the sanitizer's reports."""
    _, library, threads = KINDS[kind]
    tree, began = build(kind), time.monotonic()
    # the sanitizer needs the C++ library at startup, but Python is not linked with the library
    libraries = [
        subprocess.check_output(["g++", f"-print-file-name={name}"], text=True).strip()
        for name in (library, "libstdc++.so.6")
    ]
    suppressions = tree / "suppressions.txt"
    suppressions.write_text(SUPPRESSIONS)
    program = [sys.executable, str(Path(__file__).with_name("drawn_calls.py"))]
    command = [*program, "--seconds", str(seconds), "--threads", str(threads)]
    if kind == "tsan":  # ThreadSanitizer fails with address randomization in recent kernels
        command = ["setarch", "-R", *command]
    options = {
        "PYTHONPATH": str(tree),
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:detect_odr_violation=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": f"suppressions={suppressions}:exitcode=66:report_signal_unsafe=0"
        ":allocator_may_return_null=1",
        "OMP_NUM_THREADS": "1" if kind == "tsan" else "2",
    }
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **options}, check=False
    )
    (tree / "stderr.txt").write_text(done.stderr)
    lines = done.stdout.strip().splitlines()
    counts = json.loads(lines[-1]) if lines else {"calls": 0}
    reports = [line for line in done.stderr.splitlines() if "SUMMARY:" in line]
    reports += [line for line in done.stderr.splitlines() if "runtime error:" in line]
    if done.returncode != 0 and not reports:
        reports = [f"ended with {done.returncode}", *done.stderr.strip().splitlines()[-3:]]
    return {
        "calls": counts["calls"],
        "reports": sorted(set(reports)),
        "seconds": round(time.monotonic() - began),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=120, help="of drawn calls, after the build")
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="asan|tsan")
    asked = parser.parse_args()
    parts = {kind: run(kind, asked.seconds) for kind in asked.kinds}
    n_reports = sum(len(part["reports"]) for part in parts.values())
    trials = sum(part["calls"] for part in parts.values())
    print(json.dumps({"trials": trials, "failures": n_reports, "parts": parts}))
    return int(n_reports > 0)


if __name__ == "__main__":
    sys.exit(main())
