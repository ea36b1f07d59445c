"""`fit` of a prepared file larger than the buffer, against the same file in memory.

Both sides read the same file with one thread that computes, in turns in one process: the same
number of epochs, batch size and validation part, and the whole of `fit` is measured, reading
included. The file is read once before, so that both find it in the page cache. The streamed side
has a buffer of a quarter of the file, reads it anew in each epoch, and reads ahead in a thread of
its own, for which a second core is needed. Its order is another one, so that its figures differ
within what another seed changes; that equal orders give equal bits is for the tests.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq import SensorLSTMClassifier
from sensorseq.bench.timing import alternate, repeated, summarize
from sensorseq.io.prepared import write_windows
from sensorseq.io.stored_windows import BUFFER_VARIABLE
from sensorseq.preprocessing.scale.scaler import fit_scaler
from sensorseq.windows import WindowSet

N_CLASSES = 6
EPOCHS = 3
# (windows, timesteps, channels), hidden size, batch size: by how much there is to compute a byte
CASES = (
    ((40_000, 100, 6), 8, 256),
    ((12_000, 100, 6), 64, 64),
)


def write_file(path: Path, shape: tuple[int, int, int]) -> int:
    """Write windows whose level tells the class, four parts for training and one to validate."""
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
    """Let the buffer be so large in a block."""
    before = os.environ.get(BUFFER_VARIABLE)
    os.environ[BUFFER_VARIABLE] = str(n_bytes)
    try:
        yield
    finally:
        os.environ.pop(BUFFER_VARIABLE)
        if before is not None:
            os.environ[BUFFER_VARIABLE] = before


def measure(path: Path, n_bytes: int, hidden_size: int, batch: int, rounds: int) -> dict[str, Any]:
    """Fit both ways once and look at what they learned; then time both in turns."""

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
    assert min(scores) > 0.6, scores  # one in six by chance
    assert len(in_memory.history_) == len(streamed.history_) == EPOCHS
    times = alternate(
        *(repeated(partial(fit, size)) for size in (2 * n_bytes, n_bytes // 4)),
        rounds=rounds,
        at_least_s=0.0,
        warm_up_s=0.0,
        warm_up_runs=1,
        budget_s=60.0,
    )
    load = round(os.getloadavg()[0], 2)  # others on these cores: the reader has none of its own
    return {"val_accuracy": scores, "load_average": load, **summarize(*times)}


def rows(rounds: int) -> list[dict[str, Any]]:
    """Return one row a case: the streamed side is ours, so a ratio of 1 is the same speed."""
    found = []
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
            found.append(row | measure(path, n_bytes, hidden_size, batch, rounds))
    return found


if __name__ == "__main__":
    for found_row in rows(9):
        print(found_row)
