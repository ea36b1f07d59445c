"""LSTMLinear, an LSTM with a linear head, and Stream, which computes the outputs incrementally."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sensorseq.base.checks import check_flag, check_integer, check_real
from sensorseq.errors import ArgumentError, InputError, check_choice
from sensorseq.ops import (
    POOLINGS,
    check_loss,
    lstm,
    lstm_linear,
    lstm_linear_loss,
    pooled_size,
    reference,
)
from sensorseq.ops.choice import CPU_DTYPES
from sensorseq.ops.lstm_linear import refuse_forward_mode
from sensorseq.ops.stream import lstm_linear_stream, lstm_pack, lstm_stream
from sensorseq.ops.train_epoch import (
    HEAD_NORMS,
    lstm_shapes,
    output_site,
    parameter_suffix,
    recurrent_site,
)

_MOST_LAYERS = 1000  # maximum number; more layers would take too long to create

DropoutSource = Callable[[Tensor, float, int], Tensor]
"""A dropout function, which takes values, a probability and a site, and returns new values."""


class _LSTMParameters(nn.Module):
    """The weights of stacked LSTM layers, with the names of `torch.nn.LSTM`."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, n_directions: int, **factory: Any
    ) -> None:
        super().__init__()
        shapes = lstm_shapes(input_size, hidden_size, num_layers, n_directions)
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, **factory)))

    def layer(self, layer: int, n_directions: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return weight_ih, weight_hh and the summed bias of one layer, with directions stacked."""

        def part(name: str) -> list[Tensor]:
            return [getattr(self, name + parameter_suffix(layer, d)) for d in range(n_directions)]

        # Sum the biases before stacking them. Otherwise, both biases would get views of the same
        # gradient, and clipping their gradients in place would scale that gradient twice.
        biases = [a + b for a, b in zip(part("bias_ih"), part("bias_hh"), strict=True)]
        weight_ih, weight_hh, bias = (
            (tensors[0][None] if n_directions == 1 else torch.stack(tensors))[None]
            for tensors in (part("weight_ih"), part("weight_hh"), biases)
        )
        return weight_ih, weight_hh, bias


class LSTMLinear(nn.Module):
    """A stacked LSTM, pooling over time and a linear head, computed with fused kernels.

    The module computes the same outputs as ``torch.nn.LSTM`` (``lstm.`` in the state dict), pooling
    and ``torch.nn.Linear`` (``linear.`` in the state dict), and uses the same parameter names.

    Parameters
    ----------
    input_size : int
        Number of channels of the input, C.
    hidden_size : int
        Number of hidden units, H, in each layer and direction.
    num_classes : int
        Number of outputs of the head, K.
    num_layers : int, default=1
        Number of stacked layers.
    bidirectional : bool, default=False
        Whether to also read every sequence backwards.
    pooling : {"last", "mean", "max", "meanmax"}, default="last"
        How the hidden states of the valid timesteps are reduced to one vector. ``"last"`` takes the
        final state of each direction, as is usual in torch. ``"meanmax"`` concatenates the mean and
        the maximum.
    dropout : float, default=0.0
        Probability of dropping an input of the head, or of any layer but the first, in training.
    recurrent_dropout : float, default=0.0
        Probability of dropping a hidden unit before it enters the gates, in training. All timesteps
        of a sequence share one mask (Gal and Ghahramani, A Theoretically Grounded Application of
        Dropout in Recurrent Neural Networks, 2016).
    head_norm : {"none", "batch", "layer"}, default="none"
        Normalization of the pooled vector before the head.
    device, dtype : optional
        As in every torch module.

    Raises
    ------
    ArgumentError
        If a size is less than one, a probability is outside [0, 1), a name is unknown, or the
        weights need more memory than is available.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_classes: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "last",
        dropout: float = 0.0,
        *,
        recurrent_dropout: float = 0.0,
        head_norm: str = "none",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_integer("input_size", input_size, 1)
        check_integer("hidden_size", hidden_size, 1)
        check_integer("num_classes", num_classes, 1)
        check_integer("num_layers", num_layers, 1, _MOST_LAYERS)
        check_real("dropout", dropout, 0.0, 1.0)
        check_real("recurrent_dropout", recurrent_dropout, 0.0, 1.0)
        check_flag("bidirectional", bidirectional)
        check_choice("pooling", pooling, POOLINGS)
        check_choice("head_norm", head_norm, HEAD_NORMS)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_classes = num_classes
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.head_norm = head_norm
        # applies dropout in training; None means torch's own dropout
        self.dropout_source: DropoutSource | None = None
        self._n_directions = 2 if bidirectional else 1
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        width = pooled_size(pooling, hidden_size, self._n_directions)
        self.lstm = _LSTMParameters(
            input_size, hidden_size, num_layers, self._n_directions, **factory
        )
        self.norm: nn.BatchNorm1d | nn.LayerNorm | None = None
        if head_norm == "batch":
            self.norm = nn.BatchNorm1d(width, **factory)
        elif head_norm == "layer":
            self.norm = nn.LayerNorm(width, **factory)
        self.linear = nn.Linear(width, num_classes, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialize all weights as `torch.nn.LSTM` and `torch.nn.Linear` do."""
        bound = self.hidden_size**-0.5
        for parameter in self.lstm.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        if self.norm is not None:
            self.norm.reset_parameters()
        self.linear.reset_parameters()

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        state: tuple[Tensor, Tensor] | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Compute the logits (N, K); with `return_state`, the pair ``(logits, (h_n, c_n))``.

        Parameters
        ----------
        x : Tensor of shape (N, T, C)
            Sequences, batch first.
        lengths : Tensor of shape (N,), int64, optional
            Number of valid steps of each row, 0 to T; later steps are ignored.
        state : pair of Tensor of shape (num_layers * D, N, H), optional
            (h_0, c_0) in torch's layout; zeros by default.
        return_state : bool, default=False
            Whether to also return the state after the last step, for a later call.

        Raises
        ------
        InputError
            If the shape of `x` or of a state is wrong.
        """
        self._check_input(x)
        sequence, states, h_n, c_n = self._below_top(x, lengths, state)
        weights = self.lstm.layer(self.num_layers - 1, self._n_directions)
        if self._head_is_fused():
            logits, h, c = lstm_linear(
                sequence,
                *weights,
                self.linear.weight[None],
                self.linear.bias[None],
                pooling=self.pooling,
                **states,
            )
            logits = logits[0]
        else:
            hidden, h, c = lstm(sequence, *weights, **states)
            pooled = reference.pool(hidden, h, lengths, self.pooling)[0]
            if self.norm is not None:
                pooled = self.norm(pooled)
            logits = self.linear(self._drop(pooled, self.dropout, output_site(self.num_layers - 1)))
        if not return_state:
            return logits
        return logits, (_to_torch_layout([*h_n, h]), _to_torch_layout([*c_n, c]))

    def loss(
        self,
        x: Tensor,
        y: Tensor,
        lengths: Tensor | None = None,
        *,
        sample_weight: Tensor | None = None,
        loss: str = "cross_entropy",
        label_smoothing: float = 0.0,
        return_logits: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the mean loss of a batch and, if possible, its gradients in the same pass.

        The top layer, the head and the loss run forward and backward in one pass, so the gradients
        are ready together with the loss, and ``backward()`` only scales them. If no gradient is
        required, only a forward pass is run. With a head norm, or with dropout in training, the
        loss is computed separately after `forward`.

        Parameters
        ----------
        x, lengths
            As in `forward`.
        y : Tensor of shape (N,), int64
            Class index of each row, 0 to K - 1.
        sample_weight : Tensor of shape (N,), optional
            Factor by which the loss of each row is multiplied. The factors get no gradient.
        loss : {"cross_entropy", "focal"}, default="cross_entropy"
            ``"focal"`` is cross-entropy times ``(1 - p)**2``.
        label_smoothing : float, default=0.0
            The smoothing s: the target is ``1 - s + s / K`` for the true class and ``s / K`` for
            the other classes.
        return_logits : bool, default=False
            Whether to also return the logits, for example to compute an accuracy. The
            logits are detached, so gradients flow only through the loss.

        Returns
        -------
        loss : Tensor of shape ()
            ``sum(sample_weight * loss) / N``. Without weights, ``"cross_entropy"`` equals
            `torch.nn.functional.cross_entropy` of the logits. With `return_logits`, the pair
            ``(loss, logits)`` is returned.

        Raises
        ------
        InputError
            If the shape of `x`, `y` or `sample_weight` is wrong, or if `y` is not int64.
        ArgumentError
            If `loss` is unknown or `label_smoothing` is outside [0, 1).
        RuntimeError
            If a class or a length is out of range.
        """
        check_loss(loss, label_smoothing)
        self._check_input(x)
        for name, values in (("y", y), ("sample_weight", sample_weight)):
            if values is not None and tuple(values.shape) != (x.shape[0],):
                raise InputError(
                    f"{name} has shape {tuple(values.shape)}; expected ({x.shape[0]},), one value"
                    " for each row of x."
                )
        if y.dtype != torch.int64:
            raise InputError(f"y has dtype {y.dtype}; expected class indices of dtype torch.int64.")
        if sample_weight is not None:
            sample_weight = sample_weight.detach().to(self.linear.weight.dtype)
        if not self._head_is_fused():
            logits = self.forward(x, lengths)
            assert isinstance(logits, Tensor)
            losses = reference.window_losses(logits, y, loss, label_smoothing)
            value = (losses if sample_weight is None else losses * sample_weight).mean()
            return (value, logits.detach()) if return_logits else value
        sequence, states, _, _ = self._below_top(x, lengths, None)
        value, logits = lstm_linear_loss(
            sequence,
            y[None],
            *self.lstm.layer(self.num_layers - 1, self._n_directions),
            self.linear.weight[None],
            self.linear.bias[None],
            pooling=self.pooling,
            loss=loss,
            label_smoothing=label_smoothing,
            sample_weight=None if sample_weight is None else sample_weight[None],
            **states,
        )
        return (value[0], logits[0]) if return_logits else value[0]

    def _check_input(self, x: Tensor) -> None:
        if x.dim() != 3 or x.shape[-1] != self.input_size:
            raise InputError(
                f"x has shape {tuple(x.shape)}; expected (n_windows, n_timesteps,"
                f" {self.input_size})."
            )

    def _head_is_fused(self) -> bool:
        """Whether only pooling lies between the top layer and the head."""
        return self.norm is None and not (self.training and self.dropout > 0.0)

    def _below_top(
        self, x: Tensor, lengths: Tensor | None, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, dict[str, Any], list[Tensor], list[Tensor]]:
        """Run all layers but the top one; return its inputs and the states of the other layers."""
        h_0, c_0 = self._split_state(state, x.shape[0])
        mask = self._recurrent_masks(x)
        inputs: list[dict[str, Any]] = [
            {"lengths": lengths, "h_0": h, "c_0": c, "recurrent_mask": m}
            for h, c, m in zip(h_0, c_0, mask, strict=True)
        ]
        sequence = x[None]
        h_n: list[Tensor] = []
        c_n: list[Tensor] = []
        for layer in range(self.num_layers - 1):
            weights = self.lstm.layer(layer, self._n_directions)
            sequence, h, c = lstm(sequence, *weights, **inputs[layer])
            sequence = self._drop(sequence, self.dropout, output_site(layer))
            h_n.append(h)
            c_n.append(c)
        return sequence, inputs[-1], h_n, c_n

    def stream(self, n_windows: int = 1) -> "Stream":
        """Return an object that processes sequences piece by piece at low cost; see `Stream`.

        Parameters
        ----------
        n_windows : int, default=1
            Number of sequences that advance together.

        Raises
        ------
        ArgumentError
            If the module is bidirectional, or if it is not in float32 or float64 on the CPU.
        """
        return Stream(self, n_windows)

    def _split_state(
        self, state: tuple[Tensor, Tensor] | None, n_windows: int
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        if state is None:
            return [None] * self.num_layers, [None] * self.num_layers
        expected = (self.num_layers * self._n_directions, n_windows, self.hidden_size)
        for name, part in zip(("h_0", "c_0"), state, strict=True):
            if tuple(part.shape) != expected:
                raise InputError(f"{name} has shape {tuple(part.shape)}; expected {expected}.")
        h_0, c_0 = (
            part.reshape(self.num_layers, self._n_directions, n_windows, self.hidden_size)
            .transpose(1, 2)
            .unsqueeze(1)
            for part in state
        )
        return list(h_0.unbind()), list(c_0.unbind())

    def _recurrent_masks(self, x: Tensor) -> list[Tensor | None]:
        if not (self.training and self.recurrent_dropout > 0.0):
            return [None] * self.num_layers
        shape = (1, x.shape[0], self._n_directions, self.hidden_size)
        ones = torch.ones(shape, dtype=self.linear.weight.dtype, device=x.device)
        return [
            self._drop(ones, self.recurrent_dropout, recurrent_site(layer))
            for layer in range(self.num_layers)
        ]

    def _drop(self, values: Tensor, probability: float, site: int) -> Tensor:
        if self.dropout_source is None or not (self.training and probability > 0.0):
            return functional.dropout(values, probability, self.training)
        return self.dropout_source(values, probability, site)

    @classmethod
    def from_torch(cls, lstm: nn.LSTM, linear: nn.Linear, pooling: str = "last") -> "LSTMLinear":
        """Copy the weights of a `torch.nn.LSTM` and the linear layer after it.

        Parameters
        ----------
        lstm : torch.nn.LSTM
            An LSTM with biases and without projection. The value of `batch_first` does not matter;
            the inputs of this module are always batch first.
        linear : torch.nn.Linear
            A linear layer with a bias.
        pooling : {"last", "mean", "max", "meanmax"}, default="last"
            The pooling between the two layers. Layers that are not supported or do not fit together
            raise an ArgumentError.
        """
        for name, layer, kind in (("lstm", lstm, nn.LSTM), ("linear", linear, nn.Linear)):
            if not isinstance(layer, kind):
                raise ArgumentError(
                    f"{name} is of type {type(layer).__name__}; give a torch.nn.{kind.__name__}."
                )
        if not lstm.bias or linear.bias is None:
            raise ArgumentError("lstm and linear must have biases; bias=False is not supported.")
        if lstm.proj_size:
            raise ArgumentError(f"lstm has proj_size={lstm.proj_size}; only 0 is supported.")
        check_choice("pooling", pooling, POOLINGS)
        width = pooled_size(pooling, lstm.hidden_size, 2 if lstm.bidirectional else 1)
        if linear.in_features != width:
            raise ArgumentError(
                f"linear expects {linear.in_features} features, but pooling={pooling!r} over this"
                f" lstm gives {width}."
            )
        module = cls(
            lstm.input_size,
            lstm.hidden_size,
            linear.out_features,
            lstm.num_layers,
            lstm.bidirectional,
            pooling,
            lstm.dropout,
            device=linear.weight.device,
            dtype=linear.weight.dtype,
        )
        module.lstm.load_state_dict(lstm.state_dict())
        module.linear.load_state_dict(linear.state_dict())
        return module.train(lstm.training)

    def to_torch(self) -> tuple[nn.LSTM, nn.Linear]:
        """Return a `torch.nn.LSTM` (batch first) and a `torch.nn.Linear` with these weights.

        These layers support neither a head norm nor recurrent dropout; a module with either of them
        raises an ArgumentError.
        """
        if self.norm is not None or self.recurrent_dropout:
            raise ArgumentError(
                "nn.LSTM and nn.Linear have no head_norm or recurrent_dropout, so this module"
                " cannot be converted."
            )
        factory: dict[str, Any] = {
            "device": self.linear.weight.device,
            "dtype": self.linear.weight.dtype,
        }
        recurrent = nn.LSTM(
            self.input_size,
            self.hidden_size,
            self.num_layers,
            batch_first=True,
            # torch warns about dropout on a single layer, where it has no effect
            dropout=self.dropout if self.num_layers > 1 else 0.0,
            bidirectional=self.bidirectional,
            **factory,
        )
        linear = nn.Linear(self.linear.in_features, self.num_classes, **factory)
        recurrent.load_state_dict(self.lstm.state_dict())
        linear.load_state_dict(self.linear.state_dict())
        return recurrent.train(self.training), linear.train(self.training)

    def extra_repr(self) -> str:
        """Return the main arguments for `repr`, as torch's modules do."""
        return (
            f"{self.input_size}, {self.hidden_size}, {self.num_classes},"
            f" num_layers={self.num_layers}, bidirectional={self.bidirectional},"
            f" pooling={self.pooling!r}"
        )


def _to_torch_layout(states: list[Tensor]) -> Tensor:
    """Convert the states of the layers, (1, N, D, H), to torch's (layers * D, N, H)."""
    return torch.cat([state[0].transpose(0, 1) for state in states])


class Stream:
    """Computes the logits of sequences that arrive piece by piece, at low cost per piece.

    After each piece, the logits equal the logits of the module in evaluation mode for all steps
    since the last reset. The two are bit-identical with pooling ``"last"``, and equal up to
    rounding with the other poolings. A stream copies the weights; later changes to the module do
    not affect the stream.

    Parameters
    ----------
    module : LSTMLinear
        A unidirectional module in float32 or float64 on the CPU. Any other module raises an
        ArgumentError.
    n_windows : int, default=1
        Number of sequences that advance together, N; also an attribute.

    Notes
    -----
    The weights are arranged once for the instruction set in use, so a stream that is pickled and
    loaded on a processor with a different instruction set raises an error when called. Only one
    thread at a time may call a stream; different streams are independent.
    """

    def __init__(self, module: LSTMLinear, n_windows: int = 1) -> None:
        weight = module.linear.weight
        if module.bidirectional:
            raise ArgumentError(
                "bidirectional=True cannot be streamed, because the backward direction starts at"
                " the end of the sequence."
            )
        if weight.device.type != "cpu" or weight.dtype not in CPU_DTYPES:
            kind = f"{str(weight.dtype).removeprefix('torch.')} on {weight.device.type}"
            raise ArgumentError(
                f"the module is {kind}; streams need float32 or float64 on cpu. Call"
                " module(x, state=state, return_state=True) for each piece instead."
            )
        self.n_windows = n_windows = check_integer("n_windows", n_windows, 1)
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
            # double precision, because a stream may run for days
            self._sum = weight.new_zeros(size, dtype=torch.float64)
            self._largest = weight.new_full(size, -torch.inf)
            self._n_seen = 0  # steps since this object was created
            # steps before the last reset of each sequence
            self._n_before = torch.zeros(n_windows, dtype=torch.int64)
        *lower, top = zip(self._packed, self._h, self._c, strict=True)
        self._lower = lower
        self._top = (top[0], *self._head, *top[1:])
        self._is_fused = self._pooling == "last" and self._norm is None

    def __call__(self, x: Tensor) -> Tensor:
        """Process the next steps; return the logits (N, K) after the last step, without autograd.

        Parameters
        ----------
        x : Tensor of shape (N, T, C)
            The next T steps of every sequence, at least one. One step may also have shape (N, C),
            or (C,) if N is 1.

        Raises
        ------
        InputError
            If the shape, dtype or device of `x` is wrong. In this case, the state does not change.
        ArgumentError
            If `x` has a forward-mode derivative.
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
        """Pool over these hidden states (N, T, H) and all earlier hidden states."""
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
        """Raise an error if `x` does not match the stream."""
        dtype = self._h[0].dtype
        if not isinstance(x, Tensor):
            raise InputError(f"x must be a torch.Tensor, not a {type(x).__name__}.")
        if x.dtype != dtype or x.device.type != "cpu":
            raise InputError(f"x is {x.dtype} on {x.device}; this stream needs {dtype} on cpu.")
        n, size = self.n_windows, self._input_size
        shape = tuple(x.shape)
        if x.dim() == 3 and shape[1] == 0:
            raise InputError("x has no timesteps; a piece needs at least one.")
        if (x.dim() == 3 and (shape[0], shape[2]) == (n, size)) or shape == (n, size):
            return
        if shape != (size,) or n != 1:
            alone = f" or ({size},)" if n == 1 else ""
            raise InputError(
                f"x has shape {shape}; expected ({n}, n_timesteps, {size}), or for one step"
                f" ({n}, {size}){alone}."
            )

    @property
    def n_steps(self) -> Tensor:
        """The number of steps of each sequence since its last reset, as an int64 tensor (N,)."""
        return self._n_seen - self._n_before

    @property
    def state(self) -> tuple[Tensor, Tensor]:
        """Copies of (h, c), each of shape (num_layers, N, H), in the layout of the module.

        Assigning a pair resets the stream, including its pooling; the stream then continues from
        that state, as ``module(x, state=...)`` does.
        """
        return torch.stack(self._h), torch.stack(self._c)

    @state.setter
    def state(self, state: tuple[Tensor, Tensor]) -> None:
        expected = (len(self._h), *self._h[0].shape)
        for name, part in zip(("h", "c"), state, strict=True):
            if tuple(part.shape) != expected:
                raise InputError(f"{name} has shape {tuple(part.shape)}; expected {expected}.")
        self.reset()
        with torch.no_grad():
            for layers, part in zip((self._h, self._c), state, strict=True):
                for layer, values in zip(layers, part, strict=True):
                    layer.copy_(values)

    def reset(self, rows: Any = None) -> None:
        """Start over with zero states and a step count of zero.

        Parameters
        ----------
        rows : int, slice, sequence of int or Tensor, optional
            The sequences to reset, as an index or a mask of the N sequences; by default, all.

        Raises
        ------
        InputError
            If `rows` cannot index N sequences.
        """
        every = torch.arange(self.n_windows)
        try:
            chosen = every if rows is None else every[list(rows) if type(rows) is tuple else rows]
        except (IndexError, TypeError) as error:
            raise InputError(
                f"rows={rows!r} cannot index {self.n_windows} sequences: {error}."
            ) from None
        for values in (*self._h, *self._c, self._sum):
            values[chosen] = 0.0
        self._largest[chosen] = -torch.inf
        self._n_before[chosen] = self._n_seen
