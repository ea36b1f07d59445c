"""Times a live stream of six channels at 1 kHz with 50 decisions a second, for bench_estimator.py.

One second of signal is pushed on one thread, in chunks of 20 samples, into the stream of a model
that classifies windows of 1 s at 100 Hz. The other side calls `predict_proba` once for each of the
same 50 windows. The other side neither resamples nor keeps a buffer, so its time is a lower bound
for a hand-written loop. `load_percent` is our CPU time for one second of signal.
"""

import time
from typing import Any

import numpy as np
import torch
from common.timing import alternate, summarize

from sensorseq import PreparePipeline, Recording, SensorLSTMClassifier

RATE_HZ, MODEL_HZ, N_CHANNELS, HOP_S, CHUNK = 1000.0, 100.0, 6, 0.02, 20


def rows(rounds: int) -> list[dict[str, Any]]:
    """Return a row for the network alone and one for the defaults with features."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_row(features, rounds) for features in (None, "auto")]
    finally:
        torch.set_num_threads(threads)


def _row(features: Any, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    names = [f"channel {i}" for i in range(N_CHANNELS)]
    t = np.arange(20_000) / RATE_HZ
    signals = [
        np.sin(t * (20 + 20 * (i % 2)))[:, None] + rng.normal(size=(len(t), N_CHANNELS))
        for i in range(12)
    ]
    recordings = [
        Recording.evenly_sampled(x, RATE_HZ, names, f"r{i}", label=("a", "b")[i % 2])
        for i, x in enumerate(signals)
    ]
    pipeline = PreparePipeline(window_s=1.0, hop_s=0.5, sample_rate_hz=MODEL_HZ)
    extra = {} if features is not None else {"features": None, "refit": None}
    model = SensorLSTMClassifier(max_epochs=5, device="cpu", random_state=0, **extra)
    model.fit(pipeline.prepare(recordings))
    model.preparation_["configuration"]["window"]["hop_s"] = HOP_S
    stream = model.stream(RATE_HZ)
    chunks = np.split(signals[0][: int(RATE_HZ)], int(RATE_HZ) // CHUNK)
    for _ in range(3):  # so that the first window is complete and the filters are filled
        for chunk in chunks:
            stream.push(chunk)
    window = rng.normal(size=(1, int(MODEL_HZ), N_CHANNELS)).astype(np.float32)

    def alone(n: int) -> int:
        return sum(len(model.predict_proba(window)) for _ in range(50 * n))

    def ours(n: int) -> int:
        return sum(len(stream.push(chunk)) for _ in range(n) for chunk in chunks)

    assert alone(1) == ours(1) == 50
    began = time.process_time()
    ours(5)
    load = 100 * (time.process_time() - began) / 5
    theirs, ours_s = alternate(alone, ours, rounds=rounds, at_least_s=0.05)
    what = f"50 decisions, {'LSTM alone' if features is None else 'defaults, features'}"
    shape = [int(RATE_HZ), N_CHANNELS, CHUNK]
    return {
        "what": what,
        "against": "predict_proba of 50 windows",
        "shape": shape,
        **summarize(theirs, ours_s),
        "load_percent": round(load, 1),
    }
