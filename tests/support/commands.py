"""Runs commands of sensorseq in this process, and programs in separate processes."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout

import numpy as np

from sensorseq.cli import run


def write_logs(root, n=5, seconds=12.0, labels=("calm", "rough"), channels=("current", "speed")):
    """Write CSV files sampled at 20 Hz in a folder per class; rough classes vibrate faster."""
    rng = np.random.default_rng(0)
    for number, label in enumerate(labels):
        (root / label).mkdir(parents=True)
        for i in range(n):
            t = np.arange(0, seconds, 0.05)
            current = np.sin(2 * np.pi * (0.5 + 2.5 * number) * t + rng.uniform(0, 6))
            values = np.stack([t, current + 0.1 * rng.normal(size=len(t)), 0.1 * t], axis=1)
            rows = [",".join(f"{v:.4f}" for v in row[: 1 + len(channels)]) for row in values]
            text = "\n".join([",".join(["time", *channels]), *rows]) + "\n"
            (root / label / f"run_{i}.csv").write_text(text, encoding="utf-8")
    return root


def said(*words):
    """Run a command; return its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


def succeed(*words):
    """Run a command that must succeed; return its stdout."""
    code, out, err = said(*words)
    assert code == 0, err
    return out


def answer(*words):
    """Return the object that a command writes with --json."""
    return json.loads(succeed(*words, "--json", "-q"))


def refused(code, *words):
    """Run a command that must fail with this exit code; return its only error message."""
    ended, out, err = said(*words)
    assert (ended, out, "Traceback" in err) == (code, "", False)
    errors = [line for line in err.splitlines() if line.startswith(("error:", "Error:"))]
    assert len(errors) == 1, err
    return errors[0]
