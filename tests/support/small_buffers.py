"""Sets a small buffer, so that stored windows are read in pieces."""

import contextlib

import pytest

from sensorseq.io.stored_windows import BUFFER_VARIABLE


@contextlib.contextmanager
def buffer_of(size_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BUFFER_VARIABLE, str(size_bytes))
        yield
