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


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.needs_grad_x, _ = inputs
    ctx.pooling = [tensors.pop()] if isinstance(tensors[-1], str) else []  # of lstm_linear
    n_saved = 1 + len(ctx.pooling)  # the state, and the pooled vector before it
    ctx.save_for_backward(*tensors[:-n_saved])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    of_h, of_h_n, of_c_n, x, lengths, weight_ih, weight_hh, *others, mask = ctx.saved_tensors
    with torch.enable_grad():
        grad_outputs = _leaves([of_h, of_h_n, of_c_n])
        leaves = _leaves([x, weight_ih, weight_hh, *others])
        x_of_each = leaves[0].expand(weight_hh.shape[0], *x.shape[1:])
        *weights, h_0, c_0 = leaves[1:]
        if ctx.pooling:
            # the gradients do not depend on the value of bias_out, but one of them is its own
            weights.append(x.new_zeros(weights[-1].shape[:2], requires_grad=True))
        run: Any = reference.lstm_linear if ctx.pooling else reference.lstm
        outputs = run(x_of_each, lengths, *weights, h_0, c_0, mask, *ctx.pooling)
        wanted = [x_of_each if ctx.needs_grad_x else None, *weights, h_0, c_0]
        second = _second(outputs, grad_outputs, wanted, grads, [*grad_outputs, *leaves])
    n_others = 4 + 2 * len(ctx.pooling)  # mask, what was saved, and options
    return (*second[:4], None, *second[4:], *(None,) * n_others)


def lstm_linear_loss(
    grad_loss: Tensor, tensors: Sequence[Tensor | None], options: Sequence[Any]
) -> list[Tensor | None]:
    """Compute the gradients of the reference's loss by each of `tensors`, to be differentiated."""
    # views: one tensor given for two arguments has a gradient for each
    inputs: list[Any] = [None if t is None else t.view_as(t) for t in tensors]
    (x, lengths, class_index, weight, *others), (pooling, *of_loss) = inputs, options
    logits, _, _ = reference.lstm_linear(x, lengths, *others, pooling)  # type: ignore[call-arg]
    mean_loss = reference.mean_loss(logits, class_index, weight, *of_loss)
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


lstm_backward = differentiable("lstm_backward", _gradients, _setup)
lstm_linear_backward = differentiable("lstm_linear_backward", _gradients, _setup)
