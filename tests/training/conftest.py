import pytest


@pytest.fixture(scope="module")
def no_disk_is_waited_for():
    """Let what is written stay in memory: these tests write a checkpoint for each epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield
