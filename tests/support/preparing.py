"""Makes and interrupts simple preparations, and compares their files."""

import hashlib

import numpy as np

from sensorseq.prepare import prepare


def prepare_plainly(source, output, **arguments):
    return prepare(source, output, **{"window_s": 2, "hop_s": 1, **arguments})


def interrupt_at(stage, done=None):
    """Return a progress function that interrupts a stage at once, or after `done` steps."""

    def interrupt(at, n_done, total):
        if at == stage and done in (None, n_done):
            raise KeyboardInterrupt

    return interrupt


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same_windows(first, second):
    for name in ("X", "lengths", "y", "groups", "recording_id", "start_s", "split"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
