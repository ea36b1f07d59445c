"""Runs parsers on changed files: `python benchmarks/harden/parsers.py [--seconds 30] [PARSER ...]`.

Each parser runs in its own process on changed copies of valid files. The changes come from atheris
(guided by coverage) if it is installed, or else from `mutations.py`. Checksums inside the files are
repaired, so that the changes are not refused because of a checksum. A file must be read, or refused
with the package's own error, within 10 s of processor time and 4 GB of memory. Files that make a
parser fail are stored in build/harden/findings. The last line of the output is a JSON summary.
"""

import argparse
import contextlib
import functools
import gc
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from sensorseq.options import ReadOptions

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent), str(ROOT / "tests" / "support")]

from mutations import mutate, mutate_json, write_prepared  # noqa: E402

FINDINGS = ROOT / "build" / "harden" / "findings"
MOST_S, MOST_BYTES = 10, 4 << 30
CSV_NUMBERS = "csv numbers (libFuzzer)"


class TooSlow(BaseException):
    """Raised when the 10 s of processor time are used up."""


class Parser:
    """A parser, valid files for it, and the repair of their checksums."""

    suffix = ".bin"
    is_json = False

    def seeds(self, folder):
        raise NotImplementedError

    def repair(self, data):
        return data

    def parse(self, path):
        raise NotImplementedError


class RecordingFile(Parser):
    def parse(self, path):
        from sensorseq.readers import read_recordings

        read_recordings(path)


class Csv(RecordingFile):
    suffix = ".csv"

    def seeds(self, folder):
        plain = "\n".join(f"{i / 10},{i % 7}.5,{-i}" for i in range(60)).encode()
        words = b"".join(b"%d,%d,%s\n" % (i, i % 5, b"ab"[i % 2 :][:1]) for i in range(30))
        quoted = b'"time","a,b"\r\n' + b"".join(b"%d,nan\r\n" % i for i in range(30))
        return [
            b"time_s,a,b\n" + plain,
            b"t,current,label\n" + words,
            quoted,
            b"time;a\n0,1;2,5\n" * 9,
        ]


class GzippedCsv(Csv):
    suffix = ".csv.gz"

    def seeds(self, folder):
        import gzip

        return [gzip.compress(seed, mtime=0) for seed in super().seeds(folder)]


class LabeledCsv(Csv):
    suffix = ".csv"

    def parse(self, path):
        from sensorseq.readers import read_recordings

        read_recordings(path, label_column="label", time_unit="ms")


class Manifest(Parser):
    suffix = ".csv"

    def seeds(self, folder):
        (folder / "a.csv").write_text("time,x\n0,1\n1,2\n2,3\n")
        return [
            b"path,label,group\na.csv,ice,1\n",
            b"path,label,start_s,end_s\na.csv,ice,0,1\na.csv,sand,1,2\n",
        ]

    def parse(self, path):
        from sensorseq.readers import read_recordings

        read_recordings(path.parent, manifest=path)


class Toml(Parser):
    suffix = ".toml"

    def seeds(self, folder):
        return [path.read_bytes() for path in (ROOT / "examples").glob("*.toml")] + [
            b"[resample]\nsample_rate_hz = 20\n[window]\nwindow_s = 2\n[split]\nembargo_s = 0.5\n"
        ]

    def parse(self, path):
        from sensorseq.preprocessing.configuration import (
            configuration_of,
            read_configuration,
            to_toml,
        )

        to_toml(configuration_of(read_configuration(path)))


class ReportFile(Parser):
    suffix = ".json"
    is_json = True

    def seeds(self, folder):
        from sensorseq.diagnosis import FluctuationReport

        rng = random.Random(0)
        rows = [
            {
                "loss": 1 / (1 + e),
                "val_loss": 0.3 + 0.2 * rng.random(),
                "accuracy": 0.8,
                "val_accuracy": rng.choice((0.6, 0.9)),
            }
            for e in range(25)
        ]
        report = FluctuationReport.from_history(rows, n_val=40, n_train=200, n_classes=3)
        return [json.dumps(report.to_dict(), default=str).encode()]

    def parse(self, path):
        from sensorseq.diagnosis import FluctuationReport
        from sensorseq.diagnosis.report_page import make_page

        report = FluctuationReport.from_dict(_loaded(path))
        _ = str(report), repr(report), make_page(report), report.to_dict()


class HistoryFile(Parser):
    suffix = ".json"
    is_json = True

    def seeds(self, folder):
        from sensorseq.history import History

        rows = [{"epoch": e, "loss": 1 / e, "val_loss": 1.2 / e} for e in range(1, 9)]
        History(rows).to_json(folder / "seed.json")
        return [(folder / "seed.json").read_bytes(), json.dumps(rows).encode()]

    def parse(self, path):
        from sensorseq.diagnosis import FluctuationReport

        str(FluctuationReport.from_history(path))


class EventFile(Parser):
    suffix = ".tfevents.1"

    def seeds(self, folder):
        events = b""
        for step in range(12):
            value = b"\x0a\x04loss\x15" + struct.pack("<f", 1 / (1 + step))
            summary = b"\x0a" + bytes([len(value)]) + value
            events += _record(b"\x10" + bytes([step]) + b"\x2a" + bytes([len(summary)]) + summary)
        return [events]

    def repair(self, data):
        repaired, at = b"", 0
        while at + 16 <= len(data):
            size = struct.unpack_from("<Q", data, at)[0]
            size = min(size, len(data) - at - 16)
            repaired += _record(data[at + 12 : at + 12 + size])
            at += 16 + size
        return repaired + data[at:]

    def parse(self, path):
        from sensorseq.diagnosis import FluctuationReport

        str(FluctuationReport.from_history(path))


class Mcap(RecordingFile):
    suffix = ".mcap"

    def seeds(self, folder):
        from mcap.writer import CompressionType, Writer

        files = []
        for chunked in (True, False):
            stream = io.BytesIO()
            plain = {"enable_crcs": False, "enable_data_crcs": False}
            writer = Writer(stream, compression=CompressionType.NONE, use_chunking=chunked, **plain)
            writer.start()
            schema = writer.register_schema("current", "jsonschema", b"{}")
            channel = writer.register_channel("/motor", "json", schema)
            for i in range(20):
                writer.add_message(channel, i * 10**8, b'{"a": %d, "b": [1, 2]}' % i, i * 10**8)
            writer.finish()
            files.append(stream.getvalue())
        return files


class Arrays(RecordingFile):
    """An array in a zip file with repaired checksums."""

    suffix = ".npz"

    def seeds(self, folder):
        import numpy as np

        arrays = np.zeros((60, 2)), np.arange(60, dtype=">i2"), np.array(["ice"] * 60)
        return [_npy(array) for array in arrays]

    def repair(self, data):
        import numpy as np

        with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
            archive.writestr("time.npy", _npy(np.arange(60) / 10))
            archive.writestr("x.npy", _npy(np.arange(60.0)))
            archive.writestr("a.npy", data)
        return stream.getvalue()


class Npy(RecordingFile):
    suffix = ".npy"

    def seeds(self, folder):
        import numpy as np

        array = np.zeros(60, [("time", "f8"), ("a", "<f4"), ("b", ">i2")])
        array["time"] = np.arange(60) / 10
        return [_npy(array)]


class Npz(RecordingFile):
    """A whole zip file, whose checksums are not repaired."""

    suffix = ".npz"

    def seeds(self, folder):
        import numpy as np

        files = []
        for save in (np.savez, np.savez_compressed):
            save(stream := io.BytesIO(), time=np.arange(60) / 10, a=np.zeros((60, 2)))
            files.append(stream.getvalue())
        return files


class Hdf5(RecordingFile):
    """Parsed by the HDF5 library in this process, which some damaged files crash (see SECURITY)."""

    suffix = ".h5"

    def seeds(self, folder):
        import h5py
        import numpy as np

        with h5py.File(stream := io.BytesIO(), "w") as file:
            file["time"] = np.arange(60) / 10
            file["a"] = np.zeros(60)
            file.create_dataset("arm/b", data=np.ones(60), chunks=(10,), compression="gzip")
            file["a"].attrs["units"] = "g"
        return [stream.getvalue()]


class Ulog(RecordingFile):
    suffix = ".ulg"

    def seeds(self, folder):
        from ulogs import flight, message

        long = flight(folder / "a.ulg", seconds=0.3).read_bytes()
        formats = [b"top:uint64_t timestamp;mid[2] a;float x;", b"mid:low b;", b"low:int16_t[3] c;"]
        nested = long[:16] + b"".join(message("F", text) for text in formats)
        nested += message("A", b"\0\5\0top") + message("I", b"\x0bchar[3] oh" + b"yes")
        rows = [struct.pack("<HQ6hf", 5, 20_000 * i, *range(6), i / 7) for i in range(30)]
        return [long, nested + b"".join(message("D", row) for row in rows)]


class Mdf4(RecordingFile):
    suffix, versions = ".mf4", ("4.10", "4.20")

    def seeds(self, folder):
        import mdfs

        files = []
        for number, version in enumerate(self.versions * 2):
            path = folder / f"{number}{self.suffix}"
            mdfs.drive(path, seconds=0.3, hz=100.0, version=version, compression=number // 2)
            files.append(path.read_bytes())
        return [*files, *self.more_seeds(folder)]

    def more_seeds(self, folder):
        import mdfs

        writers = mdfs.marked, mdfs.unsorted
        return [write(folder / f"{write.__name__}.mf4").read_bytes() for write in writers]


class Mdf4WithLabels(Mdf4):
    def seeds(self, folder):
        return self.more_seeds(folder)[:1]

    def parse(self, path):
        from sensorseq.readers import read_recordings

        read_recordings(path, label_column="Words.word")


class Mdf3(Mdf4):
    suffix, versions = ".mdf", ("3.30", "3.10")

    def more_seeds(self, folder):
        return []


class Acquisition(RecordingFile):
    suffix = ".json"
    is_json = True

    def seeds(self, folder):
        sensors = [{"name": "accX", "units": "g"}, {"name": "accY"}]
        values = [[i, i / 7] for i in range(30)]
        payload = {"interval_ms": 8.0, "sensors": sensors, "values": values}
        self.content = {"protected": {"ver": "v1"}, "signature": "0", "payload": payload}
        return [json.dumps(self.content).encode()]


class AcquisitionInCbor(Acquisition):
    suffix = ".cbor"
    is_json = False

    def seeds(self, folder):
        import cbor2

        super().seeds(folder)
        return [cbor2.dumps(self.content)]


class ListOfLabels(Acquisition):
    """The list of labels of a data set that Edge Impulse exported."""

    def seeds(self, folder):
        self.acquisitions = super().seeds(folder)
        files = [
            {"path": f"training/{name}.json", "label": {"type": "label", "label": name}}
            for name in "ab"
        ]
        return [json.dumps({"version": 1, "files": files}).encode()]

    def parse(self, path):
        from sensorseq.readers import read_recordings

        root = path.parent / "exported"
        (root / "training").mkdir(parents=True, exist_ok=True)
        for name in "ab":
            (root / "training" / f"{name}.json").write_bytes(self.acquisitions[0])
        (root / "info.labels").write_bytes(path.read_bytes())
        read_recordings(root)


class LeRobot(Parser):
    """One file of a LeRobot dataset."""

    suffix, version, place = ".parquet", "v2.1", "data/chunk-000/episode_000000.parquet"

    def seeds(self, folder):
        from lerobot_datasets import episode, write_dataset

        episodes = [episode(0, 40), episode(1, 30)]
        self.root = write_dataset(folder / "set", self.version, episodes)
        return [(self.root / self.place).read_bytes()]

    def parse(self, path):
        from sensorseq.readers import read_recordings

        (self.root / self.place).write_bytes(path.read_bytes())
        read_recordings(self.root)


class LeRobotInfo(LeRobot):
    suffix, version, place = ".json", "v3.0", "meta/info.json"
    is_json = True


class LeRobotTasks(LeRobot):
    suffix, place = ".jsonl", "meta/tasks.jsonl"


class Bag(RecordingFile):
    suffix = ".bag"

    def seeds(self, folder):
        from rosbags.rosbag1 import Writer

        files = []
        for compression in (None, Writer.CompressionFormat.BZ2):
            path = folder / f"{len(files)}.bag"
            writer = Writer(path)
            if compression:
                writer.set_compression(compression)
            _write_bag(writer, 1)
            files.append(path.read_bytes())
        return files


class SalvagedBag(Bag):
    def parse(self, path):
        from sensorseq.readers import read_robot_log

        read_robot_log(path, ReadOptions(salvage=True))


class Db3(RecordingFile):
    suffix = ".db3"

    def seeds(self, folder):
        from rosbags.rosbag2 import StoragePlugin, Writer

        plugins = {".db3": StoragePlugin.SQLITE3, ".mcap": StoragePlugin.MCAP}
        _write_bag(Writer(folder / "run", version=9, storage_plugin=plugins[self.suffix]), 2)
        return [next((folder / "run").glob(f"*{self.suffix}")).read_bytes()]


class RosMcap(Db3):
    suffix = ".mcap"


class SalvagedMcap(RosMcap):
    parse = SalvagedBag.parse


class LabelStudio(Parser):
    """An export of annotations for a log."""

    suffix = ".json"
    is_json = True

    def seeds(self, folder):
        (folder / "run1.csv").write_text("time,x\n" + "".join(f"{i / 5},{i}\n" for i in range(60)))
        value = {"start": 2.0, "end": 5.0, "instant": False, "timeserieslabels": ["ice"]}
        result = [{"from_name": "label", "to_name": "ts", "value": value}]
        task = {"id": 7, "data": {"csv": "run1.csv"}, "annotations": [{"result": result}]}
        return [json.dumps([task]).encode()]

    def parse(self, path):
        from sensorseq.readers import read_recordings

        (path.parent / "logs").mkdir(exist_ok=True)
        shutil.copy(path.parent / "run1.csv", path.parent / "logs")
        read_recordings(path.parent / "logs", manifest=path)


class LabelTrack(LabelStudio):
    """Labels of one recording from Audacity or ELAN, separated by tabs."""

    suffix = ".txt"
    is_json = False

    def seeds(self, folder):
        super().seeds(folder)
        elan = b"tier\t\t00:00:02.000\t2.0\t00:00:05.000\t5.0\t3.0\tice\n"
        return [b"2.0\t5.0\tice\n6.0\t7.5\tsand\n", elan]

    def parse(self, path):
        from sensorseq.readers import read_recordings

        logs = path.parent / "logs"
        logs.mkdir(exist_ok=True)
        shutil.copy(path.parent / "run1.csv", logs)
        (logs / "run1.txt").write_bytes(path.read_bytes())
        read_recordings(logs, manifest="{recording}.txt")


class PhoneFolder(Csv):
    """A file of a folder that a phone app wrote."""

    def seeds(self, folder):
        return [
            b"time,seconds_elapsed,z,y,x\n"
            + b"".join(b"%d,%f,1,2,%d\n" % (10**18 + 10**7 * i, i / 100, i) for i in range(40))
        ]

    def parse(self, path):
        from sensorseq.readers import read_sensors

        folder = path.parent / "phone"
        folder.mkdir(exist_ok=True)
        (folder / "Gyroscope.csv").write_bytes(self.seeds(None)[0])
        (folder / "Accelerometer.csv").write_bytes(path.read_bytes())
        read_sensors(path.parent / "phone", ReadOptions(pair="{recording}/{sensor}.csv"))


class Matlab(RecordingFile):
    suffix = ".mat"

    def seeds(self, folder):
        import numpy as np
        import scipy.io

        arrays = {
            "time": np.arange(60) / 10,
            "arm": {"a": np.zeros(60), "b": np.ones(60, np.int16)},
        }
        files = []
        for is_compressed in (True, False):
            scipy.io.savemat(stream := io.BytesIO(), arrays, do_compression=is_compressed)
            files.append(stream.getvalue())
        return files


class Parquet(RecordingFile):
    suffix = ".parquet"

    def seeds(self, folder):
        import pyarrow as pa
        import pyarrow.parquet

        table = pa.table(
            {"time": [i / 10 for i in range(60)], "a": list(range(60)), "b": ["1"] * 60}
        )
        files = []
        for compression in ("none", "gzip"):
            pyarrow.parquet.write_table(table, stream := io.BytesIO(), compression=compression)
            files.append(stream.getvalue())
        return files


class Model(Parser):
    """A model file with changed bytes."""

    suffix = ".safetensors"

    def seeds(self, folder):
        _fit().save(folder / "seed.safetensors")
        return [(folder / "seed.safetensors").read_bytes()]

    def parse(self, path):
        import numpy as np

        from sensorseq import SensorLSTMClassifier

        model = SensorLSTMClassifier.load(path)
        model.predict(np.zeros((2, 10, 2), np.float32))


class ModelDescription(Model):
    is_json = True

    def seeds(self, folder):
        from sensorseq.io.model_file import read_model, to_jsonable

        seed = folder / "seed.safetensors"
        _fit().save(seed)
        self.arrays, description = read_model(seed)
        return [json.dumps(to_jsonable(description)).encode()]

    def repair(self, data):
        from sensorseq.io import model_file as file

        return file.pack(self.arrays, data.decode(errors="replace"))


class Prepared(Parser):
    """A prepared file, which must be refused, and named in the error, if any byte has changed."""

    suffix = ".h5"

    def seeds(self, folder):
        self.good = [path.read_bytes() for path in write_prepared(folder)]
        return self.good

    def parse(self, path):
        from sensorseq.errors import PreparedFileError
        from sensorseq.io.prepared import PreparedFile

        try:
            with PreparedFile(path) as file:
                file.record()
                file.windows()
                file.verify()
        except PreparedFileError as error:
            if str(error).startswith(f"{path}: "):
                raise
            raise AssertionError(f"does not name the file: {error}") from error
        assert path.read_bytes() in self.good, "a changed file was read"


class PreparedInPieces(Prepared):
    """A prepared file that is read in pieces, each of which is verified when it is read."""

    def seeds(self, folder):
        from sensorseq.io import checksums

        checksums.WHOLE_BYTES = 0
        return super().seeds(folder)


PARSERS = {
    "csv": Csv,
    "csv with labels": LabeledCsv,
    "csv.gz": GzippedCsv,
    "manifest": Manifest,
    "toml": Toml,
    "report": ReportFile,
    "history": HistoryFile,
    "event file": EventFile,
    "mcap": Mcap,
    "mcap of ROS 2": RosMcap,
    "mcap, salvaged": SalvagedMcap,
    "bag": Bag,
    "bag, salvaged": SalvagedBag,
    "db3": Db3,
    "ulog": Ulog,
    "mdf 4": Mdf4,
    "mdf 4 with labels": Mdf4WithLabels,
    "mdf 3": Mdf3,
    "lerobot": LeRobot,
    "lerobot info": LeRobotInfo,
    "lerobot tasks": LeRobotTasks,
    "edge impulse json": Acquisition,
    "edge impulse cbor": AcquisitionInCbor,
    "edge impulse labels": ListOfLabels,
    "label studio": LabelStudio,
    "label track": LabelTrack,
    "phone folder": PhoneFolder,
    "npy": Npy,
    "npz": Arrays,
    "npz, whole": Npz,
    "mat": Matlab,
    "parquet": Parquet,
    "model": Model,
    "model description": ModelDescription,
    "hdf5": Hdf5,
    "prepared": Prepared,
    "pieces": PreparedInPieces,
}
# run.py runs two of these parsers as a separate part; HDF5 files can crash the HDF5 library
APART = ("prepared", "pieces", "hdf5")


def _loaded(path):
    from sensorseq.errors import InputError

    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # refused by json itself, which is not under test
        raise InputError(str(error)) from error


def _write_bag(writer, version):
    """Write 20 messages of a joint and 10 of its surface with a writer of rosbags."""
    import numpy as np
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC if version == 1 else Stores.ROS2_HUMBLE)
    serialize = store.serialize_ros1 if version == 1 else store.serialize_cdr
    types = {name: store.types[name] for name in store.types}
    seq = {"seq": 0} if version == 1 else {}
    joints, words = "sensor_msgs/msg/JointState", "std_msgs/msg/String"
    with writer:
        connections = {
            kind: writer.add_connection(topic, kind, typestore=store)
            for kind, topic in ((joints, "/joints"), (words, "/surface"))
        }
        for i in range(20):
            stamp = types["builtin_interfaces/msg/Time"](1_700_000_000, 10**7 * i)
            header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="base", **seq)
            message = types[joints](header, ["a"], np.array([i / 7]), np.zeros(0), np.ones(1))
            time_ns = 1_700_000_000 * 10**9 + 10**7 * i
            writer.write(connections[joints], time_ns, serialize(message, joints))
            if i % 2:
                text = types[words]("ice" if i < 10 else "sand")
                writer.write(connections[words], time_ns, serialize(text, words))


def _npy(array):
    import numpy as np

    np.save(stream := io.BytesIO(), array)
    return stream.getvalue()


def _record(data):
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    length = struct.pack("<Q", len(data))
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + sums[0] + data + sums[1]


def _fit(**arguments):
    import numpy as np

    from sensorseq import SensorLSTMClassifier

    X = np.random.default_rng(0).normal(size=(12, 10, 2)).astype(np.float32)
    settings = {"hidden_size": 2, "max_epochs": 4, "features": None, "refit": None}
    settings |= {"validation_fraction": 0.0, "early_stopping": False, "monitor": "loss"}
    settings |= {"random_state": 0, "device": "cpu"}
    return SensorLSTMClassifier(**settings, **arguments).fit(X, np.arange(12) % 2)


class Session:
    """The counts of one parser in this process, stored in a file that survives a crash."""

    def __init__(self, name, folder):
        self.parser, self.folder = PARSERS[name](), folder
        self.state = {"cases": 0, "refused": 0, "findings": {}}
        self.slug = name.replace(" ", "_")
        seeds = folder / "seeds"
        seeds.mkdir()
        self.seeds = self.parser.seeds(seeds)
        for extra in seeds.glob("*.csv"):
            (folder / extra.name).write_bytes(extra.read_bytes())
        self.path = folder / f"input{self.parser.suffix}"

    def prepare(self):
        gc.freeze()  # the reader of MDF files collects garbage after each refusal
        signal.signal(signal.SIGPROF, self._too_slow)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES,) * 2)

    def change(self, rng, data):
        if not self.parser.is_json or rng.random() < 0.05:
            return mutate(rng, data, self.seeds)
        try:
            return mutate_json(rng, data)
        except (ValueError, RecursionError, IndexError, TypeError):  # no longer JSON
            return mutate_json(rng, rng.choice(self.seeds))

    def run(self, data):
        """Parse one changed file."""
        from sensorseq.errors import SensorseqError

        with contextlib.suppress(OSError):
            self.path.unlink()
        data = self.parser.repair(data)
        self.path.write_bytes(data)
        signal.setitimer(signal.ITIMER_PROF, MOST_S)
        try:
            self.parser.parse(self.path)
        except SensorseqError:
            self.state["refused"] += 1
        except (Exception, TooSlow) as error:
            self._keep(data, error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        self.state["cases"] += 1
        if self.state["cases"] % 20 == 0:
            self.save()

    def save(self):
        temporary = self.folder / "state.tmp"
        temporary.write_text(json.dumps(self.state))
        temporary.rename(self.folder / "state.json")

    def _too_slow(self, *_):
        raise TooSlow

    def _keep(self, data, error):
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "sensorseq" in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        key = f"{type(error).__name__} at {place}"
        if key not in self.state["findings"]:
            FINDINGS.mkdir(parents=True, exist_ok=True)
            name = f"{self.slug}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
            (FINDINGS / f"{name}{self.parser.suffix}").write_bytes(data)
            text = "".join(traceback.format_exception(error))
            (FINDINGS / f"{name}.txt").write_text(text)
        self.state["findings"][key] = self.state["findings"].get(key, 0) + 1
        self.save()


def child(name, seconds, seed, folder):
    """Change and parse files for this number of seconds."""
    warnings.simplefilter("ignore")
    try:
        import atheris
    except ImportError:
        atheris = None
    else:
        with atheris.instrument_imports(include=["sensorseq"]):
            import sensorseq.readers
            import sensorseq.training  # noqa: F401
    session = Session(name, folder)
    for data in session.seeds:  # valid files, which must be accepted; this also imports all modules
        session.run(data)
    if session.state["refused"] == len(session.seeds) or session.state["findings"]:
        print(f"{name}: good files are refused", file=sys.stderr)
    session.prepare()
    if atheris is not None:
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, data in enumerate(session.seeds):
            (corpus / str(number)).write_bytes(data)

        def change(data, most, seed):
            rng = random.Random(seed)
            if rng.random() < (0.02 if session.parser.is_json else 0.5):
                return atheris.Mutate(data, most)
            return session.change(rng, data or session.seeds[0])[:most]

        options = [f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=100000", "-verbosity=0"]
        options += ["-rss_limit_mb=0", "-timeout=300", "-detect_leaks=0", "-print_final_stats=0"]
        os.chdir(folder)
        atheris.Setup([sys.argv[0], *options, str(corpus)], session.run, custom_mutator=change)
        atheris.Fuzz()
    rng = random.Random(seed)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        session.run(session.change(rng, rng.choice(session.seeds)))
    session.save()


def fuzz_csv_numbers(seconds, seed):
    """Run libFuzzer on the parser in csrc/signal/csv_numbers.cpp."""
    absent = {"cases": 0, "refused": 0, "findings": {}}
    if shutil.which("clang++") is None:
        return absent | {"absent": "no clang++"}
    folder = ROOT / "build" / "harden" / "csv_numbers"
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "one").write_bytes(b"\x01\x011.5\n2\r\n\nnan\n-1e-3\n")
    (corpus / "three").write_bytes(b"\x03\x051,x,2\n3,,4e5\n")
    sources = [Path(__file__).with_name("fuzz_csv_numbers.cpp")]
    sources.append(ROOT / "csrc" / "signal" / "csv_numbers.cpp")
    flags = ["-std=c++17", "-O1", "-g", "-fsanitize=fuzzer,address,undefined"]
    flags += ["-fno-sanitize-recover=undefined", f"-I{ROOT / 'csrc'}", "-o", folder / "fuzz"]
    built = subprocess.run(
        ["clang++", *flags, *sources], capture_output=True, text=True, check=False
    )
    if built.returncode != 0:
        return absent | {"absent": "clang++ has no libFuzzer"}
    command = [folder / "fuzz", f"-max_total_time={seconds}", f"-seed={seed + 1}"]
    command += ["-max_len=4096", "-print_final_stats=1", corpus]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    cases = re.search(r"number_of_executed_units: *(\d+)", done.stderr)
    reports = [line for line in done.stderr.splitlines() if line.startswith("SUMMARY")]
    findings = dict.fromkeys(reports or ["ended by abort"], 1) if done.returncode else {}
    return absent | {"cases": int(cases[1]) if cases else 0, "findings": findings}


def fuzz(name, seconds, seed):
    """Return the counts of one parser; a crashed process counts as a finding and is replaced."""
    total, findings = Counter(cases=0, refused=0), Counter()
    began, n_starts = time.monotonic(), 0
    while (left := seconds - (time.monotonic() - began)) > 1 and n_starts < 20:
        with tempfile.TemporaryDirectory(prefix="parsers-") as folder:
            command = [sys.executable, __file__, "--child", folder, "--seconds", str(int(left))]
            command += ["--seed", str(seed + n_starts), name]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=left + 300, check=False
                )
                code, output = done.returncode, done.stderr
            except subprocess.TimeoutExpired:
                code, output = "hung", ""
            n_starts += 1
            state = Path(folder, "state.json")
            counts = json.loads(state.read_text()) if state.exists() else {}
            findings.update(counts.pop("findings", {}))
            total.update(counts)
            if code != 0:
                findings[f"process ended with {code}"] += 1
                FINDINGS.mkdir(parents=True, exist_ok=True)
                died = f"{name.replace(' ', '_')}-died-{seed + n_starts}"
                for path in Path(folder).glob("input.*"):
                    kept = FINDINGS / f"{died}{path.suffix}"
                    kept.write_bytes(path.read_bytes())
                    kept.with_suffix(".txt").write_text(output[-4000:])
            elif output.strip() and "good files are refused" in output:
                findings["good files are refused"] = 1
    return {**total, "findings": findings}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=30, help="for each parser")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path)
    default = [name for name in (*PARSERS, CSV_NUMBERS) if name not in APART]
    parser.add_argument("parsers", nargs="*", default=default, metavar="PARSER")
    options = parser.parse_args()
    if options.child is not None:
        child(options.parsers[0], options.seconds, options.seed, options.child)
        return 0
    parts = {}
    for name in options.parsers:
        fuzz_one = fuzz_csv_numbers if name == CSV_NUMBERS else functools.partial(fuzz, name)
        parts[name] = fuzz_one(options.seconds, options.seed)
        print(f"{name}: {json.dumps(parts[name])}", file=sys.stderr, flush=True)
    n_found = sum(sum(part["findings"].values()) for part in parts.values())
    engine = "mutations" if find_spec("atheris") is None else "atheris"
    trials = sum(part["cases"] for part in parts.values())
    print(json.dumps({"engine": engine, "trials": trials, "failures": n_found, "parts": parts}))
    return int(n_found > 0)


if __name__ == "__main__":
    sys.exit(main())
