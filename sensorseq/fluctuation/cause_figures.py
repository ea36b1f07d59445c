"""Which picture of the evidence goes with which cause."""

from collections.abc import Mapping
from typing import Any

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.figures import draw_one

# Of each cause, the series that its findings can be read from, the plainest first.
_SERIES = {
    "learning_rate": ("fixed_loss", "overshoot", "loss"),
    "batch_size": ("batch_loss", "fixed_loss", "loss"),
    "sequence_length": ("flips", "grad_norm", "fixed_loss", "loss"),
    "model_complexity": ("fixed_loss", "loss", "flips"),
    "early_stopping": ("val_accuracy",),
    "gradient_clipping": ("grad_norm",),
    "preprocessing": ("grad_norm", "fixed_loss", "loss"),
    "weight_init": ("grad_norm", "overshoot", "fixed_loss", "loss"),
    "loss": ("fixed_loss", "loss"),
    "regularization": ("fixed_loss", "loss"),
    "optimizer": ("overshoot", "grad_norm", "fixed_loss", "loss"),
    "label_noise": ("flips", "common_mode"),
    "small_validation_set": ("val_accuracy", "common_mode", "flips"),
    "distribution_shift": ("common_mode", "flips", "val_accuracy"),
    "dropout_noise": ("batch_loss", "loss", "fixed_loss"),
    "evaluation_not_deterministic": ("val_accuracy",),
}
# How names of statistics begin, and the series that shows them.
_SHOWN_BY = {
    "fixed_loss": "fixed_loss",
    "train_loss": "loss",
    "excess_plateau": "fixed_loss",
    "batch_loss": "batch_loss",
    "overshoot": "overshoot",
    "grad": "grad_norm",
    "spike_lift": "grad_norm",
    "val_common_mode": "common_mode",
    "val_effective": "common_mode",
    "val_variance": "common_mode",
    "val_flips": "flips",
    "val_churn": "flips",
    "val_accuracy": "val_accuracy",
}


def choose_figures(causes: tuple[Cause, ...], evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the name of the series and the picture for each cause; both empty where none fits.

    A series that the sentence of a cause quotes goes before the others. No picture comes twice: it
    goes to the first cause that it fits, and no rejected one gets any.

    Parameters
    ----------
    causes : tuple of Cause
        The likeliest first.
    evidence : dict
        That of a `FluctuationReport`.
    """
    taken: set[str] = set()
    chosen = []
    for cause in causes:
        name, drawing = "", ""
        if cause.grade != "rejected":
            name, drawing = _first(cause, evidence, taken)
        taken.add(name)
        chosen.append((name, drawing))
    return chosen


def _first(cause: Cause, evidence: Mapping[str, Any], taken: set[str]) -> tuple[str, str]:
    fitting = _SERIES.get(cause.name, ())
    quoted = {
        series
        for statistic in cause.statistics
        for beginning, series in _SHOWN_BY.items()
        if statistic.startswith(beginning)
    }
    if "high" in cause.finding and "overshoot" in fitting:
        quoted.add("overshoot")  # steps that go too far are what too high a rate looks like
        fitting = ("overshoot", *fitting)
    for name in sorted(dict.fromkeys(fitting), key=lambda name: name not in quoted):
        if name not in taken and (drawing := draw_one(name, evidence)):
            return name, drawing
    return "", ""
