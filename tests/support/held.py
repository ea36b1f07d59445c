"""Windows in memory, with defaults for all that a test does not specify."""

import numpy as np

from sensorseq.prediction.checked_windows import Windows


def held_windows(X, lengths, target, groups=None, rows=None, channels=None, classes=()):
    """Return windows in memory; without `lengths`, all steps are valid."""
    lengths = np.full(len(X), X.shape[1]) if lengths is None else np.asarray(lengths)
    described = {"groups": groups, "rows": rows, "channels": channels, "classes": np.array(classes)}
    return Windows(X, lengths, target=np.asarray(target), **described)
