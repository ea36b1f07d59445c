"""Run all training checks in sequence, each with a fixed work budget."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sensorseq.errors import check_choice
from sensorseq.inspection.check_result import (
    FAILED,
    NOT_POSSIBLE,
    PASSED,
    CheckResult,
    Diagnosis,
    Outcome,
)
from sensorseq.inspection.checked_windows import (
    choose_runs,
    join_stretches,
    read_checked_windows,
    split_unit,
)
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.measures import Measures
from sensorseq.inspection.short_trainings import (
    PLAIN,
    CheckedFit,
    affordable_epochs,
    check_planted,
    check_shuffled,
    relative_work,
    run_trial,
    train_until,
)
from sensorseq.inspection.window_checks import check_label_channels, check_shares, constant_channels
from sensorseq.prediction.windows import Windows
from sensorseq.training.prepared_windows import read_training_file
from sensorseq.training.window_format import check_augment

_MOST_WINDOWS = 160  # maximum number of windows used for training
_MOST_TIMESTEPS = 128
_MOST_WORK = 8.0  # maximum work of the network, as a multiple of the work of one layer of 64 units
_FEWEST_UNITS = 16
_BATCH = 16
_BATCH_STEPS = 150
_LEARNED = 1.0  # accuracy at which a batch counts as learned
_OWN_STEPS = 40  # number of steps with the optimizer settings of the estimator
_LEFT_OUT = (  # arguments left out to test the optimizer's steps alone
    *("dropout", "recurrent_dropout", "augment", "ema_decay"),
    *("lr_schedule", "warmup_epochs", "max_timesteps"),
)
_NO_STEP = 1e-30  # a learning rate too small to change a weight
_BUDGET = 400_000  # budget of each training run, in window-steps of the reference network


def run_checks(
    fit: CheckedFit,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    lengths: Any = None,
    only: Sequence[str] | None = None,
    random_state: int = 0,
) -> Diagnosis:
    """Run the checks, or `only` some of them; see `sensorseq.doctor.check_training`."""
    kept = {name: fit.arguments[name] for name in ("early_stopping", "monitor")}
    with warnings.catch_warnings():  # to raise the same errors as `fit`
        warnings.simplefilter("ignore")  # the checks give more detail than these warnings
        fit.changed(kept).jobs(X, y, groups=groups, lengths=lengths)
    if isinstance(X, str | os.PathLike):
        X, _ = read_training_file(X)
    windows = read_checked_windows(X, y, groups, lengths)
    part = choose_runs(windows, _MOST_WINDOWS).held()
    small = part.cropped(_MOST_TIMESTEPS, "head")
    fit, notes = _lighten(fit, windows.X.shape[2])
    work = relative_work(fit.arguments, windows.X.shape[2])
    checks: dict[str, Callable[[], Outcome]] = {
        "channels_vary": lambda: _check_channels(windows),
        "classes_have_windows": lambda: _check_classes(windows),
        "channels_hold_no_label": lambda: _check_label_channels(windows),
        "groups_share_no_samples": lambda: _check_separate(part),
        "evaluation_repeats": lambda: _check_unchanging(fit, small, random_state),
        "overfits_a_batch": lambda: _check_batch(fit, small, work, random_state),
        "own_steps_lower_the_loss": lambda: _check_own_arguments(fit, small, random_state),
        "learns_a_planted_signal": lambda: check_planted(fit, windows, work, random_state),
        "chance_on_shuffled_labels": lambda: check_shuffled(fit, small, work, random_state),
    }
    wanted = list(checks) if only is None else [check_choice("only", n, checks) for n in only]
    results = []
    for name, check in checks.items():
        if name in wanted:
            status, finding = check()
            result = CheckResult(name, status, finding.text, finding.advice, finding.values)
            results.append(result)
    return Diagnosis(tuple(results), (*notes, *_notes_on_size(windows, small)))


def _lighten(fit: CheckedFit, n_channels: int) -> tuple[CheckedFit, tuple[str, ...]]:
    """Reduce the number of hidden units of a large network; also return notes on the change."""
    lighter, hidden_size = fit, fit.arguments["hidden_size"]
    while relative_work(lighter.arguments, n_channels) > _MOST_WORK and hidden_size > _FEWEST_UNITS:
        hidden_size //= 2
        lighter = replace(fit, arguments={**fit.arguments, "hidden_size": hidden_size})
    if lighter is fit:
        return fit, ()
    words = f"hidden_size={hidden_size} instead of {fit.arguments['hidden_size']}"
    return lighter, (f"To save time, the checks used {words}; bugs show up at either size.",)


def _notes_on_size(windows: Windows, small: Windows) -> tuple[str, ...]:
    left_out = []
    if len(small) < len(windows):
        left_out.append(f"{len(small)} of the {len(windows)} windows")
    if small.n_timesteps < windows.n_timesteps:
        left_out.append(f"the first {small.n_timesteps} of {windows.n_timesteps} steps")
    return (f"To save time, the checks used {' and '.join(left_out)}.",) if left_out else ()


def _check_channels(windows: Windows) -> Outcome:
    """Check that every channel varies."""
    names = windows.channels or []
    pieces = map(Measures, windows.pieces())
    dead = [names[i] for i in constant_channels(pieces)]
    figures = {"n_channels": len(names), "constant": dead, "n_constant": len(dead)}
    if not dead:
        return PASSED, Finding("channels_vary", figures)
    return FAILED, Finding("dead_channels", figures)


def _check_classes(windows: Windows) -> Outcome:
    """Check that every class has windows for training and validation."""
    counts = np.bincount(windows.target, minlength=len(windows.classes))
    smallest, share = int(counts.min()), float(counts.max() / counts.sum())
    figures = {"n_classes": len(counts), "smallest": smallest, "largest_share": share}
    for finding in check_shares(windows.target, windows.classes.tolist(), windows.groups):
        return FAILED, replace(finding, values={**figures, **finding.values})
    return PASSED, Finding("classes_have_windows", figures)


def _check_label_channels(windows: Windows) -> Outcome:
    """Check that no channel contains the label."""

    def read(rows: NDArray[np.int64]) -> Iterator[NDArray[np.floating]]:
        return (piece.X for piece in windows.pieces(windows.row_pieces(rows)))

    finding = check_label_channels(
        read, windows.target, windows.groups, windows.lengths, None, windows.channels
    )
    if finding is None:
        return PASSED, Finding("no_label_channels")
    return FAILED if finding.severity == "leak" else NOT_POSSIBLE, finding


def _check_separate(windows: Windows) -> Outcome:
    """Check that no samples are shared by windows that a split may separate."""
    if len(np.unique(split_unit(windows))) < 2:
        return NOT_POSSIBLE, Finding("one_group")
    _, n_across = join_stretches(windows)
    unit = "windows" if windows.groups is None else "groups"
    figures = {"n_windows": len(windows), "n_sharing": n_across, "unit": unit}
    if not n_across:
        return PASSED, Finding("nothing_shared", figures)
    return FAILED, Finding(f"{unit}_share_samples", figures)


def _check_unchanging(fit: CheckedFit, windows: Windows, seed: int) -> Outcome:
    """Check that the validation loss stays the same when nothing is learned."""
    few = _batch_of(windows, 2 * _BATCH)
    same = (few.X, few.target, few.lengths)
    augmentation = check_augment(fit.arguments["augment"])
    arguments: dict[str, Any] = {
        "learning_rate": _NO_STEP,
        "max_epochs": 3,
        # by index, because the trial gets arrays without channel names
        "augment": augmentation and augmentation.with_indices(few.X.shape[2], few.channels),
    }
    if fit.arguments["head_norm"] == "batch":  # only the autograd engine supports batch statistics
        arguments["engine"] = "autograd"
    trial = run_trial(fit, same, same, arguments, seed=seed, prepare=_freeze_running_statistics)
    losses = trial.history["val_loss"].tolist()
    if len(losses) == 3 and len(set(losses)) == 1:
        return PASSED, Finding("loss_repeats", {"val_loss": losses})
    listed = ", ".join(f"{loss:.6g}" for loss in losses)
    return FAILED, Finding("loss_changes", {"val_loss": losses, "losses": listed})


def _freeze_running_statistics(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            # A nonzero momentum would change the validation loss even without an optimizer step.
            part.momentum = 0.0


def _batch_of(windows: Windows, n_windows: int) -> Windows:
    """Return a few windows, taken from each class in turn."""
    turn = np.zeros(len(windows), np.int64)
    for label in np.unique(windows.target):
        of_label = np.flatnonzero(windows.target == label)
        # spread over the windows of the class, so that chosen windows are not neighbors
        order = np.argsort(np.arange(len(of_label)) * 0.6180339887 % 1, kind="stable")
        turn[of_label[order]] = np.arange(len(of_label))
    return windows.take(np.sort(np.argsort(turn, kind="stable")[:n_windows]))


def _check_batch(fit: CheckedFit, windows: Windows, work: float, seed: int) -> Outcome:
    """Check that the network can overfit one small batch."""
    batch = _batch_of(windows, _BATCH)
    if len(np.unique(batch.target)) < 2:
        return NOT_POSSIBLE, Finding("one_target", {"n_windows": len(batch)})
    affordable = affordable_epochs(_BUDGET, work, len(batch), batch.n_timesteps)
    n_steps = int(np.clip(affordable, 60, _BATCH_STEPS))
    same = (batch.X, batch.target, batch.lengths)
    # in tests, 4 of 64 correct networks failed two attempts, but none of 640 failed four
    attempts = [{**PLAIN, "batch_size": None, "max_epochs": k * n_steps} for k in (1, 2, 2, 2)]
    best, n_taken, reached = train_until(fit, same, same, attempts, _LEARNED, seed + 1)
    figures = {"n_windows": len(batch), "accuracy": best, "steps": n_taken, "reached": reached}
    if best >= _LEARNED:
        return PASSED, Finding("memorized", figures)
    return FAILED, Finding("not_memorized", figures)


def _check_own_arguments(fit: CheckedFit, windows: Windows, seed: int) -> Outcome:
    """Check that the loss does not rise with the estimator's own optimizer settings."""
    batch = _batch_of(windows, _BATCH)
    if len(np.unique(batch.target)) < 2:
        return NOT_POSSIBLE, Finding("one_target", {"n_windows": len(batch)})
    same = (batch.X, batch.target, batch.lengths)
    plain = {name: PLAIN[name] for name in _LEFT_OUT}
    arguments = {**plain, "batch_size": None, "max_epochs": _OWN_STEPS}
    trial = run_trial(fit, same, same, arguments, seed=seed)
    losses = trial.history["loss"]
    first, last = float(losses[0]), float(np.median(losses[-5:]))
    figures = {
        "first_loss": first,
        "last_loss": last,
        "steps": len(losses),
        "n_windows": len(batch),
        "settings": f"optimizer={fit.arguments['optimizer']!r} with"
        f" learning_rate={fit.arguments['learning_rate']!r}",
        "is_slow": first > 0 and last > 0.98 * first,
    }
    if not np.isfinite(losses).all() or last > first + 0.05 * abs(first):
        return FAILED, Finding("steps_too_large", figures)
    return PASSED, Finding("loss_falls", figures)
