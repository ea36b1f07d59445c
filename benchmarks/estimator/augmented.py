"""Compares a fit with augmentation and one without it, for bench_estimator.py.

Augmentation is ``augment="standard"``. Both sides have the same number of epochs, H = 64, batches
of 32, no early stopping, and the native engine. `ratio` is the time of the plain fit divided by the
time of the fit with augmentation. A ratio of 0.9 means that the fit with augmentation spends a
tenth of its time on augmentation.
"""

from functools import partial
from typing import Any

import numpy as np
from common.timing import alternate, repeated, summarize
from estimator.plain import ONE_FIT_A_TURN, PLAIN

from sensorseq import SensorLSTMClassifier

SHAPES = ((98, 100, 1), (270, 29, 12), (360, 100, 6))
HIDDEN_SIZE, BATCH_SIZE, EPOCHS = 64, 32, 40


def rows(rounds: int) -> list[dict[str, Any]]:
    """Return a row for each shape."""
    measured = []
    for shape in SHAPES:
        rng = np.random.default_rng(0)
        X = rng.standard_normal(shape).astype(np.float32)
        y = np.arange(shape[0]) % 4

        def fit(X: Any = X, y: Any = y, augment: str | None = None) -> None:
            settings = {"hidden_size": HIDDEN_SIZE, "batch_size": BATCH_SIZE}
            settings |= {"max_epochs": EPOCHS, "engine": "native"}
            SensorLSTMClassifier(**PLAIN, **settings, augment=augment).fit(X, y)

        sides = repeated(fit), repeated(partial(fit, augment="standard"))
        times = alternate(*sides, rounds=rounds, budget_s=30.0, **ONE_FIT_A_TURN)
        measured.append(
            {
                "what": "fit with augmentation, standard",
                "against": "without",
                "shape": [*shape, HIDDEN_SIZE],
                "batch": BATCH_SIZE,
                "epochs": EPOCHS,
                **summarize(*times),
            }
        )
    return measured
