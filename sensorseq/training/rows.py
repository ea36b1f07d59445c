"""Tell a table of samples, with a label for each row, from windows of one channel."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError

# The limits were set on the motors of BorealTC and half of the other sets of docs/input_files.md.
MOST_COLUMNS = 31  # with more, rows are rather windows or their spectra
LEAST_ROWS = 1000  # with fewer, neighbours may be alike by chance
LEAST_RUN = 20  # rows with one label, on average
NEAR = 0.7  # fraction of the distance to another row of the run, and to the next column
SHARE = 0.25  # fraction of the columns in which rows are that near to the next


def refuse_rows(X: NDArray[Any], target: NDArray[np.int64]) -> None:
    """Raise when the rows of X (n, t), read as windows of one channel, are samples of recordings.

    Then a row continues the one before it, column by column: it is nearer than others with the same
    label. That holds for windows that overlap, too, but there the next column is nearer still.
    """
    n, n_columns = X.shape
    goes_on = target[1:] == target[:-1]
    n_runs = n - int(goes_on.sum())
    if n_columns > MOST_COLUMNS or n < max(LEAST_ROWS, LEAST_RUN * n_runs):
        return
    X = np.asarray(X, np.float64)
    spread = X.std(axis=0)
    moves = spread > 0
    Z = (X - X.mean(axis=0)) / np.where(moves, spread, 1)
    run = np.concatenate([[0], np.cumsum(~goes_on)])
    mixed = Z[np.lexsort((np.random.default_rng(0).permutation(n), run))]  # within each run
    onward, at_random = (np.abs(np.diff(rows, axis=0))[goes_on].mean(axis=0) for rows in (Z, mixed))
    sideways = np.abs(np.diff(Z, axis=1)).mean(axis=0)
    beside = np.minimum(np.append(np.inf, sideways), np.append(sideways, np.inf))
    continues = moves & (onward < NEAR * at_random) & (onward < NEAR * beside)
    if continues.mean() < SHARE:
        return
    raise InputError(
        f"X has shape {(n, n_columns)}, read as {n} windows of one channel, {n_columns} step(s)"
        f" long, but its rows seem to be samples: in {int(continues.sum())} column(s) each row"
        f" continues the one before it, and a label stays for {n // n_runs} rows on average. Cut"
        " windows: make a Recording.evenly_sampled of each recording, and fit on"
        " PreparePipeline(window_s=...).prepare(recordings). If each row really is a window, give X"
        f" of shape {(n, n_columns, 1)}."
    )
