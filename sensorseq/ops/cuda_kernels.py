"""The CUDA kernels of this package, and which of them may be used on this GPU.

Unless ``SENSORSEQ_CUDA_KERNELS`` is 1, a kernel is used only after it has passed a check on the
user's own GPU (`sensorseq.ops.gpu_check`). The verdict is stored in the user's cache folder, in a
separate file for each library, GPU and driver.
"""

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sensorseq.errors import check_choice, warn_caller
from sensorseq.io.atomic import write_whole
from sensorseq.ops import _extension

Kernel = tuple[str, int]
"""The precision of a kernel, and the largest hidden size that it supports."""

TENSOR_CORE, PORTABLE = ("fp16x3", "fp16"), "fp32"
PRECISIONS = (PORTABLE, *TENSOR_CORE)
"""The precision of a kernel's products; ``"fp32"`` names the portable kernels."""
# PortableHidden() and PaddedHidden() in csrc/cuda/layout.cuh
PADDED_HIDDEN = {PORTABLE: (32, 64, 96), **dict.fromkeys(TENSOR_CORE, (64, 128, 256))}
MAX_HIDDEN_SIZE = 256
ALL_KERNELS: frozenset[Kernel] = frozenset(
    (precision, size) for precision, sizes in PADDED_HIDDEN.items() for size in sizes
)
HOPPER = (9, 0)  # the compute capability of the tensor-core kernels
OLDEST = (7, 5)  # the oldest compute capability of the portable kernels
MOST_PORTABLE_SEQUENCES = 264
"""On capability 9.0, portable kernels of more than 32 units compute at most this many sequences,
which the 132 multiprocessors of an H200 compute at once."""

SWITCH = "SENSORSEQ_CUDA_KERNELS"
OFF, AUTO, FORCED = "0", "auto", "1"
DEFAULT = AUTO
NOT_CHECKED = "the kernels have not been checked on this GPU"
NOT_PASSED = "the kernel failed the check"


class Permission(NamedTuple):
    """The kernels that may be used, and the reason why the others may not."""

    verified: frozenset[Kernel]
    unverified: str


def padded_hidden(precision: str, hidden_size: int) -> int:
    """Return the padded size of the kernel for `hidden_size`, or 0 if there is no kernel."""
    return next((size for size in PADDED_HIDDEN[precision] if size >= hidden_size), 0)


def kernels_for(
    capability: tuple[int, int] | None,
    hidden_size: int,
    n_sequences: int,
    precision: str,
) -> tuple[Kernel, ...]:
    """Return the kernels that can compute or train a layer on a GPU, the fastest first.

    Parameters
    ----------
    capability : pair of int, or None
        The compute capability; None: there is no GPU.
    hidden_size : int
        Number of hidden units per direction, H.
    n_sequences : int
        Number of sequences that run at the same time, N * M * D. It matters only on capability 9.0
        for 33 to 96 units.
    precision : {"fp16x3", "fp16"}
        The precision that the call needs at least. Portable kernels exceed both.
    """
    if capability is None or capability < OLDEST:
        return ()
    portable, tensor_core = (
        [(name, size)] if (size := padded_hidden(name, hidden_size)) else []
        for name in (PORTABLE, precision)
    )
    if capability != HOPPER:
        return tuple(portable)
    if hidden_size <= 32 or n_sequences <= MOST_PORTABLE_SEQUENCES:
        return (*portable, *tensor_core)
    return (*tensor_core, *portable)


def kernels_on(capability: tuple[int, int] | None) -> frozenset[Kernel]:
    """Return all kernels that run on a GPU of this compute capability."""
    if capability == HOPPER:
        return ALL_KERNELS
    has_portable = capability is not None and capability >= OLDEST
    return frozenset(kernel for kernel in ALL_KERNELS if has_portable and kernel[0] == PORTABLE)


def switch() -> str:
    """Return the value of SENSORSEQ_CUDA_KERNELS: ``"0"``, ``"auto"`` or ``"1"``."""
    return check_choice(SWITCH, os.environ.get(SWITCH) or DEFAULT, (OFF, AUTO, FORCED))


def permission(index: int | None) -> Permission:
    """Return the kernels that may run on GPU `index` (None: the current GPU), without a check."""
    return _permission(index, switch())


@functools.cache
def _permission(index: int | None, mode: str) -> Permission:
    if mode == OFF:
        return Permission(frozenset(), f"{SWITCH}={OFF}")
    gap = driver_gap()
    if gap:
        return Permission(frozenset(), gap)
    if mode == FORCED:
        warn_caller(
            f"{SWITCH}={FORCED}: the CUDA kernels are used without a check of their results on this"
            f" GPU. Use {SWITCH}={AUTO}, which checks them first."
        )
        return Permission(ALL_KERNELS, "")
    return read_verdict(index) or Permission(frozenset(), NOT_CHECKED)


def forget_permissions() -> None:
    """Clear the cache of `permission` after the verdict on a GPU has changed."""
    _permission.cache_clear()


def is_built_for(capability: tuple[int, int] | None) -> bool:
    """Return whether this build has code for a compute capability (None: for any)."""
    facts = _extension.cuda_facts()
    if not facts["built"] or capability is None:
        return bool(facts["built"])
    return any(_serves(code, capability) for code in facts["arch"].split(","))


def _serves(code: str, capability: tuple[int, int]) -> bool:
    """Return whether the code of an architecture, such as ``sm_86``, runs on a GPU.

    Machine code runs on GPUs of the same major and a later minor number, ``sm_90a`` on 9.0 alone;
    a ``compute_`` code runs on every later GPU (CUDA C++ Programming Guide, section 3.1).
    """
    kind, _, number = code.partition("_")
    major, minor = divmod(int(number.rstrip("a")), 10)
    if number.endswith("a"):
        return capability == (major, minor)
    if kind == "compute":
        return capability >= (major, minor)
    return capability[0] == major and capability[1] >= minor


def machine_gap(capability: tuple[int, int] | None, is_built: bool) -> str:
    """Return the reason why this build has no kernels for `capability`, or an empty string."""
    if capability is not None and capability < OLDEST:
        return f"needs capability {_text(OLDEST)} or later, not {_text(capability)}"
    if not is_built:
        of_gpu = "" if capability is None else f" for capability {_text(capability)}"
        return f"built without CUDA kernels{of_gpu}"
    return "torch sees no GPU" if capability is None else ""


def size_gap(capability: tuple[int, int]) -> str:
    """Return the reason why no kernel of this capability supports a call of this hidden size."""
    if capability == HOPPER:
        return f"needs hidden size <= {MAX_HIDDEN_SIZE}"
    return f"needs hidden size <= {PADDED_HIDDEN[PORTABLE][-1]} on {_text(capability)}"


def _text(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def driver_gap() -> str:
    """Return the reason why the driver cannot run the kernels, or an empty string."""
    facts = _extension.cuda_facts()
    if not facts["built"] or facts["devices"]:
        return ""
    if not facts["driver"]:
        return "this machine has no NVIDIA driver"
    if facts["driver"] < facts["runtime"]:
        versions = (facts[name] for name in ("driver", "runtime"))
        here, needed = (f"{number // 1000}.{number % 1000 // 10}" for number in versions)
        return f"the driver supports CUDA {here}, not {needed}"
    return "the driver shows no GPU"


def verdict_file(index: int | None) -> Path:
    """Return the path of the file with the verdict on this library, GPU and driver."""
    gpu = torch.cuda.get_device_properties(torch.device("cuda") if index is None else index)
    # a MIG slice of a GPU differs from the full GPU in all three properties
    facts = [gpu.name, gpu.multi_processor_count, gpu.total_memory]
    facts += [_extension.cuda_facts()["driver"], _driver_version(), _library_digest()]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "sensorseq" / f"cuda_kernels_{name}.json"


@functools.cache
def _library_digest() -> str:
    return hashlib.sha256(_extension.load().read_bytes()).hexdigest()


def _driver_version() -> str:
    try:
        return Path("/proc/driver/nvidia/version").read_text("ascii", "replace")
    except OSError:
        return ""


def read_verdict(index: int | None) -> Permission | None:
    """Return the stored verdict on this GPU, or None if there is no valid verdict."""
    try:
        verdict: Any = json.loads(verdict_file(index).read_text("utf-8"))
        passed = frozenset((str(precision), int(size)) for precision, size in verdict["passed"])
    except (OSError, RuntimeError, ValueError, TypeError, KeyError):
        return None
    return Permission(passed & ALL_KERNELS, NOT_PASSED)


def keep_verdict(file: Path, passed: frozenset[Kernel], failed: dict[str, str]) -> None:
    """Store the verdict of a check, and apply it from now on."""
    verdict = {"passed": sorted(passed), "failed": failed}
    write_whole(file, json.dumps(verdict, indent=1).encode(), force=True)
    forget_permissions()
