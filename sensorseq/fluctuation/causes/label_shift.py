"""check_alignment: whether windows fit the labels of rows beside them better than their own."""

import numpy as np
from numpy.typing import NDArray

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.windows_of_a_part import Floats, Names, Part

MOST_ROWS = 3  # by which labels are tried to be off
LEAST_WINDOWS, MOST_WINDOWS = 60, 20_000
LEAST_GAIN = 0.15  # of accuracy, against the labels where they are
NEAR_GUESSING = 0.5  # of the accuracy above guessing that the labels where they are may keep
STANDARD_ERRORS = 6.0
RIDGE = 1e-2  # of the number of windows


def check_alignment(train: Part, validation: Part | None, names: Names) -> list[Cause]:
    """Return it when the label of another row fits each window far better than its own.

    A linear classifier on the mean and the spread of each channel is fitted on half of the rows and
    scored on the other, with the labels where they are and 1 to 3 rows off. In order of recordings
    a label that is one row off is nearly always the same, and nothing is said.
    """
    if train.rows is None or len(np.unique(train.rows)) != len(train.rows):
        return []
    parts = [train]
    if validation is not None and validation.rows is not None:
        both = np.concatenate([train.rows, validation.rows])
        if len(np.unique(both)) == len(both) and validation.n_channels == train.n_channels:
            parts.append(validation)
    rows = np.concatenate([part.rows for part in parts if part.rows is not None])
    order = np.argsort(rows)
    rows = rows[order]
    inside = rows < rows[0] + MOST_WINDOWS
    features = np.concatenate([np.hstack([p.window_mean, p.window_sd]) for p in parts])[order]
    target = np.concatenate([part.target for part in parts])[order]
    features, target, rows = features[inside], target[inside], rows[inside]
    classes, codes = np.unique(target, return_inverse=True)
    if len(rows) < LEAST_WINDOWS or len(classes) < 2 or not np.isfinite(features).all():
        return []
    label_of = np.full(int(rows[-1] - rows[0]) + 1 + 2 * MOST_ROWS, -1)
    label_of[rows - rows[0] + MOST_ROWS] = codes
    offsets = [k for k in range(-MOST_ROWS, MOST_ROWS + 1) if k]
    shifted = {k: label_of[rows - rows[0] + MOST_ROWS + k] for k in offsets}
    known = np.all([labels >= 0 for labels in shifted.values()], axis=0)
    if known.sum() < LEAST_WINDOWS:
        return []
    hits = {
        k: _hits(features[known], labels[known], len(classes))
        for k, labels in {0: codes, **shifted}.items()
    }
    best = max(offsets, key=lambda k: hits[k].mean())
    own, other = float(hits[0].mean()), float(hits[best].mean())
    gain = hits[best] - hits[0]
    error = max(float(gain.std()), 0.05) / np.sqrt(len(gain))
    guess = float(np.bincount(codes[known]).max()) / int(known.sum())
    near = own - guess <= NEAR_GUESSING * (other - guess)
    if other - own < max(LEAST_GAIN, STANDARD_ERRORS * error) or not near:
        return []
    direction = "after" if best > 0 else "before"
    distance = f"{abs(best)} row{'s' if abs(best) > 1 else ''}"
    return [
        Cause(
            "data_bug",
            "supported",
            0.85,
            f"The label {distance} {direction} fits each window better than its own: a linear"
            f" classifier on mean and spread of the channels gets {100 * other:.0f} % with it and"
            f" {100 * own:.0f} % as they are, where guessing gets {100 * guess:.0f} %.",
            finding=f"labels are {distance} off",
            advice="Look how windows and labels were joined; one of them has lost or gained rows.",
        )
    ]


def _hits(features: Floats, codes: NDArray[np.int64], n_classes: int) -> Floats:
    """Return which windows a ridge classifier fitted on the other half of them gets right."""
    sd = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(sd > 0, sd, 1.0)
    design = np.column_stack([np.clip(scaled, -10, 10), np.ones(len(scaled))])
    wanted = np.eye(n_classes)[codes]
    # by halves, not in turn: neighbours of one recording would be in both
    first = np.arange(len(codes)) < len(codes) // 2
    hits = np.zeros(len(codes))
    for half in (first, ~first):
        penalty = RIDGE * half.sum() * np.eye(design.shape[1])
        weights = np.linalg.solve(
            design[half].T @ design[half] + penalty, design[half].T @ wanted[half]
        )
        hits[~half] = (design[~half] @ weights).argmax(axis=1) == codes[~half]
    return hits
