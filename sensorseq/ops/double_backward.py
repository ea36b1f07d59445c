"""Second derivatives of the native ops, recomputed through the reference.

Curvature and gradient penalties are rare and small, so no kernel is kept for them: the backward
ops are differentiated by running the reference forward again and differentiating it twice.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sensorseq.ops import _extension, reference
from sensorseq.ops.eager import differentiable

_extension.load()


def _setup_lstm_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, _saved, ctx.needs_grad_x, _ = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _setup_lstm_linear_backward(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]
) -> None:
    *tensors, _pooled, _saved, ctx.pooling, ctx.needs_grad_x, _ = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _lstm_second(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    *grad_outputs, x, lengths, weight_ih, weight_hh, bias, h_0, c_0, mask = ctx.saved_tensors
    with torch.enable_grad():
        grad_outputs, leaves = (
            _leaves(grad_outputs),
            _leaves([x, weight_ih, weight_hh, bias, h_0, c_0]),
        )
        x_of_each = leaves[0].expand(weight_hh.shape[0], *x.shape[1:])
        inputs = [x_of_each, *leaves[1:]]
        outputs = reference.lstm(
            inputs[0], lengths, inputs[1], inputs[2], inputs[3], inputs[4], inputs[5], mask
        )
        wanted = [x_of_each if ctx.needs_grad_x else None, *inputs[1:]]
        second = _second(outputs, grad_outputs, wanted, grads, [*grad_outputs, *leaves])
    of_grads, (of_x, *of_weights), of_states = second[:3], second[3:7], second[7:]
    return (*of_grads, of_x, None, *of_weights, *of_states, *(None,) * 4)


def _lstm_linear_second(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    *grad_outputs, x, lengths, weight_ih, weight_hh, bias, weight_out, h_0, c_0, mask = (
        ctx.saved_tensors
    )
    with torch.enable_grad():
        grad_outputs, leaves = (
            _leaves(grad_outputs),
            _leaves([x, weight_ih, weight_hh, bias, weight_out, h_0, c_0]),
        )
        # the gradients do not depend on the value of bias_out, but one of them is its own
        bias_out = x.new_zeros(weight_out.shape[:2], requires_grad=True)
        x_of_each = leaves[0].expand(weight_hh.shape[0], *x.shape[1:])
        _, w_ih, w_hh, b, w_out, h, c = leaves
        outputs = reference.lstm_linear(
            x_of_each, lengths, w_ih, w_hh, b, w_out, bias_out, h, c, mask, ctx.pooling
        )
        wanted = [x_of_each if ctx.needs_grad_x else None, w_ih, w_hh, b, w_out, bias_out, h, c]
        second = _second(outputs, grad_outputs, wanted, grads, [*grad_outputs, *leaves])
    of_grads, (of_x, *of_weights), of_states = second[:3], second[3:8], second[8:]
    return (*of_grads, of_x, None, *of_weights, *of_states, *(None,) * 6)


def lstm_linear_loss(
    grad_loss: Tensor, tensors: Sequence[Tensor | None], options: Sequence[Any]
) -> list[Tensor | None]:
    """Compute the gradients of the reference's loss by each of `tensors`, to be differentiated."""
    # views: one tensor given for two arguments has a gradient for each
    inputs = [None if t is None else t.view_as(t) for t in tensors]
    mean_loss, _ = reference.lstm_linear_loss(*inputs, *options)  # type: ignore[arg-type]
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    found = iter(
        torch.autograd.grad(mean_loss, wanted, grad_loss, create_graph=True, allow_unused=True)
    )
    return [next(found) if t is not None and t.requires_grad else None for t in inputs]


def _leaves(tensors: list[Any]) -> list[Any]:
    return [None if t is None else t.detach().requires_grad_() for t in tensors]


def _second(
    outputs: tuple[Tensor, ...],
    grad_outputs: list[Any],
    wanted: list[Any],
    grads: tuple[Tensor | None, ...],
    leaves: list[Any],
) -> list[Tensor | None]:
    """Differentiate `wanted`'s gradients, weighted by `grads`, by every leaf."""
    paired = [(o, g) for o, g in zip(outputs, grad_outputs, strict=True) if g is not None]
    sources = [w for w in wanted if w is not None]
    firsts = iter(
        torch.autograd.grad(
            [o for o, _ in paired],
            sources,
            [g for _, g in paired],
            create_graph=True,
            allow_unused=True,
        )
    )
    by_input = [None if w is None else next(firsts) for w in wanted]
    terms = [
        (first, grad)
        for first, grad in zip(by_input, grads, strict=True)
        if first is not None and grad is not None and first.requires_grad
    ]
    known = [leaf for leaf in leaves if leaf is not None]
    if not terms:
        return [None] * len(leaves)
    seconds = iter(
        torch.autograd.grad(
            [first for first, _ in terms], known, [grad for _, grad in terms], allow_unused=True
        )
    )
    return [None if leaf is None else next(seconds) for leaf in leaves]


lstm_backward = differentiable("lstm_backward", _lstm_second, _setup_lstm_backward)
lstm_linear_backward = differentiable(
    "lstm_linear_backward", _lstm_linear_second, _setup_lstm_linear_backward
)
