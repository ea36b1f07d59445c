"""zero_test: without a step of training, validation must give the same twice."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensorseq.fluctuation.causes.cause import NotTested, Trial
from sensorseq.fluctuation.probes.arm import Lab, LabWindows
from sensorseq.fluctuation.probes.purse import Findings
from sensorseq.fluctuation.run import plural
from sensorseq.training.config import TrainingConfig
from sensorseq.training.crop import crop_tensor
from sensorseq.training.data import EVALUATION_BATCH, TrainingData
from sensorseq.training.evaluation import evaluate
from sensorseq.training.losses import nats_per_unit
from sensorseq.training.objective import Objective
from sensorseq.training.recorder import margins_of
from sensorseq.training.state import rng_state, set_rng_state
from sensorseq.training_record import Snapshot

CAUSE = "evaluation_not_deterministic"
FORWARD_SHARE = 1 / 3  # of what a step costs: one pass forward, two of the same size backward
_LEAST_FOR_PARTS = 4  # windows, so that other batches hold two at least


@dataclass(frozen=True)
class _Passes:
    """Outputs (n, K) for the validation windows: twice alike, and once in other batches."""

    first: NDArray[Any]
    second: NDArray[Any]
    parted: NDArray[Any] | None
    changed: tuple[str, ...]  # names in the state dict that the passes wrote to
    rounding: float  # what the order of a sum may change in an output


def zero_test(lab: Lab) -> Findings:
    """Validate twice with the weights of one snapshot, and hold both against the record.

    Dropout or augmentation that is active in evaluation, batch normalization on the batch at hand
    and buffers that evaluation writes to make a validation curve move at a learning rate of zero.
    Nothing is trained; torch's, numpy's and Python's generators and the network are left as they
    were.

    Parameters
    ----------
    lab : Lab
        Its last snapshot is taken.

    Returns
    -------
    Findings
        One trial: confirmed where the passes differ, or where windows in other batches get other
        outputs; rejected where they agree and the record has the same bits; undecided where they
        agree with each other but not with the record, for then other windows than those of the fit
        may have been given.
    """
    missing = ""
    if not lab.record.snapshots:
        missing = "the run kept no weights of an epoch"
    if lab.validation is None or not len(lab.validation.target):
        missing = "there are no validation windows"
    if missing or lab.validation is None:
        settle = "a fit of its own, not beside others, with a validation part"
        return Findings(not_tested=[NotTested(CAUSE, missing, settle)])
    start = len(lab.record.snapshots) - 1
    snapshot = lab.record.snapshots[start]
    module = lab.module_at(start)
    with left_as_it_was(module), torch.no_grad():
        _take_validated_weights(module, snapshot)
        module.eval()
        passes = _take_passes(module, lab.validation)
        sentence = _disagreement(passes, lab.validation, snapshot.epoch)
        outcome = "confirmed"
        if not sentence:
            sentence = _against_record(lab, module, passes.first, snapshot.epoch)
            outcome = "undecided"
    if not sentence:
        n_windows = plural(len(passes.first), "validation window")
        sentence = (
            f"Evaluated twice with the weights of epoch {snapshot.epoch}, {n_windows} gave the"
            " same bits"
        )
        sentence += ", those that the run had noted." if snapshot.epoch else "."
        outcome = "rejected"
    n_passes = 2 if passes.parted is None else 3
    share = n_passes * len(passes.first) / max(1, len(lab.train.target))
    trial = Trial(
        CAUSE,
        "learning rate 0",
        {},
        "inference",
        outcome,
        sentence,
        n_pairs=1,
        cost_epochs=FORWARD_SHARE * share,
    )
    return Findings([trial])


@contextmanager
def left_as_it_was(module: nn.Module) -> Iterator[None]:
    """Give a network its state and every generator at hand its own back after a block."""
    device = next(module.parameters()).device
    torch_state, legacy, plain = rng_state(device), np.random.get_state(), random.getstate()  # noqa: NPY002
    held = _held_generators(module)
    weights = {name: part.detach().clone() for name, part in module.state_dict().items()}
    was_training = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        module.load_state_dict(weights)
        for part, training in was_training:
            part.training = training
        for generator, state in held:
            _set_state(generator, state)
        set_rng_state(torch_state, device)
        np.random.set_state(legacy)  # noqa: NPY002
        random.setstate(plain)


def _held_generators(module: nn.Module) -> list[tuple[Any, Any]]:
    """Return the generators that parts of a network hold, with their states."""
    found: list[tuple[Any, Any]] = []
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Generator):
                found.append((value, value.get_state()))
            elif isinstance(value, np.random.Generator):
                found.append((value, value.bit_generator.state))
            elif isinstance(value, random.Random):
                found.append((value, value.getstate()))
    return found


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.setstate(state)


def _take_validated_weights(module: nn.Module, snapshot: Snapshot) -> None:
    """Put the averaged weights into a network where they are what the run validated."""
    average = snapshot.state.get("average")
    if average is None or not snapshot.epoch:
        return
    for parameter, mean in zip(module.parameters(), average["average"], strict=True):
        parameter.copy_(mean)


def as_tensors(windows: LabWindows, module: nn.Module) -> TrainingData:
    """Return windows as tensors of the type and on the device of a network."""
    like = next(module.parameters())
    return TrainingData(
        torch.tensor(np.ascontiguousarray(windows.X)).to(like.device, like.dtype),
        None if windows.lengths is None else torch.tensor(windows.lengths, device=like.device),
        torch.tensor(np.ascontiguousarray(windows.target), device=like.device),
    )


def _take_passes(module: nn.Module, windows: LabWindows) -> _Passes:
    data = as_tensors(windows, module)
    before = {name: part.clone() for name, part in module.state_dict().items()}
    every = torch.arange(len(data))
    first, second = (_outputs(module, data, every.split(EVALUATION_BATCH)) for _ in range(2))
    changed = tuple(
        name for name, part in module.state_dict().items() if not torch.equal(part, before[name])
    )
    parted = None
    if len(data) >= _LEAST_FOR_PARTS:
        halves = [rows for half in (every[::2], every[1::2]) for rows in half.split(128)]
        halves = [rows for rows in halves if len(rows) > 1]
        order = torch.cat(halves).numpy()
        parted = np.full_like(first, np.nan)
        parted[order] = _outputs(module, data, halves)
        left_out = np.setdiff1d(np.arange(len(data)), order)
        parted[left_out] = first[left_out]
    finite = first[np.isfinite(first)]
    rounding = torch.finfo(data.X.dtype).eps ** 0.5 * (1 + np.abs(finite).max(initial=0))
    return _Passes(first, second, parted, changed, float(rounding))


def _outputs(module: nn.Module, data: TrainingData, batches: Any) -> NDArray[Any]:
    outputs: list[Tensor] = []
    for rows in batches:
        batch = data.take(rows, data.X.device)
        outputs.append(module(batch.X, batch.lengths).float().cpu())
    return torch.cat(outputs).numpy()


def _disagreement(passes: _Passes, windows: LabWindows, epoch: int) -> str:
    """Return what differs between the passes, empty when nothing does."""
    consequence = "The validation curve moves without any training."
    if not np.array_equal(passes.first, passes.second, equal_nan=True):
        cause = "dropout or augmentation is active in evaluation, or something else draws numbers"
        if passes.changed:
            cause = f"evaluation writes to {', '.join(passes.changed[:3])}"
        figures = _figures(passes.first, passes.second, windows.target)
        return (
            f"Evaluated twice with the weights of epoch {epoch}, {figures}: {cause}. {consequence}"
        )
    if passes.parted is None:
        return ""
    apart = np.abs(passes.parted - passes.first)
    if not np.nanmax(apart, initial=0.0) > passes.rounding:
        return ""
    figures = _figures(passes.first, passes.parted, windows.target)
    return (
        f"Evaluated in other batches with the weights of epoch {epoch}, {figures}: what the network"
        " says of a window depends on the others in its batch, as with batch normalization in"
        f" training mode. {consequence}"
    )


def _figures(one: NDArray[Any], other: NDArray[Any], target: NDArray[np.int64]) -> str:
    n_moved = int((one.argmax(axis=1) != other.argmax(axis=1)).sum())
    classes = "no class" if not n_moved else f"the class of {n_moved}"
    return (
        f"{classes} of {plural(len(one), 'validation window')} changed and the cross-entropy was"
        f" {_cross_entropy(one, target):.6g} and {_cross_entropy(other, target):.6g} nats, outputs"
        f" differ by up to {np.nanmax(np.abs(one - other)):.2g}"
    )


def _cross_entropy(outputs: NDArray[Any], target: NDArray[np.int64]) -> float:
    shifted = outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=1))
    return float((total - shifted[np.arange(len(target)), target]).mean())


def _against_record(lab: Lab, module: nn.Module, outputs: NDArray[Any], epoch: int) -> str:
    """Return where the record has other bits of that epoch, empty where it has the same."""
    record, windows = lab.record, lab.validation
    if not epoch or windows is None or record.n_epochs < epoch:
        return ""
    said = []
    rows = record.val_rows
    if record.val_predicted.shape[0] >= epoch and len(rows):
        if rows.max() >= len(outputs) or (windows.target[rows] != record.val_target).any():
            return (
                "The validation windows or their labels are not those of the fit: other data was"
                " given, and nothing can be said about its evaluation."
            )
        moved = int((outputs[rows].argmax(axis=1) != record.val_predicted[epoch - 1]).sum())
        with np.errstate(over="ignore"):
            margin = margins_of(outputs[rows], record.val_target).astype(np.float16)
        noted = record.val_margin[epoch - 1]
        if moved or not np.array_equal(margin, noted, equal_nan=True):
            apart = np.abs(margin.astype(np.float64) - noted)
            said.append(
                f"{moved} of {plural(len(rows), 'validation window')} have another class and"
                f" margins differ by up to {np.nanmax(apart):.2g}"
            )
    loss = _fixed_loss(lab, module)
    if loss is not None and loss != record.fixed_loss[epoch - 1]:
        was = record.fixed_loss[epoch - 1]
        nats = record.unit_after
        said.append(f"the loss of the fixed training windows is {loss:.9g}, not {was:.9g}{nats}")
    if not said:
        return ""
    return (
        f"Two evaluations with the weights of epoch {epoch} agree, but not with what the run had"
        f" noted: {'; '.join(said)}. Other data or other keywords than fit had were given, or its"
        " evaluation saw something that is gone."
    )


def _fixed_loss(lab: Lab, module: nn.Module) -> float | None:
    """Return the loss of the record's fixed training windows; None where it has none."""
    loss, rows = lab.arguments.get("loss", "cross_entropy"), lab.record.fixed_rows
    if not isinstance(loss, str) or not len(rows) or not len(lab.record.fixed_loss):
        return None
    if rows.max() >= len(lab.train.target):
        return float("nan")
    train = lab.train
    lengths = None if train.lengths is None else train.lengths[rows]
    fixed = as_tensors(LabWindows(train.X[rows], lengths, train.target[rows]), module)
    most, crop = lab.arguments.get("max_timesteps"), lab.arguments.get("crop", "head")
    if crop == "random" and most is not None:
        X, valid = crop_tensor(fixed.X, fixed.lengths, most, None)
        fixed = TrainingData(X, valid, fixed.target)
    smoothing = lab.arguments.get("label_smoothing", 0.0)
    config = TrainingConfig(lab.n_classes, loss=loss, label_smoothing=smoothing)
    scale = 1.0 if lab.record.is_in_nats else nats_per_unit(loss, lab.n_classes, smoothing)
    return scale * evaluate(module, fixed, Objective(config, fixed.target))[0]
