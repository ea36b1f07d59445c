"""The public ops, with their fake kernels and gradients.

Before any op is called, `sensorseq.ops.choice` decides which code computes the result, so that
tracing and running agree. The registered ops also return what their backward pass needs; `lstm` and
`lstm_linear` in this module return only the results for users.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.ops import _extension, framework, reference
from sensorseq.ops.choice import HALVES, Choice, choose_here, computing_dtype, n_sequences
from sensorseq.ops.cuda_kernels import PORTABLE, padded_hidden
from sensorseq.ops.gradients import differentiable, second_derivatives

POOLINGS = ("last", "mean", "max", "meanmax")
"""How hidden states become one vector."""
_SAVED_VALUES = 6  # values saved per unit and step: kSavedValues in csrc/lstm/gates.h
_PADDING = 16  # kVectorPadding in csrc/lstm/gates.h
# kTileRows, kSavedWords and kUnitFloats in csrc/cuda/layout.cuh
_CUDA_TILE = 8
_CUDA_SAVED_VALUES = 12
_PORTABLE_SAVED_VALUES = 8

_extension.load()


def pooled_size(pooling: str, hidden_size: int, n_directions: int) -> int:
    """Return the width of the pooled vector, P.

    Parameters
    ----------
    pooling : {"last", "mean", "max", "meanmax"}
    hidden_size : int
        Number of hidden units per direction, H.
    n_directions : int
        1, or 2 for a bidirectional layer.
    """
    return hidden_size * n_directions * (2 if pooling == "meanmax" else 1)


def lstm(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    *,
    lengths: Tensor | None = None,
    h_0: Tensor | None = None,
    c_0: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one LSTM layer in one or two directions and return its hidden sequence.

    Parameters
    ----------
    x : Tensor of shape (M or 1, N, T, C)
        Input of M independent models; the first dimension is 1 if all models share one input. See
        Notes for dtypes and devices.
    weight_ih, weight_hh : Tensor of shape (M, D, 4H, C) and (M, D, 4H, H)
        Weights of the gates, in the order i, f, g, o, for D = 1 or 2 directions.
    bias : Tensor of shape (M, D, 4H)
        The sum of torch's two biases.
    lengths : Tensor of shape (N,), int64, optional
        Number of valid steps of each row, 0 to T. Later steps are not read.
    h_0, c_0 : Tensor of shape (M, N, D, H), optional
        States before the first step; zeros by default.
    recurrent_mask : Tensor of shape (M, N, D, H), optional
        Factor by which the hidden state is multiplied before it enters the gates. The mask gets no
        gradient.

    Returns
    -------
    hidden : Tensor of shape (M, N, T, D * H)
        The hidden states, zero from step `lengths` on.
    h_n, c_n : Tensor of shape (M, N, D, H)
        States after the last valid step. If a second call continues the sequence from these states,
        the results are bit-identical to those of a single call on the complete sequence.

    Raises
    ------
    ArgumentError
        If an argument has a forward-mode derivative.
    RuntimeError
        If a shape, a dtype or a length is wrong; the message names the argument.

    Notes
    -----
    The kernels of this package support float32 and float64 on the CPU. On a GPU of compute
    capability 7.5 or later, they support float32, float16, bfloat16 and autocast up to a size
    limit, without gradients except on capability 9.0, if they have passed a check on that GPU. The
    value 1 of ``SENSORSEQ_CUDA_KERNELS`` skips the check, and 0 disables the kernels. Plain torch
    code or torch's own LSTM computes everything else. `sensorseq.ops.choice.choose` makes the
    choice, and ``sensorseq info`` lists all choices. With the kernels on a GPU:

    - Results in float32 have the rounding error of float32, or of TF32 above 128 units if torch's
      settings allow TF32 in RNNs. TF32 is allowed unless
      ``torch.backends.cudnn.rnn.fp32_precision`` or ``torch.backends.cudnn.allow_tf32`` forbids it.
      Half precisions are computed in float16 with float32 sums, or entirely in float32. In
      kernels for capability 9.0 alone, recurrent weights beyond 4094 and initial states beyond 255
      are out of range and give NaN.
    - Calls do not wait for the device. (Torch's LSTM waits for the device to read `lengths`.)
    - Under autocast, all results are float32, as on the CPU.
    """
    arguments = _prepare(x, lengths, weight_ih, weight_hh, bias, h_0, c_0, recurrent_mask)
    return _compute((reference.lstm, framework.lstm, _lstm), arguments, weight_hh)


def lstm_linear(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    *,
    pooling: str = "last",
    lengths: Tensor | None = None,
    h_0: Tensor | None = None,
    c_0: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one LSTM layer, pool over its valid steps and apply a linear head, in one kernel.

    This function raises the errors of `lstm`, and an ArgumentError if `pooling` is unknown.

    Parameters
    ----------
    x, weight_ih, weight_hh, bias, lengths, h_0, c_0, recurrent_mask
        As in `lstm`.
    weight_out : Tensor of shape (M, K, P)
        Weights of the head. P is ``D * H``, or twice that for ``"meanmax"``.
    bias_out : Tensor of shape (M, K)
        Bias of the head, added to the logits.
    pooling : {"last", "mean", "max", "meanmax"}, default="last"
        `last` is the final state of each direction; `meanmax` concatenates the mean and the
        maximum. The pooled vector of a row of length 0 is zero.

    Returns
    -------
    logits : Tensor of shape (M, N, K)
    h_n, c_n : Tensor of shape (M, N, D, H)
    """
    check_choice("pooling", pooling, POOLINGS)
    arguments = _prepare(
        x, lengths, weight_ih, weight_hh, bias, weight_out, bias_out, h_0, c_0, recurrent_mask
    )
    functions = reference.lstm_linear, framework.lstm_linear, _lstm_linear
    return _compute(functions, arguments, weight_hh, pooling)


def _compute(
    functions: tuple[Callable[..., tuple[Tensor, ...]], ...],
    arguments: list[Any],
    weight_hh: Tensor,
    *options: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the reference, framework or native function for a call, and return its results."""
    choice = choose_call(arguments, weight_hh)
    by_reference, by_framework, by_kernel = functions
    if choice.served_by == "reference":
        first, h_n, c_n = by_reference(*arguments, *options)
        return first, h_n, c_n
    if choice.served_by == "framework":
        return _in_framework(by_framework, arguments, *options)
    refuse_forward_mode(arguments)
    save_state, precision, dtype = _needs_state(arguments), "", None
    if choice.is_in_cuda:
        x, precision = arguments[0], choice.precision
        dtype = torch.float32 if torch.is_autocast_enabled(x.device.type) else x.dtype
        arguments = _for_cuda(arguments, choice)
    first, h_n, c_n, *_ = by_kernel(*arguments, *options, save_state, precision)
    return _in_dtype(dtype, first, h_n, c_n)


def choose_call(arguments: list[Any], weight_hh: Tensor) -> Choice:
    """Choose the code for a call from its prepared arguments, with x first and the mask last."""
    x, *_, recurrent_mask = arguments
    n_models, n_directions, _, hidden_size = weight_hh.shape
    return choose_here(
        x.device,
        x.dtype,
        hidden_size=hidden_size,
        n_channels=x.shape[-1],
        n_sequences=n_sequences(n_models, x.shape[1], n_directions),
        needs_grad_x=torch.is_grad_enabled() and x.requires_grad,
        has_mask=recurrent_mask is not None,
    )


def _prepare(x: Tensor, *others: Tensor | None) -> list[Any]:
    """Make the arguments contiguous and, on a CPU, convert autocast's half precision to float32."""
    arguments: list[Any] = [x, *others]
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        arguments = [a.float() if a is not None and a.dtype in HALVES else a for a in arguments]
    return [None if a is None else a.contiguous() for a in arguments]


def _needs_state(arguments: list[Any]) -> bool:
    """Test whether a backward pass can follow; if not, no state is saved, so memory is O(N * H)."""
    return torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in arguments)


def refuse_forward_mode(arguments: list[Any]) -> None:
    """Raise an error if an input has a forward-mode derivative, which kernels would ignore."""
    if forward_ad._current_level < 0:
        return
    for argument in arguments:
        while isinstance(argument, Tensor):
            if forward_ad.unpack_dual(argument).tangent is not None:
                raise ArgumentError(
                    "an argument carries a forward-mode derivative (torch.func.jvp, jacfwd or"
                    " forward_ad), which the kernels do not support. Use reverse mode (backward(),"
                    " torch.autograd.grad), or call sensorseq.ops.reference."
                )
            # within a torch.func transform, the tensor with the derivative may be wrapped
            wrapped = torch._C._functorch.is_functorch_wrapped_tensor(argument)
            argument = torch._C._functorch.get_unwrapped(argument) if wrapped else None


def _in_framework(
    function: Callable[..., tuple[Tensor, ...]], arguments: list[Any], *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Call a `framework` function; under autocast, use autocast's dtype and return float32."""
    x = arguments[0]
    dtype = computing_dtype(x.device.type, x.dtype)
    if not torch.is_autocast_enabled(x.device.type) or dtype not in HALVES:
        hidden, h_n, c_n = function(*arguments, *options)
        return hidden, h_n, c_n
    arguments = [a.to(dtype) if a is not None and a.is_floating_point() else a for a in arguments]
    with torch.autocast(x.device.type, enabled=False):
        return _in_dtype(torch.float32, *function(*arguments, *options))


def _for_cuda(arguments: list[Any], choice: Choice) -> list[Any]:
    """Put the arguments on one device for the CUDA kernels, in float32; project x if needed.

    Without a backward pass, the portable kernels also take half precision. Under autocast, the
    dtypes may differ.

    If x is projected, the gradients of x, weight_ih and bias come from torch's matrix product.
    """
    x, lengths, weight_ih, weight_hh, bias, *others = arguments
    has_autocast = torch.is_autocast_enabled(x.device.type)
    if not has_autocast:
        for part in (weight_ih, weight_hh, bias, *others):
            torch._check(
                part is None or part.dtype == x.dtype,
                lambda: "sensorseq: all arguments must have the dtype of x.",
            )
    if lengths is not None:
        lengths = lengths.to(weight_hh.device)
    if choice.is_projected:
        # Torch's product reads all steps, including padding that may be NaN.
        if lengths is not None:
            valid = torch.arange(x.shape[2], device=x.device) < lengths.unsqueeze(1)
            x = torch.where(valid.unsqueeze(2), x, x.new_zeros(()))
        x, bias = reference.project(x, weight_ih, bias), bias.detach()
        weight_ih = weight_hh.new_empty((*weight_hh.shape[:3], 0))
    parts = [x, weight_ih, weight_hh, bias, *others]
    if has_autocast or choice.precision != PORTABLE or _needs_state(parts):
        parts = [None if part is None else part.float() for part in parts]
    return [parts[0], lengths, *parts[1:]]


def _in_dtype(
    dtype: torch.dtype | None, first: Tensor, h_n: Tensor, c_n: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    if dtype is None:
        return first, h_n, c_n
    return first.to(dtype), h_n.to(dtype), c_n.to(dtype)


def _state_shape(x: Tensor, weight_hh: Tensor) -> tuple[int, int, int, int]:
    return weight_hh.shape[0], x.shape[1], weight_hh.shape[1], weight_hh.shape[3]


def _saved_like(x: Tensor, weight_hh: Tensor, precision: str) -> Tensor:
    n_models, n_windows, n_directions, hidden_size = _state_shape(x, weight_hh)
    if x.device.type == "cuda":
        padded = padded_hidden(precision, hidden_size)
        torch._check(padded > 0, lambda: "no CUDA kernel for this hidden_size")
        if precision == PORTABLE:
            n_rows = x.shape[2] * _PORTABLE_SAVED_VALUES + 1
            return x.new_empty((n_models, n_directions, n_windows, n_rows, padded))
        n_tiles = (n_windows + _CUDA_TILE - 1) // _CUDA_TILE
        n_rows = x.shape[2] * _CUDA_SAVED_VALUES + 2
        return x.new_empty((n_models, n_directions, n_tiles, n_rows, 4 * padded))
    padded = (hidden_size + _PADDING - 1) // _PADDING * _PADDING
    n_rows = x.shape[2] * _SAVED_VALUES + 1
    return x.new_empty((n_models, n_directions, n_windows, n_rows, padded))


def _fake_states(
    x: Tensor, weight_ih: Tensor, weight_hh: Tensor, save_state: bool, precision: str = ""
) -> tuple[Tensor, Tensor, Tensor]:
    """Return fake tensors for the last states and the saved state."""
    if x.device.type == "cuda" and reference.is_projected(x, weight_ih):
        fits = x.shape[3] == weight_hh.shape[1] * weight_hh.shape[2]
        torch._check(fits, lambda: "the projected x does not have all gates of all directions")
    else:
        fits = x.shape[3] == weight_ih.shape[3]
        torch._check(fits, lambda: "weight_ih and x have different numbers of channels")
    state = _state_shape(x, weight_hh)
    saved = _saved_like(x, weight_hh, precision) if save_state else x.new_empty(0)
    return x.new_empty(state), x.new_empty(state), saved


# The fake kernels take the same arguments as the schemas in csrc/bind/ops.cpp.
@torch.library.register_fake("sensorseq::lstm")
def _(x: Tensor, *others: Any) -> tuple[Tensor, ...]:
    _, weight_ih, weight_hh, _, _, _, _, save_state, *precision = others
    n_models, n_windows, n_directions, hidden_size = _state_shape(x, weight_hh)
    hidden = x.new_empty((n_models, n_windows, x.shape[2], n_directions * hidden_size))
    return hidden, *_fake_states(x, weight_ih, weight_hh, save_state, *precision)


@torch.library.register_fake("sensorseq::lstm_linear")
def _(x: Tensor, *others: Any) -> tuple[Tensor, ...]:
    _, weight_ih, weight_hh, _, weight_out, _, _, _, _, pooling, save_state, *precision = others
    n_models, n_windows, n_directions, hidden_size = _state_shape(x, weight_hh)
    width = pooled_size(pooling, hidden_size, n_directions)
    torch._check(weight_out.shape[2] == width, lambda: "weight_out does not fit the pooled vector")
    h_n, c_n, saved = _fake_states(x, weight_ih, weight_hh, save_state, *precision)
    logits = x.new_empty((n_models, n_windows, weight_out.shape[1]))
    return logits, h_n, c_n, x.new_empty((n_models, n_windows, width)), saved


@torch.library.register_fake("sensorseq::lstm_backward")
def _(*arguments: Any) -> tuple[Tensor, ...]:
    _, _, _, x, _, *weights, h_0, c_0, _, _, needs_grad_x = arguments[:13]
    return _fake_gradients(x, weights, h_0, c_0, needs_grad_x)


@torch.library.register_fake("sensorseq::lstm_linear_backward")
def _(*arguments: Any) -> tuple[Tensor, ...]:
    _, _, _, x, _, *weights, h_0, c_0, _, _, _, _, needs_grad_x = arguments[:16]
    bias_out = x.new_empty(weights[-1].shape[:2])
    return _fake_gradients(x, [*weights, bias_out], h_0, c_0, needs_grad_x)


def _fake_gradients(
    x: Tensor, weights: Sequence[Tensor], h_0: Tensor | None, c_0: Tensor | None, needs_grad_x: bool
) -> tuple[Tensor, ...]:
    grad_x = x.new_empty((weights[1].shape[0], *x.shape[1:])) if needs_grad_x else x.new_empty(0)
    states = (x.new_empty(0) if part is None else torch.empty_like(part) for part in (h_0, c_0))
    return (grad_x, *map(torch.empty_like, weights), *states)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *arguments, _, ctx.precision = inputs
    # only lstm_linear passes a pooling
    ctx.pooling = [arguments.pop()] if isinstance(arguments[-1], str) else []
    saved = output[3:]
    ctx.save_for_backward(*arguments, *saved)
    # Keep autograd from allocating zeros as large as the saved state at every step.
    ctx.mark_non_differentiable(*saved)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, *grads_of_results: Tensor | None) -> tuple[Any, ...]:
    n_saved = 1 + len(ctx.pooling)
    tensors = ctx.saved_tensors  # activation checkpointing allows only one access
    arguments, saved = tensors[:-n_saved], tensors[-n_saved:]
    no_options = (None,) * (len(ctx.pooling) + 2)
    grads = [None if g is None else g.contiguous() for g in grads_of_results[:3]]
    if all(g is None for g in grads):
        return (None,) * len(arguments) + no_options
    if torch.is_grad_enabled():  # create_graph=True needs a graph, which a kernel does not build
        run: Any = reference.lstm_linear if ctx.pooling else reference.lstm
        results = second_derivatives(lambda *tensors: run(*tensors, *ctx.pooling), arguments, grads)
        return (*results, *no_options)
    backward, inputs = torch.ops.sensorseq.lstm_backward.default, arguments
    if ctx.pooling:
        backward, bias_out = torch.ops.sensorseq.lstm_linear_backward.default, arguments[6]
        inputs = (*arguments[:6], *arguments[7:])
        if grads[0] is None:
            grads[0] = bias_out.new_zeros((*saved[0].shape[:2], bias_out.shape[1]))
    needs_grad_x = ctx.needs_input_grad[0]
    results = backward(*grads, *inputs, *saved, *ctx.pooling, needs_grad_x, ctx.precision)
    of_x, *others = by_input(results, arguments[0], *arguments[-3:-1], needs_grad_x=needs_grad_x)
    return (of_x, None, *others, None, *no_options)


def by_input(
    grads: tuple[Tensor, ...],
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    *,
    needs_grad_x: bool,
) -> tuple[Tensor | None, ...]:
    """Return a kernel's gradients of x, weights and states in the form that autograd expects.

    The kernel returns empty tensors for gradients that are not needed, and a separate gradient of x
    for each model, even if the models share x.
    """
    of_x, *of_weights, of_h_0, of_c_0 = grads
    if x.shape[0] == 1 and of_x.shape[0] != 1 and needs_grad_x:
        of_x = of_x.sum(0, keepdim=True)
    return (
        of_x if needs_grad_x else None,
        *of_weights,
        None if h_0 is None else of_h_0,
        None if c_0 is None else of_c_0,
    )


_lstm = differentiable("lstm", _gradients, _setup)
_lstm_linear = differentiable("lstm_linear", _gradients, _setup)
for _op in ("sensorseq::lstm", "sensorseq::lstm_linear"):
    for _device_type in ("cpu", "cuda"):
        torch.library.register_autocast(_op, _device_type, torch.float32)
