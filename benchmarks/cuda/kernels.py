"""What only the benchmarks measure of a GPU: a step by its kernels alone.

The profiler sees each kernel; see `sensorseq.bench.cuda` for the rest of the protocol.
"""

import collections
import functools

import numpy as np
from torch.profiler import ProfilerActivity, profile

from sensorseq.bench import cuda as benchmark_cuda
from sensorseq.bench.timing import repeated, synchronize
from sensorseq.errors import EnvironmentProblemError

MODES = (*benchmark_cuda.MODES, "kernels")
_PROFILED_STEPS = 5


def busy_time(call, device):
    """Return the device's busy time in one call, and each kernel's share, longest first.

    Time in which several kernels run counts once.
    """
    on_gpu = device.type == "cuda"
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    synchronize(device)
    with profile(activities=[activity]) as profiler:
        repeated(call, device)(_PROFILED_STEPS)
    wanted = device.type.upper()
    spans = sorted(
        (event.time_range.start, event.time_range.end, event.name)
        for event in profiler.events() or ()
        if event.device_type.name == wanted
    )
    if not spans:
        raise EnvironmentProblemError("the profiler recorded no kernel; CUPTI may be missing.")
    busy, reached = 0.0, float("-inf")
    by_name = collections.defaultdict(float)
    for start, end, name in spans:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
        by_name[name] += end - start
    total = sum(by_name.values()) or 1.0
    by_time = sorted(by_name, key=lambda name: -by_name[name])
    shares = {name: by_name[name] / total for name in by_time}
    return 1e-6 * busy / _PROFILED_STEPS, shares


def main_kernels(shares):
    """Return the kernels with a share above 1 %, in their order."""
    return [name for name, share in shares.items() if share > 0.01]


def alternate_busy(theirs, ours, device, rounds):
    """Time the kernels of both sides alternately, in at most five rounds; name the main ones."""
    rounds = min(rounds, 5)
    times = np.empty((2, rounds))
    names = {}
    for call in (theirs, ours):
        repeated(call, device)(3)
    for i in range(rounds):
        sides = [(0, "theirs", theirs), (1, "ours", ours)]
        for side, name, call in sides if i % 2 == 0 else reversed(sides):
            times[side, i], shares = busy_time(call, device)
            names[f"{name}_kernels"] = main_kernels(shares)
    return times, names


measure = functools.partial(benchmark_cuda.measure, alternate_kernels=alternate_busy)
