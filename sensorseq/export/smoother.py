"""Smoothing over time as an ONNX graph of one step; the program passes the state along."""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from sensorseq.export.graph import Graph
from sensorseq.io.atomic import write_whole
from sensorseq.sequence.smoothing import LOWEST, FixedLag


def write_smoother(
    path: str | os.PathLike[str], smoother: FixedLag, classes: Sequence[Any], hop_s: float
) -> None:
    """Write the graph of one step; see `SensorLSTMClassifier.smoother_to_onnx`.

    The first row of the state is the prior of the next window; then come the likelihoods of the
    last `lag` windows, and their priors, oldest first.
    """
    g, k, lag = Graph(), len(classes), smoother.lag
    given = g.cast(g.add_input("probabilities", np.float32, [1, k]), np.float64)
    state = g.add_input("state", np.float64, [1 + 2 * lag, k])
    step, lowest = smoother.step, np.float64(LOWEST)

    def rows(first: int, stop: int) -> str:
        return g("Slice", state, [first], [stop], [0])

    def sum_to_1(values: str) -> str:
        total = g("ReduceSum", values, [1], keepdims=1)
        return g("Div", values, g("Max", total, np.float64(np.finfo(np.float64).tiny)))

    def power(values: str, exponent: float) -> str:
        return sum_to_1(g("Pow", g("Max", values, lowest), np.float64(exponent)))

    e = power(g("Div", given, smoother.shares[None]), smoother.weight)
    is_first = g("Equal", g("ReduceSum", rows(0, 1), [1], keepdims=1), np.float64(0))
    ahead = g("Where", is_first, smoother.start[None], rows(0, 1))
    known = sum_to_1(g("Mul", ahead, e))
    likelihoods = g("Concat", rows(1, 1 + lag), e, axis=0) if lag else e
    knowns = g("Concat", rows(1 + lag, 1 + 2 * lag), known, axis=0) if lag else known
    later = g.constant(np.ones((1, k)))
    for at in range(lag, 0, -1):
        seen = g("Mul", g("Slice", likelihoods, [at], [at + 1], [0]), later)
        later = sum_to_1(g("MatMul", seen, np.ascontiguousarray(step.T)))
    oldest = g("Slice", knowns, [0], [1], [0])
    smoothed = power(sum_to_1(g("Mul", oldest, later)), smoother.exponent)
    is_due = g("Greater", g("ReduceSum", oldest, [1], keepdims=0), np.float64(0))
    left = [g("Slice", values, [1], [1 + lag], [0]) for values in (likelihoods, knowns)]
    after = g("Concat", g("MatMul", known, step), *(left if lag else ()), axis=0)
    g.add_output(g.cast(smoothed, np.float32), "smoothed", np.float32, [1, k])
    g.add_output(is_due, "is_due", np.bool_, [1])
    g.add_output(after, "next_state", np.float64, [1 + 2 * lag, k])
    facts = {
        "classes": list(classes),
        "lag": lag,
        "hop_s": hop_s,
        "says_nothing": smoother.shares.tolist(),
    }
    metadata = {name: json.dumps(value) for name, value in facts.items()}
    write_whole(path, g.model("sensorseq_smoother", metadata, "").SerializeToString())
