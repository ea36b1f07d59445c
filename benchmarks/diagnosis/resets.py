"""Single resets of a run: the settings of each reset, and whether the reset repairs the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diagnosis.faults import DATA_CHANGES_OF, estimated_s
from diagnosis.fits import DEFAULTS, FIXED, Settings

REPAIRED, HELPED, HARMED = 0.05, 0.05, 0.03  # changes of the accuracy on fresh windows
CALM_NATS = 0.022  # largest movement of a healthy run's loss on fixed training windows
CALMED = 0.5  # the fraction of the movement that may remain after a repair
RATES = {"x10": 10.0, "x3": 3.0, "/3": 1 / 3, "/10": 0.1}
WIDEST, LONGEST_RESET_S = 96, 1.2
SAME = "the same, another seed"
ALL_DEFAULTS = "all defaults"
COSINE = "learning_rate: cosine"
# The arguments whose reset removes a cause.
ARGUMENTS_OF: Mapping[str, tuple[str, ...]] = {
    "learning_rate": ("learning_rate", "lr_schedule", "warmup_epochs"),
    "optimizer": ("optimizer", "learning_rate", "momentum", "optimizer_params"),
    "batch_size": ("batch_size",),
    "gradient_clipping": ("max_grad_norm",),
    "regularization": (
        "dropout",
        "recurrent_dropout",
        "weight_decay",
        "label_smoothing",
    ),
    "preprocessing": ("scale",),
    "weight_init": ("weight_init", "recurrent_init", "forget_bias"),
    "loss": ("loss", "class_weight"),
    "model_complexity": ("hidden_size", "num_layers", "pooling", "head_norm"),
    "sequence_length": ("max_timesteps", "crop"),
    "early_stopping": ("max_epochs", "restore_best"),
}


@dataclass(frozen=True)
class Reset:
    """A change of one cause's arguments or data.

    Parameters
    ----------
    name : str
        Cause and value.
    cause : str
        The cause that is reset; empty if the change is not a single reset.
    settings : dict
        All settings of the run after the reset.
    change : dict
        Remaining changes of the data.
    """

    name: str
    cause: str
    settings: Settings
    change: dict[str, Any]


def list_resets(
    settings: Mapping[str, Any],
    change: Mapping[str, Any],
    n_train: int,
    n_steps: int,
    *,
    twin: Mapping[str, Any] | None = None,
    cause: str = "",
) -> list[Reset]:
    """Return distinct resets of a run; the learning rate and the width are raised and lowered.

    Parameters
    ----------
    settings, change : mapping
        Settings and changed data of the run.
    n_train, n_steps : int
        The numbers of training windows and steps; resets that would take too long are omitted.
    twin : mapping, optional
        Settings into which `cause` was injected; returning to their values is also a reset.
    cause : str
        The injected cause.
    """
    complete = {**DEFAULTS, **FIXED, "max_epochs": 60, **settings}
    resets = [
        Reset(SAME, "", dict(complete), dict(change)),
        Reset(ALL_DEFAULTS, "", all_defaults(complete), dict(change)),
    ]

    def add(cause: str, value: str, **arguments: Any) -> None:
        changed = {**complete, **arguments}
        if changed == complete or any(changed == other.settings for other in resets[2:]):
            return
        if estimated_s(changed, n_train, n_steps) <= LONGEST_RESET_S:
            resets.append(Reset(f"{cause}: {value}", cause, changed, dict(change)))

    def default(cause: str, value: str = "default") -> None:
        add(cause, value, **{name: DEFAULTS[name] for name in ARGUMENTS_OF[cause]})

    for value, factor in RATES.items():
        add(
            "learning_rate", value, learning_rate=float(f"{complete['learning_rate'] * factor:.3g}")
        )
    add("learning_rate", "cosine", lr_schedule="cosine")
    for name in ("batch_size", "gradient_clipping", "preprocessing", "weight_init", "loss"):
        default(name)
    if complete["optimizer"] != DEFAULTS["optimizer"] or complete["optimizer_params"]:
        default("optimizer")
    default("regularization")
    add("regularization", "none", **dict.fromkeys(ARGUMENTS_OF["regularization"], 0.0))
    width = complete["hidden_size"]
    add("model_complexity", "x4", hidden_size=min(4 * width, WIDEST))
    add("model_complexity", "/4", hidden_size=max(width // 4, 4), num_layers=1)
    add("model_complexity", "pooling", pooling="meanmax")
    add("early_stopping", "epochs x3", max_epochs=3 * complete["max_epochs"])
    default("sequence_length")
    if twin is not None and cause in ARGUMENTS_OF:
        add(cause, "twin", **{name: twin[name] for name in ARGUMENTS_OF[cause] if name in twin})
    for of_data, names in DATA_CHANGES_OF.items():
        if any(name in change for name in names):
            left = {name: value for name, value in change.items() if name not in names}
            resets.append(Reset(f"{of_data}: clean", of_data, dict(complete), left))
    return resets


def all_defaults(settings: Mapping[str, Any]) -> Settings:
    """Return the defaults with the number of epochs of these settings."""
    return {**DEFAULTS, **FIXED, "max_epochs": settings["max_epochs"]}


def is_calm(movement: float | None) -> bool:
    """Return whether a loss moves no more than a healthy run's; None means a non-finite loss."""
    return movement is not None and movement <= CALM_NATS


def repairs(
    level: float, movement: float | None, *, best: float, before: float | None, fluctuates: bool
) -> bool:
    """Return whether a reset strictly repairs a run.

    The level after the reset must be at most 5 points below the best known level. If the run
    fluctuates, the movement of its loss must also fall by at least half, or to the movement of a
    healthy run's loss.
    """
    if level < best - REPAIRED:
        return False
    if not fluctuates or is_calm(movement):
        return True
    return movement is not None and before is not None and movement <= CALMED * before


def helps(level: float, before: float) -> bool:
    """Return whether a reset makes a run at least 5 points more accurate."""
    return level >= before + HELPED
