"""An LSTM layer, pooling, a linear head and the loss, with the gradients, in one pass.

The forward and backward passes run tile by tile, so that data used by both passes stays in the
cache. The gradients are therefore ready together with the loss; the backward pass of autograd only
scales them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.ops import reference
from sensorseq.ops.gradients import differentiable, second_derivatives
from sensorseq.ops.lstm_linear import (
    POOLINGS,
    _fake_gradients,
    _needs_state,
    _prepare,
    by_input,
    choose_call,
    lstm_linear,
    pooled_size,
    refuse_forward_mode,
)

LOSSES = ("cross_entropy", "focal")
"""The names of the losses that the operator computes."""
_N_TENSORS = 12  # number of leading tensor arguments of the op


def check_loss(loss: str, label_smoothing: float) -> None:
    """Raise an ArgumentError if the loss is unknown or the smoothing is out of range.

    Parameters
    ----------
    loss : str
        One of `LOSSES`.
    label_smoothing : float
        Fraction of the target that is spread over the classes, in [0, 1).
    """
    check_choice("loss", loss, LOSSES)
    if not 0.0 <= label_smoothing < 1.0:
        raise ArgumentError(f"label_smoothing={label_smoothing} must lie in [0, 1).")


def lstm_linear_loss(
    x: Tensor,
    class_index: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    *,
    pooling: str = "last",
    loss: str = "cross_entropy",
    label_smoothing: float = 0.0,
    lengths: Tensor | None = None,
    sample_weight: Tensor | None = None,
    h_0: Tensor | None = None,
    c_0: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run `lstm_linear` and compute the mean loss over windows, with its gradients.

    If gradients are required, they are computed in the same pass; autograd's backward pass only
    scales them and may run more than once. Otherwise, only the forward pass runs. The function
    raises the errors of `lstm_linear` and `check_loss`, and a RuntimeError if a class is out of
    range.

    Parameters
    ----------
    x, weight_ih, weight_hh, bias, weight_out, bias_out, pooling
        As in `lstm_linear`.
    lengths, h_0, c_0, recurrent_mask
        As in `lstm_linear`.
    class_index : Tensor of shape (M or 1, N), int64
        Class index of each window, 0 to K - 1.
    loss : {"cross_entropy", "focal"}, default="cross_entropy"
        See `sensorseq.ops.reference.window_losses`.
    label_smoothing : float, default=0.0
        As in `check_loss`.
    sample_weight : Tensor of shape (M or 1, N), optional
        Factor by which the loss of each window is multiplied. The factors get no gradient.

    Returns
    -------
    mean_loss : Tensor of shape (M,)
        ``sum(sample_weight * loss) / N`` for each model.
    logits : Tensor of shape (M, N, K)
        The logits are not differentiable: gradients flow only through `mean_loss`.
    """
    check_choice("pooling", pooling, POOLINGS)
    check_loss(loss, label_smoothing)
    weight = None if sample_weight is None else sample_weight.detach()
    arguments = _prepare(
        *(x, lengths, class_index, weight, weight_ih, weight_hh, bias, weight_out, bias_out),
        *(h_0, c_0, recurrent_mask),
    )
    options = (pooling, loss, label_smoothing)
    choice = choose_call(arguments, weight_hh)
    if choice.served_by != "native" or choice.is_in_cuda:  # the fused pass exists only on the CPU
        x, lengths, class_index, weight, *others, h_0, c_0, recurrent_mask = arguments
        logits, _, _ = lstm_linear(
            *(x, *others),
            pooling=pooling,
            lengths=lengths,
            h_0=h_0,
            c_0=c_0,
            recurrent_mask=recurrent_mask,
        )
        mean_loss = reference.mean_loss(logits, class_index, weight, loss, label_smoothing)
        return mean_loss, logits.detach()
    refuse_forward_mode(arguments)
    needs_grad = _needs_state(arguments)
    needs_grad_x = needs_grad and arguments[0].requires_grad
    mean_loss, logits, *_ = _lstm_linear_loss(*arguments, *options, needs_grad, needs_grad_x)
    return mean_loss, logits


@torch.library.register_fake("sensorseq::lstm_linear_loss")
def _(x: Tensor, *others: Any) -> tuple[Tensor, ...]:
    _, class_index, _, *weights, h_0, c_0, _, pooling, _, _, needs_grad, needs_grad_x = others
    weight_ih, weight_hh, _, weight_out, _ = weights
    n_models, n_directions, _, hidden_size = weight_hh.shape
    torch._check(
        x.shape[3] == weight_ih.shape[3],
        lambda: "weight_ih and x have different numbers of channels",
    )
    torch._check(
        class_index.shape[1] == x.shape[1],
        lambda: "class_index and x have different numbers of windows",
    )
    width = pooled_size(pooling, hidden_size, n_directions)
    torch._check(weight_out.shape[2] == width, lambda: "weight_out does not fit the pooled vector")
    results = (x.new_empty(n_models), x.new_empty((n_models, x.shape[1], weight_out.shape[1])))
    if not needs_grad:
        return (*results, *(x.new_empty(0) for _ in range(8)))
    return (*results, *_fake_gradients(x, weights, h_0, c_0, needs_grad_x))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    tensors, (*ctx.options, needs_grad, ctx.needs_grad_x) = inputs[:_N_TENSORS], inputs[_N_TENSORS:]
    _, *others = output
    _, *grads = others
    if not needs_grad:
        raise ArgumentError("lstm_linear_loss needs needs_grad=True if an input requires grad.")
    ctx.save_for_backward(*tensors, *grads)
    ctx.mark_non_differentiable(*others)
    ctx.set_materialize_grads(False)


def _reference(pooling: str, *options: Any) -> Callable[..., list[Tensor]]:
    """Return the reference implementation of the op with these options."""

    def run(x: Tensor, lengths: Tensor, class_index: Tensor, weight: Any, *others: Any) -> Any:
        logits, _, _ = reference.lstm_linear(x, lengths, *others, pooling)  # type: ignore[call-arg]
        return [reference.mean_loss(logits, class_index, weight, *options)]

    return run


def _gradients(ctx: Any, grad_loss: Tensor | None, *_: Any) -> tuple[Any, ...]:
    saved = ctx.saved_tensors  # activation checkpointing allows only one access
    tensors, grads = saved[:_N_TENSORS], saved[_N_TENSORS:]
    nothing = (None,) * (len(ctx.options) + 2)
    if grad_loss is None:
        return (None,) * _N_TENSORS + nothing
    if torch.is_grad_enabled():  # create_graph=True needs a graph, which a kernel does not build
        return (
            *second_derivatives(_reference(*ctx.options), tensors, [grad_loss]),
            *nothing,
        )
    scaled = tuple(
        grad * grad_loss.view(-1, *(1,) * (grad.dim() - 1)) if grad.numel() else grad
        for grad in grads
    )
    of_x, *others = by_input(
        scaled, tensors[0], tensors[9], tensors[10], needs_grad_x=ctx.needs_grad_x
    )
    return (of_x, *(None, None, None), *others, None, *nothing)


_lstm_linear_loss = differentiable("lstm_linear_loss", _gradients, _setup)
torch.library.register_autocast("sensorseq::lstm_linear_loss", "cpu", torch.float32)
