import shutil
import sys

import pytest
from checkout import ROOT, script


@pytest.fixture(scope="session")
def runtime(tmp_path_factory):
    """The package `sensorseq_runtime` as the wheel has it."""
    folder = tmp_path_factory.mktemp("runtime")
    script(ROOT / "runtime" / "room.py").copy(folder)
    (library,) = (ROOT / "sensorseq").glob("_core*.so")
    shutil.copy(library, folder / "sensorseq_runtime" / "_core.so")
    sys.path.insert(0, str(folder))
    import sensorseq_runtime

    yield sensorseq_runtime
    sys.path.remove(str(folder))
