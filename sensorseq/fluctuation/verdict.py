"""The rules that turn a Run into a verdict and the sentences that explain it."""

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.columns import NEEDED
from sensorseq.fluctuation.run import Run, part, plural, points
from sensorseq.fluctuation.thresholds import (
    COLLAPSE_EPOCHS,
    COLLAPSE_MARGIN,
    LATE_START_FALL,
    LATE_START_RISE,
    MIN_EPOCHS,
    NO_DESCENT,
    ONE_SIDED_95,
    OVERFITTING_RISE_NATS,
    STRONG_EXCESS_OVER_SAMPLING,
    TREND_RATIO,
    TREND_Z,
    UNKNOWN_SIZE_MARGIN,
)
from sensorseq.fluctuation.training_side import Movement
from sensorseq.fluctuation.validation_side import Roughness


def judge(run: Run) -> tuple[str, str | None, list[str]]:
    """Apply the verdict rules in order of gravity; the first that holds decides."""
    diverged = _divergence(run)
    if diverged:
        return "diverged", None, [*diverged, *_kept(run), *_cannot_tell(run)]
    too_short = _cut_initial_descent(run)
    if too_short:
        return "too_short_to_tell", None, [*too_short, *_kept(run), *_cannot_tell(run)]
    movement = Movement(run)
    roughness = Roughness(run)
    not_learning = _not_learning(run)
    if not_learning:
        return (
            "not_learning",
            None,
            [*not_learning, movement.sentence(), *_kept(run), *_cannot_tell(run)],
        )
    verdict, severity, (head, *details) = _compare(movement, roughness)
    sentences = [
        head,
        *_generalisation(run),  # weightier than any figure about noise
        *details,
        *_guessing_note(run),
        *_noise_trend(run, movement),
        *roughness.drawdown_sentence(),
        *_kept(run),
        *_cannot_tell(run),
    ]
    return verdict, severity, sentences


def _divergence(run: Run) -> list[str]:
    for name, words in (("loss", "training loss"), ("val_loss", "validation loss")):
        series = run.whole(name)
        index = metrics.divergence_epoch(series, least=run.log_classes)
        if index is None:
            continue
        epoch = int(np.flatnonzero(run.columns[name].recorded)[index]) + 1
        value = series[index]
        run.add("diverged_at_epoch", epoch, "epochs")
        if not np.isfinite(value):
            what = "is not a number (NaN)" if np.isnan(value) else "is infinite"
            lasts = not np.isfinite(series[index:]).any() and index + 1 < len(series)
            when = f"from epoch {epoch} on" if lasts else f"in epoch {epoch}"
            sentences = [f"The {words} {what} {when}."]
            if name == "val_loss" and len(run.whole("loss")):
                sentences.append(
                    "The training loss stayed finite: look for NaN or extreme values in the"
                    " validation windows first."
                )
            return sentences
        if name == "val_loss" and len(run.whole("loss")):
            continue  # a validation loss that grows while training goes well is overfitting
        return [
            f"The {words} is above ten times its first value ({series[0]:.3g} nats) for"
            f" three epochs from epoch {epoch} on: {value:.3g} nats there."
        ]
    return _collapse(run)


def _collapse(run: Run) -> list[str]:
    """Return sentences when accuracy was clearly above guessing and then fell back to it."""
    for name, n_windows in (("accuracy", run.n_train), ("val_accuracy", run.n_val)):
        series = run.whole(name)
        if run.chance is None or len(series) < 2 * COLLAPSE_EPOCHS:
            continue
        limit = _guessing_limit(run.chance, n_windows)
        triples = np.lib.stride_tricks.sliding_window_view(series, COLLAPSE_EPOCHS)
        once = float(triples.min(axis=1).max())
        if once > limit + COLLAPSE_MARGIN and series[-COLLAPSE_EPOCHS:].max() <= limit:
            return [
                f"{part(name)} accuracy had reached {points(once)} % and ended at"
                f" {points(series[-1])} %, no better than guessing: the model has collapsed."
            ]
        return []  # training accuracy is the better witness where there is one
    return []


def _cut_initial_descent(run: Run) -> list[str]:
    """Find where the initial descent ends; return a sentence when too little is left after it."""
    name = next(name for name in (*NEEDED, "accuracy") if len(run.whole(name)))
    series = run.whole(name)
    if name in ("loss", "val_loss"):
        n_dropped = metrics.burn_in(metrics.softened_log(series, run.log_classes))
    else:
        n_dropped = metrics.burn_in(-series)
    recorded = np.flatnonzero(run.columns[name].recorded)
    n_left = len(series) - n_dropped
    run.add("initial_descent", n_dropped, "epochs")
    run.add("epochs_judged", n_left, "epochs", MIN_EPOCHS, "needed to measure a noise")
    if n_left < MIN_EPOCHS:
        have = plural(len(series), "recorded epoch")
        return [
            f"Of {have}, {n_left} come after the initial descent; at least {MIN_EPOCHS} are"
            " needed to tell noise from progress. Train for 18 epochs or more."
        ]
    run.first = int(recorded[n_dropped])
    return []


def _compare(movement: Movement, roughness: Roughness) -> tuple[str, str | None, list[str]]:
    """Hold what moves against what is seen: the table of four cases, and its edges."""
    moves, seen = movement.sentence(), roughness.sentences()
    if movement.is_hot and (roughness.follows_the_model or not roughness.known):
        strong = movement.is_strong or (roughness.ratio or 0) > STRONG_EXCESS_OVER_SAMPLING
        head = "The model itself moves too much, not only the validation score."
        return "fluctuating", "strong" if strong else "mild", [f"{head} {moves}", *seen]
    if movement.has_spikes:
        listed = ", ".join(str(epoch) for epoch in movement.spikes[:8])
        head = f"The training loss leaps up in single epochs ({listed}) and recovers."
        return "fluctuating", "mild", [head, moves, *seen]
    if roughness.exceeds_sampling:
        strong = (roughness.ratio or 0) > STRONG_EXCESS_OVER_SAMPLING
        head = "The validation curve moves more than its size can explain"
        head += f", though the training loss looks calm. {moves}" if movement.known else "."
        return "fluctuating", "strong" if strong else "mild", [head, *seen]
    if not movement.known and roughness.ratio is None and roughness.is_blatant:
        return "fluctuating", "mild", ["The validation loss jumps from epoch to epoch.", *seen]
    if movement.is_hot:
        head = (
            "Nothing to repair: the training loss moves, the validation side does not follow."
            " Dropout or augmentation, active while it is measured, does that."
        )
        return "normal", None, [head, moves, *seen]
    if movement.has_calmed:
        head = "Nothing to change: the curve was restless at first and has calmed down."
        return "normal", None, [head, moves, *seen]
    if roughness.looks_rough:
        head = "This is expected. " + (
            "The curve looks rough because of the validation set, not because of the training."
            if movement.known
            else "Nothing in the validation curve goes beyond what its size explains."
            if roughness.ratio is not None
            else "Nothing in the validation curve is out of the ordinary."
        )
        return "normal", None, [head, *seen[:1], moves, *seen[1:]]
    return "normal", None, ["The curve is calm; nothing to change.", moves, *seen]


def _not_learning(run: Run) -> list[str]:
    if run.chance is None:
        return _no_descent(run)
    train, validation = (_level(run, name) for name in ("accuracy", "val_accuracy"))
    train_limit = _guessing_limit(run.chance, run.n_train)
    val_limit = _guessing_limit(run.chance, run.n_val)
    guess = f"always answering the most frequent class gives {points(run.chance)} %"
    if train is not None and train <= train_limit:
        if _has_begun(run):
            return []
        return [
            f"Training accuracy ends at {points(train)} %; {guess}. The model has learned"
            " nothing so far, so a calm curve means nothing."
        ]
    if validation is None or validation > val_limit:
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
    if validation < half - ONE_SIDED_95 * sampling:
        return [
            f"Validation accuracy ends at {points(validation)} %; {guess}{bound}. Training"
            f" accuracy is {points(train)} %: what is learned there does not carry over."
        ]
    return []


def _guessing_note(run: Run) -> list[str]:
    """Say it where accuracy does not beat guessing, though that is not the verdict."""
    if run.chance is None:
        return []
    guess = f"guessing gives {points(run.chance)} %"
    train, validation = (_level(run, name) for name in ("accuracy", "val_accuracy"))
    if train is not None and train <= _guessing_limit(run.chance, run.n_train):
        return [f"Training accuracy is only {points(train)} % so far ({guess}), but rising."]
    if validation is not None and validation <= _guessing_limit(run.chance, run.n_val):
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


def _guessing_limit(chance: float, n_windows: int | None) -> float:
    if n_windows is None:
        return min(chance + UNKNOWN_SIZE_MARGIN, 1.0)
    return metrics.chance_limit(chance, n_windows)


def _noise_trend(run: Run, movement: Movement) -> list[str]:
    name = "loss" if movement.known else "val_loss"
    series = run.settled(name)
    if len(series) < MIN_EPOCHS:
        return []
    ratio, z = metrics.noise_change(series)
    run.add("noise_late_over_early", ratio, "ratio", 1.0, "constant noise")
    run.add("noise_trend", z, "z", TREND_Z, "constant noise stays below")
    if z < -TREND_Z and ratio < 1 / TREND_RATIO:
        hope = ": more epochs may calm it" if movement.is_hot else ""
        return [f"The noise is falling over the epochs{hope}."]
    if z > TREND_Z and ratio > TREND_RATIO:
        return ["The noise is rising over the epochs: more of them would make it worse."]
    if not movement.is_hot:
        return []
    return ["The noise is constant over the epochs: more epochs alone will not calm it."]


def _generalisation(run: Run) -> list[str]:
    """Say it when validation gets worse while training gets better.

    Counted from the lowest validation loss, wherever it lies: a run can overfit from its first
    epoch on, long before early stopping ends it. The lowest of many noisy values is low by luck
    too; that share does not count.
    """
    val_loss = run.whole("val_loss")
    if len(val_loss) < MIN_EPOCHS or len(run.whole("loss")) != len(val_loss):
        return []
    lowest = int(val_loss.argmin())
    end = float(np.median(val_loss[-max(len(val_loss) // 6, 3) :]))
    noise = metrics.high_frequency_noise(val_loss)
    rise = end - val_loss[lowest]
    # its mean, and what the lowest value and the median at the end scatter about theirs
    luck = metrics.selection_bias(noise, len(val_loss)) + 1.5 * noise
    run.add("val_loss_rise_after_lowest", rise, "nats", luck, "luck of picking the lowest")
    loss = run.whole("loss")
    if rise <= OVERFITTING_RISE_NATS + luck or loss[-1] >= loss[lowest]:
        return []
    epoch = int(np.flatnonzero(run.columns["val_loss"].recorded)[lowest]) + 1
    return [
        f"Validation loss was lowest in epoch {epoch} ({val_loss[lowest]:.2f} nats) and ended at"
        f" {end:.2f}, while training loss fell from {loss[lowest]:.2f} to {loss[-1]:.2f}: from"
        " there on the model overfits, it learns what does not carry over."
    ]


def _kept(run: Run) -> list[str]:
    if run.best_epoch is None:
        return ["Which epoch's weights were kept is not recorded here."]
    index = run.best_epoch - 1
    figures = []
    if np.isfinite(run.columns["val_loss"].values[index]):
        figures.append(f"validation loss {run.columns['val_loss'].values[index]:.3f} nats")
    if np.isfinite(run.columns["val_accuracy"].values[index]):
        figures.append(f"accuracy {points(run.columns['val_accuracy'].values[index])} %")
    shown = f" ({', '.join(figures)})" if figures else ""
    return [f"The weights kept are those of epoch {run.best_epoch} of {run.n_epochs}{shown}."]


def _cannot_tell(run: Run) -> list[str]:
    said = []
    if not len(run.whole("val_loss")) and not len(run.whole("val_accuracy")):
        said.append(
            "Without validation figures it cannot be told how the model does on new recordings."
        )
    elif run.n_val is None and len(run.whole("val_accuracy")):
        said.append(
            "How much of the validation curve is sampling noise cannot be told without its size:"
            " give n_val."
        )
    few = [name for name in ("val_loss", "val_accuracy") if 0 < len(run.settled(name)) < MIN_EPOCHS]
    if run.first and few:
        said.append(
            f"{plural(len(run.settled(few[0])), 'validation result')} after the initial descent"
            f" are too few to judge; {MIN_EPOCHS} are needed."
        )
    if not len(run.whole("loss")):
        said.append("Whether the model itself moves cannot be told without a training loss.")
    accuracy = len(run.whole("accuracy")) or len(run.whole("val_accuracy"))
    if accuracy and run.chance is None:
        said.append(
            "Whether it beats guessing cannot be told: give majority_fraction or n_classes."
        )
    return said
