"""Independent random streams from one seed, without changing torch's global generator."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from sensorseq.ops.train_epoch import dropout_mask

# torch's generator is global. Two fits in two threads (joblib's threading backend) would draw from
# the same stream, so the second fit waits for the first. A fit within a callback does not wait for
# the outer fit.
_lock = threading.RLock()


def _renew_lock() -> None:
    """Create a new lock after a fork, because a thread of the parent may hold the old one."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


def integer_seed(sequence: np.random.SeedSequence) -> int:
    """Return a 63-bit seed for torch from `sequence`."""
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1


@contextmanager
def isolated_torch_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators in a block, and restore their state after it."""
    cuda_devices = [device.index or 0] if device.type == "cuda" else []
    with _lock, torch.random.fork_rng(devices=cuda_devices):
        # torch.manual_seed would take 0.5 ms, because it seeds every kind of device
        if device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
        yield


@contextmanager
def single_thread() -> Iterator[None]:
    """Limit torch to one thread within a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic_algorithms(device: torch.device) -> Iterator[None]:
    """Restrict torch to deterministic CUDA kernels in a block; CPU kernels are deterministic."""
    if device.type != "cuda":
        yield
        return
    # cuBLAS reads this variable when its handle is created. Without the variable, torch raises an
    # error for matrix products in deterministic mode.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


class CounterDropout:
    """Dropout with the native engine's masks, so that both engines drop the same units.

    `AutogradSteps` sets `step` to the number of optimizer steps before the current one.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.step = 0

    def __call__(self, values: Tensor, probability: float, site: int) -> Tensor:
        """Return `values` times the mask of `site` in this step."""
        mask = dropout_mask(self._seed, self.step, site, values.shape, probability)
        return values * torch.from_numpy(mask).to(values)
