"""A library that cannot be loaded causes an error with a one-sentence message."""

import ctypes
import sys
from pathlib import Path

import pytest

from sensorseq.base import core
from sensorseq.errors import EnvironmentProblemError


@pytest.fixture
def library_in(tmp_path, monkeypatch):
    """Return a function that writes the library's file into a package and loads it."""
    monkeypatch.setattr(core, "__file__", str(tmp_path / "base" / "core.py"))
    core.library.cache_clear()
    yield lambda contents: ((tmp_path / "_core.so").write_bytes(contents), core.library())
    core.library.cache_clear()


def test_a_missing_library_is_reported(library_in):
    with pytest.raises(EnvironmentProblemError, match=r"sensorseq\._core is missing"):
        core.library()


@pytest.mark.skipif(sys.platform != "linux", reason="reads headers of Linux")
def test_a_library_for_another_processor_names_both(library_in):
    header = bytearray(Path(sys.executable).read_bytes()[:64])
    ours = int.from_bytes(header[18:20], "little")
    header[18:20] = (40 if ours != 40 else 62).to_bytes(2, "little")
    with pytest.raises(EnvironmentProblemError, match=r"_core\.so is for .*, but this") as at:
        library_in(bytes(header))
    assert str(at.value).endswith(f"install sensorseq for {core._MACHINES[ours]}.")


def test_an_old_system_is_reported(library_in, monkeypatch):
    def refuse(path):
        raise OSError(f"/lib/libc.so.6: version `GLIBC_2.38' not found (required by {path})")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(EnvironmentProblemError, match=r"needs glibc 2\.38, but this"):
        library_in(b"")


@pytest.mark.parametrize("contents", [b"", b"\x7fELF", b"no library at all"])
def test_a_damaged_library_is_named(library_in, contents):
    with pytest.raises(EnvironmentProblemError, match=r"_core\.so cannot be loaded"):
        library_in(contents)
