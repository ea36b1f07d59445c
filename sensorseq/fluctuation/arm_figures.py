"""The re-runs of one trial: their curves on one axis, and the evidence against its bounds."""

import math

import numpy as np

from sensorseq.fluctuation.causes.cause import Trial
from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.curves import drawable, key
from sensorseq.fluctuation.figures import HEIGHT, WIDTH, figure, padded
from sensorseq.fluctuation.run import plural
from sensorseq.html.svg import Panel, extremes

_CURVES = 6  # of each arm
_POINTS = 60  # stretches of a curve
_NONE = np.zeros(0)
_OTHER = {"snapshot": "another order", "init": "another seed"}
_CHANCE = {
    "snapshot": "Nothing but the order of the windows differs between A and A': what parts them is"
    " chance.",
    "init": "Nothing but the seed differs between A and A', that of first weights and order: what"
    " parts them is chance.",
}


def draw_arms(trial: Trial) -> str:
    """Return the figure of the curves; empty where there are none."""
    arms = [
        (name, style, words, [drawable(curve) for curve in trial.curves.get(name, ())][:_CURVES])
        for name, style, words in (
            ("A'", "arm-other", "A'"),
            ("A", "arm-same", "A: the run" if trial.kind == "race" else "A: unchanged"),
            ("B", "arm-changed", f"B: {trial.name}"),
        )
    ]
    # The other order may be one of those that all changes are held against: it is drawn once.
    others = [drawable(curve) for curve in trial.curves.get("A'", ())]
    same = [
        curve
        for curve in map(drawable, trial.curves.get("A", ()))
        if not any(np.array_equal(curve, other, equal_nan=True) for other in others)
    ]
    if same:
        arms[1] = (*arms[1][:3], same[:_CURVES])
    values = np.concatenate([_NONE, *(curve for *_, curves in arms for curve in curves)])
    values = values[np.isfinite(values)]
    if not values.size:
        return ""
    unchanged = np.concatenate([curve for *_, curves in arms[:2] for curve in (*curves, _NONE)])
    unchanged = unchanged[np.isfinite(unchanged)]
    longest = max(len(curve) for *_, curves in arms for curve in curves)
    panel = Panel(
        f"Loss of the re-runs: {trial.name}",
        (0.5, longest + 0.5),
        _limits(values, unchanged if unchanged.size else values),
        x_label="epoch",
        y_label="loss (nats)",
        width=WIDTH,
        height=HEIGHT,
    )
    n_above = int((values > panel.y_limits[1]).sum())
    if n_above:
        panel.note(f"{plural(n_above, 'value')} above, up to {values.max():.3g}")
    keys = []
    for name, style, words, curves in arms:
        for curve in curves:
            keep = extremes(curve, _POINTS)
            panel.line(keep + 1.0, curve[keep], style)
        if curves:
            if name == "A'":
                words = f"A': unchanged, {_OTHER.get(trial.kind, 'once more')}"
            keys.append((name, key(style, words)))
    title = "The run, and other settings" if trial.kind == "race" else "The same stretch, run again"
    said = (
        "Loss of the fixed training windows after each epoch, dropout off."
        f" {_CHANCE.get(trial.kind, '')}"
    )
    return figure(panel, title, said.strip(), [picture for _, picture in sorted(keys)])


def draw_evidence_ratio(trial: Trial) -> str:
    """Return the figure of what the stop rule saw; empty where it had nothing to see."""
    ratio = drawable(trial.evidence_ratio)
    if not np.isfinite(ratio).any() or trial.bounds is None:
        return ""
    low, high = drawable(trial.bounds)
    bounds = [bound for bound in (low, high) if math.isfinite(bound)]
    shown = np.array([0.0, *ratio[np.isfinite(ratio)], *bounds])
    bottom, top = padded(shown)
    room = 0.16 * (top - bottom)  # for the words at the bounds
    panel = Panel(
        f"Evidence after each pair: {trial.name}",
        (0.0, len(ratio) + 0.5),
        (bottom - room, top + room),
        x_label="pairs of re-runs",
        y_label="log evidence ratio",
        width=WIDTH,
        height=HEIGHT,
    )
    if math.isfinite(high):
        panel.horizontal(high, "bound-yes", f"confirmed from {high:.3g} up", above=True)
    if math.isfinite(low):
        panel.horizontal(low, "bound-no", f"rejected from {low:.3g} down", above=False)
    pairs = np.arange(len(ratio) + 1.0)
    walk = np.array([0.0, *ratio])
    panel.line(pairs, walk, "measured")
    panel.dots(pairs[1:], walk[1:], "measured", 3.5)
    words = (
        "How much likelier the pairs are if the change works than if it does nothing, as a natural"
        f" logarithm. Pairs are run until a bound is reached. {_end(trial)}"
    )
    return figure(panel, "How the evidence grew", words, [])


def _end(trial: Trial) -> str:
    """Return how it ended, and what else it took where that is not what the bounds say."""
    low, high = map(float, trial.bounds or (-math.inf, math.inf))
    last = float(trial.evidence_ratio[-1])
    said = "confirmed" if last >= high else "rejected" if last <= low else "undecided"
    if trial.outcome == said:
        return "Here none was." if said == "undecided" else f"Here it ended as {said}."
    return "It is not all that counts: a change that costs progress is not confirmed."


def _limits(values: Floats, unchanged: Floats) -> tuple[float, float]:
    """Return limits that a change which explodes does not flatten the other curves with."""
    low, usual = float(values.min()), float(np.quantile(unchanged, 0.9))
    spread = usual - float(unchanged.min()) or abs(usual) or 1.0
    return padded(np.array([low, max(min(float(values.max()), usual + 4 * spread), low)]))
