"""zero_test: without a step of training, validation must give the same twice."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensorseq.fluctuation.causes.cause import NotTested, Trial
from sensorseq.fluctuation.race.arm import Findings, Floats, Lab, LabWindows
from sensorseq.fluctuation.statistics.run import plural
from sensorseq.training.batches import EVALUATION_BATCH, TrainingData
from sensorseq.training.randomness import isolated_generators

CAUSE = "evaluation_not_deterministic"
FORWARD_SHARE = 1 / 3  # of what a step costs: one pass forward, two of the same size backward
_LEAST_FOR_PARTS = 4  # windows, so that other batches hold two at least


def zero_test(lab: Lab) -> Findings:
    """Validate twice with the kept weights, and once in other batches.

    Dropout or augmentation that is active in evaluation, batch normalization on the batch at hand
    and buffers that evaluation writes to make a validation curve move at a learning rate of zero.
    Nothing is trained; the generators of torch, numpy and Python and the network are left as they
    were.
    """
    windows = lab.validation
    if windows is None or not len(windows.target):
        reason = "there are no validation windows"
        return Findings(not_tested=[NotTested(CAUSE, reason, "validation windows")])
    module = lab.kept_module()
    before = {name: part.clone() for name, part in module.state_dict().items()}
    data = _as_tensors(windows, module)
    every = torch.arange(len(data))
    parts = [every] if len(data) < _LEAST_FOR_PARTS else [every[::2], every[1::2]]
    with isolated_generators(0, data.X.device), torch.no_grad():
        first, second = (_outputs(module, data, [every]) for _ in range(2))
        changed = [
            name
            for name, part in module.state_dict().items()
            if not torch.equal(part, before[name])
        ]
        parted = _outputs(module, data, parts)
    rounding = torch.finfo(data.X.dtype).eps ** 0.5 * (1 + np.nanmax(np.abs(first), initial=0.0))
    weights = f"the weights of epoch {lab.kept_epoch}" if lab.kept_epoch else "the kept weights"
    n_windows = plural(len(first), "validation window")
    outcome, consequence = "confirmed", "The validation curve moves without any training."
    if not np.array_equal(first, second, equal_nan=True):
        cause = "dropout or augmentation is active in evaluation, or something else draws numbers"
        if changed:
            cause = f"evaluation writes to {', '.join(changed[:3])}"
        figures = _figures(first, second, windows.target)
        said = f"Evaluated twice with {weights}, {figures}: {cause}. {consequence}"
    elif np.nanmax(np.abs(parted - first), initial=0.0) > rounding:
        figures = _figures(first, parted, windows.target)
        said = (
            f"Evaluated in other batches with {weights}, {figures}: the output for a window depends"
            " on the others in its batch, as with batch normalization in training mode."
            f" {consequence}"
        )
    else:
        outcome = "rejected"
        said = f"Evaluated twice with {weights}, {n_windows} gave the same bits."
    cost = FORWARD_SHARE * 3 * len(first) / max(1, len(lab.train.target))
    trial = Trial(CAUSE, "learning rate 0", {}, "inference", outcome, said, cost_epochs=cost)
    return Findings([trial])


def _as_tensors(windows: LabWindows, module: nn.Module) -> TrainingData:
    like = next(part for part in module.parameters() if part.is_floating_point())
    return TrainingData(
        torch.tensor(np.ascontiguousarray(windows.X)).to(like.device, like.dtype),
        None if windows.lengths is None else torch.tensor(windows.lengths, device=like.device),
        torch.tensor(np.ascontiguousarray(windows.target), device=like.device),
    )


def _outputs(module: nn.Module, data: TrainingData, parts: Sequence[Tensor]) -> NDArray[Any]:
    """Return outputs (n, K) of windows that are evaluated part by part."""
    found = torch.empty(0)
    for part in parts:
        for rows in part.split(EVALUATION_BATCH):
            batch = data.take(rows, data.X.device)
            outputs = module(batch.X, batch.lengths).float().cpu()
            found = found if len(found) else outputs.new_empty(len(data), outputs.shape[1])
            found[rows] = outputs
    return found.numpy()


def _figures(one: NDArray[Any], other: NDArray[Any], target: NDArray[np.int64]) -> str:
    n_moved = int((one.argmax(axis=1) != other.argmax(axis=1)).sum())
    classes = f"the class of {n_moved}" if n_moved else "no class"
    return (
        f"{classes} of {plural(len(one), 'validation window')} changed and the cross-entropy was"
        f" {_cross_entropy(one, target):.6g} and {_cross_entropy(other, target):.6g} nats, outputs"
        f" differ by up to {np.nanmax(np.abs(one - other)):.2g}"
    )


def _cross_entropy(outputs: NDArray[Any], target: NDArray[np.int64]) -> float:
    shifted: Floats = outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=1))
    return float((total - shifted[np.arange(len(target)), target]).mean())
