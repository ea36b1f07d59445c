"""Callback: observe a fit, and stop it early."""

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from torch import nn

from sensorseq.errors import ArgumentError
from sensorseq.history import History
from sensorseq.training.config import TrainingConfig

__all__ = ["Callback"]

HOOKS = ("on_fit_begin", "on_epoch_begin", "on_epoch_end", "on_fit_end")


class Callback:
    """Base class with four empty hooks; any object with at least one of these methods also works.

    In every hook, the module is in evaluation mode and contains the weights that are validated
    (with `ema_decay`, the averaged weights). A hook may read the weights; changing them affects the
    training. There is no hook for single steps, because the native engine runs all steps of an
    epoch in one call.

    If a hook raises an error, training stops as if the hook had returned True: the best weights are
    restored, `on_fit_end` of every callback is called, and then the error is raised.
    """

    def on_fit_begin(self, module: nn.Module, config: TrainingConfig) -> None:
        """Run before the first epoch.

        Parameters
        ----------
        module : torch.nn.Module
            The network.
        config : TrainingConfig
            The training settings.
        """

    def on_epoch_begin(self, module: nn.Module, history: History) -> None:
        """Run before each epoch; `history` contains the rows of earlier epochs.

        Parameters
        ----------
        module : torch.nn.Module
            The network.
        history : History
            Rows of the epochs so far.
        """

    def on_epoch_end(self, module: nn.Module, history: History) -> bool | None:
        """Run after each epoch, whose row is `history[-1]`; return True to stop training.

        Parameters
        ----------
        module, history
            As in `on_epoch_begin`.
        """

    def on_fit_end(self, module: nn.Module, history: History) -> None:
        """Run after the last epoch, with the best weights restored, or after training has failed.

        Parameters
        ----------
        module, history
            As in `on_epoch_begin`.
        """


class NoProgress:
    """A progress display that shows nothing; `ProgressReport` overrides its methods."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def callbacks(self) -> tuple[Any, ...]:
        """The callbacks that report the epochs of the fit's networks."""
        return ()

    def say(self, stage: str) -> None:
        """Show a message before the first epoch, or between two networks."""

    def expect(self, n_networks: int) -> None:
        """Set the number of networks that will be trained."""

    def close(self) -> None:
        """Show that the fit is finished."""


def check_callbacks(callbacks: Any) -> tuple[Any, ...]:
    """Return the callbacks as a tuple; raise an `ArgumentError` if one of them has no hook."""
    if callbacks is None:
        return ()
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise ArgumentError(
            f"callbacks={callbacks!r} must be a list of objects with methods {', '.join(HOOKS)}."
        )
    for position, callback in enumerate(callbacks):
        if isinstance(callback, type) or not any(hasattr(callback, hook) for hook in HOOKS):
            raise ArgumentError(
                f"callbacks[{position}] is {callback!r}; expected an object with at least one of"
                f" {', '.join(HOOKS)}."
            )
    return tuple(callbacks)


class CallbackList:
    """Calls the hooks of a run's callbacks, and stores the first error that a hook raises."""

    def __init__(self, callbacks: Iterable[Any]) -> None:
        self._callbacks = tuple(callbacks)
        self.error: Exception | None = None

    def __len__(self) -> int:
        return len(self._callbacks)

    def notify(self, hook: str, *arguments: Any) -> bool:
        """Call `hook` on all callbacks that define it; return True if any of them returns True.

        An error in a hook also ends training, but the hooks of the other callbacks are still
        called.
        """
        answers = []
        for callback in self._callbacks:
            if not hasattr(callback, hook):
                continue
            try:
                answers.append(getattr(callback, hook)(*arguments))
            except Exception as error:
                error.add_note(f"raised in {hook} of the callback {type(callback).__name__}")
                if self.error is None:
                    self.error = error
                else:
                    self.error.add_note(f"then {type(callback).__name__}.{hook}: {error!r}")
                answers.append(True)
        # A hook may return numpy's True, which is the result of comparing numpy numbers; other
        # truthy objects do not stop training.
        return any(isinstance(answer, bool | np.bool_) and bool(answer) for answer in answers)

    def explain(self, error: BaseException | None) -> None:
        """Add the stored error of a callback, as a note, to an error that ended training."""
        if error is not None and self.error is not None:
            error.add_note(f"also: {self.error!r} {', '.join(self.error.__notes__)}")
