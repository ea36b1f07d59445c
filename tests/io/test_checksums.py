import json
import random
import struct
import subprocess
import sys
import textwrap
import zlib

import h5py
import numpy as np
import pytest
from harden.mutations import mutate, write_prepared

from sensorseq.cli import run
from sensorseq.errors import PreparedFileError
from sensorseq.io import checksums
from sensorseq.io.prepared import PreparedFile, read_windows


@pytest.fixture
def path(tmp_path):
    return write_prepared(tmp_path)[0]


@pytest.fixture
def long_path(tmp_path):
    return write_prepared(tmp_path)[1]


def damage(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def read_all(path):
    with PreparedFile(path) as file:
        file.record()
        file.windows()


def test_any_program_can_verify_the_documented_checksums(long_path):
    content = long_path.read_bytes()
    crc, piece, size, magic = struct.unpack("<IIQ8s", content[-24:])
    assert (piece, magic) == (1 << 18, b"ssqsums1")
    sums = np.frombuffer(content[size:-24], "<u4")
    pieces = [content[at : min(at + piece, size)] for at in range(0, size, piece)]
    assert sums.tolist() == [zlib.crc32(one) for one in pieces]
    assert crc == zlib.crc32(content[size:-24] + content[-20:])
    assert len(pieces) > 2


def test_any_changed_byte_is_refused(path):
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    ends = [*range(60), *range(len(content) - 60, len(content))]
    for at in [*ends, *rng.choice(len(content), 200, replace=False).tolist()]:
        changed = bytearray(content)
        changed[at] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        with pytest.raises(PreparedFileError, match="prepare it again"):
            read_windows(path)


@pytest.mark.parametrize("large", [False, True])
def test_damage_of_every_kind_is_refused(tmp_path, monkeypatch, large):
    if large:
        monkeypatch.setattr(checksums, "WHOLE_BYTES", 0)
    seeds = [path.read_bytes() for path in write_prepared(tmp_path)[:3]]
    damaged = tmp_path / "damaged.h5"
    n_changed = 0
    for number in range(240):
        content = seeds[number % 3]
        changed = mutate(random.Random(number), content, seeds)
        if changed != content and changed.endswith(checksums.MAGIC):
            n_changed += 1
            damaged.write_bytes(changed)
            with pytest.raises(PreparedFileError) as caught:
                read_all(damaged)
            assert str(caught.value).startswith(f"{damaged}: "), number
    assert n_changed > 100


def test_a_large_file_is_verified_where_it_is_read(long_path, monkeypatch):
    windows = read_windows(long_path)
    damage(long_path, 300_000)
    with pytest.raises(PreparedFileError, match="bytes from 262144 on do not match"):
        PreparedFile(long_path)
    monkeypatch.setattr(checksums, "WHOLE_BYTES", 0)
    with PreparedFile(long_path) as file:
        np.testing.assert_array_equal(file.samples(np.arange(5)), windows.X[:5])
        with pytest.raises(PreparedFileError, match="bytes from 262144 on do not match"):
            file.windows()
        with pytest.raises(PreparedFileError, match="bytes from 262144 on do not match"):
            file.verify()


@pytest.mark.parametrize("kept", [0, 1, 8, 500, 2000, -24, -1])
def test_a_truncated_file_is_refused_by_name(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        PreparedFileError,
        match=f"{path.name}: .*(has no checksums|file is empty|HDF5 file)",
    ):
        read_windows(path)


def test_a_file_that_another_program_changed_is_refused(path):
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "mine"
    with pytest.raises(PreparedFileError, match="was changed by another program"):
        read_windows(path)
    assert len(read_windows(path, verify=False)) == 30


def test_the_command_reads_a_damaged_file_only_when_asked_to(path, capsys):
    damage(path, len(path.read_bytes()) - 26)  # this byte is in a checksum
    assert run(["info", str(path), "--json"]) == 3
    assert "prepare it again" in capsys.readouterr().err
    assert run(["info", str(path), "--json", "--no-verify"]) == 0
    assert json.loads(capsys.readouterr().out)["n_windows"] == 30
    assert run(["info", str(path), "--json"]) == 3  # --no-verify applied only to the command above


def test_a_reading_process_ends_normally_after_damage(long_path):
    # If HDF5 fails to open a file, the process ends with a segmentation fault at exit.
    program = """
        import sys
        from sensorseq.errors import PreparedFileError
        from sensorseq.io import checksums
        from sensorseq.io.prepared import read_windows

        checksums.WHOLE_BYTES, n_refused = 0, 0
        for path in sys.argv[1:]:
            try:
                read_windows(path)
            except PreparedFileError:
                n_refused += 1
        sys.exit(n_refused)
    """
    paths = []
    for at in (10, 3000, 300_000):
        paths.append(long_path.with_name(f"{at}.h5"))
        paths[-1].write_bytes(long_path.read_bytes())
        damage(paths[-1], at)
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, paths)]
    assert subprocess.run(command).returncode == 3
