"""The rules that derive a verdict from a `Run`, and statements that explain the verdict."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sensorseq.diagnosis import metrics
from sensorseq.diagnosis import thresholds as limits
from sensorseq.diagnosis.evidence import (
    SteadyNoise,
    TrainingMovement,
    ValidationRoughness,
    WindowFlips,
    collect_evidence,
    cross_fit,
)
from sensorseq.diagnosis.metrics import COLUMNS, NEEDED, Column, Floats, Run, part_of
from sensorseq.diagnosis.statements import Statement, generalization_of, statement_of


def judge(run: Run) -> tuple[str, str | None, list[Statement]]:
    """Apply the verdict rules; a run whose loss does not fit the other values is never normal.

    If the losses contain a penalty, the accuracy alone can show that a run is normal.
    """
    verdict, severity, lines = _apply_rules(run)
    unjudged = {"loss_too_small", "loss_has_penalty"}
    if run.n_val is not None and len(run.settled("val_accuracy")) >= limits.MIN_EPOCHS:
        unjudged.remove("loss_has_penalty")
    excluded = [line for line in lines if line.kind in unjudged]
    if not excluded or verdict not in ("normal", "too_short_to_tell"):
        return verdict, severity, lines
    others = [line for line in lines if line not in excluded and line.kind != "too_short"]
    return "too_short_to_tell", None, [*excluded, *others]


def _apply_rules(run: Run) -> tuple[str, str | None, list[Statement]]:
    """Apply the verdict rules, the most serious first; the first rule that applies decides."""
    recovered = _drop_recovered_epochs(run)
    recovered += _check_units(run)
    diverged = _divergence(run)
    if diverged:
        return "diverged", None, [*diverged, *recovered, *kept_weights(run), *open_questions(run)]
    too_short = _cut_initial_descent(run)
    if too_short:
        worse = [] if run.validates_one_class else _gap_between_parts(run) or _gets_worse(run)
        lines = [*too_short, *worse, *recovered, *kept_weights(run), *open_questions(run)]
        return "too_short_to_tell", None, lines
    flips = WindowFlips(run)
    movement, roughness = TrainingMovement(run), ValidationRoughness(run, flips)
    adjusted = metrics.holm({**movement.p_values, **roughness.p_values})
    movement.decide(adjusted)
    roughness.decide(adjusted)
    run.evidence.update(collect_evidence(run, movement, roughness, flips))
    learns_nothing = same_class_for_all(run) or not_learning(run)
    verdict, severity, loss_line, details = _compare(run, movement, roughness, flips)
    lines = [*roughness.accuracy_line(verdict), *loss_line]
    if learns_nothing:
        # if nothing is learned, a calm curve means nothing
        if generalization_of(learns_nothing) is None:
            lines, details = [], movement.statements()
        lines += [*learns_nothing, *recovered, *details, *kept_weights(run), *open_questions(run)]
        return "not_learning", None, lines
    generalizes = generalization(run, roughness)
    is_unvalidated = verdict == "normal" and not roughness.is_known
    is_undecided = is_unvalidated and generalization_of(generalizes) is None
    if is_undecided and (few := _too_few_validations(run)):
        questions = [question for question in open_questions(run) if question not in few]
        lines = [*few, *generalizes, *recovered, *details, *kept_weights(run), *questions]
        return "too_short_to_tell", None, lines
    # the trends of the noise and of the loss show whether more epochs would help
    more_epochs = []
    if generalization_of(generalizes) is None:
        series = run.settled(movement.name if movement.is_known else "val_loss")
        more_epochs += _noise_trend(run, series) if verdict == "fluctuating" else []
        more_epochs += _descent(run, movement) if movement.is_known else []
    lines += [*generalizes, *recovered, *details, *more_epochs]
    lines += [*roughness.drawdown_statement(), *kept_weights(run), *open_questions(run)]
    return verdict, severity, lines


_SIDES = (("loss", "training"), ("val_loss", "validation"))


def _recorded(run: Run, name: str) -> NDArray[np.int64]:
    """Return the indices of the epochs that have an entry in a column."""
    return np.flatnonzero(run.columns[name].recorded)


def _drop_recovered_epochs(run: Run) -> list[Statement]:
    """Drop epochs with a non-finite loss if the run recovered after them."""
    statements = []
    for name, side in _SIDES:
        column = run.columns[name]
        broken = np.flatnonzero(column.recorded & ~np.isfinite(column.values))
        few = max(limits.RECOVERED_SHARE * column.recorded.sum(), 1)
        n_after = int(column.recorded[broken[-1] + 1 :].sum()) if len(broken) else 0
        if n_after < limits.RECOVERY_EPOCHS or len(broken) > few:
            continue
        statements.append(statement_of("recovered", part=side, epochs=(broken + 1).tolist()))
        # drop these epochs in both losses, which are compared epoch by epoch
        for of_losses in ("loss", "val_loss"):
            losses = run.columns[of_losses]
            values, recorded = losses.values.copy(), losses.recorded.copy()
            values[broken], recorded[broken] = np.nan, False
            run.columns[of_losses] = Column(values, recorded)
    return statements


def _check_units(run: Run) -> list[Statement]:
    """Compare each loss with the loss of guessing, and with the accuracy in the same epoch.

    A sum over batches is converted to a mean; the noise of a loss that is too small is not judged.
    """
    if run.record is not None and run.record.steps:  # this package measured the losses
        return []
    statements = []
    for name, side in (("val_loss", "val_accuracy"), ("loss", "accuracy")):
        if name == "val_loss" and run.followed is not None:
            continue
        loss = run.columns[name].values
        is_known = np.isfinite(loss)
        # without a training accuracy, compare the training loss with the validation accuracy
        sides = [side, "val_accuracy"] if name == "loss" else [side]
        beside = next((column for column in sides if len(run.whole(column))), None)
        accuracy = np.full(len(loss), np.nan) if beside is None else run.columns[beside].values
        loss, accuracy = loss[is_known], accuracy[is_known]
        if len(loss) >= limits.MIN_EPOCHS:
            statements += _check_sum(run, name, loss, accuracy)
        is_comparable = beside == side or "val_loss" in run.without_unit
        if is_comparable and beside is not None:
            loss = run.columns[name].values[is_known]  # a sum has been divided
            statements += _check_too_small(run, name, loss, accuracy, is_same=beside == side)
    return statements


def _check_sum(run: Run, name: str, loss: Floats, accuracy: Floats) -> list[Statement]:
    n_classes = run.n_classes or limits.ASSUMED_CLASSES
    least = np.full(len(loss), math.log(n_classes))
    for epoch in np.flatnonzero(np.isfinite(accuracy)):
        least[epoch] = metrics.constant_answer_loss(float(accuracy[epoch]), n_classes)
    head, early = slice(limits.FIRST_EPOCHS), slice(limits.FIRST_EPOCHS, len(loss) // 2)
    first = float(np.median(loss[head]))
    is_high = first > limits.SUM_TIMES_GUESS * math.log(n_classes)
    if not is_high or float(np.median(loss[early] / least[early])) < limits.SUM_TIMES_ACCURACY:
        return []
    train, validation = (run.columns[column].values for column in ("loss", "val_loss"))
    # Before the model overfits, the means are alike; a running training loss is half an epoch late.
    with np.errstate(over="ignore", invalid="ignore"):
        gaps = np.abs(validation[:-1] - [train[:-1], (train[:-1] + train[1:]) / 2])
    gaps = gaps[:, np.isfinite(gaps).all(axis=0)][:, limits.FIRST_EPOCHS : max(len(loss) // 4, 6)]
    if gaps.size and not run.scales and np.median(gaps, axis=1).min() < limits.PENALTY_GAP_NATS:
        is_said = "loss" in run.without_unit
        run.without_unit |= {"loss", "val_loss"}
        return [] if is_said else [statement_of("loss_has_penalty", first=first)]
    begin = accuracy[head][np.isfinite(accuracy[head])]
    guess = math.log(2) if run.n_classes is None else math.log(n_classes)
    if len(begin):
        level = float(np.median(begin))
        guess = -math.log(max(level, 1 / n_classes))
        if run.n_classes is not None:
            guess = metrics.constant_answer_loss(level, n_classes)
        guess = max(guess, math.log(2) / 2)
    run.divide(name, first / guess)
    return [statement_of("loss_is_sum", column=name, first=first, guess=guess, scale=first / guess)]


def _check_too_small(
    run: Run, name: str, loss: Floats, accuracy: Floats, *, is_same: bool
) -> list[Statement]:
    """Detect a loss too small for its accuracy: each wrong window costs at least ln 2 nats.

    `is_same` states that both are values of the same windows; then the later half of the epochs is
    tested. If not, only early epochs are tested: later, an overfitting network can have a smaller
    training loss than the accuracy on other windows allows.
    """
    least = (1 - accuracy) * math.log(2)
    epochs, limit = np.flatnonzero(accuracy < limits.MOST_RIGHT), limits.TOO_SMALL
    if name in run.scales:  # the divisor of a sum is an estimate
        limit /= 2
    if not is_same:
        epochs = epochs[: limits.MIN_EPOCHS // 2]
        epochs = epochs[epochs < len(loss) // 2]
    if len(epochs) < limits.FIRST_EPOCHS:
        return []
    half = epochs[len(epochs) // 2 :]
    if is_same and len(half) >= limits.FIRST_EPOCHS:
        epochs = half
    if float(np.median(loss[epochs] / least[epochs])) > limit:
        return []
    run.without_unit.add(name)
    levels = (float(np.median(part[epochs])) for part in (loss, least, 1 - accuracy))
    figures = dict(zip(("loss", "least", "wrong"), levels, strict=True))
    return [statement_of("loss_too_small", column=name, **figures)]


def _divergence(run: Run) -> list[Statement]:
    for name, side in _SIDES:
        series = run.whole(name)
        index = metrics.divergence_epoch(series, least=run.log_classes)
        if index is None:
            continue
        epoch, value = int(_recorded(run, name)[index]) + 1, float(series[index])
        run.add("diverged_at_epoch", epoch, "epochs")
        has_training = name == "val_loss" and bool(len(run.whole("loss")))
        if not np.isfinite(value):
            what = "not a number (NaN)" if np.isnan(value) else "infinite"
            lasts = not np.isfinite(series[index:]).any() and index + 1 < len(series)
            kind = "broken_from" if lasts else "broken_in"
            statement = statement_of(kind, part=side, what=what, epoch=epoch)
            return [statement] + [statement_of("broken_validation")] * has_training
        if not has_training:
            return [
                statement_of(
                    "exploded", part=side, first=float(series[0]), epoch=epoch, value=value
                )
            ]
        # if only the validation loss explodes, the model overfits but does not diverge
    return _collapse(run) or _breakdown(run)


def _breakdown(run: Run) -> list[Statement]:
    """Detect a run in which all columns are far worse from some epoch on than they were before."""
    losses = {name: run.whole(name) for name in COLUMNS if len(run.whole(name))}
    train = losses.get("loss")
    if train is None or len(losses) < 2 or not all(np.isfinite(s).all() for s in losses.values()):
        return []
    first = metrics.burn_in(metrics.softened_log(train, run.log_classes))
    n_before = max(limits.COMMON_LEAP_EPOCHS, run.n_epochs // 3)
    for epoch in range(first + limits.COLLAPSE_EPOCHS, run.n_epochs - limits.COLLAPSE_EPOCHS + 1):
        if run.after_rise[epoch : epoch + limits.COLLAPSE_EPOCHS].any():
            continue
        if all(_is_far_worse(run, name, max(first, epoch - n_before), epoch) for name in losses):
            before = float(np.median(run.columns["loss"].values[epoch - 3 : epoch]))
            figures = {"before": before, "last": float(train[-1])}
            return [statement_of("broke_down", epoch=epoch + 1, **figures)]
    return []


def _is_far_worse(run: Run, name: str, first: int, epoch: int) -> bool:
    """Test whether all values from an epoch on are far worse than those between `first` and it."""
    column = run.columns[name]
    before, after = (
        column.values[part][column.recorded[part]]
        for part in (slice(first, epoch), slice(epoch, None))
    )
    if min(len(before), len(after)) < limits.COLLAPSE_EPOCHS:
        return False
    level = float(np.median(before))
    if "accuracy" in name:
        return bool(after.max() < min(level - limits.COLLAPSE_MARGIN, before.min()))
    rise = max(limits.COMMON_LEAP_NATS, limits.BREAKDOWN_RISE * level)
    return bool(after.min() > max(level + rise, before.max()))


def _collapse(run: Run) -> list[Statement]:
    for name, n_windows in (("accuracy", run.n_train), ("val_accuracy", run.n_val)):
        series = run.whole(name)
        if name == "val_accuracy" and run.validates_one_class:
            continue
        if run.chance is None or len(series) < 2 * limits.COLLAPSE_EPOCHS:
            continue
        limit = guessing_limit(run.chance, n_windows)
        triples = sliding_window_view(series, limits.COLLAPSE_EPOCHS)
        once = float(triples.min(axis=1).max())
        end = series[-limits.COLLAPSE_EPOCHS :]
        if once > limit + limits.COLLAPSE_MARGIN and end.max() <= limit:
            return [
                statement_of("collapsed", part=part_of(name), once=once, last=float(series[-1]))
            ]
        return []  # if training accuracy is known, do not judge by validation accuracy
    return []


def _cut_initial_descent(run: Run) -> list[Statement]:
    """Find where the initial descent ends; return a statement if too few epochs are left."""
    name = next(name for name in (*NEEDED, "accuracy") if len(run.whole(name)))
    series, is_loss = run.whole(name), name in ("loss", "val_loss")
    falling = metrics.softened_log(series, run.log_classes) if is_loss else -series
    n_dropped = metrics.burn_in(falling)
    n_left, least = len(series) - n_dropped, limits.MIN_EPOCHS
    run.add("initial_descent", n_dropped, "epochs")
    run.add("epochs_judged", n_left, "epochs", float(least), "needed to measure the noise")
    if n_left < least:
        return [statement_of("too_short", n_epochs=len(series), n_left=n_left, least=least)]
    run.first = int(_recorded(run, name)[n_dropped])
    return []


_Judged = tuple[str, str | None, list[Statement], list[Statement]]


def _compare(
    run: Run, movement: TrainingMovement, roughness: ValidationRoughness, flips: WindowFlips
) -> _Judged:
    """Return the verdict, its severity, the statements about the loss, and the details."""
    moves, seen, costs = movement.statements(), roughness.statements(), movement.cost()
    shares, windows = flips.shares(), flips.statements()
    noise = movement.noise
    spikes = [statement_of("thrown_off", epochs=movement.spikes)] if movement.has_spikes else []
    jumps = [statement_of("loss_constant_rate" if run.rate_is_constant else "loss_moves")]
    if movement.is_restless and roughness.follows_the_model:
        is_strong = movement.noise.exceeds(limits.STRONG_EDGES) and roughness.is_strong
        grade = "strong" if is_strong else "mild"
        return "fluctuating", grade, jumps, [*spikes, *moves, *seen, *costs, *shares]
    if movement.common_leaps:
        line = [statement_of("loss_together", epochs=movement.common_leaps)]
        return "fluctuating", "mild", line, [*seen, *costs]
    if movement.is_restless and movement.costs_loss:
        line = [statement_of("loss_costs", excess=movement.excess)]
        return "fluctuating", "mild", line, [*moves, *seen, *windows]
    if movement.has_spikes:
        line = [statement_of("loss_leaps", epochs=movement.spikes)]
        return "fluctuating", "mild", line, [*moves, *seen, *costs]
    if noise.exceeds(limits.ONE_SIDE_EDGES) and movement.is_restless and not roughness.is_known:
        return "fluctuating", _grade_alone(noise), jumps, [*moves, *costs]
    is_blatant = roughness.follows_the_model and roughness.noise.exceeds(limits.ONE_SIDE_EDGES)
    if is_blatant and not movement.is_known:
        return (
            "fluctuating",
            _grade_alone(roughness.noise),
            [statement_of("loss_of_validation")],
            seen,
        )
    line = _loss_line(movement, roughness)
    # so large an excess counts even if the training loss is calm
    far_exceeds = (roughness.ratio or 0.0) > limits.STRONG_EXCESS_OVER_SAMPLING
    if roughness.exceeds_sampling and (far_exceeds or not movement.is_known):
        grade = "strong" if roughness.is_strong else "mild"
        return "fluctuating", grade, line, [*moves, *seen, *shares]
    if movement.is_restless or not roughness.looks_rough:
        windows = []  # flips explain a rough accuracy only if the model is calm
    return "normal", None, line, [*seen[:1], *windows, *moves, *seen[1:]]


def _loss_line(movement: TrainingMovement, roughness: ValidationRoughness) -> list[Statement]:
    noise, kind = movement.noise, "loss_calm"
    if not movement.is_known:
        return []
    if not noise.is_known:
        kind = "loss_unjudged"
    elif noise.has_calmed:
        kind = "loss_calmed"
    elif movement.is_restless and not roughness.is_known:
        kind = "loss_alone"
    elif movement.is_restless:
        kind = "loss_dropout" if movement.name == "loss" else "loss_harmless"
    elif noise.exceeds():
        kind = "loss_unsure"
    elif roughness.noise.exceeds():
        kind = "loss_validation_only"
    return [statement_of(kind)]


def _grade_alone(noise: SteadyNoise) -> str:
    return "strong" if noise.exceeds(limits.ONE_SIDE_EDGES * limits.STRONG_EDGES) else "mild"


# Statements that do not depend on the noise: learning, generalization, benefit of more epochs.


def same_class_for_all(run: Run) -> list[Statement]:
    """Detect a model that predicts the same class for all validation windows."""
    record = run.followed
    if record is None:
        return []
    predicted = record.val_predicted[-_n_last(run) :]
    n_windows = predicted.shape[1]
    if n_windows < limits.ONE_CLASS_WINDOWS or np.ptp(record.val_target) == 0:
        return []
    is_one = not np.ptp(predicted.astype(np.int64), axis=1).any()
    return [statement_of("one_answer", n_windows=n_windows)] if is_one else []


def not_learning(run: Run) -> list[Statement]:
    """Return statements if nothing was learned, or nothing that carries over to validation."""
    statements = constant_accuracy(run) or (
        _compare_with_guessing(run) if run.chance is not None else []
    )
    # An accuracy above 1 / K proves nothing: a constant answer reaches it if a class is frequent.
    is_decided = run.knows_majority and any(
        _late_accuracy(run, name) is not None for name in ("accuracy", "val_accuracy")
    )
    return statements or ([] if is_decided else _no_descent(run))


def _compare_with_guessing(run: Run) -> list[Statement]:
    """Compare training and validation accuracy with the accuracy of guessing."""
    assert run.chance is not None
    train, validation = (_late_accuracy(run, name) for name in ("accuracy", "val_accuracy"))
    val_limit = guessing_limit(run.chance, run.n_val)
    validates = (validation is not None and validation > val_limit) or _balanced_beats_guess(run)
    if train is not None and not _training_beats_guess(run, train):
        if validates or _has_begun(run):
            return []
        return [statement_of("nothing_learned", level=train, chance=run.chance)]
    if validation is None or validates:
        return []
    bound = (
        []
        if run.n_val is None
        else [statement_of("guessing_limit", n_val=run.n_val, limit=val_limit)]
    )
    if train is None:
        loss, figures = run.whole("loss"), {"level": validation, "chance": run.chance}
        last = float(np.median(loss[-(len(loss) // 3) :])) if len(loss) > 2 else math.inf
        if len(loss) > 2 and last < limits.LEARNED_FALL * loss[0]:
            figures |= {"first": float(loss[0]), "last": last}
            return [statement_of("not_carried_over_loss", **figures), *bound]
        return [statement_of("validation_guesses", **figures), *bound]
    # Is the gain over chance in validation surely less than half the gain in training?
    half = run.chance + (train - run.chance) / 2
    sampling = metrics.binomial_sd(half, run.n_val) if run.n_val is not None else 0.0
    # Without a record, the recall of each class is unknown, so stronger evidence is required.
    z = limits.SURELY_BELOW_Z if run.record is None else limits.ONE_SIDED_99
    if validation < half - z * sampling:
        figures = {"level": validation, "chance": run.chance, "train": train}
        return [statement_of("not_carried_over", **figures), *bound]
    return []


def _training_beats_guess(run: Run, train: float) -> bool:
    """Test whether the running accuracy, or the accuracy on the fixed windows, beats guessing."""
    assert run.chance is not None
    # Memorization raises training accuracy slightly even with random labels, so this test has to be
    # strict.
    chance, record = run.chance, run.record
    if record is not None and len(record.train_target):
        chance = float(np.bincount(record.train_target).max()) / len(record.train_target)
    if train > guessing_limit(chance, run.n_train, limits.ONE_SIDED_99):
        return True
    if record is None or len(record.fixed_accuracy) != run.n_epochs or not len(record.fixed_rows):
        return False
    fixed = float(np.median(record.fixed_accuracy[-_n_last(run) :]))
    return fixed > guessing_limit(chance, len(record.fixed_rows))


def _balanced_beats_guess(run: Run) -> bool:
    """Test the balanced accuracy, which a frequent class cannot inflate, against guessing."""
    record = run.followed
    if record is None:
        return False
    classes, counts = np.unique(record.val_target, return_counts=True)
    if len(classes) < 2:
        return False
    correct = record.val_correct[-_n_last(run) :]
    recalls = [correct[:, record.val_target == label].mean(axis=1) for label in classes]
    level = float(np.median(np.mean(recalls, axis=0)))
    chance = 1 / len(classes)
    sd = float(np.sqrt((chance * (1 - chance) / counts).sum())) / len(classes)
    limit = chance + limits.ONE_SIDED_95 * sd
    run.add("val_balanced_accuracy", level, "fraction", limit, "upper limit for guessing")
    return level > limit


def _n_last(run: Run) -> int:
    """Return a third of the number of epochs judged, at least 1."""
    return max((run.n_epochs - run.first) // 3, 1)


def _has_begun(run: Run) -> bool:
    """Test for a late start: the accuracy still rises and the loss falls."""
    loss, accuracy = run.settled("loss"), run.settled("accuracy")
    if len(loss) < limits.MIN_EPOCHS:
        return False
    rise = metrics.theil_sen_slope(accuracy) * (len(accuracy) - 1)
    fall = -metrics.theil_sen_slope(loss) * (len(loss) - 1)
    noise = metrics.detrended_volatility(accuracy)
    return rise > max(limits.LATE_START_RISE, 2 * noise) and fall > limits.LATE_START_FALL * loss[0]


def constant_accuracy(run: Run) -> list[Statement]:
    """Detect an accuracy that stays at 0, or at any level while the loss is flat."""
    if run.followed is not None or run.knows_majority or _shows_learning(run):
        return []
    for name in ("val_accuracy", "accuracy"):
        if name == "val_accuracy" and run.validates_one_class:
            continue
        series = run.settled(name)
        is_one = len(series) >= limits.MIN_EPOCHS and not np.ptp(series)
        if is_one and (_is_flat(run) or not series.any()):
            return [statement_of("one_accuracy", part=part_of(name), level=float(series[-1]))]
    return []


def _is_flat(run: Run) -> bool:
    """Test whether the loss is known and changes by at most 2 % after the initial descent."""
    for name in ("loss", "val_loss"):
        loss = run.settled(name)
        if len(loss) >= limits.MIN_EPOCHS:
            thirds = [float(np.median(third)) for third in np.array_split(loss, 3)]
            return max(thirds) - min(thirds) <= limits.NO_DESCENT * abs(thirds[0])
    return False


def _no_descent(run: Run) -> list[Statement]:
    """Return a statement if the loss has not fallen and no accuracy shows learning."""
    name = "loss" if len(run.whole("loss")) else "val_loss"
    loss = run.whole(name)
    if len(loss) < limits.MIN_EPOCHS or _shows_learning(run):
        return []
    first, last = float(loss[0]), float(np.median(loss[-(len(loss) // 3) :]))
    if last < (1 - limits.NO_DESCENT) * first:
        return []
    if name == "loss":
        return [statement_of("no_descent", first=first, last=last)]
    # A validation loss also rises when the network overfits, so only a flat validation loss counts.
    thirds = [float(np.median(third)) for third in np.array_split(loss, 3)]
    is_flat = max(abs(third - first) for third in thirds) <= limits.NO_DESCENT * abs(first)
    return [statement_of("no_descent_of_validation", first=first, last=last)] if is_flat else []


def _shows_learning(run: Run) -> bool:
    """Test whether the accuracy rises, or the loss is below the loss of any constant answer."""
    for name, n_windows in (("accuracy", run.n_train), ("val_accuracy", run.n_val)):
        series = run.whole(name)
        if len(series) < limits.MIN_EPOCHS or (name != "accuracy" and run.validates_one_class):
            continue
        third = len(series) // 3
        early, late = series[:third], series[-third:]
        level = float(np.median(late))
        noise = max(metrics.detrended_volatility(series), float(late.std()))
        if n_windows is not None:
            noise = max(noise, metrics.binomial_sd(level, n_windows))
        luck = limits.SURE_RISE_Z * noise
        rise = float(late.mean() - early.mean())
        if rise > max(limits.LATE_START_RISE, luck * math.sqrt(2 / third)):
            return True
        if level - series[0] > max(limits.LATE_START_RISE, luck):
            return True
        is_above = run.chance is not None and level > guessing_limit(run.chance, n_windows)
        if is_above and _beats_constant_answer(run, name, level):
            return True
    return False


def _beats_constant_answer(run: Run, name: str, accuracy: float) -> bool:
    """Test whether the loss is well below the loss of a constant answer with this accuracy."""
    loss = run.settled("loss" if name == "accuracy" else "val_loss")
    if not len(loss) or run.n_classes is None:
        return False
    level = float(np.median(loss[-max(len(loss) // 3, 1) :]))
    # A wrong prediction costs ln 2 or more, so a loss below `least` cannot be a cross-entropy
    # in nats.
    least = (1 - accuracy) * math.log(2)
    constant = metrics.constant_answer_loss(accuracy, run.n_classes)
    return least <= level < limits.BELOW_CONSTANT_ANSWER * constant


def _late_accuracy(run: Run, name: str) -> float | None:
    """Return the median accuracy of the last third of epochs; None if unknown or meaningless."""
    if name == "val_accuracy" and run.validates_one_class:
        return None
    series = run.settled(name)
    return float(np.median(series[-max(len(series) // 3, 1) :])) if len(series) else None


def guessing_limit(chance: float, n_windows: int | None, z: float = limits.ONE_SIDED_95) -> float:
    """Return an accuracy that guessing rarely exceeds; without `n_windows`, add a fixed margin."""
    if n_windows is None:
        return min(chance + limits.UNKNOWN_SIZE_MARGIN, 1.0)
    return metrics.chance_limit(chance, n_windows, z)


def generalization(run: Run, roughness: ValidationRoughness) -> list[Statement]:
    """Detect overfitting, a falling accuracy, or an accuracy that is no better than guessing."""
    if run.validates_one_class:
        return [statement_of("one_class")]
    worse = _rises_from_lowest(run)
    if roughness.got_worse:
        worse.append(statement_of("got_worse", fall=roughness.drawdown))
    worse = worse or _gap_between_parts(run) or _gets_worse(run)
    is_measured = "val_loss_rise_after_lowest" in run.statistics
    return worse or _near_guessing(run) or ([statement_of("no_overfitting")] if is_measured else [])


def _rises_from_lowest(run: Run) -> list[Statement]:
    val_loss, loss = run.whole("val_loss"), run.whole("loss")
    if len(val_loss) < limits.MIN_EPOCHS or len(loss) != len(val_loss):
        return []
    lowest, n_last = int(val_loss.argmin()), max(len(val_loss) // 6, 3)
    end = float(np.median(val_loss[-n_last:]))
    noise = metrics.high_frequency_noise(val_loss)
    rise = end - val_loss[lowest]
    # expected depth of the lowest value below the mean, plus the scatter of `end` and the minimum
    luck = metrics.selection_bias(noise, len(val_loss)) + 1.5 * noise
    run.add("val_loss_rise_after_lowest", rise, "nats", luck, "expected from noise alone")
    # Smoothed, because a single epoch of a noisy loss is unreliable.
    train = metrics.local_trend(loss)
    rises = rise > limits.OVERFITTING_RISE_NATS + luck or _trend_rises(val_loss, n_last, noise)
    if not rises or train[-1] >= train[lowest]:
        return []
    epoch = int(_recorded(run, "val_loss")[lowest]) + 1
    figures = {"lowest": float(val_loss[lowest]), "end": end}
    figures |= {"train_then": float(train[lowest]), "train_end": float(train[-1])}
    return [
        statement_of("overfits", epoch=epoch),
        statement_of("overfitting_figures", epoch=epoch, **figures),
    ]


def _gap_between_parts(run: Run) -> list[Statement]:
    """Detect that less than half of what training gains over guessing carries over to validation.

    The losses must show the same gap as the accuracies. If the number of classes is unknown, so
    many are assumed that guessing is rarely right.
    """
    n, columns = limits.COLLAPSE_EPOCHS, [run.whole(name) for name in COLUMNS]
    # two losses without a unit can be compared with each other: a penalty is the same in both
    if len(run.without_unit) == 1 or min(map(len, columns)) < limits.CONCLUSIVE_EPOCHS:
        return []
    loss, accuracy, val_loss, val_accuracy = (column[-n:] for column in columns)
    chance = 1 / limits.ASSUMED_CLASSES if run.chance is None else run.chance
    train = float(accuracy.min())
    half = chance + (train - chance) / 2
    margin = limits.COLLAPSE_MARGIN
    if run.n_val is not None:
        margin = limits.SURELY_BELOW_Z * metrics.binomial_sd(half, run.n_val)
    if train <= guessing_limit(chance, run.n_train) or val_accuracy.max() >= half - margin:
        return []
    if val_loss.min() <= loss.max() + limits.OVERFITTING_RISE_NATS:
        return []
    level = float(np.median(val_accuracy))
    return [statement_of("parts_apart", level=level, train=float(np.median(accuracy)))]


def _gets_worse(run: Run) -> list[Statement]:
    """Detect that the validation loss rises and its accuracy falls while the training loss falls.

    Together, they show smaller changes, and in fewer epochs, than the validation loss alone.
    """
    columns = [run.whole(name) for name in ("loss", "val_loss", "val_accuracy")]
    if run.without_unit or len({len(column) for column in columns}) > 1:
        return []
    loss, val_loss, accuracy = columns
    n = limits.COLLAPSE_EPOCHS
    lowest = int(val_loss.argmin()) if len(loss) >= limits.CONCLUSIVE_EPOCHS else len(loss)
    if lowest >= len(loss) - n or float(np.median(loss[-n:])) >= loss[lowest]:
        return []
    noise = metrics.high_frequency_noise(val_loss)
    luck = metrics.selection_bias(noise, len(val_loss)) + 1.5 * noise
    scatter = metrics.high_frequency_noise(accuracy)
    fall = float(accuracy.max() - accuracy[-n:].max())
    least = limits.UNKNOWN_SIZE_MARGIN
    if run.n_val is not None:
        sampling = metrics.binomial_sd(float(accuracy.max()), run.n_val)
        least = max(limits.ACCURACY_NOISE, limits.SURELY_BELOW_Z * sampling)
    is_fall = fall > max(least, limits.SURELY_BELOW_Z * scatter)
    if val_loss[-n:].min() <= val_loss[lowest] + luck or not is_fall:
        return []
    return [
        statement_of("overfits", epoch=int(_recorded(run, "val_loss")[lowest]) + 1),
        statement_of("got_worse", fall=float(accuracy.max() - accuracy[-1])),
    ]


def _trend_rises(val_loss: Floats, n_last: int, noise: float) -> bool:
    """Test for a lasting rise of a noisy loss, using medians of blocks of `n_last` epochs."""
    blocks = len(val_loss) // n_last
    medians = np.median(val_loss[-blocks * n_last :].reshape(blocks, n_last), axis=1)
    after = medians[int(medians.argmin()) :]
    # Standard deviation of the median of n_last normal values.
    sd = 1.25 * noise / math.sqrt(n_last)
    luck = metrics.selection_bias(sd, blocks) + 1.5 * sd
    if len(after) < 3:
        return False
    # a wandering loss comes down again; the loss of an overfitting model stays high or rises
    lasting = after[len(after) // 2 :].min() - after[0]
    if metrics.theil_sen_slope(after) > 0 and after[-1] >= max(after) - 2 * sd:
        lasting = max(lasting, after[-1] - after[0])
    return bool(lasting > limits.OVERFITTING_RISE_NATS + luck)


def _near_guessing(run: Run) -> list[Statement]:
    if run.chance is None:
        return []
    train, validation = (_late_accuracy(run, name) for name in ("accuracy", "val_accuracy"))
    if train is not None and train <= guessing_limit(run.chance, run.n_train):
        kind = "training_rises" if _has_begun(run) else "training_near_guessing"
        return [statement_of(kind, level=train, chance=run.chance)]
    if validation is None:
        return _loss_of_guessing(run)
    if validation > guessing_limit(run.chance, run.n_val):
        return []
    sized = {} if run.n_val is None else {"n_val": run.n_val}
    kind = "not_beyond_guessing_sized" if sized else "not_beyond_guessing"
    return [statement_of(kind, level=validation, chance=run.chance, **sized)]


def _loss_of_guessing(run: Run) -> list[Statement]:
    """Detect a validation loss that is always that of guessing while the training loss falls."""
    loss, val_loss = run.whole("loss"), run.whole("val_loss")
    if run.n_classes is None or min(len(loss), len(val_loss)) < limits.MIN_EPOCHS:
        return []
    guess, last = math.log(run.n_classes), float(np.median(loss[-(len(loss) // 3) :]))
    thirds = [float(np.median(third)) for third in np.array_split(val_loss, 3)]
    if last > limits.LEARNED_FALL * guess or min(thirds) < (1 - limits.NO_DESCENT) * guess:
        return []
    return [statement_of("val_loss_guesses", level=thirds[-1], guess=guess, last=last)]


def _noise_trend(run: Run, series: Floats) -> list[Statement]:
    if len(series) < limits.MIN_EPOCHS:
        return []
    ratio, z = metrics.noise_change(series)
    run.add("noise_late_over_early", ratio, "ratio", 1.0, "constant noise")
    run.add("noise_trend", z, "z", limits.TREND_Z, "upper limit for constant noise")
    if abs(z) <= limits.TREND_Z:
        return [statement_of("noise_constant")]
    if (z > 0) != (ratio > 1) or ratio == 1:
        return []
    is_little = max(ratio, 1 / ratio if ratio else math.inf) <= limits.TREND_RATIO
    falls, rises = ("noise_falls", "noise_falls_little"), ("noise_rises", "noise_rises_little")
    return [statement_of((falls if z < 0 else rises)[is_little], ratio=ratio)]


def _descent(run: Run, movement: TrainingMovement) -> list[Statement]:
    loss = run.settled(movement.name)
    start = metrics.plateau_start(loss)
    since = int(run.settled_epochs(movement.name)[start]) + 1
    if len(loss) - start >= max(len(loss) // 3, 8):
        return [statement_of("flat", epoch=since, n_epochs=run.n_epochs)]
    # use more epochs than the plateau has, so that a trend is visible
    last = loss[-max(len(loss) // 3, 8) :]
    fall = -10 * metrics.theil_sen_slope(last)
    if fall <= 0:
        return []
    level = float(np.median(last)) + 0.1 * run.log_classes
    falls = fall > limits.STILL_FALLS * level
    return [statement_of("still_falls", fall=fall) if falls else statement_of("hardly_falls")]


def kept_weights(run: Run) -> list[Statement]:
    """State which epoch's weights were kept, and their accuracy, corrected for selection bias."""
    if run.best_epoch is None:
        return [statement_of("kept_unknown")]
    index = run.best_epoch - 1
    named = {"loss": "val_loss", "accuracy": "val_accuracy"}
    values = {name: float(run.columns[column].values[index]) for name, column in named.items()}
    figures = {name: value for name, value in values.items() if math.isfinite(value)}
    kind = "kept_both" if len(figures) == 2 else "_".join(["kept", *figures])
    where = {"epoch": run.best_epoch, "n_epochs": run.n_epochs}
    return [statement_of(kind, **where, **figures), *_score_kept_epoch(run, index)]


def _score_kept_epoch(run: Run, index: int) -> list[Statement]:
    """Score the kept epoch by cross-fitting: select on some windows, and score on the others."""
    record = run.followed
    if record is None or index == run.n_epochs - 1:
        return []
    correct, groups = record.val_correct, record.val_groups
    n_units = correct.shape[1] if groups is None else len(np.unique(groups))
    if n_units < limits.MIN_UNITS_TO_SCORE:
        return []
    val_loss = run.columns["val_loss"].values
    score = None
    if np.isfinite(val_loss).any() and val_loss[index] <= np.nanmin(val_loss):
        # Select by validation loss, which the margin determines exactly for two classes and roughly
        # for more classes.
        margin = np.clip(np.nan_to_num(record.val_margin.astype(np.float64)), -1e4, 1e4)
        score = -np.logaddexp(0.0, -margin)
    fit = cross_fit(correct, groups, score=score)
    half = limits.ONE_SIDED_95 * fit.accuracy_error
    interval = (fit.accuracy - half, fit.accuracy + half)
    run.add("best_epoch_accuracy", fit.accuracy, "fraction", interval=interval)
    figures = {"accuracy": fit.accuracy, "error": fit.accuracy_error}
    gains = fit.gain > max(2 * fit.gain_error, 0.0)
    return [
        statement_of("picked_gains", **figures, gain=fit.gain)
        if gains
        else statement_of("picked", **figures)
    ]


def _too_few_validations(run: Run) -> list[Statement]:
    """Return a statement if a run is validated, but not often enough to judge the results."""
    columns = [name for name in ("val_loss", "val_accuracy") if len(run.whole(name))]
    n = max((len(run.settled(name)) for name in columns), default=limits.MIN_EPOCHS)
    if n >= limits.MIN_EPOCHS:
        return []
    return [statement_of("few_validations", n=n, least=limits.MIN_EPOCHS)]


def open_questions(run: Run) -> list[Statement]:
    """List questions that the recorded values cannot answer, and the values that could."""
    statements = []
    accuracies = run.whole("val_accuracy")
    if run.has_foreign_record:
        statements.append(statement_of("foreign_record"))
    if not len(run.whole("val_loss")) and not len(accuracies):
        statements.append(statement_of("no_validation"))
    elif run.n_val is None and len(accuracies):
        statements.append(statement_of("no_size"))
    few = [len(run.settled(name)) for name in ("val_loss", "val_accuracy")]
    few = [n for n in few if 0 < n < limits.MIN_EPOCHS]
    if run.first and few:
        statements.append(statement_of("few_validations", n=few[0], least=limits.MIN_EPOCHS))
    if not len(run.whole("loss")):
        statements.append(statement_of("movement_unknown"))
    has_accuracy = len(run.whole("accuracy")) or len(accuracies)
    if has_accuracy and run.chance is None and not run.validates_one_class:
        statements.append(statement_of("no_chance"))
    if run.record is None and len(accuracies):
        statements.append(statement_of("no_record"))
    return statements
