"""The runtime's wheel works in a new root without a compiler, torch, scipy or scikit-learn."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fits import plain_classifier

from sensorseq import PreparePipeline, Recording, __version__
from sensorseq.recording import Channel

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")  # libraries that Python itself loads
pytestmark = pytest.mark.long


def oldest_python():
    """Return the oldest Python on PATH and in pyenv that is at least 3.9."""
    folders = os.environ["PATH"].split(os.pathsep)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders += map(str, pyenv.glob("versions/*/bin"))
    for minor in (9, 10):
        for python in (shutil.which(f"python3.{minor}", path=folder) for folder in folders):
            probe = [python, "-c", "import venv, ensurepip"]
            if python and not subprocess.run(probe, capture_output=True, check=False).returncode:
                return python
    return sys.executable


def run(*command, **options):
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    env = {**os.environ, "SENSORSEQ_BUILD": "runtime"}
    build = ("setup.py", "-q", "bdist_wheel", "--dist-dir", folder)
    run(sys.executable, *build, "--bdist-dir", folder / "work", env=env, cwd=ROOT)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def clean(tmp_path_factory, wheel):
    """Return a root folder, and a function that runs programs of a virtual environment in it."""
    root = tmp_path_factory.mktemp("root")
    python = Path(run(oldest_python(), "-c", "import sys; print(sys.base_prefix)").strip())
    run(oldest_python(), "-m", "venv", root / "env")
    pip = (root / "env/bin/pip", "--quiet", "--disable-pip-version-check", "install")
    tried = subprocess.run([*pip, wheel], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"numpy cannot be installed here: {tried.stderr.strip()[-200:]}")
    (root / "data").mkdir()
    system = [folder for folder in SYSTEM if Path(folder).exists()]
    mounts = [(folder, f"{root}{folder}") for folder in (*system, python)]
    mounts.append((root / "env", f"{root}{root}/env"))
    script = "".join(
        f"mkdir -p {target} && mount --bind -o ro {source} {target} && "
        for source, target in mounts
    )
    script += f'exec chroot {root} "$@"'

    def call(program, *arguments, **options):
        inner = [root / "env/bin" / program, *arguments]
        words = ["unshare", "--mount", "sh", "-c", script, "sh", *map(str, inner)]
        env = {"PATH": "/nowhere", "HOME": "/data", "OPENBLAS_NUM_THREADS": "1"}
        env |= {"PATH": os.environ["PATH"]}
        return subprocess.run(
            words, capture_output=True, text=True, check=False, cwd="/", env=env, **options
        )

    probe = call("python", "-c", "import os; print(os.listdir('/'))")
    if probe.returncode:
        pytest.skip(f"a root cannot be made here: {probe.stderr.strip()[-200:]}")
    return root, call


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    recordings = []
    for i in range(8):
        t = np.arange(400) / 20.0
        x = np.sin(t * (2 + 4 * (i % 2)))[:, None] + 0.3 * rng.normal(size=(400, 2))
        channels = (Channel("cur"), Channel("vel"))
        recordings.append(Recording(x, t, channels, f"r{i}", f"r{i}", ["calm", "rough"][i % 2]))
    low = {"kind": "band_pass", "high_hz": 6.0, "order": 2, "phase": "causal"}
    steps = [low, {"kind": "moving", "statistic": "rms", "window_s": 0.3, "phase": "causal"}]
    pipeline = PreparePipeline(window_s=1.0, hop_s=0.5, split=None, steps=steps)
    fitted = plain_classifier(
        hidden_size=4, max_epochs=2, random_state=0, features=["summary", "rocket", "boosting"]
    )
    return fitted.fit(pipeline.prepare(recordings[:-1])), recordings[-1]


def test_the_wheel_is_small_and_works_with_every_python(wheel):
    assert wheel.name.startswith("sensorseq_runtime-")
    assert "-py3-none-" in wheel.name
    assert wheel.stat().st_size < 5e6


def test_a_stream_in_a_clean_root_decides_as_the_toolkit(clean, model):
    root, call = clean
    fitted, recording = model
    fitted.save(root / "data/model.safetensors")
    table = np.column_stack([recording.timestamps_s, recording.values])
    lines = ["time,cur,vel", *(",".join(map(repr, row)) for row in table.tolist())]
    text = "\n".join(lines) + "\n"
    done = call("sensorseq-run", "stream", "/data/model.safetensors", input=text)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    stream = fitted.stream()
    decided = [*stream.push(recording.values, recording.timestamps_s), *stream.flush()]
    assert len(found) == len(decided) > 10
    for line, expected in zip(found, decided, strict=True):
        assert list(line["probabilities"].values()) == list(expected.probabilities)
        assert (line["label"], line["end_s"]) == (expected.label, expected.end_s)
    loaded = call("python", "-c", LOADED)
    assert loaded.stdout.split() == ["False", "[]"], loaded.stderr
    assert call("sensorseq-run", "-V").stdout == f"sensorseq-runtime {__version__}\n"


LOADED = """
import shutil, sys, sensorseq_runtime
sensorseq_runtime.load("/data/model.safetensors")
heavy = {"torch", "scipy", "sklearn", "pandas"} & set(sys.modules)
print(any(map(shutil.which, ("gcc", "g++", "cc", "clang"))), sorted(heavy))
"""


def test_mistakes_give_one_sentence(clean, model):
    root, call = clean
    model[0].save(root / "data/model.safetensors")
    (root / "data/log.csv").write_text("time,cur\n0,1\n")
    for arguments, words in (
        (["predict", "/data/none.safetensors", "/data/log.csv"], "none.safetensors"),
        (["predict", "/data/log.csv", "/data/log.csv"], "log.csv"),
        (["predict", "/data/model.safetensors", "/data/none.csv"], "none.csv"),
        (["predict", "/data/model.safetensors", "/data/log.csv"], "'vel'"),
    ):
        done = call("sensorseq-run", *arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") <= 2
        assert "Traceback" not in done.stderr
