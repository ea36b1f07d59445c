"""Second derivatives of the native ops, through the reference.

Curvature and gradient penalties are rare and small, so no kernel is kept for them: gradients that
are to be differentiated are those of the reference.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def gradients(
    run: Callable[..., Sequence[Tensor]], tensors: Sequence[Any], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Return the gradients of `run` by each of `tensors`, to be differentiated.

    `grads` are those of the outputs of `run`, None where nothing depends on one.
    """
    # views: one tensor given for two arguments has a gradient for each
    inputs: list[Any] = [None if t is None else t.view_as(t) for t in tensors]
    outputs = run(*inputs)
    paired = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    found = iter(
        torch.autograd.grad(
            [output for output, _ in paired],
            wanted,
            [grad for _, grad in paired],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(found) if t is not None and t.requires_grad else None for t in inputs]
