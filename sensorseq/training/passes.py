"""Incremental learning: one pass over each chunk of windows, with a persistent optimizer."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensorseq.errors import ArgumentError
from sensorseq.training.batches import TrainingData
from sensorseq.training.config import EngineChoice, TrainingConfig
from sensorseq.training.distributed import current_ranks
from sensorseq.training.engine import Training, TrainingJob, TrainingRun
from sensorseq.training.randomness import deterministic_algorithms, integer_seed, isolated_torch_rng
from sensorseq.training.stream import StreamedData

_TENSOR, _ITEMS = "tensor", "items"  # tags of a tensor, and of a mapping whose keys are not strings


def pack_state(state: Any) -> tuple[dict[str, NDArray[Any]], Any]:
    """Split a nested state into copies of its tensors, by path, and the rest for JSON.

    In the rest each tensor is replaced by its path. `unpack_state` returns tuples as lists.
    """
    arrays: dict[str, NDArray[Any]] = {}

    def pack(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            arrays[name] = value.numpy(force=True).copy()
            return {_TENSOR: name}
        if isinstance(value, dict):
            parts = {key: pack(part, f"{name}/{key}") for key, part in value.items()}
            if all(type(key) is str for key in parts):
                return parts
            return {_ITEMS: list(parts.items())}
        if isinstance(value, list | tuple):
            return [pack(part, f"{name}/{i}") for i, part in enumerate(value)]
        return value

    return arrays, pack(state, "state")


def unpack_state(arrays: Mapping[str, NDArray[Any]], plain: Any) -> Any:
    """Rebuild the state from `pack_state`, with new tensors on the CPU."""
    if isinstance(plain, dict):
        if _TENSOR in plain:
            return torch.tensor(arrays[plain[_TENSOR]])
        if _ITEMS in plain:
            return {key: unpack_state(arrays, part) for key, part in plain[_ITEMS]}
        return {key: unpack_state(arrays, part) for key, part in plain.items()}
    if isinstance(plain, list):
        return [unpack_state(arrays, part) for part in plain]
    return plain


_CARRIED = ("n_steps", "native", "optimizer", "average")


class PassResult(NamedTuple):
    """The result of a pass: a history row without `epoch`, and the state for the next pass.

    The state consists of arrays and plain values, none shared with the module. If the loss or
    gradient was not finite, the module is unusable.
    """

    row: dict[str, float]
    state: dict[str, Any]
    engine: EngineChoice
    is_finite: bool


def train_pass(
    module: nn.Module,
    train: TrainingData | StreamedData,
    config: TrainingConfig,
    state: Mapping[str, Any],
    *,
    engine: str = "autograd",
    refresh: Callable[[int], Any] | None = None,
) -> PassResult:
    """Train `module` in place for one pass over the windows, at the full learning rate.

    `state` was returned by the previous pass; the first one takes ``{"entropy": int}``, the seed of
    all passes. Numbers of epochs and steps, schedule and early stopping are ignored.
    """
    config = replace(
        config,
        max_epochs=1,
        max_steps=None,
        windows_per_epoch=None,
        lr_schedule="constant",
        warmup_epochs=0,
        early_stopping=False,
        restore_best=False,
        monitor="loss",
    )
    n_passes = int(state.get("n_passes", 0))
    order_seed, crop_seed = np.random.SeedSequence([state["entropy"], n_passes]).spawn(2)
    again = None if refresh is None else lambda _: refresh(n_passes + 1)
    job = TrainingJob(module, train, None, config, order_seed, engine=engine, refresh=again)
    choice = job.choose_engine()
    _check_continues(state, optimizer=config.optimizer, engine=choice.name)
    ranks = current_ranks()
    if ranks is not None:
        ranks.begin(module, config, train, None)
    device = next(module.parameters()).device
    with (
        isolated_torch_rng(integer_seed(order_seed), device),
        deterministic_algorithms(config.deterministic, device),
    ):
        seeds = (order_seed, crop_seed, np.random.SeedSequence(state["entropy"]))
        run = TrainingRun(job, seeds, choice, ranks)
        training = Training([run])
        try:
            _go_on(run, state)
            started = time.perf_counter()
            row = training.take_steps()[0]
            row["duration_s"] = time.perf_counter() - started
            after = _describe(run, config)
            with run.averaged_weights():
                weights = {name: part.clone() for name, part in module.state_dict().items()}
            module.load_state_dict(weights)
        finally:
            run.release_module()
    kept = {
        "entropy": state["entropy"],
        "n_passes": n_passes + 1,
        "engine": choice.name,
        "optimizer": config.optimizer,
        **after,
    }
    return PassResult(row, kept, choice, all(math.isfinite(value) for value in row.values()))


def _check_continues(state: Mapping[str, Any], **used: str) -> None:
    for name, here in used.items():
        if state.get(name, here) != here:
            raise ArgumentError(
                f"earlier passes used {name}={state[name]!r}, and {name}={here!r} cannot continue"
                f" from its state; use {name}={state[name]!r}, or start over with fit."
            )


def _describe(run: TrainingRun, config: TrainingConfig) -> dict[str, Any]:
    whole = run.state_dict()
    carried = {name: whole[name] for name in _CARRIED if name in whole}
    if config.ema_decay is not None:  # the module will have the averaged weights
        carried["module"] = whole["module"]
    arrays, plain = pack_state(carried)
    return {"arrays": {name: array.copy() for name, array in arrays.items()}, "plain": plain}


def _go_on(run: TrainingRun, state: Mapping[str, Any]) -> None:
    if "plain" not in state:
        return
    fresh, carried = run.state_dict(), unpack_state(state["arrays"], state["plain"])
    if "optimizer" in carried:  # its arguments may have changed
        groups = fresh["optimizer"]["param_groups"]
        carried["optimizer"] = {"state": carried["optimizer"]["state"], "param_groups": groups}
    if fresh.get("average") is None:
        carried.pop("average", None)
    elif carried.get("average") is None:
        carried["average"] = fresh["average"]
    run.load_state_dict({**fresh, **carried})
