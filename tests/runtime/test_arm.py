"""In an emulator, the wheel for aarch64 predicts nearly the same as the toolkit."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aarch64 import PYTHON, Aarch64
from checkout import ROOT, run_process
from fits import fused_classifier, plain_classifier, use_members

from sensorseq import PreparePipeline, Recording
from sensorseq.prediction.network import LstmNetwork
from sensorseq.recording import Channel

pytestmark = pytest.mark.slow
SAME = 1e-6
RATES_HZ = {"imu": 50.0, "motor": 6.5}
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
import sensorseq_runtime as runtime
from sensorseq_runtime.prediction.network import LstmNetwork

folder = Path(sys.argv[1])
held = np.load(folder / "drives.npz")
def drive(name):
    names = json.loads(str(held[f"{name} channels"]))
    channels = tuple(map(runtime.Channel, names))
    return runtime.Recording(held[name], held[f"{name} times"], channels, "drive")
found = {}
for path in sorted(folder.glob("*.safetensors")):
    model, name = runtime.load(path), path.stem
    sensors = {"imu", "motor"} if name == "sensors" else {"imu"}
    drives = {sensor: drive(sensor) for sensor in sensors}
    windows = model.cut(drives if len(sensors) > 1 else drives["imu"])
    found[f"{name} timeline"] = model.timeline(windows, smooth="none").probabilities
    stream, decisions = model.stream(), []
    if len(sensors) == 1:
        samples, times = drives["imu"].values, drives["imu"].timestamps_s
        for at in range(0, len(samples), 37):
            decisions += stream.push(samples[at:at + 37], times[at:at + 37])
    else:
        for sensor in sorted(sensors):
            recording = drives[sensor]
            decisions += stream.push(sensor, recording.values, recording.timestamps_s)
    decisions += stream.flush()
    found[f"{name} stream"] = np.array([decision.probabilities for decision in decisions])
    found[f"{name} outside"] = model.outside(windows).ratio
for path in sorted(folder.glob("network_*.npz")):
    arrays = dict(np.load(path))
    architecture = json.loads(str(arrays.pop("architecture")))
    X, lengths = arrays.pop("X"), arrays.pop("lengths")
    found[path.stem] = LstmNetwork(arrays, architecture).outputs(X, lengths)
np.savez(folder / "found.npz", **found)
"""


@pytest.fixture(scope="module")
def robot(built_once):
    (wheel,) = built_once("wheel-aarch64", build_wheel).glob("sensorseq_runtime-*aarch64.whl")
    return Aarch64(ROOT / "build" / "arm", wheel)


def build_wheel(folder):
    builder, here = ROOT / ".venv-wheels" / "bin" / "python", Path(sys.executable)
    if not builder.exists():
        pytest.skip("no environment that builds wheels: make test-arm makes one")
    if shutil.which("aarch64-linux-gnu-g++") is None:
        pytest.skip("no aarch64-linux-gnu-g++")
    command = [builder, ROOT / "scripts" / "build_wheels.py", "--machines", "aarch64", "--runtime"]
    path = f"{here.parent}{os.pathsep}{os.environ['PATH']}"  # for ninja
    built = run_process(*command, "--torch-python", here, "--output", folder, PATH=path)
    assert built.returncode == 0, built.stdout + built.stderr


@pytest.fixture
def toolkit():
    tag = f"cp{PYTHON.replace('.', '')}"
    wheels = sorted((ROOT / "dist").glob(f"sensorseq-*-{tag}-{tag}-*aarch64.whl"))
    if not wheels:
        pytest.skip(f"no wheel of the toolkit for aarch64 and Python {PYTHON}: make wheels")
    return Aarch64(ROOT / "build" / "arm", wheels[-1])


def recorded(name, number, seconds=12.0):
    rng, rate = np.random.default_rng([number, len(name)]), RATES_HZ[name]
    t = np.arange(int(seconds * rate)) / rate
    wave = np.sin(t * (3 + 4 * (number % 2)))[:, None] + 0.3 * rng.normal(size=(len(t), 2))
    channels = tuple(Channel(f"{name}_{i}") for i in range(2))
    return Recording(wave, t, channels, f"r{number}", label=str(number % 2))


def models():
    settings = {"max_epochs": 3, "hidden_size": 8, "random_state": 0, "device": "cpu"}
    both = {name: [recorded(name, i) for i in range(6)] for name in RATES_HZ}
    windows = PreparePipeline(window_s=2, split=None).prepare(both["imu"])
    sensors = PreparePipeline(window_s=2, native_rates=True, split=None).prepare(both)
    kinds = ["rocket", "hydra", "summary", "boosting"]
    alone = plain_classifier(**settings, features=kinds).fit(windows)
    use_members(alone, 0.0)
    return {
        "network": plain_classifier(**settings).fit(windows),
        "default": plain_classifier(**{**settings, "features": "auto", "refit": "auto"}).fit(
            windows
        ),
        "features": alone,
        "sensors": fused_classifier(**settings, features="summary").fit(sensors),
    }


def write_networks(folder):
    """Write networks with sizes near those of the kernels' tiles, and their outputs."""
    rng, expected = np.random.default_rng(0), {}
    for number, (n, t, c, hidden, k) in enumerate(
        [(1, 1, 1, 1, 1), (3, 7, 2, 5, 3), (8, 9, 4, 8, 2), (9, 5, 17, 15, 9), (33, 4, 3, 17, 4)]
    ):
        for dtype in (np.float32, np.float64):
            shapes = {"weight_ih": (4 * hidden, c), "weight_hh": (4 * hidden, hidden)}
            shapes |= {"bias_ih": (4 * hidden,), "bias_hh": (4 * hidden,)}
            arrays = {
                f"lstm.{part}_l0": rng.normal(size=shape).astype(dtype)
                for part, shape in shapes.items()
            }
            arrays["linear.weight"] = rng.normal(size=(k, 2 * hidden)).astype(dtype)
            arrays["linear.bias"] = rng.normal(size=k).astype(dtype)
            architecture = {"hidden_size": hidden, "num_layers": 1, "bidirectional": False}
            architecture |= {"pooling": "meanmax", "head_norm": "none"}
            X = rng.normal(size=(n, t, c)).astype(dtype)
            lengths = rng.integers(1, t + 1, n)
            name = f"network_{number}_{np.dtype(dtype)}"
            case = {"X": X, "lengths": lengths, "architecture": json.dumps(architecture)}
            np.savez(folder / name, **arrays, **case)
            expected[name] = LstmNetwork(arrays, architecture).outputs(X, lengths)
    return expected


def test_models_networks_and_streams_give_the_same_on_arm(robot, tmp_path):
    held, expected = {}, write_networks(tmp_path)
    drives = {name: replace(recorded(name, 9), label=None) for name in RATES_HZ}
    for name, recording in drives.items():
        held |= {name: recording.values, f"{name} times": recording.timestamps_s}
        held[f"{name} channels"] = json.dumps([channel.name for channel in recording.channels])
    np.savez(tmp_path / "drives.npz", **held)
    for name, fitted in models().items():
        fitted.save(tmp_path / f"{name}.safetensors")
        model = fitted.model_
        windows = model.cut(drives if name == "sensors" else drives["imu"])
        timeline = model.timeline(windows, smooth="none").probabilities
        expected[f"{name} timeline"] = expected[f"{name} stream"] = timeline
        expected[f"{name} outside"] = model.outside(windows).ratio
    (tmp_path / "program.py").write_text(PROGRAM)
    robot.run(tmp_path / "program.py", tmp_path)
    found = np.load(tmp_path / "found.npz")
    assert set(found) == set(expected)
    apart = {name: float(np.abs(found[name] - array).max()) for name, array in expected.items()}
    print("largest differences on aarch64:", json.dumps(apart, indent=1))
    for name, array in expected.items():
        scale = max(1.0, float(np.abs(array).max()))
        np.testing.assert_allclose(found[name], array, rtol=0, atol=SAME * scale, err_msg=name)


def test_the_command_classifies_a_log_on_arm(robot, tmp_path):
    fitted = models()["network"]
    fitted.save(tmp_path / "m.safetensors")
    drive = recorded("imu", 9)
    rows = np.column_stack([drive.timestamps_s, drive.values])
    header = "time,imu_0,imu_1"
    np.savetxt(tmp_path / "log.csv", rows, delimiter=",", header=header, comments="", fmt="%.17g")
    command = ["-m", "sensorseq_runtime", "predict", tmp_path / "m.safetensors"]
    printed = robot.run(*command, tmp_path / "log.csv").splitlines()
    expected = fitted.timeline(drive).spans
    assert len(printed) == 1 + len(expected)
    for line, span in zip(printed[1:], expected, strict=True):
        assert f"{span.label}  {100 * span.probability:.1f} %" in line
    assert robot.run("-c", "import platform; print(platform.machine())").strip() == "aarch64"


def test_the_toolkits_preprocessing_loops_agree_with_numpy_on_arm(toolkit):
    program = "from sensorseq.cli.self_check import CHECKS; print(CHECKS['preprocessing']())"
    assert "numbers are read exactly" in toolkit.run("-c", program)
