"""Train in several processes, each with its share of every batch."""

import atexit
import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from sensorseq.errors import ArgumentError, EnvironmentProblemError, InputError
from sensorseq.training.batches import TrainingData
from sensorseq.training.config import TrainingConfig
from sensorseq.training.randomness import CounterDropout
from sensorseq.training.stream import StreamedData

_Value = TypeVar("_Value")
TIMEOUT = datetime.timedelta(minutes=10)  # longest wait for a process that does not respond


class Ranks:
    """The processes of a training, and this process's rank.

    Every process draws the same batches, crops and dropout masks, and uses its rows of them: row i
    belongs to rank i modulo `world`. Gradients are summed before they are clipped, so that all
    processes have the same weights, bit for bit.
    """

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world

    @property
    def is_first(self) -> bool:
        """True for the process that writes files and shows progress."""
        return self.rank == 0

    def begin(
        self,
        module: nn.Module,
        config: TrainingConfig,
        train: TrainingData | StreamedData,
        validation: TrainingData | StreamedData | None,
    ) -> None:
        """Check that all processes have equal inputs; share the first one's weights."""
        plain = {k: v for k, v in vars(config).items() if isinstance(v, int | float | str | None)}
        self.check_same("arguments", [f"{name}={value!r}" for name, value in plain.items()])
        self.check_data(train)
        self.check_data(validation)
        self.share_module(module)

    def share(self, batch: TrainingData) -> TrainingData:
        """Return this process's rows of a batch."""
        return batch.take(torch.arange(self.rank, len(batch), self.world), batch.X.device)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place."""
        with self._reaching():
            dist.all_reduce(tensor)
        return tensor

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Raise an `EnvironmentProblemError` if another process is gone."""
        try:
            yield
        except RuntimeError as error:
            raise EnvironmentProblemError(
                f"rank {self.rank} of {self.world} lost the others ({_first_line(error)}). One of"
                f" them ended, or sent nothing for {_minutes()}; see its own message."
            ) from error

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over the processes; a process without any contributes zeros."""
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters]
        )
        self.sum(flat)
        for parameter, total in zip(
            parameters, flat.split([p.numel() for p in parameters]), strict=True
        ):
            parameter.grad = total.view_as(parameter)

    def any(self, said: bool) -> bool:
        """Return True if the value is true in any process."""
        return bool(self.sum(torch.tensor([float(said)])).item())

    def wait(self) -> None:
        """Wait for every process."""
        self.any(False)

    def agree(self, value: Any) -> Any:
        """Return the first process's value."""
        said = [value]
        with self._reaching():
            dist.broadcast_object_list(said, src=0)
        return said[0]

    def check_same(self, what: str, facts: Sequence[Any]) -> None:
        """Raise an `InputError` in every process that names the first rank unlike rank 0."""
        everyone: list[Any] = [None] * self.world
        with self._reaching():
            dist.all_gather_object(everyone, list(facts))
        for rank, theirs in enumerate(everyone):
            for first, other in zip(everyone[0], theirs, strict=True):
                if first != other:
                    raise InputError(
                        f"rank {rank} has other {what} than rank 0 ({other} and {first})."
                        " Give every process the same windows and arguments; fit distributes the"
                        " work itself."
                    )

    def check_data(self, data: TrainingData | StreamedData | None) -> None:
        """Raise in every process if their windows differ."""
        if data is None:
            self.check_same("windows", ["none"])
            return
        facts = [f"{len(data)} windows", f"targets of sum {data.target.double().sum().item():g}"]
        if isinstance(data, TrainingData):
            ends = [data.X[0, 0, 0].item(), data.X[-1, -1, -1].item()]
            facts.append(f"windows from {ends[0]:g} to {ends[1]:g}")
        self.check_same("windows", facts)

    def share_module(self, module: nn.Module) -> None:
        """Give every process the weights of the first; raise an `ArgumentError` for batch norm."""
        if any(isinstance(part, nn.BatchNorm1d) for part in module.modules()):
            raise ArgumentError(
                f"head_norm='batch' would normalize each of the {self.world} processes' share of a"
                " batch separately; use head_norm='layer', or train in one process."
            )
        with self._reaching():
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)


class SharedDropout(CounterDropout):
    """Dropout masks for a batch shared by several processes, of which this one uses its rows."""

    def __init__(self, seed: int, ranks: Ranks) -> None:
        super().__init__(seed)
        self._ranks = ranks
        self.n_windows = 0

    def mask(self, shape: Sequence[int], probability: float, site: int) -> Any:
        """Return this process's rows of the mask."""
        # (n, features), or (1, n, ...) within the layers
        before = () if len(shape) == 2 else (1,)
        after = shape[len(before) + 1 :]
        whole = super().mask((self.n_windows, *after), probability, site)
        own = whole[self._ranks.rank :: self._ranks.world]
        return np.ascontiguousarray(own.reshape(*before, *own.shape))


def current_ranks() -> Ranks | None:
    """Return the processes that train together; None if there is only one.

    They are those of `torch.distributed`, which is initialized here (gloo) under ``torchrun``.
    """
    if not dist.is_available():
        return None
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "TORCHELASTIC_RUN_ID" not in os.environ:
            return None
        try:
            dist.init_process_group("gloo", timeout=TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise EnvironmentProblemError(
                f"rank {os.environ.get('RANK')} waited up to {_minutes()}, but not all"
                f" {os.environ['WORLD_SIZE']} processes of torchrun connected to each other"
                f" ({_first_line(error)}). One of them ended before its fit began, or cannot be"
                " reached; see its own message."
            ) from error
        atexit.register(_leave)
    world = dist.get_world_size()
    return None if world == 1 else Ranks(dist.get_rank(), world)


def agree_on(value: _Value) -> _Value:
    """Return the first process's value; with a single process, its own."""
    ranks = current_ranks()
    return value if ranks is None else ranks.agree(value)


def own_device(device: torch.device) -> torch.device:
    """Return this process's GPU if several train together and no device was named."""
    if device.type != "cuda" or device.index is not None or current_ranks() is None:
        return device
    place = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
    return torch.device("cuda", place)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _minutes() -> str:
    return f"{TIMEOUT.total_seconds() / 60:g} minutes"


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
