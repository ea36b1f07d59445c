"""Which windows were in which step: the sampler drawn again, and windows that come with spikes."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sensorseq.fluctuation.probes.arm import Lab
from sensorseq.training.batches import BatchSampler

CHANCE = 0.01  # that any window at all comes with so many spikes without being their cause

Rows = NDArray[np.int64]


def rows_of_steps(lab: Lab) -> list[Rows] | None:
    """Return the training windows of every step of a run, or None where they cannot be known.

    The sampler is drawn from again, from its state before the first step. Sizes and classes of all
    batches must be those that the run noted.
    """
    record, arguments = lab.record, lab.arguments
    if not record.snapshots or record.snapshots[0].epoch or record.class_counts is None:
        return None
    state = record.snapshots[0].state.get("batches")
    if not isinstance(state, dict) or set(state) - {"left", "n_windows"} != {"rng"}:
        return None  # of windows that are streamed from their file
    rng = np.random.default_rng(0)
    if state["rng"].get("bit_generator") != rng.bit_generator.state["bit_generator"]:
        return None
    sampler = BatchSampler(
        lab.train.target,
        arguments.get("batch_size", 32),
        arguments.get("sampler", "shuffle"),
        arguments.get("last_batch", "keep"),
        rng,
        minimum_size=2 if arguments.get("head_norm") == "batch" else 1,
        windows_per_epoch=arguments.get("windows_per_epoch"),
    )
    sampler.load_state_dict(state)
    steps = [rows for _ in range(record.n_epochs) for rows in sampler]
    counts = record.class_counts
    if len(steps) != len(counts):
        return None
    target, n_classes = lab.train.target, counts.shape[1]
    drawn = [np.bincount(target[rows], minlength=n_classes) for rows in steps]
    return steps if np.array_equal(np.array(drawn), counts) else None


def windows_of_spikes(batches: Sequence[Rows], n_windows: int) -> list[tuple[int, int]]:
    """Return windows that are in more of these batches than chance puts any there.

    Parameters
    ----------
    batches : sequence of ndarray of int64
        Windows of the steps in question.
    n_windows : int
        Of the training part.

    Returns
    -------
    list of (int, int)
        Window and in how many of the batches it is, the most frequent first. By the binomial tail,
        times the number of windows, below `CHANCE`.
    """
    if len(batches) < 2:
        return []
    counts = np.bincount(np.concatenate([np.unique(rows) for rows in batches]), minlength=n_windows)
    share = float(np.mean([len(np.unique(rows)) for rows in batches])) / n_windows
    least = next(
        (
            c
            for c in range(2, len(batches) + 1)
            if n_windows * _tail(c, len(batches), share) < CHANCE
        ),
        None,
    )
    if least is None:
        return []
    found = np.flatnonzero(counts >= least)
    return sorted(((int(i), int(counts[i])) for i in found), key=lambda pair: (-pair[1], pair[0]))


def _tail(count: int, n: int, p: float) -> float:
    """Return the probability of so many or more of n, each with probability p."""
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(count, n + 1))
