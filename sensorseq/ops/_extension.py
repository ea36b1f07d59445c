"""Load the compiled library once and report the instruction set in use."""

import functools
import json
from pathlib import Path
from typing import Any

import torch

from sensorseq.errors import EnvironmentProblemError

_PACKAGE = Path(__file__).resolve().parents[1]


@functools.cache
def load() -> Path:
    """Load the native library, once, and return its path."""
    # the builder's tag may change with its version; the name before the dot does not
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


def cpu_isa() -> str:
    """Return the instruction set in use: the fastest here, or the one SENSORSEQ_CPU_ISA forces."""
    load()
    return str(torch.ops.sensorseq.cpu_isa())


def cpu_isas() -> tuple[str, ...]:
    """Return every instruction set of this build that this processor supports, best first."""
    load()
    return tuple(str(torch.ops.sensorseq.cpu_isas()).split(","))


def has_bfloat16() -> bool:
    """Whether ``precision="bfloat16"`` is supported by this processor and instruction set."""
    load()
    return bool(torch.ops.sensorseq.cpu_bfloat16())


@functools.cache
def cuda_facts() -> dict[str, Any]:
    """Describe the CUDA support of this build and this machine.

    ``built`` says whether there are CUDA kernels. With them there are also ``nvcc``, ``arch``,
    ``devices``, and ``driver`` and ``runtime`` as CUDA numbers its versions.
    """
    load()
    if not hasattr(torch.ops.sensorseq, "cuda_facts"):  # a core from before there was CUDA
        return {"built": False, "devices": []}
    facts: dict[str, Any] = json.loads(torch.ops.sensorseq.cuda_facts())
    return facts
