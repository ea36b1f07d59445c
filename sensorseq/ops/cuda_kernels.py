"""The CUDA kernels of this package, and which of them may be used on this GPU.

Unless ``SENSORSEQ_CUDA_KERNELS`` is 1, a kernel is used only after it has passed a check on the
user's own GPU (`sensorseq.gpu_check`). The verdict is stored in the user's cache folder, in a
separate file for each library, GPU and driver.
"""

import functools
import hashlib
import itertools
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

PRECISIONS = ("fp16x3", "fp16")
PADDED_HIDDEN = (64, 128, 256)  # PaddedHidden() in csrc/cuda/layout.h
MAX_HIDDEN_SIZE = PADDED_HIDDEN[-1]
ALL_KERNELS: frozenset[Kernel] = frozenset(itertools.product(PRECISIONS, PADDED_HIDDEN))
CAPABILITY = (9, 0)  # the compute capability that the kernels are compiled for

SWITCH = "SENSORSEQ_CUDA_KERNELS"
OFF, AUTO, FORCED = "0", "auto", "1"
DEFAULT = AUTO
NOT_CHECKED = "the kernels have not been checked on this GPU"
NOT_PASSED = "the kernel failed the check"


class Permission(NamedTuple):
    """The kernels that may be used, and the reason why the others may not."""

    verified: frozenset[Kernel]
    unverified: str


def padded_hidden(hidden_size: int) -> int:
    """Return the padded size of the kernel for `hidden_size`, or 0 if there is no kernel."""
    return next((size for size in PADDED_HIDDEN if size >= hidden_size), 0)


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


def machine_gap(capability: tuple[int, int] | None, is_built: bool) -> str:
    """Return the reason why this build has no kernels for `capability`, or an empty string."""
    if not is_built:
        return "built without CUDA kernels"
    if capability is None:
        return "torch sees no GPU"
    if capability == CAPABILITY:
        return ""
    here, needed = (f"{major}.{minor}" for major, minor in (capability, CAPABILITY))
    return f"needs capability {needed}, not {here}"


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
