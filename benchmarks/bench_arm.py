"""Counts the instructions of a decision on emulated aarch64; times a decision on this machine.

    SENSORSEQ_NO_CACHE=1 make test-arm     # unpacks the wheel in the root file system in build/arm
    bench_arm.py                           # prints a table, writes results/arm.json
    bench_arm.py --quick                   # short windows only; nothing is written

The runtime predicts one window of 6 channels at a time, on one thread. The models, for 3 classes,
are a network of 64 units, each kind of features, and all of these together. A qemu plugin counts
the instructions. The count per decision is computed from the difference between a process with 12
decisions and a process with 2. The count includes Python's own instructions. The time at 1.5 GHz is
not measured but estimated from one instruction per cycle.
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common.results_file import begin, write_results

from sensorseq import SensorLSTMClassifier
from sensorseq.prediction.members.member import Member

HERE = Path(__file__).resolve().parent
BUILT = HERE.parent / "build" / "arm"
SHAPES, N_CHANNELS, N_CLASSES, N_WINDOWS = (100, 500), 6, 3, 120
KINDS = ["rocket", "hydra", "summary", "boosting"]
FEW, MORE = 2, 10
GHZ = 1.5
COUNTED = """
import sys
import numpy as np
from sensorseq_runtime import load
model, n = load(sys.argv[1]), int(sys.argv[2])
X = np.random.default_rng(0).normal(size=(1, int(sys.argv[3]), 6)).astype(np.float32)
for _ in range(n):
    model.predict_proba(X)
"""
TIMED = """
import json, sys, time
import numpy as np
from sensorseq.prediction import load
model = load(sys.argv[1])
X = np.random.default_rng(0).normal(size=(1, int(sys.argv[2]), 6)).astype(np.float32)
model.predict_proba(X)
took = []
for _ in range(100):
    began = time.perf_counter()
    model.predict_proba(X)
    took.append(time.perf_counter() - began)
memory = int(open("/proc/self/status").read().partition("VmRSS:")[2].split()[0])
print(json.dumps([took, memory]))
"""


def main() -> None:
    """Count and time every model, print the table, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short windows only")
    options = parser.parse_args()
    code = begin(__file__, partial=options.quick)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plugin = folder / "count.so"
        source = HERE / "arm" / "count_instructions.c"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", source, "-o", plugin], check=True)
        for n_steps in SHAPES[:1] if options.quick else SHAPES:
            for kind, model in models(n_steps).items():
                path = folder / f"{kind}.safetensors"
                model.save(path)
                rows.append({"model": kind, "steps": n_steps, **measure(path, n_steps, plugin)})
                print(line_of(rows[-1]), flush=True)
    write_results("arm", rows, code=code, partial=options.quick, ghz=GHZ, n_channels=N_CHANNELS)


def models(n_steps: int) -> dict[str, SensorLSTMClassifier]:
    """Return models with a network alone, with features alone, and with both."""
    rng, y = np.random.default_rng(0), np.arange(N_WINDOWS) % N_CLASSES
    X = rng.normal(size=(N_WINDOWS, n_steps, N_CHANNELS)) + y[:, None, None]
    settings = {"max_epochs": 2, "random_state": 0, "device": "cpu", "refit": None}
    alone = SensorLSTMClassifier(**settings, features=None).fit(X, y)
    models_by_name = {"LSTM alone": alone}
    members: dict[str, Member] = {}
    for kind in KINDS:
        models_by_name[f"{kind} alone"] = model = SensorLSTMClassifier(
            **settings, features=kind
        ).fit(X, y)
        joined = model.model_.sum
        members[kind] = joined.members[kind]
        unused = replace(joined, weights={**joined.weights, "lstm": 0.0})
        model.model_ = replace(model.model_, sum=unused)
    for name, weight in (("all features", 0.0), ("LSTM and all features", 0.5)):
        models_by_name[name] = model = copy.copy(alone)
        before, weights = alone.model_.sum, {"lstm": weight, **dict.fromkeys(members, 1.0)}
        joined = replace(before, members={**before.members, **members}, weights=weights)
        model.model_ = replace(model.model_, sum=joined)
    return models_by_name


def measure(path: Path, n_steps: int, plugin: Path) -> dict[str, Any]:
    """Count the instructions of a decision on aarch64, and time a decision on this machine."""
    counts = [count(path, n_steps, n, plugin) for n in (FEW, FEW + MORE)]
    command = [sys.executable, "-c", TIMED, path, str(n_steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    took, memory = json.loads(done.stdout)
    instructions = (counts[1] - counts[0]) / MORE
    quartiles = statistics.quantiles(took, n=4)
    return {
        "instructions": instructions,
        "estimated_ms": instructions / (GHZ * 1e9) * 1e3,
        "here_ms": [1e3 * quartile_s for quartile_s in quartiles],
        "resident_mb": memory / 1024,
    }


def count(path: Path, n_steps: int, n: int, plugin: Path) -> int:
    """Return the number of instructions that a process with n decisions executes."""
    root, counted = BUILT / "root", path.with_suffix(".count")
    paths = f"{root / 'sensorseq_runtime'}{os.pathsep}{root / 'site'}"
    # PYTHONHASHSEED makes both processes do the same work
    environment = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = ["qemu-aarch64", "-cpu", "cortex-a72", "-plugin", plugin, "-L", root]
    command += [root / "usr/bin/python3.11", "-c", COUNTED, path, str(n), str(n_steps)]
    subprocess.run(command, check=True, env={**environment, "COUNT_FILE": str(counted)})
    return int(counted.read_text())


def line_of(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    low, middle, high = row["here_ms"]
    return (
        f"{row['model']:<26} {row['steps']:>4} x {N_CHANNELS}  {row['instructions'] / 1e6:8.2f} M"
        f"  {row['estimated_ms']:7.2f} ms at {GHZ} GHz  here {middle:.2f} ms ({low:.2f} to"
        f" {high:.2f})  {row['resident_mb']:.0f} MB"
    )


if __name__ == "__main__":
    main()
