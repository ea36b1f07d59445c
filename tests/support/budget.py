"""The error budget of every kernel."""

import math

import torch


def relative_error(ours, exact):
    """Return the Euclidean distance from `exact` relative to the norm of `exact`."""
    if exact.numel() == 0:
        return 0.0
    norm = exact.detach().norm().item()
    distance = (ours.detach().double() - exact.detach()).norm().item()
    return distance if norm == 0.0 else distance / norm


def assert_within_budget(pairs, dtype=torch.float32, what="the result"):
    """Assert that our error against float64 is at most twice torch's in the same precision.

    `pairs` are (ours, torch's, reference in float64) for several seeds of one problem. The errors
    are computed over complete arrays, not for the worst elements, because gradients through time
    have heavy tails. Over six seeds, our error divided by torch's varied from 0.6 to 4.7 for the
    worst elements, but was 1.0 for the arrays. A quarter of a unit in the last place is added,
    because torch may be exact by chance.
    """
    ours, theirs = (
        math.sqrt(sum(relative_error(pair[side], pair[2]) ** 2 for pair in pairs) / len(pairs))
        for side in (0, 1)
    )
    allowed = 2 * theirs + torch.finfo(dtype).eps / 4
    assert ours <= allowed, f"{what}: {ours:.3g} against {theirs:.3g} of torch"
