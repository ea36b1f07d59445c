"""Gradients of a registered op, with a fast path for plain eager mode.

`torch.library.register_autograd` supports tracing, transforms and modes, but takes 0.1 ms per call
in eager mode, several times as long as a small step of the kernel. An `autograd.Function` that
calls the same Python functions avoids this cost.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def differentiable(
    name: str,
    gradients: Callable[..., tuple[Any, ...]],
    setup: Callable[[Any, tuple[Any, ...], Any], None],
) -> Callable[..., Any]:
    """Register an op's gradients; return a function that calls the op with positional arguments."""
    torch.library.register_autograd(f"sensorseq::{name}", gradients, setup_context=setup)
    op = getattr(torch.ops.sensorseq, name).default

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                output = op(*arguments)
            setup(ctx, arguments, output)
            return output

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
            return gradients(ctx, *grads)

    def call(*arguments: Any) -> Any:
        if not _is_eager(arguments):
            return op(*arguments)
        if torch.is_grad_enabled() and any(
            isinstance(a, Tensor) and a.requires_grad for a in arguments
        ):
            return Eager.apply(*arguments)  # type: ignore[no-untyped-call]
        with torch._C._AutoDispatchBelowAutograd():
            return op(*arguments)

    return call


def _is_eager(arguments: tuple[Any, ...]) -> bool:
    """Test that no tracer, transform, mode or tensor subclass can intercept the op."""
    if torch.compiler.is_compiling():
        return False
    tensors = [a for a in arguments if isinstance(a, Tensor)]
    return (
        all(type(a) in (Tensor, torch.nn.Parameter) for a in tensors)
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._are_functorch_transforms_active()
        and torch._C._get_tracing_state() is None
        and not any(torch.is_autocast_enabled(kind) for kind in {a.device.type for a in tensors})
    )


def second_derivatives(
    run: Callable[..., Sequence[Tensor]], tensors: Sequence[Any], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Return differentiable gradients of `run` with respect to each of `tensors`.

    `run` is the reference implementation. There is no kernel for second derivatives, because they
    are rarely needed (for curvature or gradient penalties). `grads` contains the gradient of each
    output of `run`, or None if nothing depends on that output.
    """
    # views, so that a tensor passed as two arguments gets a gradient for each argument
    inputs: list[Any] = [None if t is None else t.view_as(t) for t in tensors]
    outputs = run(*inputs)
    paired = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
    needing_grad = [t for t in inputs if t is not None and t.requires_grad]
    gradients = iter(
        torch.autograd.grad(
            [output for output, _ in paired],
            needing_grad,
            [grad for _, grad in paired],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(gradients) if t is not None and t.requires_grad else None for t in inputs]
