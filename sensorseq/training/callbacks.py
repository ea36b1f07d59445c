"""Callback: what may watch a fit, and end it early."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import nn

from sensorseq.errors import ArgumentError
from sensorseq.history import History
from sensorseq.training.config import TrainingConfig

HOOKS = ("on_fit_begin", "on_epoch_end", "on_fit_end")


class Callback:
    """Three empty hooks; override what is needed. Any object with one of these methods will do.

    The module is in evaluation mode in every hook, and holds the weights that were validated (the
    average of the weights with `ema_decay`). A hook may read it; a change to its weights is a
    change to the training.
    """

    def on_fit_begin(self, module: nn.Module, config: TrainingConfig) -> None:
        """Before the first epoch."""

    def on_epoch_end(self, module: nn.Module, history: History) -> bool | None:
        """After each epoch; `history[-1]` is its row. Return True to end training."""

    def on_fit_end(self, module: nn.Module, history: History) -> None:
        """After the last epoch, best weights restored; also when training failed."""


def check_callbacks(callbacks: Any) -> tuple[Any, ...]:
    """Return the callbacks as a tuple.

    Raises
    ------
    ArgumentError
        If `callbacks` is not a sequence, or an element has none of the hooks.
    """
    if callbacks is None:
        return ()
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise ArgumentError(
            f"callbacks={callbacks!r} must be a list of objects with {', '.join(HOOKS)}."
        )
    for position, callback in enumerate(callbacks):
        if isinstance(callback, type) or not any(hasattr(callback, hook) for hook in HOOKS):
            raise ArgumentError(
                f"callbacks[{position}] is {callback!r}; expected an object with at least one of"
                f" {', '.join(HOOKS)}."
            )
    return tuple(callbacks)


def notify(callbacks: Iterable[Any], hook: str, *arguments: Any) -> bool:
    """Call one hook of every callback that has it; say whether one asked to end training."""
    answers = [
        getattr(callback, hook)(*arguments) for callback in callbacks if hasattr(callback, hook)
    ]
    # A comparison of figures gives numpy's own True; an object that is merely truthy asks nothing.
    return any(isinstance(answer, bool | np.bool_) and bool(answer) for answer in answers)
