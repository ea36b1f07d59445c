"""Laws of streams on models and signals drawn at random; `make harden` draws many more."""

import pytest
from stream_laws import check_model


@pytest.mark.parametrize("seed", [0, 3, 6])
def test_streams_equal_whole_recordings_however_samples_are_pushed(seed):
    assert check_model(seed, n_signals=3) == []
