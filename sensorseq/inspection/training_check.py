"""check_training: run all checks in sequence, each with a fixed work budget."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.inspection.check_result import (
    FAILED,
    NOT_POSSIBLE,
    PASSED,
    CheckResult,
    Diagnosis,
    Outcome,
)
from sensorseq.inspection.checked_windows import (
    in_runs,
    join_stretches,
    read_checked_windows,
    split_unit,
)
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.label_channels import check_label_channels
from sensorseq.inspection.measures import Measures
from sensorseq.inspection.short_trainings import (
    PLAIN,
    CheckedEstimator,
    affordable_epochs,
    check_planted,
    check_shuffled,
    learn,
    make_twin,
    relative_work,
    run_trial,
)
from sensorseq.inspection.window_checks import check_shares, constant_channels
from sensorseq.prediction.windows import Windows
from sensorseq.training.prepared_windows import read_training_file
from sensorseq.training.window_format import check_augment

_MOST_WINDOWS = 160  # most windows used for training
_MOST_TIMESTEPS = 128
_MOST_WORK = 8.0  # largest network, as a multiple of the work of one layer of 64 units
_FEWEST_UNITS = 16
_BATCH = 16
_BATCH_STEPS = 150
_LEARNED = 1.0  # accuracy from which a batch counts as learned
_OWN_STEPS = 40
_LEFT_OUT = (  # arguments left out to test the optimizer's steps alone
    *("dropout", "recurrent_dropout", "augment", "ema_decay"),
    *("lr_schedule", "warmup_epochs", "max_timesteps"),
)
_NO_STEP = 1e-30  # a learning rate too small to change a weight
_BUDGET = 400_000  # window-steps of the reference network for each training


def check_training(
    estimator: CheckedEstimator,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    lengths: Any = None,
    only: Sequence[str] | None = None,
    random_state: int = 0,
) -> Diagnosis:
    """Tell a bug from a hard problem with short trainings whose outcome is known in advance.

    The network of `estimator` must overfit one small batch, tell apart two synthetic wave shapes
    in windows like yours, stay at chance when each recording gets a random label, and give the same
    validation loss in every epoch while its weights do not change. The data are checked for common
    faults: dead channels, a label among the channels, a class that dominates, and windows that
    share samples across a split.

    Parameters
    ----------
    estimator : SensorLSTMClassifier
        Fitted or not; it is not changed.
    X, y, groups, lengths : as in its `fit`
        The data you train it on. What `fit` would reject is rejected with the same message.
    only : sequence of str, optional
        Names of the checks to run; all of them by default.
    random_state : int, default=0
        Seed of the short trainings. The same seed gives the same results, however slow the machine.

    Returns
    -------
    Diagnosis
        Print it to read it. `passed` is False when a check failed.

    Raises
    ------
    InputError
        If `fit` would reject the data; the message is the same.
    ArgumentError
        If `only` names an unknown check, or `estimator` is not one of ours.

    Notes
    -----
    The work is bounded for any data: the checks use a few windows, at most 128 steps of each, and
    replace a large network by one with fewer hidden units.
    """
    if not hasattr(estimator, "_prepare_fit"):
        raise ArgumentError(
            f"estimator is a {type(estimator).__name__}; give a SensorLSTMClassifier. For a"
            " pipeline, give its last step and the transformed windows."
        )
    own = {name: getattr(estimator, name) for name in ("early_stopping", "monitor")}
    with warnings.catch_warnings():  # raises for the same reasons as fit
        warnings.simplefilter("ignore")  # the checks report these in more detail
        make_twin(estimator, own)._prepare_fit(X, y, groups=groups, lengths=lengths)
    if isinstance(X, str | os.PathLike):
        X, _ = read_training_file(X)
    windows = read_checked_windows(X, y, groups, lengths)
    part = in_runs(windows, _MOST_WINDOWS).held()
    small = part.cropped(_MOST_TIMESTEPS, "head")
    estimator, notes = _lighten(estimator, windows.X.shape[2])
    work = relative_work(estimator, windows.X.shape[2])
    checks: dict[str, Callable[[], Outcome]] = {
        "channels_vary": lambda: _check_channels(windows),
        "classes_have_windows": lambda: _check_classes(windows),
        "channels_hold_no_label": lambda: _check_label_channels(windows),
        "groups_share_no_samples": lambda: _check_separate(part),
        "evaluation_repeats": lambda: _check_unchanging(estimator, small, random_state),
        "overfits_a_batch": lambda: _check_batch(estimator, small, work, random_state),
        "own_steps_lower_the_loss": lambda: _check_own_arguments(estimator, small, random_state),
        "learns_a_planted_signal": lambda: check_planted(estimator, windows, work, random_state),
        "chance_on_shuffled_labels": lambda: check_shuffled(estimator, small, work, random_state),
    }
    wanted = list(checks) if only is None else [check_choice("only", n, checks) for n in only]
    results = []
    for name, check in checks.items():
        if name in wanted:
            status, found = check()
            results.append(CheckResult(name, status, found.text, found.advice, found.values))
    return Diagnosis(tuple(results), (*notes, *_what_was_left_out(windows, small)))


def _lighten(
    estimator: CheckedEstimator, n_channels: int
) -> tuple[CheckedEstimator, tuple[str, ...]]:
    """Return a copy with fewer hidden units if the network is large, with a note."""
    hidden_size = estimator.hidden_size
    twin = estimator
    while relative_work(twin, n_channels) > _MOST_WORK and hidden_size > _FEWEST_UNITS:
        hidden_size //= 2
        own = {name: getattr(estimator, name) for name in ("early_stopping", "monitor")}
        twin = make_twin(estimator, {**own, "hidden_size": hidden_size})
    if twin is estimator:
        return estimator, ()
    words = f"hidden_size={hidden_size} instead of {estimator.hidden_size}"
    return twin, (f"To save time, the checks used {words}; bugs show at either size.",)


def _what_was_left_out(windows: Windows, small: Windows) -> tuple[str, ...]:
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
    for found in check_shares(windows.target, windows.classes.tolist(), windows.groups):
        return FAILED, replace(found, values={**figures, **found.values})
    return PASSED, Finding("classes_have_windows", figures)


def _check_label_channels(windows: Windows) -> Outcome:
    """Check that the label does not stand among the channels."""

    def read(rows: NDArray[np.int64]) -> Iterator[NDArray[np.floating]]:
        return (piece.X for piece in windows.pieces(windows.row_pieces(rows)))

    found = check_label_channels(
        read, windows.target, windows.groups, windows.lengths, None, windows.channels
    )
    if found is None:
        return PASSED, Finding("no_label_channels")
    return FAILED if found.severity == "leak" else NOT_POSSIBLE, found


def _check_separate(windows: Windows) -> Outcome:
    """Check that windows that a split may separate share no samples."""
    if len(np.unique(split_unit(windows))) < 2:
        return NOT_POSSIBLE, Finding("one_group")
    _, n_across = join_stretches(windows)
    unit = "windows" if windows.groups is None else "groups"
    figures = {"n_windows": len(windows), "n_sharing": n_across, "unit": unit}
    if not n_across:
        return PASSED, Finding("nothing_shared", figures)
    return FAILED, Finding(f"{unit}_share_samples", figures)


def _check_unchanging(estimator: CheckedEstimator, windows: Windows, seed: int) -> Outcome:
    """Check that the validation loss repeats when nothing is learned."""
    few = _batch_of(windows, 2 * _BATCH)
    same = (few.X, few.target, few.lengths)
    how = check_augment(estimator.augment)
    arguments: dict[str, Any] = {
        "learning_rate": _NO_STEP,
        "max_epochs": 3,
        # used if the windows' channels have no names
        "augment": None if how is None else how.with_indices(few.X.shape[2], few.channels),
    }
    if estimator.head_norm == "batch":  # only the autograd engine supports batch statistics
        arguments["engine"] = "autograd"
    trial = run_trial(estimator, same, same, arguments, seed=seed, prepare=_hold_running_statistics)
    losses = trial.history["val_loss"].tolist()
    if len(losses) == 3 and len(set(losses)) == 1:
        return PASSED, Finding("loss_repeats", {"val_loss": losses})
    said = ", ".join(f"{loss:.6g}" for loss in losses)
    return FAILED, Finding("loss_changes", {"val_loss": losses, "losses": said})


def _hold_running_statistics(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            # Otherwise batch statistics change without a step, and validation with them.
            part.momentum = 0.0


def _batch_of(windows: Windows, n_windows: int) -> Windows:
    """Return a few windows, cycling through the classes."""
    turn = np.zeros(len(windows), np.int64)
    for label in np.unique(windows.target):
        of_label = np.flatnonzero(windows.target == label)
        # spread over the recordings, so that no two are neighbors
        order = np.argsort(np.arange(len(of_label)) * 0.6180339887 % 1, kind="stable")
        turn[of_label[order]] = np.arange(len(of_label))
    return windows.take(np.sort(np.argsort(turn, kind="stable")[:n_windows]))


def _check_batch(estimator: CheckedEstimator, windows: Windows, work: float, seed: int) -> Outcome:
    """Check that the network can overfit one small batch."""
    batch = _batch_of(windows, _BATCH)
    if len(np.unique(batch.target)) < 2:
        return NOT_POSSIBLE, Finding("one_target", {"n_windows": len(batch)})
    affordable = affordable_epochs(_BUDGET, work, len(batch), batch.n_timesteps)
    n_steps = int(np.clip(affordable, 60, _BATCH_STEPS))
    same = (batch.X, batch.target, batch.lengths)
    # 4 of 64 correct networks failed two attempts, none of 640 failed four
    attempts = [{**PLAIN, "batch_size": None, "max_epochs": k * n_steps} for k in (1, 2, 2, 2)]
    best, taken, reached = learn(estimator, same, same, attempts, _LEARNED, seed + 1)
    figures = {"n_windows": len(batch), "accuracy": best, "steps": taken, "reached": reached}
    if best >= _LEARNED:
        return PASSED, Finding("memorized", figures)
    return FAILED, Finding("not_memorized", figures)


def _check_own_arguments(estimator: CheckedEstimator, windows: Windows, seed: int) -> Outcome:
    """Check that the loss falls with the estimator's own optimizer settings."""
    batch = _batch_of(windows, _BATCH)
    if len(np.unique(batch.target)) < 2:
        return NOT_POSSIBLE, Finding("one_target", {"n_windows": len(batch)})
    same = (batch.X, batch.target, batch.lengths)
    plain = {name: PLAIN[name] for name in _LEFT_OUT}
    arguments = {**plain, "batch_size": None, "max_epochs": _OWN_STEPS}
    trial = run_trial(estimator, same, same, arguments, seed=seed)
    losses = trial.history["loss"]
    first, last = float(losses[0]), float(np.median(losses[-5:]))
    figures = {
        "first_loss": first,
        "last_loss": last,
        "steps": len(losses),
        "n_windows": len(batch),
        "settings": f"optimizer={estimator.optimizer!r} with"
        f" learning_rate={estimator.learning_rate!r}",
        "is_slow": first > 0 and last > 0.98 * first,
    }
    if not np.isfinite(losses).all() or last > first + 0.05 * abs(first):
        return FAILED, Finding("steps_too_large", figures)
    return PASSED, Finding("loss_falls", figures)
