"""Answers beyond the noise: what is learned and carries over, and whether more epochs help."""

import math

import numpy as np

from sensorseq.fluctuation.statistics import metrics
from sensorseq.fluctuation.statistics.columns import Floats
from sensorseq.fluctuation.statistics.per_window import cross_fit
from sensorseq.fluctuation.statistics.run import Run
from sensorseq.fluctuation.statistics.sides import Movement, Roughness
from sensorseq.fluctuation.statistics.statements import Statement, say
from sensorseq.fluctuation.statistics.thresholds import (
    LATE_START_FALL,
    LATE_START_RISE,
    MIN_EPOCHS,
    MIN_UNITS_TO_SCORE,
    NO_DESCENT,
    ONE_CLASS_WINDOWS,
    ONE_SIDED_95,
    ONE_SIDED_99,
    OVERFITTING_RISE_NATS,
    STILL_FALLS,
    SURELY_BELOW_Z,
    TREND_RATIO,
    TREND_Z,
    UNKNOWN_SIZE_MARGIN,
)


def one_class(run: Run) -> list[Statement]:
    """Catch a model that gives every validation window the same answer, however calm its curve."""
    record = run.followed
    if record is None:
        return []
    predicted = record.val_predicted[-_n_last(run) :]
    n_windows = predicted.shape[1]
    if n_windows < ONE_CLASS_WINDOWS or np.ptp(record.val_target) == 0:
        return []
    if np.ptp(predicted.astype(np.int64), axis=1).any():
        return []
    return [say("one_answer", n_windows=n_windows)]


def not_learning(run: Run) -> list[Statement]:
    """Return statements when nothing is learned, or nothing that carries over to validation."""
    if run.chance is None:
        return _no_descent(run)
    train, validation = (_level(run, name) for name in ("accuracy", "val_accuracy"))
    val_limit = guessing_limit(run.chance, run.n_val)
    validates = (validation is not None and validation > val_limit) or _balanced_beats_guess(run)
    if train is not None and not _training_beats_guess(run, train):
        if validates or _has_begun(run):
            return []
        return [say("nothing_learned", level=train, chance=run.chance)]
    if validation is None or validates:
        return [] if train is not None or validation is not None else _no_descent(run)
    bound = [] if run.n_val is None else [say("guessing_limit", n_val=run.n_val, limit=val_limit)]
    if train is None:
        return [say("validation_guesses", level=validation, chance=run.chance), *bound]
    # Half of what was learned on the training windows: surely out of reach, or just not measurable?
    half = run.chance + (train - run.chance) / 2
    sampling = metrics.binomial_sd(half, run.n_val) if run.n_val is not None else 0.0
    # Without a record the recalls of the classes could not be asked; then it has to be surer.
    z = SURELY_BELOW_Z if run.record is None else ONE_SIDED_99
    if validation < half - z * sampling:
        figures = {"level": validation, "chance": run.chance, "train": train}
        return [say("not_carried_over", **figures), *bound]
    return []


def _training_beats_guess(run: Run, train: float) -> bool:
    """Ask the running accuracy, and that of the fixed subset, which holds no dropout."""
    assert run.chance is not None
    # What is learned by heart raises it a little with any labels, so this has to be sure.
    chance, record = run.chance, run.record
    if record is not None and len(record.train_target):
        chance = float(np.bincount(record.train_target).max()) / len(record.train_target)
    if train > guessing_limit(chance, run.n_train, ONE_SIDED_99):
        return True
    if record is None or len(record.fixed_accuracy) != run.n_epochs or not len(record.fixed_rows):
        return False
    fixed = float(np.median(record.fixed_accuracy[-_n_last(run) :]))
    return fixed > guessing_limit(chance, len(record.fixed_rows))


def _balanced_beats_guess(run: Run) -> bool:
    """Ask the mean of the classes' recalls, which a frequent class does not hide."""
    record = run.followed
    if record is None:
        return False
    classes, counts = np.unique(record.val_target, return_counts=True)
    if len(classes) < 2:
        return False
    correct = record.val_correct[-_n_last(run) :]
    recalls = [correct[:, record.val_target == one].mean(axis=1) for one in classes]
    level = float(np.median(np.mean(recalls, axis=0)))
    chance = 1 / len(classes)
    sd = float(np.sqrt((chance * (1 - chance) / counts).sum())) / len(classes)
    limit = chance + ONE_SIDED_95 * sd
    run.add("val_balanced_accuracy", level, "fraction", limit, "guessing gives up to")
    return level > limit


def _n_last(run: Run) -> int:
    """Return how many epochs are the last third of those judged."""
    return max((run.n_epochs - run.first) // 3, 1)


def _has_begun(run: Run) -> bool:
    """Tell a late start, with accuracy still rising, from a run that learns nothing."""
    loss, accuracy = run.settled("loss"), run.settled("accuracy")
    if len(loss) < MIN_EPOCHS:
        return False
    rise = metrics.theil_sen_slope(accuracy) * (len(accuracy) - 1)
    fall = -metrics.theil_sen_slope(loss) * (len(loss) - 1)
    noise = metrics.detrended_volatility(accuracy)
    return rise > max(LATE_START_RISE, 2 * noise) and fall > LATE_START_FALL * loss[0]


def _no_descent(run: Run) -> list[Statement]:
    """Judge by the loss where accuracy or what guessing gives is not known."""
    loss = run.whole("loss")
    if len(loss) < MIN_EPOCHS or _level(run, "accuracy") is not None:
        return []
    last = float(np.median(loss[-(len(loss) // 3) :]))
    if last < (1 - NO_DESCENT) * loss[0]:
        return []
    return [say("no_descent", first=float(loss[0]), last=last)]


def _level(run: Run, name: str) -> float | None:
    """Return the accuracy of the last third of the epochs judged, or None.

    None as well of one class alone, which a model that predicts nothing else gets right.
    """
    if name == "val_accuracy" and run.validates_one_class:
        return None
    series = run.settled(name)
    return float(np.median(series[-max(len(series) // 3, 1) :])) if len(series) else None


def guessing_limit(chance: float, n_windows: int | None, z: float = ONE_SIDED_95) -> float:
    """Return the accuracy that guessing stays below, with a margin where no size is known."""
    if n_windows is None:
        return min(chance + UNKNOWN_SIZE_MARGIN, 1.0)
    return metrics.chance_limit(chance, n_windows, z)


def generalization(run: Run, roughness: Roughness) -> list[Statement]:
    """Say whether validation gets worse while training gets better; first of all what matters most.

    Counted from the lowest validation loss, wherever it lies: a run can overfit from its first
    epoch on, long before early stopping ends it. The lowest of many noisy values is low by luck
    too; that share does not count.
    """
    if run.validates_one_class:
        return [say("one_class")]
    worse = _rises_from_lowest(run)
    if worse:
        return worse
    if roughness.got_worse:
        return [say("got_worse", fall=roughness.drawdown)]
    return _near_guessing(run) or (
        [say("no_overfitting")] if "val_loss_rise_after_lowest" in run.statistics else []
    )


def _rises_from_lowest(run: Run) -> list[Statement]:
    val_loss, loss = run.whole("val_loss"), run.whole("loss")
    if len(val_loss) < MIN_EPOCHS or len(loss) != len(val_loss):
        return []
    lowest, n_last = int(val_loss.argmin()), max(len(val_loss) // 6, 3)
    end = float(np.median(val_loss[-n_last:]))
    noise = metrics.high_frequency_noise(val_loss)
    rise = end - val_loss[lowest]
    # its mean, and what the lowest value and the median at the end scatter about theirs
    luck = metrics.selection_bias(noise, len(val_loss)) + 1.5 * noise
    run.add("val_loss_rise_after_lowest", rise, "nats", luck, "luck of picking the lowest")
    train = metrics.local_trend(loss)  # a single epoch of a loss that jumps says nothing
    rises = rise > OVERFITTING_RISE_NATS + luck or _trend_rises(val_loss, n_last, noise)
    if not rises or train[-1] >= train[lowest]:
        return []
    epoch = int(np.flatnonzero(run.columns["val_loss"].recorded)[lowest]) + 1
    figures = {"lowest": float(val_loss[lowest]), "end": end}
    figures |= {"train_then": float(train[lowest]), "train_end": float(train[-1])}
    return [say("overfits", epoch=epoch), say("overfitting_figures", epoch=epoch, **figures)]


def _trend_rises(val_loss: Floats, n_last: int, noise: float) -> bool:
    """Find a rise that a jumpy loss hides from single epochs: of medians of sixths of the run."""
    blocks = len(val_loss) // n_last
    medians = np.median(val_loss[-blocks * n_last :].reshape(blocks, n_last), axis=1)
    after = medians[int(medians.argmin()) :]
    sd = 1.25 * noise / math.sqrt(n_last)  # of a median of normal noise
    luck = metrics.selection_bias(sd, blocks) + 1.5 * sd
    if len(after) < 3:
        return False
    # a loss that wanders comes back; one of a model that overfits stays up, or keeps rising
    lasting = after[len(after) // 2 :].min() - after[0]
    if metrics.theil_sen_slope(after) > 0 and after[-1] >= max(after) - 2 * sd:
        lasting = max(lasting, after[-1] - after[0])
    return bool(lasting > OVERFITTING_RISE_NATS + luck)


def _near_guessing(run: Run) -> list[Statement]:
    """Say it where accuracy does not beat guessing, though that is not the verdict."""
    if run.chance is None:
        return []
    train, validation = (_level(run, name) for name in ("accuracy", "val_accuracy"))
    if train is not None and train <= guessing_limit(run.chance, run.n_train):
        kind = "training_rises" if _has_begun(run) else "training_near_guessing"
        return [say(kind, level=train, chance=run.chance)]
    if validation is None or validation > guessing_limit(run.chance, run.n_val):
        return []
    figures = {"level": validation, "chance": run.chance}
    if run.n_val is None:
        return [say("not_beyond_guessing", **figures)]
    return [say("not_beyond_guessing_sized", **figures, n_val=run.n_val)]


def more_epochs(run: Run, movement: Movement, verdict: str) -> list[Statement]:
    """Answer whether more epochs help: whether the noise goes away, and whether the loss falls."""
    series = run.settled(movement.name if movement.known else "val_loss")
    noise = _noise_trend(run, series) if verdict == "fluctuating" else []
    return [*noise, *(_descent(run, movement) if movement.known else [])]


def _noise_trend(run: Run, series: Floats) -> list[Statement]:
    if len(series) < MIN_EPOCHS:
        return []
    ratio, z = metrics.noise_change(series)
    run.add("noise_late_over_early", ratio, "ratio", 1.0, "constant noise")
    run.add("noise_trend", z, "z", TREND_Z, "constant noise stays below")
    if z < -TREND_Z and ratio < 1:
        return [
            say("noise_falls" if ratio < 1 / TREND_RATIO else "noise_falls_little", ratio=ratio)
        ]
    if z > TREND_Z and ratio > 1:
        return [say("noise_rises" if ratio > TREND_RATIO else "noise_rises_little", ratio=ratio)]
    return [say("noise_constant")] if abs(z) <= TREND_Z else []


def _descent(run: Run, movement: Movement) -> list[Statement]:
    loss = run.settled(movement.name)
    start = metrics.plateau_start(loss)
    since = int(run.settled_epochs(movement.name)[start]) + 1
    if len(loss) - start >= max(len(loss) // 3, 8):
        return [say("flat", epoch=since, n_epochs=run.n_epochs)]
    last = loss[-max(len(loss) // 3, 8) :]  # longer than the plateau, so it falls or rises
    fall = -10 * metrics.theil_sen_slope(last)
    if fall <= 0:
        return []
    level = float(np.median(last)) + 0.1 * run.log_classes
    return [say("still_falls", fall=fall) if fall > STILL_FALLS * level else say("hardly_falls")]


def kept(run: Run) -> list[Statement]:
    """Answer which epoch's weights were kept, and what they are worth without luck."""
    if run.best_epoch is None:
        return [say("kept_unknown")]
    index = run.best_epoch - 1
    named = {"loss": "val_loss", "accuracy": "val_accuracy"}
    values = {name: float(run.columns[column].values[index]) for name, column in named.items()}
    figures = {name: value for name, value in values.items() if math.isfinite(value)}
    kind = "kept_both" if len(figures) == 2 else "_".join(["kept", *figures])
    where = {"epoch": run.best_epoch, "n_epochs": run.n_epochs}
    return [say(kind, **where, **figures), *_worth(run, index)]


def _worth(run: Run, index: int) -> list[Statement]:
    """Return the accuracy of an epoch that is picked on other windows than it is scored on.

    Nothing of a last epoch, which nobody picked, nor of few windows or groups: halves of them pick
    so much worse than all that the figure would be too low.
    """
    record = run.followed
    if record is None or index == run.n_epochs - 1:
        return []
    correct, groups = record.val_correct, record.val_groups
    n_units = correct.shape[1] if groups is None else len(np.unique(groups))
    if n_units < MIN_UNITS_TO_SCORE:
        return []
    val_loss = run.columns["val_loss"].values
    score = None
    if np.isfinite(val_loss).any() and val_loss[index] <= np.nanmin(val_loss):
        # Picked by the validation loss: of two classes exactly, of more nearly this of the margin.
        margin = np.clip(np.nan_to_num(record.val_margin.astype(np.float64)), -1e4, 1e4)
        score = -np.logaddexp(0.0, -margin)
    fit = cross_fit(correct, groups, score=score)
    half = ONE_SIDED_95 * fit.accuracy_error
    interval = (fit.accuracy - half, fit.accuracy + half)
    run.add("best_epoch_accuracy", fit.accuracy, "fraction", interval=interval)
    figures = {"accuracy": fit.accuracy, "error": fit.accuracy_error}
    if fit.gain > max(2 * fit.gain_error, 0.0):
        return [say("picked_gains", **figures, gain=fit.gain)]
    return [say("picked", **figures)]


def cannot_tell(run: Run) -> list[Statement]:
    """Say what the figures at hand leave open, and what would settle it."""
    said = []
    accuracies = run.whole("val_accuracy")
    if run.has_foreign_record:
        said.append(say("foreign_record"))
    if not len(run.whole("val_loss")) and not len(accuracies):
        said.append(say("no_validation"))
    elif run.n_val is None and len(accuracies):
        n = metrics.guess_count(run.columns["val_accuracy"].values)
        said.append(say("no_size") if n is None else say("size_guessed", n=n))
    few = [len(run.settled(name)) for name in ("val_loss", "val_accuracy")]
    few = [n for n in few if 0 < n < MIN_EPOCHS]
    if run.first and few:
        said.append(say("few_validations", n=few[0], least=MIN_EPOCHS))
    if not len(run.whole("loss")):
        said.append(say("movement_unknown"))
    has_accuracy = len(run.whole("accuracy")) or len(accuracies)
    if has_accuracy and run.chance is None and not run.validates_one_class:
        said.append(say("no_chance"))
    if run.record is None and len(accuracies):
        said.append(say("no_record"))
    return said
