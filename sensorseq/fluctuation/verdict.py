"""The rules that turn a Run into a verdict and the sentences that explain it."""

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.answers import cannot_tell, descent, generalisation, kept, noise_trend
from sensorseq.fluctuation.columns import NEEDED
from sensorseq.fluctuation.evidence import collect_evidence
from sensorseq.fluctuation.flips import Flips
from sensorseq.fluctuation.learning import guessing_limit, guessing_note, not_learning, one_class
from sensorseq.fluctuation.run import Run, part, plural, points
from sensorseq.fluctuation.steady import SteadyNoise
from sensorseq.fluctuation.step_side import describe_steps
from sensorseq.fluctuation.thresholds import (
    COLLAPSE_EPOCHS,
    COLLAPSE_MARGIN,
    MIN_EPOCHS,
    ONE_SIDE_EDGES,
    STRONG_EDGES,
)
from sensorseq.fluctuation.training_side import Movement
from sensorseq.fluctuation.validation_side import Roughness


def judge(run: Run) -> tuple[str, str | None, list[str]]:
    """Apply the verdict rules in order of gravity; the first that holds decides."""
    diverged = _divergence(run)
    if diverged:
        return "diverged", None, [*diverged, *kept(run), *cannot_tell(run)]
    too_short = _cut_initial_descent(run)
    if too_short:
        return "too_short_to_tell", None, [*too_short, *kept(run), *cannot_tell(run)]
    flips = Flips(run)
    movement, roughness = Movement(run), Roughness(run, flips)
    adjusted = metrics.holm({**movement.p_values, **roughness.p_values})
    movement.decide(adjusted)
    roughness.decide(adjusted)
    describe_steps(run)
    run.evidence.update(collect_evidence(run, movement, roughness, flips))
    learns_nothing = one_class(run) or not_learning(run)
    if learns_nothing:
        return (
            "not_learning",
            None,
            [*learns_nothing, movement.sentence(), *kept(run), *cannot_tell(run)],
        )
    verdict, severity, (head, *details) = _compare(movement, roughness, flips)
    overfits = generalisation(run)
    sentences = [
        head,
        *overfits,  # weightier than any figure about noise
        *details,
        *guessing_note(run),
        *noise_trend(run, movement, verdict),
        *([] if overfits else descent(run, movement)),
        *roughness.drawdown_sentence(),
        *kept(run),
        *cannot_tell(run),
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
        limit = guessing_limit(run.chance, n_windows)
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


def _compare(
    movement: Movement, roughness: Roughness, flips: Flips
) -> tuple[str, str | None, list[str]]:
    """Hold what moves against what is seen: the table of four cases, and its edges."""
    moves, seen = movement.sentence(), roughness.sentences()
    costs, shares = movement.cost_sentence(), flips.shares_sentence()
    leaps = f"in epochs {', '.join(map(str, movement.spikes[:8]))}" if movement.spikes else ""
    if movement.is_hot and roughness.follows_the_model:
        head = "The model itself moves too much, not only the validation score."
        if movement.has_spikes:
            head += f" It is thrown off {leaps}."
        grade = "strong" if movement.is_strong and roughness.is_strong else "mild"
        return "fluctuating", grade, [f"{head} {moves}", *seen, *costs, *shares]
    if movement.common_leaps:
        at = ", ".join(str(epoch) for epoch in movement.common_leaps[:8])
        at = f"epoch {at}" if len(movement.common_leaps) == 1 else f"epochs {at}"
        head = f"The model is thrown off: training and validation loss leap up together, in {at}."
        return "fluctuating", "mild", [head, *seen, *costs]
    if movement.is_hot and movement.costs_loss:
        return "fluctuating", "mild", [*costs, moves, *seen, *flips.sentences()]
    if movement.has_spikes:
        head = f"The training loss leaps up {leaps} and recovers."
        return "fluctuating", "mild", [head, moves, *seen, *costs]
    if movement.is_hot_alone and not roughness.known:
        head = f"The training loss jumps from epoch to epoch. {moves}"
        return "fluctuating", _grade_alone(movement.noise), [head, *costs]
    if roughness.is_blatant and not movement.known:
        head = "The validation loss jumps from epoch to epoch."
        return "fluctuating", _grade_alone(roughness.noise), [head, *seen]
    if roughness.exceeds_sampling and (roughness.far_exceeds_sampling or not movement.known):
        head = "The validation curve moves more than its size can explain"
        is_calm = movement.noise is not None and not movement.noise.is_above
        head += f", though the training loss looks calm. {moves}" if is_calm else f". {moves}"
        grade = "strong" if roughness.is_strong else "mild"
        return "fluctuating", grade, [head, *seen, *shares]
    noise = movement.noise
    if noise is not None and noise.has_calmed:
        head = "Nothing to change: the curve was restless at first and has calmed down."
        return "normal", None, [head, *seen[:1], *flips.sentences(), moves, *seen[1:]]
    if noise is not None and noise.is_above and not movement.is_hot:
        head = "No alarm: the training loss moves more than that of a calm run, but not for sure."
        return "normal", None, [head, moves, *seen, *flips.sentences()]
    if movement.is_hot:
        head = "Nothing to repair: the training loss moves, the validation side does not follow."
        if not roughness.known:
            head = "No alarm: the training loss moves a little more than that of a calm run."
        elif movement.name == "loss":
            head += " Dropout or augmentation, active while it is measured, does that."
        else:
            head += " A decaying learning rate or averaged weights would calm it."
        return "normal", None, [head, moves, *seen]
    if movement.known and noise is None:
        head = "Nothing to change as far as can be told."
        return "normal", None, [head, moves, *seen]
    if roughness.looks_rough:
        head = f"This is expected. {_why_it_looks_rough(movement, roughness, flips)}"
        return "normal", None, [head, *seen[:1], *flips.sentences(), moves, *seen[1:]]
    return "normal", None, ["The curve is calm.", moves, *seen]


def _grade_alone(noise: SteadyNoise | None) -> str:
    """Return how bad the noise of a history with one side only is."""
    strong = noise is not None and noise.nats > ONE_SIDE_EDGES * STRONG_EDGES * noise.edge
    return "strong" if strong else "mild"


def _why_it_looks_rough(movement: Movement, roughness: Roughness, flips: Flips) -> str:
    """Return what makes the curve of a calm model look rough, as far as it can be told."""
    if not movement.known:
        if roughness.ratio is not None:
            return "Nothing in the validation curve goes beyond what its size explains."
        return "Nothing in the validation curve is out of the ordinary."
    because = {
        "recordings": "because few recordings flip as blocks",
        "windows": "because a few windows keep changing sides",
        "small": "because few windows are in the validation set",
        "": "because of the validation set",
    }.get(flips.why)
    if because is not None:
        return f"The curve looks rough {because}, not because of the training."
    return "The curve looks rough on the validation side only: the training itself is calm."
