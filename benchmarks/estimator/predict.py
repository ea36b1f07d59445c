"""Compares `predict_proba` for one window with the kernel call alone, for bench_estimator.py.

The window has 100 timesteps and one channel; the model has six classes, H = 64 and pooling
"meanmax". Both sides run on one thread. The other side is the native operator alone, with scaled
input and with weights in the operator's layout. Our side is the public method with its checks,
scaling and softmax. `overhead_us` is the method's additional time (the median of paired
differences); `ratio` is the operator's time divided by the method's time.
"""

from typing import Any

import numpy as np
import torch
from common.timing import alternate, summarize
from estimator.plain import PLAIN

from sensorseq import SensorLSTMClassifier

SHAPE, N_CLASSES, HIDDEN_SIZE = (98, 100, 1), 6, 64


def rows(rounds: int) -> list[dict[str, Any]]:
    """Return a single row."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal(SHAPE).astype(np.float32)
    clf = SensorLSTMClassifier(hidden_size=HIDDEN_SIZE, max_epochs=1, **PLAIN)
    clf.fit(X, np.arange(SHAPE[0]) % N_CLASSES)
    window = X[:1]
    module = clf.module_
    scaled = clf.model_.input.read(window).scaled(clf.scaler_, "float32")
    head = module.linear.weight[None], module.linear.bias[None]
    weights = [tensor.detach().contiguous() for tensor in (*module.lstm.layer(0, 1), *head)]
    arguments = (torch.from_numpy(scaled)[None], None, *weights, None, None, None)

    def kernel(n: int) -> torch.Tensor:
        with torch.inference_mode():
            for _ in range(n):
                logits = torch.ops.sensorseq.lstm_linear(*arguments, "meanmax", False)[0][0]
        return logits

    def method(n: int) -> np.ndarray:
        for _ in range(n):
            probability = clf.predict_proba(window)
        return probability

    wanted = torch.softmax(kernel(1).double(), dim=1).numpy()
    np.testing.assert_allclose(method(1), wanted, rtol=1e-12)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        theirs, ours = alternate(kernel, method, rounds=10 * rounds, at_least_s=2e-3)
    finally:
        torch.set_num_threads(threads)
    overhead = 1e6 * np.quantile(ours - theirs, [0.1, 0.5, 0.9])
    return [
        {
            "what": "predict_proba of one window",
            "against": "the operator alone",
            "shape": [1, *SHAPE[1:], HIDDEN_SIZE],
            "overhead_us": float(overhead[1]),
            "overhead_us_p10": float(overhead[0]),
            "overhead_us_p90": float(overhead[2]),
            **summarize(theirs, ours),
        }
    ]
