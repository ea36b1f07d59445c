"""Files that would crash a library, keep it busy or fill the memory are refused in a sentence."""

import json
import re
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ulogs import message

from sensorseq.errors import ConfigurationError, RecordingError
from sensorseq.preprocessing.configuration import read_configuration
from sensorseq.readers import read_recordings
from sensorseq.readers.suffixes import SUFFIXES

ROOT = Path(__file__).resolve().parents[2]
ROWS = b"".join(message("D", struct.pack("<HQf", 0, 1000 + 20_000 * i, i / 7)) for i in range(30))


def ulog(formats, *, n_topics=1, rows=ROWS):
    subscriptions = (message("A", struct.pack("<BH", 0, i) + b"top") for i in range(n_topics))
    head = b"ULog\x01\x12\x35\x01" + struct.pack("<Q", 1000)
    return head + b"".join(message("F", text) for text in formats) + b"".join(subscriptions) + rows


CHAIN = [b"top:uint64_t timestamp;t0 z;", *(b"t%d:t%d[40] a;" % (i, i + 1) for i in range(8))]
BAD_ULOGS = {
    "a nested format multiplies": (ulog([*CHAIN, b"t8:float x;"]), r"records of topic 'top' have"),
    "an empty format multiplies": (ulog([*CHAIN, b"t8:"]), "topics have more than 262144 fields"),
    "a format contains itself": (ulog([b"top:uint64_t timestamp;top b;"]), "contains itself"),
    "two formats contain each other": (
        ulog([b"top:uint64_t timestamp;a z;", b"a:top b;"]),
        "contains itself",
    ),
    "an array is larger than a message": (
        ulog([b"top:uint64_t timestamp;float[65535] b;"]),
        "have 262148 or more bytes; a message has room for 65533",
    ),
    "many topics have many fields": (
        ulog([b"top:uint64_t timestamp;uint8_t[60000] b;"], n_topics=60_000),
        "topics have more than 262144 fields",
    ),
    "a type is missing": (ulog([b"top:uint64_t timestamp;no b;"]), "format of 'no' in topic 'top'"),
    "a format is missing": (ulog([b"tip:uint64_t timestamp;"]), "format of topic 'top' is missing"),
    "there is no timestamp": (ulog([b"top:uint32_t timestamp;"]), "has no timestamp of 64 bits"),
    "a message in the middle is damaged": (
        ulog(
            [b"top:uint64_t timestamp;float x;"],
            rows=ROWS + message("I", b"\x09int32_t a12") + ROWS,
        ),
        r"the message that ends at byte \d+ of \d+ is damaged",
    ),
}


@pytest.mark.parametrize("case", BAD_ULOGS)
def test_a_ulog_file_whose_formats_cannot_be_right_is_refused(tmp_path, case):
    content, said = BAD_ULOGS[case]
    (tmp_path / "a.ulg").write_bytes(content)
    with pytest.raises(RecordingError, match=rf"a\.ulg: .*{said}"):
        read_recordings(tmp_path / "a.ulg")


@pytest.fixture(scope="module")
def mdf_files(tmp_path_factory):
    """Return files of both versions, with the addresses of their blocks."""
    asammdf = pytest.importorskip("asammdf", reason="asammdf is not installed")
    t, stored = np.arange(120) / 50, {}
    for version in ("3.30", "4.10"):
        path = tmp_path_factory.mktemp("mdf") / "a.mf4"
        file = asammdf.MDF(version=version)
        bits = np.arange(120) % 5 == 2
        marks = {"invalidation_bits": bits} if version > "4" else {}
        power = {"formula": "X ** 2 + 1"}
        signals = [
            asammdf.Signal(1 + np.sin(t), t, name="acc", unit="g", **marks),
            asammdf.Signal(np.cos(t), t, name="gyr", conversion=power),
        ]
        file.append(signals)
        file.append([asammdf.Signal(np.arange(120, dtype="u2"), t, name="count")])
        path = Path(file.save(path, overwrite=True))
        file.close()
        with asammdf.MDF(path) as file:
            group = file.groups[0]
            stored[version] = {
                "content": path.read_bytes(),
                "clock": group.channels[0].address,
                "acc": group.channels[1].address,
                "count": file.groups[1].channels[1].address,
                "group": group.channel_group.address,
                "data": group.data_group.address,
                "next": file.groups[1].data_group.address,
            }
    return stored


class TestMdf:
    def refused(self, tmp_path, file, at, size, number, said):
        content = bytearray(file["content"])
        content[at : at + size] = number.to_bytes(size, "little")
        path = tmp_path / "b.mf4"
        path.write_bytes(content)
        with pytest.raises(RecordingError, match=rf"b\.mf4: .*{said}"):
            read_recordings(path)

    @pytest.mark.parametrize("name", ["acc", "clock"])
    @pytest.mark.parametrize("offset", [17, 24, 4096, 8190])
    @pytest.mark.parametrize("version", ["3.30", "4.10"])
    def test_a_channel_beyond_its_record_is_refused(
        self, mdf_files, tmp_path, version, name, offset
    ):
        file, is_3 = mdf_files[version], version < "4"
        at, unit = file[name] + (186 if is_3 else 92), 8 if is_3 else 1
        told = rf"channel '{'time' if name == 'clock' else 'acc'}' of group 'group_0' is stored in"
        told += rf" bits {8 * offset} to {8 * offset + 63} of each record.* 192 bits"
        self.refused(tmp_path, file, at, 2 if is_3 else 4, unit * offset, told)

    @pytest.mark.parametrize(
        ("place", "at", "size", "number", "said"),
        [
            ("count", 96, 4, 0, "has values of 0 bits"),
            ("count", 96, 4, 2**27, "'count' of group 'group_1' is stored in bits 64 to"),
            ("acc", 104, 4, 64, "marks invalid values in bit 64"),
            ("group", 80, 8, 121, "has 121 records of 25 bytes, but only 3000 bytes are stored"),
            ("group", 80, 8, 2**60, "only 3000 bytes are stored"),
            ("group", 96, 4, 2**31, r"records of 2147483649 bytes"),
            ("group", 100, 4, 2**31, r"records of 2147483672 bytes"),
            ("next", 24, 8, "data", "refer to each other in a circle"),
            ("acc", 24, 8, "acc", "refer to each other in a circle"),
            ("acc", 16, 8, 2**40, "##CN at byte .* but the file ends after"),
            ("acc", 8, 8, 2**40, "##CN at byte .* but the file ends after"),
            ("data", 8, 8, 2**63, "##DG at byte .* but the file ends after"),
        ],
    )
    def test_counts_sizes_and_links_of_blocks_are_checked(
        self, mdf_files, tmp_path, place, at, size, number, said
    ):
        file = mdf_files["4.10"]
        number = file[number] if isinstance(number, str) else number
        self.refused(tmp_path, file, file[place] + at, size, number, said)

    def test_only_formulas_of_limited_size_are_evaluated(self, mdf_files, tmp_path):
        path, whole = tmp_path / "a.mf4", mdf_files["4.10"]["content"]
        path.write_bytes(whole)
        (recording,) = read_recordings(path, channels=["group_0.gyr"])
        expected = np.cos(np.arange(120) / 50) ** 2 + 1
        np.testing.assert_allclose(recording.values[:, 0], expected)
        for formula in (b"9**9**9+X", b"X+(2<<99)", b"X.data   ", b"'X'*9**9 "):
            path.write_bytes(whole.replace(b"X ** 2 + 1", formula + b"\0"))
            with pytest.raises(RecordingError, match=r"'gyr' of group 'group_0' has the formula"):
                read_recordings(path, channels=["group_0.gyr"])

    def test_labels_beyond_the_stored_strings_are_refused(self, tmp_path):
        mdfs = pytest.importorskip("mdfs", reason="asammdf is not installed")
        from asammdf import MDF

        path = mdfs.marked(tmp_path / "a.mf4")
        (recording,) = read_recordings(path, label_column="Words.word")
        assert [span.label for span in recording.label_spans] == ["ice", "deep snow"]
        with MDF(path) as file:
            at = file.groups[1].data_blocks[0].address + 16 * 5 + 8
        whole = path.read_bytes()
        assert struct.unpack_from("<Q", whole, at)[0] == 65
        for start in (2**63, 2**64 - 8, 2**32, 519, 36):
            path.write_bytes(whole[:at] + struct.pack("<Q", start) + whole[at + 8 :])
            with pytest.raises(RecordingError, match=r"'word' has an invalid string at byte"):
                read_recordings(path, label_column="Words.word")

    def test_records_with_identifiers_are_read(self, tmp_path):
        mdfs = pytest.importorskip("mdfs", reason="asammdf is not installed")
        (recording,) = read_recordings(mdfs.unsorted(tmp_path / "a.mf4"))
        np.testing.assert_array_equal(recording.values[:, 0], np.sin(np.arange(40) / 50))


SEPARATOR = "=" * 80 + "\n"
NESTED = "T0 a\nfloat64 y\n" + "".join(
    f"{SEPARATOR}MSG: pkg/T{i}\nT{i + 1}[40] b\n" for i in range(8)
)


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        (f"{NESTED}{SEPARATOR}MSG: pkg/T8\n", "would have 2560000 values"),
        (f"{NESTED}{SEPARATOR}MSG: pkg/T8\nuint8 x\n", "would have 2560000 values"),
        (f"E[] a\nfloat64 y\n{SEPARATOR}MSG: pkg/E\n", "has a list of pkg/msg/E, which is empty"),
        (f"E[4000000000] a\n{SEPARATOR}MSG: pkg/E\n", "would have 4000000000 values"),
        ("string[4000000000] a\nfloat64 y\n", "would have 4000000001 values"),
        ("Top[] a\nfloat64 y\n", "contains itself"),
        ("float64 y\n" * 7000, "the definition of pkg/msg/Top has 70000 bytes"),
    ],
)
@pytest.mark.parametrize("encoding", ["cdr", "ros1"])
def test_message_types_with_too_many_values_are_refused(tmp_path, definition, encoding, said):
    mcaps = pytest.importorskip("mcaps", reason="mcap is not installed")
    topic = "/a", encoding, ("pkg/msg/Top", "ros2msg", definition.encode())
    content = b"\0\1\0\0" + b"\xff" * 16
    mcaps.write_mcap(tmp_path / "a.mcap", [(topic, i * 10**7, content) for i in range(9)])
    with pytest.raises(RecordingError, match=rf"a\.mcap: .*{said}"):
        read_recordings(tmp_path / "a.mcap")


def test_a_database_with_computed_columns_is_refused(tmp_path):
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    with closing(sqlite3.connect(tmp_path / "a.db3")) as database, database:
        database.execute("CREATE TABLE topics(id INTEGER PRIMARY KEY, name, type, format)")
        computed = "data BLOB AS (zeroblob(900000000))"
        database.execute(f"CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, {computed})")
    with pytest.raises(RecordingError, match=r"a\.db3: .*computed columns"):
        read_recordings(tmp_path / "a.db3")


def test_repeated_lists_in_cbor_are_not_expanded(tmp_path):
    cbor2 = pytest.importorskip("cbor2", reason="cbor2 is not installed")

    def shared(n, level=0):  # a list of 2 ** n numbers in 8 * n bytes
        inner = (
            b"\x01\x02"
            if level == n
            else shared(n, level + 1) + b"\xd8\x1d" + cbor2.dumps(level + 1)
        )
        return b"\xd8\x1c\x82" + inner

    payload = {"interval_ms": 8, "sensors": [{"name": "a"}, {"name": "b"}], "values": [None]}
    content = cbor2.dumps({"payload": payload})
    assert content.endswith(b"\x81\xf6")
    path = tmp_path / "a.cbor"
    path.write_bytes(content[:-1] + shared(40))
    with pytest.raises(RecordingError, match=r"a\.cbor"):
        read_recordings(path)
    name = cbor2.dumps({"name": "a"})
    path.write_bytes(content.replace(name, name[:-2] + shared(40)))
    with pytest.raises(RecordingError, match=r"a\.cbor: a sensor is named ''"):
        read_recordings(path)


def test_tables_of_repeated_rows_are_not_unpacked(tmp_path):
    path, n = tmp_path / "a.parquet", 6_000_000
    zeros = pa.array(np.zeros(n, np.int8))
    pq.write_table(pa.table(dict.fromkeys(("run", "time", "x"), zeros)), path, compression="gzip")
    for options in ({}, {"recording_column": "run"}):
        with pytest.raises(RecordingError, match=r"a\.parquet: unpacks to 144\.0 MB"):
            read_recordings(path, **options)


CHANGED_FOOTERS = """
import io, sys
import pyarrow as pa, pyarrow.parquet
from sensorseq.errors import RecordingError
from sensorseq.readers import read_recordings
n = range(60)
columns = {"time": [i / 10 for i in n], "a": list(n), "b": [[i, 1] for i in n]}
pyarrow.parquet.write_table(pa.table(columns), stream := io.BytesIO())
whole, n_refused = stream.getvalue(), 0
for at in range(len(whole) - 8 - int.from_bytes(whole[-8:-4], "little"), len(whole) - 8):
    if whole[at] == 2:
        with open(sys.argv[1], "wb") as file:
            file.write(whole[:at] + b"\\x12" + whole[at + 1 :])
        try:
            read_recordings(sys.argv[1])
        except RecordingError:
            n_refused += 1
print(n_refused)
"""


def test_a_parquet_file_whose_schema_contradicts_its_columns_does_not_end_the_process(tmp_path):
    command = [sys.executable, "-c", CHANGED_FOOTERS, str(tmp_path / "a.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-300:]
    assert int(done.stdout) >= 5


def test_deep_texts_are_refused(tmp_path):
    deep = "[" * 20_000 + "]" * 20_000
    (tmp_path / "export.json").write_text(deep)
    (tmp_path / "run.csv").write_text("time,x\n0,1\n1,2\n")
    with pytest.raises(RecordingError, match=r"export\.json: cannot be read as a JSON export"):
        read_recordings(tmp_path, manifest=tmp_path / "export.json")
    for text in (f"a = {deep}", "a = " + "9" * 70_000):
        (tmp_path / "a.toml").write_text(text)
        with pytest.raises(ConfigurationError, match=r"a\.toml: (is not valid|has more than)"):
            read_configuration(tmp_path / "a.toml")


LAW = """
import json, random, sys, tempfile, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import parsers
warnings.simplefilter("ignore")
counts = {}
for number, name in enumerate(sys.argv[2:]):
    with tempfile.TemporaryDirectory() as folder:
        parsers.FINDINGS = Path(folder) / "findings"
        session = parsers.Session(name, Path(folder))
        for data in session.seeds:
            session.run(data)
        good = dict(session.state)
        if not number:
            session.prepare()
        rng = random.Random(name)
        for _ in range(5):
            session.run(session.change(rng, rng.choice(session.seeds)))
        counts[name] = good, session.state
print(json.dumps(counts))
"""
LOGS = ["ulog", "mdf 4", "mdf 4 with labels", "mdf 3", "lerobot", "lerobot info", "lerobot tasks"]
LOGS += ["edge impulse json", "edge impulse cbor", "edge impulse labels", "label studio", "bag"]
LOGS += ["label track", "mcap of ROS 2", "db3", "npy", "npz, whole", "mat", "parquet"]


def test_changed_files_are_read_or_refused_within_limits():
    """As `make harden` does with many draws, in a process with limits of time and memory."""
    pytest.importorskip("asammdf", reason="asammdf is not installed")
    folder = str(ROOT / "benchmarks" / "harden")
    done = subprocess.run(
        [sys.executable, "-c", LAW, folder, *LOGS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name, (good, state) in json.loads(done.stdout.splitlines()[-1]).items():
        assert good["refused"] == 0, name
        assert state["findings"] == {}, name
        assert state["cases"] == good["cases"] + 5


def test_every_suffix_is_in_the_table_of_inputs():
    table = (ROOT / "SECURITY.md").read_text("utf-8").partition("| input |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\.[\w.]+)`", table))
    assert set(SUFFIXES) == named
