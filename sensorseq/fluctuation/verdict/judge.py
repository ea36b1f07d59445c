"""The rules that turn a Run into a verdict and the statements that explain it."""

import numpy as np

from sensorseq.fluctuation.statistics import metrics
from sensorseq.fluctuation.statistics.columns import NEEDED, Column
from sensorseq.fluctuation.statistics.per_window import Flips
from sensorseq.fluctuation.statistics.run import Run, part
from sensorseq.fluctuation.statistics.sides import (
    Movement,
    Roughness,
    SteadyNoise,
    collect_evidence,
)
from sensorseq.fluctuation.statistics.statements import Statement, generalization_of, say
from sensorseq.fluctuation.statistics.thresholds import (
    COLLAPSE_EPOCHS,
    COLLAPSE_MARGIN,
    MIN_EPOCHS,
    ONE_SIDE_EDGES,
    RECOVERED_SHARE,
    RECOVERY_EPOCHS,
    STRONG_EDGES,
)
from sensorseq.fluctuation.verdict.answers import (
    cannot_tell,
    generalization,
    guessing_limit,
    kept,
    more_epochs,
    not_learning,
    one_class,
)


def judge(run: Run) -> tuple[str, str | None, list[Statement]]:
    """Apply the verdict rules in order of gravity; the first that holds decides."""
    recovered = _set_recovered_apart(run)
    diverged = _divergence(run)
    if diverged:
        return "diverged", None, [*diverged, *recovered, *kept(run), *cannot_tell(run)]
    too_short = _cut_initial_descent(run)
    if too_short:
        rest = [*recovered, *kept(run), *cannot_tell(run)]
        return "too_short_to_tell", None, [*too_short, *rest]
    flips = Flips(run)
    movement, roughness = Movement(run), Roughness(run, flips)
    adjusted = metrics.holm({**movement.p_values, **roughness.p_values})
    movement.decide(adjusted)
    roughness.decide(adjusted)
    run.evidence.update(collect_evidence(run, movement, roughness, flips))
    learns_nothing = one_class(run) or not_learning(run)
    verdict, severity, loss_line, details = _compare(run, movement, roughness, flips)
    if learns_nothing:
        lines = [*roughness.accuracy_line(verdict), *loss_line]
        if generalization_of(learns_nothing) is None:  # so a calm curve means nothing
            lines, details = [], movement.statements()
        rest = [*recovered, *details, *kept(run), *cannot_tell(run)]
        return "not_learning", None, [*lines, *learns_nothing, *rest]
    generalizes = generalization(run, roughness)
    statements = [
        *roughness.accuracy_line(verdict),
        *loss_line,
        *generalizes,
        *recovered,
        *details,
        *([] if generalization_of(generalizes) else more_epochs(run, movement, verdict)),
        *roughness.drawdown_statement(),
        *kept(run),
        *cannot_tell(run),
    ]
    return verdict, severity, statements


def _set_recovered_apart(run: Run) -> list[Statement]:
    """Drop epochs whose loss was not finite where the run went on normally after them."""
    said = []
    for name, side in (("loss", "training"), ("val_loss", "validation")):
        column = run.columns[name]
        broken = np.flatnonzero(column.recorded & ~np.isfinite(column.values))
        few = max(RECOVERED_SHARE * column.recorded.sum(), 1)
        n_after = int(column.recorded[broken[-1] + 1 :].sum()) if len(broken) else 0
        if n_after < RECOVERY_EPOCHS or len(broken) > few:
            continue
        said.append(say("recovered", part=side, epochs=(broken + 1).tolist()))
        for of_losses in ("loss", "val_loss"):  # both, which are compared epoch by epoch
            losses = run.columns[of_losses]
            values, recorded = losses.values.copy(), losses.recorded.copy()
            values[broken], recorded[broken] = np.nan, False
            run.columns[of_losses] = Column(values, recorded)
    return said


def _divergence(run: Run) -> list[Statement]:
    for name, side in (("loss", "training"), ("val_loss", "validation")):
        series = run.whole(name)
        index = metrics.divergence_epoch(series, least=run.log_classes)
        if index is None:
            continue
        epoch = int(np.flatnonzero(run.columns[name].recorded)[index]) + 1
        value = float(series[index])
        run.add("diverged_at_epoch", epoch, "epochs")
        if not np.isfinite(value):
            what = "not a number (NaN)" if np.isnan(value) else "infinite"
            lasts = not np.isfinite(series[index:]).any() and index + 1 < len(series)
            kind = "broken_from" if lasts else "broken_in"
            said = [say(kind, part=side, what=what, epoch=epoch)]
            if name == "val_loss" and len(run.whole("loss")):
                said.append(say("broken_validation"))
            return said
        if name == "val_loss" and len(run.whole("loss")):
            continue  # a validation loss that grows while training goes well is overfitting
        return [say("exploded", part=side, first=float(series[0]), epoch=epoch, value=value)]
    return _collapse(run)


def _collapse(run: Run) -> list[Statement]:
    """Return a statement when accuracy was clearly above guessing and then fell back to it."""
    for name, n_windows in (("accuracy", run.n_train), ("val_accuracy", run.n_val)):
        series = run.whole(name)
        if name == "val_accuracy" and run.validates_one_class:
            continue
        if run.chance is None or len(series) < 2 * COLLAPSE_EPOCHS:
            continue
        limit = guessing_limit(run.chance, n_windows)
        triples = np.lib.stride_tricks.sliding_window_view(series, COLLAPSE_EPOCHS)
        once = float(triples.min(axis=1).max())
        if once > limit + COLLAPSE_MARGIN and series[-COLLAPSE_EPOCHS:].max() <= limit:
            return [say("collapsed", part=part(name), once=once, last=float(series[-1]))]
        return []  # training accuracy is the better witness where there is one
    return []


def _cut_initial_descent(run: Run) -> list[Statement]:
    """Find where the initial descent ends; return a statement when too little is left after it."""
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
        return [say("too_short", n_epochs=len(series), n_left=n_left, least=MIN_EPOCHS)]
    run.first = int(recorded[n_dropped])
    return []


_Judged = tuple[str, str | None, list[Statement], list[Statement]]


def _compare(run: Run, movement: Movement, roughness: Roughness, flips: Flips) -> _Judged:
    """Hold what moves against what is seen: the table of four cases, and its edges.

    Returns the verdict, the severity, the line about the loss, and the figures.
    """
    moves, seen, costs = movement.statements(), roughness.statements(), movement.cost()
    shares, windows = flips.shares(), flips.statements()
    noise = movement.noise
    spikes = [say("thrown_off", epochs=movement.spikes)] if movement.has_spikes else []
    jumps = [say("loss_constant_rate" if run.rate_is_constant else "loss_moves")]
    if movement.is_hot and roughness.follows_the_model:
        grade = "strong" if movement.is_strong and roughness.is_strong else "mild"
        return "fluctuating", grade, jumps, [*spikes, *moves, *seen, *costs, *shares]
    if movement.common_leaps:
        line = [say("loss_together", epochs=movement.common_leaps)]
        return "fluctuating", "mild", line, [*seen, *costs]
    if movement.is_hot and movement.costs_loss:
        line = [say("loss_costs", excess=movement.excess)]
        return "fluctuating", "mild", line, [*moves, *seen, *windows]
    if movement.has_spikes:
        line = [say("loss_leaps", epochs=movement.spikes)]
        return "fluctuating", "mild", line, [*moves, *seen, *costs]
    if movement.is_hot_alone and not roughness.known:
        return "fluctuating", _grade_alone(noise), jumps, [*moves, *costs]
    if roughness.is_blatant and not movement.known:
        return "fluctuating", _grade_alone(roughness.noise), [say("loss_of_validation")], seen
    line = _loss_line(movement, roughness)
    if roughness.exceeds_sampling and (roughness.far_exceeds_sampling or not movement.known):
        grade = "strong" if roughness.is_strong else "mild"
        return "fluctuating", grade, line, [*moves, *seen, *shares]
    if movement.is_hot or not roughness.looks_rough:
        windows = []  # nothing to explain
    return "normal", None, line, [*seen[:1], *windows, *moves, *seen[1:]]


def _loss_line(movement: Movement, roughness: Roughness) -> list[Statement]:
    """Return what there is to say of a loss that raises no alarm."""
    noise = movement.noise
    if not movement.known:
        return []
    if noise is None:
        return [say("loss_unjudged")]
    if noise.has_calmed:
        return [say("loss_calmed")]
    if movement.is_hot and not roughness.known:
        return [say("loss_alone")]
    if movement.is_hot:
        return [say("loss_dropout" if movement.name == "loss" else "loss_harmless")]
    if noise.is_above:
        return [say("loss_unsure")]
    return [say("loss_validation_only" if roughness.loss_is_rough else "loss_calm")]


def _grade_alone(noise: SteadyNoise | None) -> str:
    """Return how bad the noise of a history with one side only is."""
    strong = noise is not None and noise.nats > ONE_SIDE_EDGES * STRONG_EDGES * noise.edge
    return "strong" if strong else "mild"
