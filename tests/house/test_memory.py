"""A failed allocation causes a one-sentence error with advice; impossible sizes are refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from fits import plain_classifier

from sensorseq import find_label_errors
from sensorseq.base import checks
from sensorseq.cli.program import run
from sensorseq.errors import EnvironmentProblemError, InputError, within_memory
from sensorseq.nn import LSTMLinear
from sensorseq.preprocessing import Augmentation
from sensorseq.preprocessing.resample import StreamResampler
from sensorseq.preprocessing.windowing.cut import window_recordings
from sensorseq.recording import Recording

X, Y = np.random.default_rng(0).normal(size=(8, 4, 2)).astype(np.float32), np.arange(8) % 2

LIMITED = """
import json, resource, sys
from pathlib import Path
import numpy as np
from sensorseq import SensorLSTMClassifier
from sensorseq.preprocessing.pipeline import PreparePipeline
from sensorseq.recording import Recording

X, y = np.random.default_rng(0).normal(size=(8, 4, 2)).astype(np.float32), np.arange(8) % 2
plain = {"features": None, "refit": None, "max_epochs": 1, "early_stopping": False,
         "validation_fraction": 0.0, "random_state": 0}
small = SensorLSTMClassifier(**plain).fit(X, y)
long = Recording.evenly_sampled(np.zeros((10**6, 2)), 50.0, ("a", "b"), "r", label="ice")
work = {
    "fit": lambda: SensorLSTMClassifier(**plain, hidden_size=50_000).fit(X, y),
    "predict": lambda: small.predict(np.broadcast_to(np.float32(0), (10**9, 4, 2))),
    "windows": lambda: PreparePipeline(window_s=1000, hop_s=0.02, split=None).prepare([long]),
    "rate": lambda: PreparePipeline(window_s=1, sample_rate_hz=4e3, split=None).prepare([long]),
}
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)
said = {}
for name, run in work.items():
    try:
        run()
    except MemoryError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


@pytest.mark.long
def test_a_failed_allocation_is_reported_in_one_sentence_with_a_way_out():
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    assert said["fit"].startswith("there is no memory for another 37.25 GiB: use a smaller hidden_")
    assert said["predict"].endswith(" GiB: give fewer windows at a time.")
    assert said["windows"].endswith(" GiB: use a shorter window_s or a longer hop_s.")
    assert said["rate"].endswith(": use a lower sample_rate_hz or a shorter max_gap_s.")


TORCH = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: "


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "for more"),
        (MemoryError("Unable to allocate 7.28 TiB for an array"), "for another 7.28 TiB"),
        (MemoryError("Unable to allocate 354. GiB for an array"), "for another 354 GiB"),
        (
            RuntimeError(f"{TORCH}can't allocate memory: you tried to allocate 4000000000 bytes."),
            "for another 3.73 GiB",
        ),
        (
            RuntimeError(f"{TORCH}not enough memory: you tried to allocate 4000000000 bytes."),
            "for another 3.73 GiB",
        ),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"),
            "on the GPU for another 2.00 GiB",
        ),
        (OSError(12, os.strerror(12)), "for more"),
    ],
)
def test_the_errors_of_every_allocator_are_recognized(error, sentence):
    with pytest.raises(MemoryError) as caught, within_memory("outer"), within_memory("wait"):
        raise error
    assert str(caught.value) == f"there is no memory {sentence}: wait."
    assert isinstance(caught.value, EnvironmentProblemError)


def test_other_errors_are_left_as_they_are():
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as caught, within_memory("wait"):
        raise error
    assert caught.value is error


def test_a_command_without_memory_ends_with_a_message(monkeypatch, capsys, tmp_path):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("sensorseq.evaluation.inspect.find_recordings", fail)
    assert run(["inspect", str(tmp_path)]) == 4
    assert "there is no memory for more: use less data, or" in capsys.readouterr().err


def pad(window_s):
    one = Recording.evenly_sampled(np.ones((9, 1)), 50.0, ("a",), "r", label="ice")
    return window_recordings([one], window_s, short="pad")


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: plain_classifier(hidden_size=10**9).fit(X, Y), "hidden_size=.* to 1048576"),
        (lambda: plain_classifier(num_layers=10**9).fit(X, Y), "num_layers=.* to 1000"),
        (lambda: plain_classifier(n_models=10**9).fit(X, Y), "n_models=.* to 1000"),
        (lambda: LSTMLinear(2, 2, 2, 2**31, device="meta"), "num_layers=.* to 1000"),
        (lambda: find_label_errors(plain_classifier(), X, Y, n_seeds=2**31), "n_seeds=.* to 1000"),
        (lambda: Augmentation(time_warp=0.1, n_knots=2**31), "n_knots=.* from 1 to 1000"),
        (lambda: StreamResampler(50.0, 1e12, 2), "target_rate_hz=1e.12 is 2e.10 times"),
        (lambda: pad(1e30), r"window_s=1e\+30 is 5e\+31 samples at 50 Hz; is it in seconds"),
    ],
)
def test_impossible_sizes_are_refused(work, message):
    with pytest.raises(InputError, match=message):
        work()


@pytest.mark.parametrize(("size", "shown"), [(999, "999.0 bytes"), (74.5e12, "74.5 TB")])
def test_sizes_are_shown_in_the_largest_unit(size, shown):
    assert checks._human(int(size)) == shown
