"""Stream: the logits of sequences that arrive piece by piece."""

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from sensorseq.checks import check_integer
from sensorseq.errors import ArgumentError, InputError
from sensorseq.memory import check_memory
from sensorseq.ops.choice import CPU_DTYPES
from sensorseq.ops.lstm_linear import refuse_forward_mode
from sensorseq.ops.stream import lstm_linear_stream, lstm_pack, lstm_stream

if TYPE_CHECKING:
    from sensorseq.nn.lstm_linear import LSTMLinear


class Stream:
    """Compute the logits of sequences that arrive piece by piece, at low cost per piece.

    After each piece, the logits are those of the module in evaluation mode on all steps since the
    last reset: bit for bit with pooling ``"last"``, to rounding with the others. A stream copies
    the weights; later changes to the module do not affect it.

    Parameters
    ----------
    module : LSTMLinear
        In float32 or float64 on the CPU, not bidirectional: reading backwards needs the end first.
        Any other is an ArgumentError.
    n_windows : int, default=1
        Number of sequences that advance together, N; also an attribute.

    Notes
    -----
    The weights are arranged once for the instruction set in use; a stream copied or pickled to a
    processor with another instruction set raises an error when called. Only one thread at a time
    may call a stream; several streams are independent.
    """

    def __init__(self, module: "LSTMLinear", n_windows: int = 1) -> None:
        weight = module.linear.weight
        if module.bidirectional:
            raise ArgumentError(
                "bidirectional=True cannot be streamed: reading backwards starts at the end."
            )
        if weight.device.type != "cpu" or weight.dtype not in CPU_DTYPES:
            kind = f"{str(weight.dtype).removeprefix('torch.')} on {weight.device.type}"
            raise ArgumentError(
                f"the module is {kind}; streams need float32 or float64 on cpu. Pass the state"
                " through module(x, state=state, return_state=True) instead."
            )
        n_windows = check_integer("n_windows", n_windows, 1)
        n_bytes = 2 * n_windows * module.num_layers * module.hidden_size * weight.itemsize
        check_memory(f"n_windows={n_windows}", {"states": n_bytes}, "a smaller n_windows")
        self.n_windows = n_windows
        self._input_size = module.input_size
        self._pooling = module.pooling
        with torch.inference_mode(False), torch.no_grad():
            self._packed = [
                lstm_pack(*(part.contiguous() for part in module.lstm.layer(layer, 1)))
                for layer in range(module.num_layers)
            ]
            size = (n_windows, module.hidden_size)
            self._h, self._c = (
                [weight.new_zeros(size) for _ in range(module.num_layers)] for _ in range(2)
            )
            self._head = [p.detach().clone() for p in (weight, module.linear.bias)]
            self._norm = copy.deepcopy(module.norm)
            if self._norm is not None:
                self._norm.eval().requires_grad_(False)
            # double: a stream may go on for days
            self._sum = weight.new_zeros(size, dtype=torch.float64)
            self._largest = weight.new_full(size, -torch.inf)
            self._n_seen = 0  # steps since this object was made
            self._n_before = torch.zeros(n_windows, dtype=torch.int64)  # of them, before the reset
        *lower, top = zip(self._packed, self._h, self._c, strict=True)
        self._lower = lower
        self._top = (top[0], *self._head, *top[1:])
        self._is_fused = self._pooling == "last" and self._norm is None

    def __call__(self, x: Tensor) -> Tensor:
        """Read the next steps and return the logits after the last, (N, K), without a graph.

        Parameters
        ----------
        x : Tensor of shape (N, T, C)
            The next T steps of every sequence, at least one. One step may also have shape (N, C),
            or (C,) if N is 1.

        Raises
        ------
        InputError
            If the shape, dtype or device of `x` is wrong. The state is then unchanged.
        ArgumentError
            If `x` carries a forward-mode derivative.
        """
        refuse_forward_mode([x])
        sequence = x
        try:
            for layer in self._lower:
                sequence = lstm_stream(sequence, *layer)
            if self._is_fused:
                logits: Tensor = lstm_linear_stream(sequence, *self._top)
                self._n_seen += x.shape[1] if x.dim() == 3 else 1
                return logits
            packed, _, _, h, c = self._top
            hidden = lstm_stream(sequence, packed, h, c)
        except RuntimeError:
            self._check(x)
            raise
        self._n_seen += hidden.shape[1]
        pooled = self._pool(hidden)
        if self._norm is not None:
            pooled = self._norm(pooled)
        return functional.linear(pooled, *self._head)

    def _pool(self, hidden: Tensor) -> Tensor:
        """Pool over these hidden states (N, T, H) and all before them."""
        if self._pooling == "last":
            return self._h[-1]
        parts = []
        if self._pooling != "max":
            self._sum += hidden.sum(1, dtype=torch.float64)
            parts.append((self._sum / self.n_steps[:, None]).to(hidden.dtype))
        if self._pooling != "mean":
            torch.maximum(self._largest, hidden.amax(1), out=self._largest)
            parts.append(self._largest)
        return torch.cat(parts, 1)

    def _check(self, x: Any) -> None:
        """Say what does not fit, in the terms of a stream."""
        dtype = self._h[0].dtype
        if not isinstance(x, Tensor):
            raise InputError(f"x must be a torch.Tensor, not a {type(x).__name__}.")
        if x.dtype != dtype or x.device.type != "cpu":
            raise InputError(f"x is {x.dtype} on {x.device}; this stream takes {dtype} on cpu.")
        n, size = self.n_windows, self._input_size
        shape = tuple(x.shape)
        if x.dim() == 3 and shape[1] == 0:
            raise InputError("x has no timesteps; a piece needs at least one.")
        if (x.dim() == 3 and (shape[0], shape[2]) == (n, size)) or shape == (n, size):
            return
        if shape != (size,) or n != 1:
            alone = f" or ({size},)" if n == 1 else ""
            raise InputError(
                f"x has shape {shape}; expected ({n}, n_timesteps, {size}), for one step"
                f" ({n}, {size}){alone}."
            )

    @property
    def n_steps(self) -> Tensor:
        """Number of steps each sequence has seen since its last reset, shape (N,), int64."""
        return self._n_seen - self._n_before

    @property
    def state(self) -> tuple[Tensor, Tensor]:
        """Copies of (h, c), each (num_layers, N, H), as the module and torch have them.

        Assigning a pair resets the stream and continues from that state, as
        ``module(x, state=...)`` does: pooling starts over.
        """
        return torch.stack(self._h), torch.stack(self._c)

    @state.setter
    def state(self, state: tuple[Tensor, Tensor]) -> None:
        wanted = (len(self._h), *self._h[0].shape)
        for name, part in zip(("h", "c"), state, strict=True):
            if tuple(part.shape) != wanted:
                raise InputError(f"{name} has shape {tuple(part.shape)}; expected {wanted}.")
        self.reset()
        with torch.no_grad():
            for own, part in zip((self._h, self._c), state, strict=True):
                for layer, values in zip(own, part, strict=True):
                    layer.copy_(values)

    def reset(self, rows: Any = None) -> None:
        """Start over with states of zero and no steps seen.

        Parameters
        ----------
        rows : int, slice, sequence of int or Tensor, optional
            The sequences to reset, as an index of (N,) or a mask; all by default.

        Raises
        ------
        InputError
            If `rows` does not index N sequences.
        """
        every = torch.arange(self.n_windows)
        try:
            chosen = every if rows is None else every[list(rows) if type(rows) is tuple else rows]
        except (IndexError, TypeError) as error:
            raise InputError(
                f"rows={rows!r} do not index {self.n_windows} sequences: {error}."
            ) from None
        for values in (*self._h, *self._c, self._sum):
            values[chosen] = 0.0
        self._largest[chosen] = -torch.inf
        self._n_before[chosen] = self._n_seen
