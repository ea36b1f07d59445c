"""Paired timing: two sides in turns, in one process, so that drift hits both alike."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sensorseq.ops import _extension

RESULTS = Path(__file__).resolve().parent / "results"


def paired_times(
    one: Callable[[], Any], other: Callable[[], Any], *, pairs: int = 31, at_least_s: float = 2e-3
) -> tuple[np.ndarray, np.ndarray]:
    """Time two functions in turns, each run repeated until it takes `at_least_s`, in seconds."""
    sides = (one, other)
    repeats = []
    for side in sides:  # also the warm-up
        started, n = time.perf_counter(), 0
        while time.perf_counter() - started < 0.05 or n < 3:
            side()
            n += 1
        each = (time.perf_counter() - started) / n
        repeats.append(max(1, round(at_least_s / each)))
    times = np.empty((2, pairs))
    for pair in range(pairs):
        for side in ((0, 1), (1, 0))[pair % 2]:
            started = time.perf_counter()
            for _ in range(repeats[side]):
                sides[side]()
            times[side, pair] = (time.perf_counter() - started) / repeats[side]
    return times[0], times[1]


def ratio_row(theirs: np.ndarray, ours: np.ndarray) -> dict[str, float]:
    """Summarise paired times: medians in ms, and the ratio theirs / ours with its spread."""
    low, middle, high = np.quantile(theirs / ours, [0.1, 0.5, 0.9])
    return {
        "theirs_ms": 1e3 * float(np.median(theirs)),
        "ours_ms": 1e3 * float(np.median(ours)),
        "ratio": float(middle),
        "ratio_p10": float(low),
        "ratio_p90": float(high),
    }


def environment() -> dict[str, Any]:
    """Describe the machine and the versions, without naming the machine."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=RESULTS.parent,
    ).stdout.strip()
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "isa": _extension.cpu_isa(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit,
    }


def write_results(table: str, rows: list[dict[str, Any]]) -> Path:
    """Write one table to `results/<table>.json`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{table}.json"
    path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    return path
