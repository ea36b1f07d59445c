"""A fit that keeps its state after every epoch against one that keeps none, for bench_estimator.py.

98 windows of 100 timesteps and one channel, six classes (synthetic), H = 64, batches of 32, the
estimator's defaults, no early stopping. Both sides train the same epochs and end with the same
bits, which is checked first. `ratio` is the fit without a checkpoint over the fit with one: 0.95 is
an overhead of 5 %. The folder is the one TMPDIR names.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from estimator.plain import ONE_FIT_A_TURN, PLAIN
from numpy.typing import NDArray

from sensorseq import SensorLSTMClassifier
from sensorseq.bench.timing import alternate, repeated, summarize

SHAPE, N_CLASSES = (98, 100, 1), 6
HIDDEN_SIZE, BATCH_SIZE, EPOCHS = 64, 32, 100


def make_windows() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the level of a current by class, and noise."""
    rng = np.random.default_rng(0)
    y = np.arange(SHAPE[0]) % N_CLASSES
    X = y[:, np.newaxis, np.newaxis] + 0.2 * rng.standard_normal(SHAPE)
    return X.astype(np.float32), y


def fit(engine: str, checkpoint: Path | None) -> SensorLSTMClassifier:
    """Fit once, a state after every epoch when there is a checkpoint."""
    return SensorLSTMClassifier(
        hidden_size=HIDDEN_SIZE,
        batch_size=BATCH_SIZE,
        max_epochs=EPOCHS,
        engine=engine,
        checkpoint=checkpoint,
        **PLAIN,
    ).fit(*make_windows())


def rows(rounds: int) -> list[dict[str, Any]]:
    """Return a row for each engine."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        for engine in ("native", "autograd"):
            without, with_one = fit(engine, None), fit(engine, path)
            pairs = zip(without.module_.parameters(), with_one.module_.parameters(), strict=True)
            if not all(torch.equal(a, b) for a, b in pairs):
                raise SystemExit(f"{engine}: the sides end with other bits")
            sides = (repeated(partial(fit, engine, where)) for where in (None, path))
            times = alternate(*sides, rounds=rounds, budget_s=30.0, **ONE_FIT_A_TURN)
            found.append(
                {
                    "what": "fit with a checkpoint every epoch",
                    "against": f"without, {engine} engine",
                    "shape": [*SHAPE, HIDDEN_SIZE],
                    "batch": BATCH_SIZE,
                    "epochs": EPOCHS,
                    "size_bytes": path.stat().st_size,
                    **summarize(*times),
                }
            )
    return found
