"""Calls to the plain C library `_core`, which computes predictions; see csrc/c_api/c_api.h."""

from __future__ import annotations

import ctypes
import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, EnvironmentProblemError

_POOLINGS = ("none", "last", "mean", "max", "meanmax")  # in the order of c_api.h
_ERRORS: dict[int, type[Exception]] = {
    1: ValueError,
    2: ArgumentError,
    3: EnvironmentProblemError,
    4: MemoryError,
}
_OTHER_ISA = 5
_VOID, _INT, _TEXT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p
_ARGUMENTS = {
    "error": (),
    "cpu_isa": (_VOID,),
    "lstm_make": (_VOID, _VOID),
    "lstm_free": (_VOID,),
    "lstm_forward": (_VOID, _VOID, _VOID, _INT, _INT, _INT, _VOID, _VOID, _VOID, _VOID),
}
_RESULTS = {"error": _TEXT, "lstm_free": None}  # the other functions return a status
# Processors by their codes in ELF headers.
_MACHINES = {3: "32-bit x86", 40: "32-bit ARM", 62: "x86-64", 183: "aarch64"}


@functools.cache
def library() -> ctypes.CDLL:
    """Load the library on the first call."""
    package = __name__.partition(".")[0]
    files = sorted(Path(__file__).parents[1].glob("_core*.so"))
    if not files:
        raise EnvironmentProblemError(
            f"the compiled library {package}._core is missing. In a source checkout, run"
            f" `make build`; otherwise reinstall {package}."
        )
    try:
        loaded = ctypes.CDLL(str(files[0]))
        for name, arguments in _ARGUMENTS.items():
            function = loaded[f"sensorseq_{name}"]
            function.argtypes = arguments
            function.restype = _RESULTS.get(name, ctypes.c_int32)
            setattr(loaded, name, function)
    except (OSError, AttributeError) as error:
        raise EnvironmentProblemError(_load_failure(files[0], package, error)) from error
    return loaded


def _load_failure(file: Path, package: str, error: Exception) -> str:
    """Explain why a library cannot be loaded, and suggest a remedy."""
    needed, present = _machine(file), _machine(Path(sys.executable))
    if None not in (needed, present) and needed != present:
        return (
            f"{file.name} is for {needed}, but this Python is for {present}; install {package} for"
            f" {present}."
        )
    glibc = re.search(r"GLIBC_([\d.]+)' not found", str(error))
    if glibc:
        return (
            f"{file.name} needs glibc {glibc[1]}, but this system's glibc is older; install a wheel"
            f" of {package} whose name has a lower manylinux version, or build the package here."
        )
    return f"{file.name} cannot be loaded, or has the wrong version; reinstall {package}: {error}"


def _machine(file: Path) -> str | None:
    """Return the processor for which a file was built, or None if the file's header is unknown."""
    try:
        with file.open("rb") as opened:
            header = opened.read(20)
    except OSError:
        return None
    return (
        _MACHINES.get(int.from_bytes(header[18:], "little")) if header[:4] == b"\x7fELF" else None
    )


def check(status: int) -> None:
    """Raise an error if the status that a library function returned is not 0."""
    if status:
        sentence = library().error().decode(errors="replace")
        raise _ERRORS.get(status, RuntimeError)(sentence)


def address(array: NDArray[np.generic] | None) -> int | None:
    """Return the address of an array's values.

    The array must be contiguous, and must not be freed while the address is in use.
    """
    return None if array is None else array.__array_interface__["data"][0]


class Handle:
    """An owner of a library object, which is freed when the owner is deleted.

    Parameters
    ----------
    pointer : ctypes.c_void_p
        Pointer to the object.
    free : callable
        The library function that frees the object.
    """

    def __init__(self, pointer: ctypes.c_void_p, free: Callable[[int | None], None]) -> None:
        self.pointer = pointer.value
        self._free = free

    def __del__(self) -> None:
        self._free(self.pointer)


def cpu_isa() -> str:
    """Return the instruction set in use: SENSORSEQ_CPU_ISA, or the fastest that is available."""
    name = _TEXT()
    check(library().cpu_isa(ctypes.byref(name)))
    return (name.value or b"").decode()


class _Weights(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("real_bytes", "pooling")),
        *((name, _INT) for name in ("n_channels", "hidden_size", "n_directions", "n_classes")),
        *((name, _VOID) for name in ("weight_ih", "weight_hh", "bias", "weight_out", "bias_out")),
    ]


class LstmLayer:
    """One LSTM layer on numpy arrays, optionally with pooling over time and a linear head.

    A window's results are bit-identical in any batch and with any number of threads. Several
    threads may use the same layer. The weights are packed for the processor in advance, not in
    every call.

    Parameters
    ----------
    weight_ih, weight_hh, bias : ndarray of shape (D, 4H, C), (D, 4H, H) and (D, 4H)
        Weights of D directions (1 or 2), with the gates in the order i, f, g, o. All are float32 or
        all are float64. Contiguous arrays are kept without a copy, so they must not change.
    weight_out, bias_out : ndarray of shape (K, P) and (K,), optional
        Weights of the linear head. P is D*H, or 2*D*H for meanmax.
    pooling : {"none", "last", "mean", "max", "meanmax"}
        Pooling over time; it must be "none" if there is no head.
    """

    def __init__(
        self,
        weight_ih: NDArray[np.floating],
        weight_hh: NDArray[np.floating],
        bias: NDArray[np.floating],
        weight_out: NDArray[np.floating] | None = None,
        bias_out: NDArray[np.floating] | None = None,
        pooling: str = "none",
    ) -> None:
        if (
            pooling not in _POOLINGS
            or len({pooling == "none", weight_out is None, bias_out is None}) > 1
        ):
            raise ValueError(f"pooling={pooling!r} does not fit this head.")
        if weight_ih.ndim != 3 or weight_hh.ndim != 3 or weight_hh.dtype not in ("f4", "f8"):
            raise ValueError("weight_ih and weight_hh must be 3-D, in float32 or float64.")
        self.dtype = weight_hh.dtype
        self.n_directions, _, self.hidden_size = weight_hh.shape
        self.n_channels = weight_ih.shape[2]
        self.n_classes = 0 if weight_out is None else len(weight_out)
        self.pooling = pooling
        D, H, K = self.n_directions, self.hidden_size, self.n_classes
        self._weights = [
            self._dense("weight_ih", weight_ih, (D, 4 * H, self.n_channels)),
            self._dense("weight_hh", weight_hh, (D, 4 * H, H)),
            self._dense("bias", bias, (D, 4 * H)),
        ]
        if weight_out is not None and bias_out is not None:
            P = D * H * (2 if pooling == "meanmax" else 1)
            self._weights.append(self._dense("weight_out", weight_out, (K, P)))
            self._weights.append(self._dense("bias_out", bias_out, (K,)))
        self._run = library().lstm_forward
        self._handle = self._pack()

    def __reduce__(self) -> tuple[Callable[..., LstmLayer], tuple[NDArray[np.floating], ...]]:
        return functools.partial(LstmLayer, pooling=self.pooling), tuple(self._weights)

    def logits(
        self,
        x: NDArray[np.floating],
        lengths: NDArray[np.int64] | None = None,
        n_threads: int = 1,
    ) -> NDArray[np.floating]:
        """Return the head's outputs (N, K) for windows (N, T, C) of `lengths` (N,) steps each."""
        if self.pooling == "none":
            raise ValueError("the layer has no head.")
        out = np.empty((len(x), self.n_classes), self.dtype)
        self._forward(x, lengths, n_threads, None, None, None, out)
        return out

    def hidden(
        self,
        x: NDArray[np.floating],
        lengths: NDArray[np.int64] | None = None,
        n_threads: int = 1,
    ) -> NDArray[np.floating]:
        """Return the hidden state (N, T, D*H) of each step, zero beyond `lengths`."""
        width = self.n_directions * self.hidden_size
        out = np.empty((*x.shape[:2], width), self.dtype)
        self._forward(x, lengths, n_threads, None, None, out, None)
        return out

    def step(
        self,
        x: NDArray[np.floating],
        h: NDArray[np.floating],
        c: NDArray[np.floating],
        n_threads: int = 1,
    ) -> NDArray[np.floating]:
        """Process the steps of `x`, and update the state in `h` and `c`, each of shape (N, D*H).

        Return the logits after the last step if pooling is "last", otherwise the hidden states.
        """
        width = self.n_directions * self.hidden_size
        for name, state in (("h", h), ("c", c)):
            if not (state.flags.c_contiguous and state.flags.writeable):
                raise ValueError(f"{name} must be contiguous and writeable.")
            self._dense(name, state, (len(x), width))
        is_last = self.pooling == "last"
        shape = (len(x), self.n_classes) if is_last else (*x.shape[:2], width)
        out = np.empty(shape, self.dtype)
        self._forward(x, None, n_threads, h, c, None if is_last else out, out if is_last else None)
        return out

    def _dense(
        self, name: str, array: NDArray[np.floating], shape: tuple[int, ...]
    ) -> NDArray[np.floating]:
        if array.shape != shape or array.dtype != self.dtype:
            raise ValueError(
                f"{name} has shape {array.shape} and dtype {array.dtype}; expected {shape} and"
                f" {self.dtype}."
            )
        return np.ascontiguousarray(array)

    def _pack(self) -> Handle:
        weights = _Weights(
            self.dtype.itemsize,
            _POOLINGS.index(self.pooling),
            self.n_channels,
            self.hidden_size,
            self.n_directions,
            self.n_classes,
            *map(address, self._weights),
        )
        pointer = ctypes.c_void_p()
        check(library().lstm_make(ctypes.byref(weights), ctypes.byref(pointer)))
        return Handle(pointer, library().lstm_free)

    def _forward(
        self,
        x: NDArray[np.floating],
        lengths: NDArray[np.int64] | None,
        n_threads: int,
        h: NDArray[np.floating] | None,
        c: NDArray[np.floating] | None,
        hidden: NDArray[np.floating] | None,
        logits: NDArray[np.floating] | None,
    ) -> None:
        x = self._dense("x", x, (*x.shape[:2], self.n_channels))
        n_windows, n_timesteps = x.shape[:2]
        if lengths is not None:
            if lengths.shape != (n_windows,) or lengths.dtype != np.int64:
                raise ValueError(f"lengths must have shape ({n_windows},) and dtype int64.")
            lengths = np.ascontiguousarray(lengths)
        sizes = (n_windows, n_timesteps, n_threads)
        pointers = (address(h), address(c), address(hidden), address(logits))
        for _ in range(2):
            handle = self._handle  # stays alive even if another thread replaces `_handle`
            status = self._run(handle.pointer, address(x), address(lengths), *sizes, *pointers)
            if status != _OTHER_ISA:
                break
            self._handle = self._pack()  # SENSORSEQ_CPU_ISA has changed
        check(status)
