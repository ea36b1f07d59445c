"""Detect a table of labeled samples that was given instead of windows of one channel."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError

# The limits were chosen on the motors of BorealTC and half of the other sets in
# docs/input_files.md.
MOST_COLUMNS = 31  # with more columns, rows are more likely windows or their spectra
LEAST_ROWS = 1000  # with fewer rows, neighbors may be similar by chance
LEAST_RUN = 20  # mean number of consecutive rows with the same label
NEAR = 0.7  # as a fraction of the distance to another row of the run, and to the next column
SHARE = 0.25  # fraction of the columns in which rows are that close to the next row


def refuse_rows(X: NDArray[Any], target: NDArray[np.int64]) -> None:
    """Raise if the rows of X (n, t) look like samples of recordings, not like windows.

    In a table of samples, each row is closer to the previous one, column by column, than others
    with the same label are. That also holds for overlapping windows, but in these the next column
    is even closer.
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
    # Shuffled within each run.
    mixed = Z[np.lexsort((np.random.default_rng(0).permutation(n), run))]
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
