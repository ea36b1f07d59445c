"""The error budget every float32 kernel is held to."""

import torch


def max_error(ours, reference_float64):
    if ours.numel() == 0:
        return 0.0
    return (ours.detach().double() - reference_float64.detach()).abs().max().item()


def assert_within_budget(pairs):
    """Our float32 error is at most twice torch's own, both measured against float64.

    `pairs` holds (ours, torch_float32, reference_float64) for several seeds of one problem: the
    largest error of a single small array is too much a matter of luck to compare.
    """
    ours, theirs, rounding = 0.0, 0.0, 0.0
    for our, their, exact in pairs:
        ours = max(ours, max_error(our, exact))
        theirs = max(theirs, max_error(their, exact))
        largest = exact.detach().abs().max().item() if exact.numel() else 0.0
        rounding = max(rounding, torch.finfo(torch.float32).eps * largest)
    assert ours <= 2 * theirs + rounding, f"{ours:.3g} against {theirs:.3g} of torch"
