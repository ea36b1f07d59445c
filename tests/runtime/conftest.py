import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def runtime(tmp_path_factory):
    """The package `sensorseq_runtime` as the wheel has it."""
    folder = tmp_path_factory.mktemp("runtime")
    spec = importlib.util.spec_from_file_location("room", ROOT / "runtime" / "room.py")
    room = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(room)
    room.copy(folder)
    (library,) = (ROOT / "sensorseq").glob("_core*.so")
    shutil.copy(library, folder / "sensorseq_runtime" / "_core.so")
    sys.path.insert(0, str(folder))
    import sensorseq_runtime

    yield sensorseq_runtime
    sys.path.remove(str(folder))
