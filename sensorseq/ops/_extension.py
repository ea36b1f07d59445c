"""Load the compiled library once, and report the instruction set in use."""

import functools
import json
import os
from pathlib import Path
from typing import Any

import torch

from sensorseq.errors import EnvironmentProblemError, warn_caller

_PACKAGE = Path(__file__).resolve().parents[1]
_process = os.getpid()  # the process that loaded this module; a forked child has a different id


@functools.cache
def load() -> Path:
    """Load the native library once, and return its path."""
    # the file name begins with _ops, but its suffix depends on the build
    libraries = sorted(_PACKAGE.glob("_ops*.so"))
    if not libraries:
        raise EnvironmentProblemError(
            "the compiled core sensorseq._ops is missing. In a source checkout, run `make build`;"
            " otherwise reinstall sensorseq with a C++17 compiler available."
        )
    try:
        torch.ops.load_library(libraries[0])
    except OSError as error:
        raise EnvironmentProblemError(
            f"{libraries[0].name} does not load under torch {torch.__version__}"
            f" (2.11 or later is needed): {error}"
        ) from error
    return libraries[0]


def avoid_dead_threads() -> None:
    """Limit torch to one thread in a forked child.

    Torch's other threads exist only in the parent, and the next parallel region in the child would
    wait for them forever. The operators of this package start new threads in the child.
    """
    if os.getpid() != _process and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        warn_caller(
            "this process was forked, and torch's threads do not survive a fork, so torch computes"
            " on one thread. For several threads, use the start method 'spawn' or 'forkserver'; to"
            " silence this warning, call torch.set_num_threads(1) in the child."
        )


def cpu_isa() -> str:
    """Return the instruction set in use: the fastest one, or the one set by SENSORSEQ_CPU_ISA."""
    load()
    return str(torch.ops.sensorseq.cpu_isa())


def cpu_isas() -> tuple[str, ...]:
    """Return all instruction sets of this build that this processor supports, best first."""
    load()
    return tuple(str(torch.ops.sensorseq.cpu_isas()).split(","))


@functools.cache
def cuda_facts() -> dict[str, Any]:
    """Describe the CUDA support of this build and this machine.

    ``built`` is True if this build has CUDA kernels. In that case, the result also contains
    ``nvcc``, ``arch``, the list ``devices``, and the CUDA versions ``driver`` and ``runtime``.
    """
    load()
    if not hasattr(torch.ops.sensorseq, "cuda_facts"):  # this build is older than the CUDA kernels
        return {"built": False, "devices": []}
    facts: dict[str, Any] = json.loads(torch.ops.sensorseq.cuda_facts())
    return facts
