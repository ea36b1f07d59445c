"""Without the package that reads a format, the error names the extra that installs it."""

import sys

import pytest

from sensorseq.errors import EnvironmentProblemError
from sensorseq.readers import read_recordings

FORMATS = {
    "a.mf4": (b"MDF     4.10    " + bytes(200), "asammdf", "vehicle"),
    "a.ulg": (b"ULog\x01\x12\x35\x01" + bytes(8), "pyulog", "vehicle"),
    "a.cbor": (b"payload interval_ms values", "cbor2", "edge"),
    "a.mcap": (b"\x89MCAP0\r\n", "mcap.reader", "ros"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_without_the_package_of_a_format_the_extra_is_named(tmp_path, monkeypatch, name):
    content, package, extra = FORMATS[name]
    (tmp_path / name).write_bytes(content)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentProblemError, match=rf'pip install "sensorseq\[{extra}\]"'):
        read_recordings(tmp_path / name)
