"""Whether a run learns anything, and anything that carries over: a calm curve alone is no merit."""

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.run import Run, points
from sensorseq.fluctuation.thresholds import (
    LATE_START_FALL,
    LATE_START_RISE,
    MIN_EPOCHS,
    NO_DESCENT,
    ONE_CLASS_WINDOWS,
    ONE_SIDED_95,
    ONE_SIDED_99,
    SURELY_BELOW_Z,
    UNKNOWN_SIZE_MARGIN,
)


def one_class(run: Run) -> list[str]:
    """Catch a model that gives every validation window the same answer, however calm its curve."""
    record = run.followed
    if record is None:
        return []
    predicted = record.val_predicted[-_n_last(run) :]
    entropy = [metrics.prediction_entropy(epoch) for epoch in predicted]
    run.add("val_prediction_entropy", float(np.median(entropy)), "nats", 0.0, "one answer to all")
    n_windows = predicted.shape[1]
    if n_windows < ONE_CLASS_WINDOWS or max(entropy) > 0 or np.ptp(record.val_target) == 0:
        return []
    return [
        f"The model gives all {n_windows} validation windows the same answer: it has learned"
        " nothing that tells them apart, so a calm curve means nothing."
    ]


def not_learning(run: Run) -> list[str]:
    """Return sentences when nothing is learned, or nothing that carries over to validation."""
    if run.chance is None:
        return _no_descent(run)
    if run.chance >= 1:  # one class alone: nothing can beat guessing
        return []
    train, validation = (_level(run, name) for name in ("accuracy", "val_accuracy"))
    val_limit = guessing_limit(run.chance, run.n_val)
    guess = f"always answering the most frequent class gives {points(run.chance)} %"
    validates = (validation is not None and validation > val_limit) or _balanced_beats_guess(run)
    if train is not None and not _training_beats_guess(run, train):
        if validates or _has_begun(run):
            return []
        return [
            f"Training accuracy ends at {points(train)} %; {guess}. The model has learned"
            " nothing so far, so a calm curve means nothing."
        ]
    if validation is None or validates:
        return [] if train is not None or validation is not None else _no_descent(run)
    bound = (
        f" ({run.n_val} windows cannot tell it from anything up to {points(val_limit)} %)"
        if run.n_val is not None
        else ""
    )
    if train is None:
        return [f"Validation accuracy ends at {points(validation)} %; {guess}{bound}."]
    # Half of what was learned on the training windows: surely out of reach, or just not measurable?
    half = run.chance + (train - run.chance) / 2
    sampling = metrics.binomial_sd(half, run.n_val) if run.n_val is not None else 0.0
    # Without a record the recalls of the classes could not be asked; then it has to be surer.
    z = SURELY_BELOW_Z if run.record is None else ONE_SIDED_99
    if validation < half - z * sampling:
        return [
            f"Validation accuracy ends at {points(validation)} %; {guess}{bound}. Training"
            f" accuracy is {points(train)} %: what is learned there does not carry over."
        ]
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


def guessing_note(run: Run) -> list[str]:
    """Say it where accuracy does not beat guessing, though that is not the verdict."""
    if run.chance is None:
        return []
    guess = f"guessing gives {points(run.chance)} %"
    train, validation = (_level(run, name) for name in ("accuracy", "val_accuracy"))
    if train is not None and train <= guessing_limit(run.chance, run.n_train):
        rises = ", but rising" if _has_begun(run) else ""
        return [f"Training accuracy is only {points(train)} % so far ({guess}){rises}."]
    if validation is not None and validation <= guessing_limit(run.chance, run.n_val):
        windows = f" with {run.n_val} windows" if run.n_val is not None else ""
        return [
            f"Validation accuracy, {points(validation)} %, cannot be told from guessing"
            f"{windows} ({guess})."
        ]
    return []


def _has_begun(run: Run) -> bool:
    """Tell a late start, with accuracy still rising, from a run that learns nothing."""
    loss, accuracy = run.settled("loss"), run.settled("accuracy")
    if len(loss) < MIN_EPOCHS:
        return False
    rise = metrics.theil_sen_slope(accuracy) * (len(accuracy) - 1)
    fall = -metrics.theil_sen_slope(loss) * (len(loss) - 1)
    noise = metrics.detrended_volatility(accuracy, robust=False)
    return rise > max(LATE_START_RISE, 2 * noise) and fall > LATE_START_FALL * loss[0]


def _no_descent(run: Run) -> list[str]:
    """Judge by the loss where accuracy or what guessing gives is not known."""
    loss = run.whole("loss")
    if len(loss) < MIN_EPOCHS or _level(run, "accuracy") is not None:
        return []
    last = float(np.median(loss[-(len(loss) // 3) :]))
    if last < (1 - NO_DESCENT) * loss[0]:
        return []
    return [
        f"The training loss has not fallen: {loss[0]:.3g} nats in the first epoch, {last:.3g} at"
        " the end. Nothing is being learned, or all of it had been before this history begins."
    ]


def _level(run: Run, name: str) -> float | None:
    """Return the accuracy of the last third of the epochs judged, or None."""
    series = run.settled(name)
    return float(np.median(series[-max(len(series) // 3, 1) :])) if len(series) else None


def guessing_limit(chance: float, n_windows: int | None, z: float = ONE_SIDED_95) -> float:
    """Return the accuracy that guessing stays below, with a margin where no size is known."""
    if n_windows is None:
        return min(chance + UNKNOWN_SIZE_MARGIN, 1.0)
    return metrics.chance_limit(chance, n_windows, z)
