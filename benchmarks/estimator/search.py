"""A search side by side against GridSearchCV in processes, for the estimator's benchmark.

Both sides search the same four learning rates over the same five folds of 98 windows of 100
timesteps and one channel, six classes (synthetic), with the same estimator and an integer
`random_state`: twenty fits of a fixed number of epochs, validation in each, no refit. Every score
is compared before anything is timed, and must be the same number.

Their side is `GridSearchCV(n_jobs=2)`: two processes (joblib's loky), each with one thread. They
have been started and have imported everything before a timing; what the first search after their
start takes is `cold_ms`. Our side is `SequenceSearchCV`: one process, two threads. `cpu_ratio` is
the same ratio of processor time, of workers and caller, which other programs disturb less.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from estimator.plain import ONE_FIT_A_TURN, PLAIN
from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sensorseq import SensorLSTMClassifier
from sensorseq.bench.timing import alternate, repeated, summarize
from sensorseq.errors import EnvironmentProblemError
from sensorseq.model_selection import SequenceSearchCV

SHAPE = 98, 100, 1
N_CLASSES = 6
N_PROCESSES = 2
GRID = {"learning_rate": [1e-3, 2e-3, 5e-3, 1e-2]}
FOLDS = StratifiedKFold(5, shuffle=True, random_state=0)
EPOCHS = {16: 60, 32: 40, 64: 20, 128: 8}  # by H
CASES = [(16, 32), (32, 4), (32, 32), (64, 4), (64, 32), (128, 32)]


def make_windows() -> tuple[Any, Any]:
    """Return level and ripple of a current by class, and noise."""
    rng = np.random.default_rng(0)
    n_windows, n_timesteps, _ = SHAPE
    y = np.arange(n_windows) % N_CLASSES
    phase = rng.uniform(0, 2 * np.pi, (n_windows, 1))
    ripple = np.sin(0.2 * (1 + y[:, None]) * np.arange(n_timesteps) + phase)
    X = y[:, None] + 0.2 * ripple + 0.2 * rng.standard_normal((n_windows, n_timesteps))
    return X[:, :, None], y


def make_sides(hidden_size: int, batch_size: int, n_epochs: int) -> tuple[Any, Any]:
    """Return two functions that search, theirs and ours."""
    X, y = make_windows()
    X = X.astype(np.float32)
    estimator = SensorLSTMClassifier(
        hidden_size=hidden_size,
        batch_size=batch_size,
        max_epochs=n_epochs,
        **PLAIN,
    )
    options = {"cv": FOLDS, "refit": False, "error_score": "raise"}

    def theirs() -> Any:
        return GridSearchCV(estimator, GRID, n_jobs=N_PROCESSES, **options).fit(X, y).cv_results_

    def ours() -> Any:
        return SequenceSearchCV(estimator, GRID, **options).fit(X, y).cv_results_

    return theirs, ours


def check_same(theirs: Any, ours: Any) -> None:
    """Raise unless every score is the same number."""
    for name in theirs:
        if "score" in name and "time" not in name and not np.array_equal(theirs[name], ours[name]):
            raise EnvironmentProblemError(
                f"{name} is {ours[name]} side by side and {theirs[name]} in processes; timing the"
                " two would mean nothing."
            )


def cpu_s(work: Any) -> float:
    """Return the processor time of a call, that of the worker processes with it."""

    def spent() -> float:
        return time.process_time() + sum(
            sum(
                map(
                    int, (Path("/proc") / child / "stat").read_text().rsplit(")")[-1].split()[11:13]
                )
            )
            for child in _children()
        ) / os.sysconf("SC_CLK_TCK")

    before = spent()
    work()
    return spent() - before


def _children() -> list[str]:
    return [
        child
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def rows(rounds: int) -> list[dict[str, Any]]:
    """Measure every case: what `summarize` gives, with `cold_ms` and `cpu_ratio`."""
    found = []
    threads = torch.get_num_threads()
    torch.set_num_threads(N_PROCESSES)
    try:
        for hidden_size, batch_size in CASES:
            theirs, ours = make_sides(hidden_size, batch_size, EPOCHS[hidden_size])
            get_reusable_executor().shutdown(wait=True)
            started = time.perf_counter()
            wanted = theirs()
            cold_s = time.perf_counter() - started
            check_same(wanted, ours())
            sides = repeated(theirs), repeated(ours)
            once = ONE_FIT_A_TURN | {"warm_up_s": 0.0, "budget_s": 40.0}
            times = alternate(*sides, rounds=rounds, **once)
            cpu_ratio = cpu_s(theirs) / cpu_s(ours)
            found.append(
                {
                    "what": "5 folds x 4 candidates side by side",
                    "against": f"GridSearchCV(n_jobs={N_PROCESSES})",
                    "shape": [*SHAPE, hidden_size],
                    "batch": batch_size,
                    "epochs": EPOCHS[hidden_size],
                    **summarize(*times),
                    "cold_ms": 1e3 * cold_s,
                    "cpu_ratio": cpu_ratio,
                }
            )
    finally:
        torch.set_num_threads(threads)
    return found
