"""Compares `fit` on a prepared file that exceeds the buffer with `fit` on the same file in memory.

Both sides read the same file with one computing thread, alternately in one process, with the same
number of epochs, batch size and validation part. The timing covers the complete `fit`, including
reading. The file is read once beforehand, so that it is in the page cache for both sides. The
streamed side has a buffer of a quarter of the file's size, reads the file again in each epoch, and
reads ahead in a second thread, which needs a second core. The streamed side shuffles in a different
order, so the two accuracies differ as they would between seeds; tests check that the same order
gives bit-identical results.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common.timing import alternate, repeated, summarize

from sensorseq import SensorLSTMClassifier
from sensorseq.io.prepared import write_windows
from sensorseq.io.stored_windows import BUFFER_VARIABLE
from sensorseq.preprocessing.scale import fit_scaler
from sensorseq.windows import WindowSet

N_CLASSES = 6
EPOCHS = 3
# (windows, timesteps, channels), hidden size, batch size: sorted by computation per byte
CASES = (
    ((40_000, 100, 6), 8, 256),
    ((12_000, 100, 6), 64, 64),
)


def write_file(path: Path, shape: tuple[int, int, int]) -> int:
    """Write windows whose level is the class, 80 % for training and 20 % for validation."""
    rng = np.random.default_rng(0)
    n_windows = shape[0]
    y = rng.integers(0, N_CLASSES, n_windows)
    X = rng.standard_normal(shape, np.float32) + y[:, None, None].astype(np.float32)
    split = np.where(np.arange(n_windows) % 1000 < 800, "train", "validation")
    windows = WindowSet(X, y=y, split=split)
    write_windows(path, windows, scaler=fit_scaler(windows.part("train").X).to_dict())
    return X.nbytes


@contextmanager
def buffer_of(n_bytes: int) -> Iterator[None]:
    """Set the size of the buffer within a `with` block."""
    before = os.environ.get(BUFFER_VARIABLE)
    os.environ[BUFFER_VARIABLE] = str(n_bytes)
    try:
        yield
    finally:
        os.environ.pop(BUFFER_VARIABLE)
        if before is not None:
            os.environ[BUFFER_VARIABLE] = before


def measure(path: Path, n_bytes: int, hidden_size: int, batch: int, rounds: int) -> dict[str, Any]:
    """Fit once in each way and check the accuracies; then time both ways alternately."""

    def fit(buffer_bytes: int) -> SensorLSTMClassifier:
        classifier = SensorLSTMClassifier(
            hidden_size=hidden_size,
            batch_size=batch,
            max_epochs=EPOCHS,
            early_stopping=False,
            features=None,
            refit=None,
            patch=None,
            learning_rate=0.01,
            device="cpu",
            random_state=0,
        )
        with buffer_of(buffer_bytes):
            return classifier.fit(path)

    in_memory, streamed = fit(2 * n_bytes), fit(n_bytes // 4)
    scores = [float(side.history_["val_accuracy"][-1]) for side in (in_memory, streamed)]
    assert min(scores) > 0.6, scores  # guessing gives 1 / 6
    assert len(in_memory.history_) == len(streamed.history_) == EPOCHS
    times = alternate(
        *(repeated(partial(fit, size)) for size in (2 * n_bytes, n_bytes // 4)),
        rounds=rounds,
        at_least_s=0.0,
        warm_up_s=0.0,
        warm_up_runs=1,
        budget_s=60.0,
    )
    load = round(os.getloadavg()[0], 2)  # under load, the reader may lack a core
    return {"val_accuracy": scores, "load_average": load, **summarize(*times)}


def rows(rounds: int) -> list[dict[str, Any]]:
    """Return one row per case: the streamed side is ours, and a ratio of 1 means equal speed."""
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for shape, hidden_size, batch in CASES:
            path = Path(folder) / "windows.h5"
            n_bytes = write_file(path, shape)
            row = {
                "what": "fit, streamed",
                "against": "in memory",
                "shape": list(shape),
                "hidden_size": hidden_size,
                "batch": batch,
                "epochs": EPOCHS,
                "file_bytes": n_bytes,
                "buffer_bytes": n_bytes // 4,
            }
            measured.append(row | measure(path, n_bytes, hidden_size, batch, rounds))
    return measured


if __name__ == "__main__":
    for found_row in rows(9):
        print(found_row)
