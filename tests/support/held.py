"""Windows in memory, from as much as a test has to say of them."""

import numpy as np

from sensorseq.prediction.windows import Windows


def held_windows(X, lengths, target, groups=None, rows=None, channels=None, classes=()):
    """Return windows; without `lengths` all steps are valid."""
    lengths = np.full(len(X), X.shape[1]) if lengths is None else np.asarray(lengths)
    known = {"groups": groups, "rows": rows, "channels": channels, "classes": np.array(classes)}
    return Windows(X, lengths, target=np.asarray(target), **known)
