"""The re-runs of one trial: their curves on one axis, and the evidence against its bounds."""

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


def _limits(values: Floats, unchanged: Floats) -> tuple[float, float]:
    """Return limits that a change which explodes does not flatten the other curves with."""
    low, usual = float(values.min()), float(np.quantile(unchanged, 0.9))
    spread = usual - float(unchanged.min()) or abs(usual) or 1.0
    return padded(np.array([low, max(min(float(values.max()), usual + 4 * spread), low)]))
