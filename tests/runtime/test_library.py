"""If the library does not load, the command prints one sentence instead of a traceback."""

import subprocess
import sys

import numpy as np
from checkout import ROOT, script
from fits import plain_classifier


def test_the_command_names_a_library_that_does_not_load(tmp_path):
    script(ROOT / "runtime" / "room.py").copy(tmp_path)
    (tmp_path / "sensorseq_runtime" / "_core.so").write_bytes(b"no library")
    y = np.arange(12) % 2
    X = np.random.default_rng(0).normal(size=(12, 8, 1)) + y[:, None, None]
    fitted = plain_classifier(hidden_size=2, max_epochs=1, random_state=0, features=None).fit(X, y)
    fitted.save(tmp_path / "m.safetensors")
    command = [sys.executable, "-m", "sensorseq_runtime", "stream", tmp_path / "m.safetensors"]
    done = subprocess.run(
        command, cwd=tmp_path, input="", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: _core.so cannot be loaded")
    assert done.stderr.count("\n") == 1
