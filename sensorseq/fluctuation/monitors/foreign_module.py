"""What is given as make_model, make_optimizer and make_scheduler, checked and in one form."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from sensorseq.errors import ArgumentError
from sensorseq.training.randomness import isolated_generators


class ModuleCall(nn.Module):
    """A custom module under the call ``module(X, lengths)``.

    Parameters
    ----------
    module : torch.nn.Module
        Called as ``module(X)``, or ``module(X, lengths)`` where its `forward` has a second
        argument that must be given or is called `lengths`.
    """

    PREFIX = "module."  # of the names of its parameters

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(module.forward).parameters.values()
        second = [part for part in parameters if part.kind in positional][1:2]
        self.takes_lengths = any(p.default is p.empty or p.name == "lengths" for p in second)

    def forward(self, X: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return logits (n, K) of windows (n, t, c)."""
        if self.takes_lengths and lengths is None:
            lengths = torch.full((len(X),), X.shape[1], dtype=torch.int64, device=X.device)
        outputs: Tensor = self.module(X, lengths) if self.takes_lengths else self.module(X)
        return outputs


def make_module(make_model: Callable[[], Any], seed: int) -> ModuleCall:
    """Return a new module; its first weights are drawn from `seed`.

    Raises
    ------
    ArgumentError
        If it is none, or has nothing to train.
    """
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    with isolated_generators(seed, torch.device(kind)):
        module = make_model()
    if not isinstance(module, nn.Module):
        raise ArgumentError(
            f"make_model returned {type(module).__name__}; it takes no argument and returns a new"
            " torch.nn.Module."
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ArgumentError("make_model returned a module without a parameter to train.")
    return ModuleCall(module)


def check_new(first: ModuleCall, second: ModuleCall) -> None:
    """Raise an ArgumentError when two modules are one, or share a parameter."""
    own = {id(parameter) for parameter in first.parameters()}
    if first.module is second.module or any(id(part) in own for part in second.parameters()):
        raise ArgumentError(
            "make_model returned the same module, or the same parameters, twice; every re-run"
            " needs its own: build the module inside make_model, such as lambda: MyModel()."
        )


def check_outputs(module: ModuleCall, X: Tensor, lengths: Tensor | None, seed: int) -> int:
    """Return K of the logits (n, K) that a module gives for a few windows.

    Raises
    ------
    ArgumentError
        If they have another shape or are not floating-point.
    """
    with isolated_generators(seed, X.device), torch.no_grad():
        outputs = module.eval()(X, lengths)
    what = type(outputs).__name__
    if isinstance(outputs, Tensor):
        if outputs.ndim == 2 and len(outputs) == len(X) and outputs.shape[1] > 1:
            if not outputs.is_floating_point():
                raise ArgumentError(
                    f"the module returned {outputs.dtype}; logits are floating-point."
                )
            return int(outputs.shape[1])
        what = f"shape {tuple(outputs.shape)}"
    raise ArgumentError(
        f"the module returned {what} for windows of shape {tuple(X.shape)}; it must return logits,"
        f" a tensor of shape ({len(X)}, n_classes)."
    )


def check_optimizer(optimizer: Any, parameters: Sequence[Tensor]) -> Optimizer:
    """Return what `make_optimizer` returned when a run can step with it.

    Raises
    ------
    ArgumentError
        If it is no optimizer, is one of other parameters than it was given, or needs a closure.
    """
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(
            f"make_optimizer returned {type(optimizer).__name__}; it gets the parameters of the"
            " module and returns a torch.optim.Optimizer of them."
        )
    own = {id(parameter) for parameter in parameters}
    if not all(id(part) in own for group in optimizer.param_groups for part in group["params"]):
        raise ArgumentError(
            "make_optimizer returned an optimizer of other parameters than it was given; make it"
            " of its argument, such as lambda parameters: torch.optim.Adam(parameters, lr=1e-3)."
        )
    step = inspect.signature(optimizer.step).parameters.get("closure")
    if step is not None and step.default is inspect.Parameter.empty:
        raise ArgumentError(
            f"{type(optimizer).__name__} needs a closure for its step, which no re-run gives."
        )
    return optimizer


def rates_of(
    optimizer: Optimizer, make_scheduler: Callable[[Optimizer], Any] | None, n_epochs: int
) -> NDArray[np.float64]:
    """Return the learning rate of each epoch and parameter group, of shape (E, G).

    The scheduler is stepped after each epoch without any training, so the rates are known
    beforehand. The optimizer must be a new one, and is of no use afterwards.

    Raises
    ------
    ArgumentError
        If the rates depend on what happens, or the scheduler changes something else.
    """
    scheduler = None if make_scheduler is None else make_scheduler(optimizer)
    before = _others(optimizer)
    rates = [[float(group["lr"]) for group in optimizer.param_groups]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no step is taken before that of the scheduler
        for _ in range(n_epochs - 1):
            try:
                if scheduler is not None:
                    scheduler.step()
            except TypeError as error:
                raise ArgumentError(
                    f"{type(scheduler).__name__} cannot be stepped without a result ({error});"
                    " re-runs need rates that are known beforehand: take a scheduler that is"
                    " stepped with step() after each epoch."
                ) from error
            rates.append([float(group["lr"]) for group in optimizer.param_groups])
    if before != _others(optimizer):
        raise ArgumentError(
            f"{type(scheduler).__name__} changes more than the learning rate, which a re-run does"
            " not repeat; switch that off (cycle_momentum=False)."
        )
    return np.array(rates)


def _others(optimizer: Optimizer) -> list[dict[str, str]]:
    left_out = ("params", "lr", "initial_lr")
    return [
        {name: repr(value) for name, value in group.items() if name not in left_out}
        for group in optimizer.param_groups
    ]
