"""Choose the code and the precision of a call before any op runs.

`choose` is a pure function of plain values, so tracing, running and `sensorseq info` agree. The
rest of this module reads these values from the machine.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

import torch

from sensorseq.ops import cuda_kernels
from sensorseq.ops.cuda_kernels import Kernel

_Function = TypeVar("_Function", bound=Callable[..., Any])

CPU_DTYPES = (torch.float32, torch.float64)
HALVES = (torch.float16, torch.bfloat16)
MAX_CHANNELS = 16  # kMaxChannels in csrc/lstm/lstm_linear_cuda.h
# Up to this size, cuDNN multiplies recurrent weights in float32 even if TF32 is allowed.
FLOAT32_HIDDEN = 128
MANY = 1 << 30
"""More sequences than any border between kernels."""


class Choice(NamedTuple):
    """The code that computes a call, its precision, and the reason for the choice."""

    served_by: Literal["native", "framework", "reference"]
    """``"native"``: the kernels of this package; ``"framework"``: torch's own LSTM, which is cuDNN
    on a GPU; ``"reference"``: a loop over the steps in plain torch."""
    precision: str
    """The precision of products inside the layer: ``"fp32"``, ``"fp16x3"`` or ``"fp16"`` in CUDA
    kernels, otherwise the name of a dtype."""
    is_projected: bool
    """Whether torch multiplies the input by `weight_ih`, and the kernel receives the product."""
    reason: str

    @property
    def is_in_cuda(self) -> bool:
        """Whether CUDA kernels of this package run the call."""
        return self.precision in cuda_kernels.PRECISIONS


def choose(
    device_type: str,
    dtype: torch.dtype,
    *,
    hidden_size: int,
    n_channels: int = 1,
    n_sequences: int = 1,
    needs_grad_x: bool = False,
    has_mask: bool = False,
    capability: tuple[int, int] | None = None,
    is_built: bool = False,
    verified: Collection[Kernel] = (),
    unverified: str = cuda_kernels.NOT_CHECKED,
    allows_tf32: bool = False,
) -> Choice:
    """Choose the code that computes a call in `dtype`; see `computing_dtype`.

    A CUDA kernel runs only if it is among `verified`; `unverified` is the reason why other kernels
    do not run. Of the kernels that can run, `cuda_kernels.kernels_for` prefers one. The portable
    kernels compute in float32 in every case.

    The tensor-core kernels compute float32 in fp16x3, which splits every factor into two halves and
    has the accuracy of float32. Above 128 units, float32 is computed in fp16 if torch allows TF32
    for RNNs, as it does by default, because both fp16 and TF32 round a factor to 11 significant
    bits. Up to 128 units, cuDNN multiplies the recurrent weights in float32 even if TF32 is
    allowed, so fp16 could be less accurate than torch. The input itself is always multiplied in
    float32. In both precisions, a recurrent weight beyond 4094 makes the results of its model NaN,
    and an initial or masked state beyond 255 makes the results of its row NaN.
    """
    name = str(dtype).removeprefix("torch.")
    if device_type == "cpu" and dtype in CPU_DTYPES:
        return Choice("native", name, False, "CPU kernels")
    gap: str | None = f"no kernel for {name} on {device_type}"
    if device_type == "cuda" and dtype in (torch.float32, *HALVES):
        precision = kernel_precision(dtype, hidden_size, allows_tf32)
        call = hidden_size, n_sequences, precision
        kernel, gap = _kernel_or_gap(call, capability, is_built, verified, unverified)
        if kernel is not None:
            precision = kernel[0]
            is_projected = needs_grad_x or n_channels > MAX_CHANNELS
            reason = "torch allows TF32" if precision == "fp16" and dtype == torch.float32 else name
            return Choice("native", precision, is_projected, f"CUDA kernels, {reason}")
    if device_type == "meta" or dtype not in (*CPU_DTYPES, *HALVES):
        return Choice("reference", name, False, str(gap))
    if has_mask:
        return Choice("reference", name, False, f"{gap}; torch's LSTM supports no recurrent mask")
    return Choice("framework", name, False, str(gap))


def kernel_precision(dtype: torch.dtype, hidden_size: int, allows_tf32: bool) -> str:
    """Return the precision of the tensor-core kernels that would compute a call."""
    is_float32_in_cudnn = not allows_tf32 or hidden_size <= FLOAT32_HIDDEN
    return "fp16x3" if dtype == torch.float32 and is_float32_in_cudnn else "fp16"


def training_gap(
    dtype: torch.dtype,
    *,
    hidden_size: int,
    n_channels: int,
    num_layers: int = 1,
    head_norm: str = "none",
    n_bytes: int = 0,
    memory_bytes: int | None = None,
    capability: tuple[int, int] | None = None,
    is_built: bool = False,
    verified: Collection[Kernel] = (),
    unverified: str = cuda_kernels.NOT_CHECKED,
    allows_tf32: bool = False,
) -> str | None:
    """Return the reason why CUDA kernels cannot run the training steps of a network, or None.

    All windows together take `n_bytes`, which must fit into `memory_bytes` on the GPU (None: no
    limit).
    """
    if dtype != torch.float32:
        return f"on a GPU, this engine supports float32, not {str(dtype).removeprefix('torch.')}"
    precision = kernel_precision(dtype, hidden_size, allows_tf32)
    call = hidden_size, 1, precision
    kernel, gap = _kernel_or_gap(call, capability, is_built, verified, unverified)
    if kernel is None:
        return f"on a GPU, {gap}"
    if num_layers != 1:
        return f"on a GPU, this engine supports one layer, not {num_layers}"
    if head_norm != "none":
        return f"on a GPU, this engine does not support head_norm {head_norm!r}"
    if n_channels > MAX_CHANNELS:
        return f"on a GPU, this engine supports at most {MAX_CHANNELS} channels, not {n_channels}"
    if memory_bytes is not None and n_bytes > memory_bytes:
        return "the windows do not fit into GPU memory"
    return None


def training_gap_here(device: torch.device, dtype: torch.dtype, **of_training: Any) -> str | None:
    """Return the `training_gap` on this machine, with torch's current settings."""
    return training_gap(dtype, **of_training, **_settings(device))


def _kernel_or_gap(
    call: tuple[int, int, str],
    capability: tuple[int, int] | None,
    is_built: bool,
    verified: Collection[Kernel],
    unverified: str,
) -> tuple[Kernel | None, str]:
    """Return the CUDA kernel for a call, or None and the reason why there is none."""
    gap = cuda_kernels.machine_gap(capability, is_built)
    if gap or capability is None:
        return None, gap
    kernels = cuda_kernels.kernels_for(capability, *call)
    if not kernels:
        return None, cuda_kernels.size_gap(capability)
    return next((kernel for kernel in kernels if kernel in verified), None), unverified


def choose_here(device: torch.device, dtype: torch.dtype, **of_call: Any) -> Choice:
    """Choose the code that computes a call on this machine, with torch's current settings."""
    dtype = computing_dtype(device.type, dtype)
    if device.type != "cuda":
        return choose(device.type, dtype, **of_call)
    return choose("cuda", dtype, **of_call, **_settings(device))


def _settings(gpu: torch.device) -> dict[str, Any]:
    """Return the arguments of `choose` and `training_gap` that are the same for every call."""
    # These are strings, because torch.compile of torch 2.11 treats only plain values as constants.
    version = _capability_text(gpu.index)
    is_built = _is_built(version)
    capability = _capability_of(version)
    settings: dict[str, Any] = {"capability": capability, "is_built": is_built}
    settings["allows_tf32"] = allows_tf32()
    if is_built and cuda_kernels.kernels_on(capability):
        verified, settings["unverified"] = _permission_text(gpu.index).split("|", 1)
        kernels = [kernel.split() for kernel in verified.split(",") if kernel]
        settings["verified"] = [(precision, int(size)) for precision, size in kernels]
    return settings


def computing_dtype(device_type: str, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which a call with inputs of `dtype` is computed, considering autocast.

    Under autocast, a GPU computes in half precision, but a CPU still computes in float32.
    """
    if dtype not in (torch.float32, *HALVES) or device_type not in ("cpu", "cuda"):
        return dtype
    if not torch.is_autocast_enabled(device_type):
        return dtype
    return torch.float32 if device_type == "cpu" else torch.get_autocast_dtype(device_type)


def _constant_when_traced(function: _Function) -> _Function:
    """Make tracing treat the result of a function as a constant.

    This works like `torch.compiler.assume_constant_result`, but does not load torch's compiler,
    which takes seconds. Use this decorator only for values that are fixed or set once.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@_constant_when_traced
def allows_tf32() -> bool:
    """Return whether torch's settings allow cuDNN to use TF32 in RNNs on a GPU.

    ``torch.backends.cudnn.rnn.fp32_precision`` reflects both the settings from which it inherits
    and the older setting ``torch.backends.cudnn.allow_tf32``. The older setting is not read here,
    because reading it raises an error once the newer setting has been changed.
    """
    rnn: Any = torch.backends.cudnn.rnn
    return bool(rnn.fp32_precision == "tf32")


@contextmanager
def allowing_tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in torch's RNNs within a block; restore the setting afterward."""
    rnn: Any = torch.backends.cudnn.rnn
    before = rnn.fp32_precision
    rnn.fp32_precision = "tf32" if allowed else "ieee"
    try:
        yield
    finally:
        rnn.fp32_precision = before


_batches = threading.local()


@contextmanager
def batches_of(n_windows: int) -> Iterator[None]:
    """Choose the code as for batches of `n_windows` windows of one model within a block.

    Calls in the block then use the same code whether their batch is the last and smallest one or
    not, and whatever the number of models.
    """
    before = _batches_here()
    _batches.n_windows = n_windows
    try:
        yield
    finally:
        _batches.n_windows = before


@_constant_when_traced
def _batches_here() -> int:
    return getattr(_batches, "n_windows", 0)


def n_sequences(n_models: int, n_windows: int, n_directions: int) -> int:
    """Return the number of sequences for which the code of a call is chosen.

    An exported program serves batches of any size, so its code is that for many sequences.
    """
    if torch.compiler.is_exporting():
        return MANY
    return (_batches_here() or n_models * n_windows) * n_directions


def _capability(index: int | None) -> tuple[int, int] | None:
    return torch.cuda.get_device_capability(index) if torch.cuda.is_available() else None


@_constant_when_traced
def _capability_text(index: int | None) -> str:
    return ".".join(map(str, _capability(index) or ()))


def _capability_of(version: str) -> Any:
    return tuple(int(number) for number in version.split(".")) if version else None


@_constant_when_traced
def _is_built(version: str) -> bool:
    return cuda_kernels.is_built_for(_capability_of(version))


@_constant_when_traced
def _permission_text(index: int | None) -> str:
    verified, unverified = cuda_kernels.permission(index)
    return (
        ",".join(f"{precision} {size}" for precision, size in sorted(verified)) + f"|{unverified}"
    )


class Served(NamedTuple):
    """The code that computes a range of hidden sizes on one device, for one dtype."""

    device: str
    dtype: str
    """The caller's dtype: ``"half"`` for float16, bfloat16 and autocast."""
    hidden_size: str
    """The range, such as ``"any"``, ``"to 128"`` or ``"over 256"``."""
    served_by: str
    precision: str
    """As in `Choice`."""
    reason: str


def served() -> list[Served]:
    """List the code that computes layers without a mask on this machine, with torch's settings.

    The list is for single windows.
    Each entry is a range of hidden sizes with the same choice.
    """
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cuda"]
    rows: list[Served] = []
    for device in map(torch.device, ("cpu", *gpus)):
        for dtype in (torch.float32, torch.float64, torch.float16):
            rows += _rows(device, dtype)
    return rows


def _rows(device: torch.device, dtype: torch.dtype) -> list[Served]:
    """Return the entries for a device and dtype, by testing sizes around each possible boundary."""
    ends = sorted({size for _, size in cuda_kernels.ALL_KERNELS})
    answers = [choose_here(device, dtype, hidden_size=size) for size in (*ends, ends[-1] + 1)]
    name = "half" if dtype in HALVES else str(dtype).removeprefix("torch.")
    rows, begin = [], 0  # `rows` cover the sizes up to `begin`
    for answer, following, end in zip(answers, [*answers[1:], None], [*ends, None], strict=True):
        if answer == following:
            continue
        if end is None:
            sizes = f"over {begin}" if begin else "any"
        else:
            sizes = f"{begin + 1} to {end}" if begin else f"to {end}"
        precision = "half" if answer.precision == "float16" else answer.precision
        rows.append(Served(str(device), name, sizes, answer.served_by, precision, answer.reason))
        begin = end or 0
    return rows
