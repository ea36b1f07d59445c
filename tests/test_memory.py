"""What cannot fit into memory is refused by our own arithmetic, and nothing that fits."""

import json
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from fits import plain_classifier

from sensorseq import ChannelScaler, SensorLSTMRegressor, checks, find_label_errors
from sensorseq.datasets import write_simulated
from sensorseq.errors import ArgumentError, InputError
from sensorseq.evaluation import score_predictions
from sensorseq.features import RandomConvolutions
from sensorseq.nn import LSTMLinear
from sensorseq.preprocessing import Augmentation, Augmenter
from sensorseq.preprocessing.pipeline import PreparePipeline
from sensorseq.preprocessing.resample.signal import StreamResampler, resample
from sensorseq.preprocessing.windows.cut import window_recordings
from sensorseq.recording import Recording
from sensorseq.simulate import simulate_recording
from sensorseq.training.sizes import _available_on

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 4, 2)).astype(np.float32), np.arange(8) % 2
THERE = 20_000_000


def recording(n=1000):
    return Recording.evenly_sampled(RNG.normal(size=(n, 1)), 50.0, ("a",), "r", label="ice")


def pipeline(**options):
    return PreparePipeline(window_s=1.0, split=None, **options)


def fit(X=X, y=Y, **arguments):
    clf = plain_classifier(validation_fraction=0.0, early_stopping=False, **arguments)
    return clf.fit(X, y)


def long(n_windows, n_timesteps, n_channels=1):
    return RNG.normal(size=(n_windows, n_timesteps, n_channels)).astype(np.float32)


def view(*shape):
    return np.broadcast_to(np.float32(0), shape)


SIZES = [
    (
        lambda: fit(hidden_size=2000),
        "^a training with hidden_size=2000, .* needs 256.5 MB .* for weights and .*, 20.0 MB are"
        " available: choose a smaller hidden_size, num_layers or n_models.$",
    ),
    (lambda: SensorLSTMRegressor(hidden_size=2000).fit(X, Y / 1.0), "=2000, .*num_layers"),
    (lambda: fit(n_models=10**9), "n_models=1000000000 .* or n_models"),
    (lambda: fit(num_layers=10**9), "num_layers=1000000000, .* a smaller"),
    (lambda: fit(long(2, 100_000), [0, 1], patch=None), "batch_size, .*max_timesteps"),
    (lambda: LSTMLinear(3, 8, 2).stream(10**12), "n_windows=1000000000000 .* for states"),
    (lambda: RandomConvolutions(10**12).fit(X), "n_features=10{12} needs 16.0 TB"),
    (lambda: RandomConvolutions(10**6).fit(X).transform(X), "=999936 needs 32.0 MB"),
    (lambda: resample(X[0], 50.0, 5e7), "target_rate_hz=5e.07 .* target_rate_hz"),
    (lambda: StreamResampler(50.0, 5e7, 2).push(X[0]), "=5e.07 .* target_rate_hz"),
    (lambda: StreamResampler(50.0, 1e12, 2), "target_rate_hz=1e.12 is 2e.10 times"),
    (lambda: pipeline(sample_rate_hz=4500).prepare([recording(10**5)]), "'r': .*=4500.*max_gap_s"),
    (lambda: window_recordings([recording(10_000)], 100.0, 0.02), "hop_s=0.02 .* 5,001 windows"),
    (lambda: window_recordings([recording()], 1e30, short="pad"), r"=1e\+30 .* 1 window"),
    (lambda: simulate_recording("ice", duration_s=1e12), r"duration_s=1e\+12 .*24.0 PB"),
    (lambda: write_simulated("never", n_robots=10**9), "12,000,000,000 .* fewer"),
    (lambda: fit(view(8, 10**9, 2)), r"X of shape \(8, 1000000000, 2\) .* shorter"),
    (lambda: fit(max_epochs=1).predict(view(10**9, 4, 2)), "X of shape .* fewer"),
    (lambda: RandomConvolutions(84).fit(view(30, 9, 10**9)), "X .* fewer channels"),
    (lambda: ChannelScaler().fit(view(10**9, 9, 3)), "X of shape .* a dense copy"),
    (lambda: resample(view(10**9, 3), 50.0, 20.0), "signal of shape .* a dense copy"),
    (lambda: fit([view(10**7, 2), *[np.ones((3, 2), "f4")] * 2], [0, 1, 0]), r"X\[0\]"),
    (lambda: LSTMLinear(2, 2, 2, 2**31, device="meta"), "num_layers=.* to 1000"),
    (lambda: find_label_errors(plain_classifier(), X, Y, n_seeds=2**31), "n_seeds=.* to 1000"),
    (lambda: score_predictions(Y, np.full((8, 2), 0.5), [0, 1], n_resamples=10**9), "64.0 GB"),
    (lambda: Augmenter(n_copies=10**9).fit_resample(X, Y), "n_copies=1000000000 needs 64.0 GB"),
    (lambda: SensorLSTMRegressor().fit(X, np.broadcast_to(0.0, (8, 10**8))), "y of shape"),
    (lambda: Augmentation(time_warp=0.1, n_knots=2**31), "n_knots=.* from 1 to 1000"),
]


@pytest.mark.parametrize(("work", "message"), SIZES)
def test_what_cannot_fit_is_refused_with_bytes_and_the_way_out(work, message, monkeypatch):
    monkeypatch.setattr(checks, "available_bytes", lambda: THERE)
    with pytest.raises(InputError, match=message):
        work()


def test_a_network_larger_than_any_machine_is_refused_here():
    with pytest.raises(ArgumentError, match=r"hidden_size=1000000000, .* needs 64\.0 EB"):
        plain_classifier(hidden_size=10**9).fit(X, Y)


def test_nothing_is_refused_where_memory_is_unknown(monkeypatch):
    monkeypatch.setattr(checks, "available_bytes", lambda: None)
    checks.check_memory("this", {"all": 10**30}, "less")


TRAINING = """
import json, sys
import numpy as np
from pathlib import Path
from sensorseq import SensorLSTMClassifier
from sensorseq.training import sizes

arguments, shape = json.loads(sys.argv[1])
claimed = []
sizes.check_memory = lambda subject, parts, way_out, **_: claimed.append(sum(parts.values()))

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

def fit(shape, **arguments):
    X = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    plain = {"features": None, "refit": None, "max_epochs": 1, "early_stopping": False,
             "validation_fraction": 0.0, "random_state": 0}
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak()
    SensorLSTMClassifier(**plain | {"patch": None} | arguments).fit(X, np.arange(len(X)) % 2)
    return peak() - before

fit((4, 2, 1), hidden_size=2, engine=arguments["engine"])
taken = fit(shape, **arguments)
print(json.dumps([max(claimed), taken]))
"""


@pytest.mark.long
@pytest.mark.parametrize("engine", ["native", "autograd"])
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"hidden_size": 1000, "weight_init": "uniform", "recurrent_init": "uniform"}, (8, 2, 2)),
        ({"hidden_size": 16, "batch_size": 64, "bidirectional": True}, (64, 2000, 2)),
        ({"hidden_size": 16, "num_layers": 2, "optimizer": "sgd"}, (32, 2000, 2)),
    ],
    ids=["weights", "steps", "layers"],
)
def test_a_training_takes_at_least_what_is_claimed(engine, arguments, shape):
    given = json.dumps([arguments | {"engine": engine}, shape])
    command = [sys.executable, "-c", TRAINING, given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    claimed, taken = json.loads(done.stdout)
    assert 0.1 * taken < claimed <= taken


def test_a_limit_of_the_address_space_is_seen():
    code = (
        "import resource; from sensorseq.checks import available_bytes;"
        f"resource.setrlimit(resource.RLIMIT_AS, ({2 << 30}, {2 << 30})); print(available_bytes())"
    )
    said = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout
    assert 0 < int(said) < 2 << 30
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


V2 = {
    "proc/cgroup": "0::/jobs/one\n",
    "fs/memory.stat": "inactive_file 5\n",  # the root has no limit
    "fs/jobs/memory.max": "1000\n",
    "fs/jobs/memory.current": "700\n",
    "fs/jobs/memory.stat": "anon 9\ninactive_file 40\nactive_file 2\n",
    "fs/jobs/one/memory.max": "max\n",
    "fs/jobs/one/memory.current": "600\n",
}
V1 = {
    "proc/cgroup": "5:cpu,memory:/of/the/host\n1:name=systemd:/\n",
    "fs/memory/memory.limit_in_bytes": "1000\n",
    "fs/memory/memory.usage_in_bytes": "700\n",
    "fs/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 40\ntotal_active_file 2\n",
}


@pytest.mark.parametrize("files", [V2, V1], ids=["v2", "v1"])
def test_what_a_container_leaves_is_its_limit_less_what_is_used_but_for_files(files, tmp_path):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert list(checks._left_in_groups(tmp_path / "proc", tmp_path / "fs")) == [342]


def test_what_torch_has_reserved_on_a_gpu_and_does_not_use_is_available(monkeypatch):
    facts = {"mem_get_info": (100, 1000), "memory_reserved": 70, "memory_allocated": 20}
    for name, value in facts.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    assert _available_on(torch.device("cuda"))() == 150


@pytest.mark.parametrize(("size", "shown"), [(999, "999.0 bytes"), (74.5e12, "74.5 TB")])
def test_sizes_are_shown_in_the_largest_unit(size, shown):
    assert checks._human(int(size)) == shown
