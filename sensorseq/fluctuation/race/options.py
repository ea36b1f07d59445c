"""Option: settings that may repair a run; `list_options`: those worth trying, in their order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.race.arm import Lab

DEFAULTS = "the defaults"  # the first option
SEVERAL = "unknown"  # the cause of a change that no single argument makes

# What the defaults decide, by kind of argument. A preset takes all of them, an option one.
_STEPS = (
    "optimizer",
    "learning_rate",
    "momentum",
    "optimizer_params",
    "lr_schedule",
    "warmup_epochs",
    "batch_size",
    "max_grad_norm",
    "clip_by",
)
_REGULARIZATION = (
    "dropout",
    "recurrent_dropout",
    "input_dropout",
    "weight_decay",
    "l1",
    "label_smoothing",
)
_SCALE = ("scale",)
_START = ("weight_init", "recurrent_init", "forget_bias")
_LOSS = ("loss", "class_weight")
_NETWORK = ("hidden_size", "num_layers", "pooling", "head_norm")
_PRESET = (*_STEPS, *_REGULARIZATION, *_SCALE, *_START, *_LOSS)
_CAUSES = {  # of the arguments that a preset may change
    "learning_rate": ("learning_rate", "lr_schedule", "warmup_epochs"),
    "optimizer": ("optimizer", "momentum", "optimizer_params"),
    "batch_size": ("batch_size",),
    "gradient_clipping": ("max_grad_norm", "clip_by"),
    "regularization": _REGULARIZATION,
    "preprocessing": _SCALE,
    "weight_init": _START,
    "loss": _LOSS,
    "model_complexity": _NETWORK,
}
_RATE_FACTORS = (0.1, 10.0, 0.3, 3.0)
_WIDTHS = (8, 128)  # no option makes a network smaller or larger


@dataclass(frozen=True)
class Option:
    """Settings that may repair a run.

    Parameters
    ----------
    name : str
        What it changes, in words.
    cause : str
        Of `CAUSE_NAMES`, if it changes one thing; otherwise `SEVERAL`.
    change : dict
        Arguments and their values.
    finding : str
        Which side of the cause it speaks for.
    is_preset : bool
        Whether it is the defaults, as far as the run differs from them.
    ends_run : bool
        Whether it is tried on the last part of the run, from a state of it, with a rate that
        falls to nearly nothing.
    """

    name: str
    cause: str
    change: Mapping[str, Any]
    finding: str = ""
    is_preset: bool = False
    ends_run: bool = False


def list_options(
    lab: Lab, causes: Sequence[Cause], allowed: frozenset[str] | None = None
) -> list[Option]:
    """Return the options of a run: presets first, then single changes, the likeliest cause first.

    An option that the run already has, or that its lab cannot make, is left out.

    Parameters
    ----------
    lab : Lab
        Of the run; its `defaults` are the presets.
    causes : sequence of Cause
        As the statistics rank them.
    allowed : frozenset of str, optional
        Arguments that may change; all that the lab can change by default.
    """
    may_change = lab.changeable if allowed is None else lab.changeable & allowed
    confidence = {cause.name: cause.confidence for cause in causes}
    singles = sorted(_singles(lab), key=lambda one: -confidence.get(one.cause, 0.0))
    found: list[Option] = []
    for option in [*_presets(lab), *singles]:
        change = {
            name: value
            for name, value in option.change.items()
            if name in may_change and not _is_same(lab.arguments.get(name), value)
        }
        is_whole = option.cause == SEVERAL or len(change) == len(
            [
                name
                for name, value in option.change.items()
                if not _is_same(lab.arguments.get(name), value)
            ]
        )
        if change and is_whole and all(change != other.change for other in found):
            found.append(_named(replace(option, change=change), lab.arguments))
    return found


def _named(option: Option, own: Mapping[str, Any]) -> Option:
    """Return an option with its cause, where a preset changes the arguments of one cause only."""
    if not option.is_preset:
        return option
    causes = [
        cause for cause, names in _CAUSES.items() if any(name in names for name in option.change)
    ]
    if len(causes) != 1:
        return option
    rate, finding = option.change.get("learning_rate"), ""
    if rate is not None and isinstance(own.get("learning_rate"), int | float):
        finding = "too high" if rate < own["learning_rate"] else "too low"
    return replace(option, cause=causes[0], finding=finding)


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and one == other)


def _presets(lab: Lab) -> list[Option]:
    def preset(*kinds: str) -> dict[str, Any]:
        return {name: lab.defaults[name] for name in kinds if name in lab.defaults}

    return [
        Option(DEFAULTS, SEVERAL, preset(*_PRESET, *_NETWORK), is_preset=True),
        Option("the defaults, with the same network", SEVERAL, preset(*_PRESET), is_preset=True),
    ]


def _singles(lab: Lab) -> list[Option]:
    own, defaults = lab.arguments, lab.defaults

    def of(name: str, cause: str, finding: str, *arguments: str) -> Option:
        return Option(
            name, cause, {key: defaults[key] for key in arguments if key in defaults}, finding
        )

    rate, width = own.get("learning_rate"), own.get("hidden_size")
    options = []
    if own.get("lr_schedule", "constant") == "constant":
        options.append(
            Option(
                "cosine decay",
                "learning_rate",
                {"lr_schedule": "cosine"},
                "schedule missing",
                ends_run=True,
            )
        )
    if isinstance(rate, int | float) and rate > 0:
        options += [
            Option(
                f"learning_rate {'x' if factor > 1 else '/'} {max(factor, 1 / factor):.0f}",
                "learning_rate",
                {"learning_rate": float(f"{rate * factor:.3g}")},
                "too low" if factor > 1 else "too high",
            )
            for factor in _RATE_FACTORS
        ]
    options += [
        of("standard scaling", "preprocessing", "scale of the inputs", *_SCALE),
        of("the default first weights", "weight_init", "", *_START),
        of(f"batches of {defaults.get('batch_size')}", "batch_size", "", "batch_size"),
        of("clipping", "gradient_clipping", "", "max_grad_norm", "clip_by"),
        of(
            "the default optimizer",
            "optimizer",
            "",
            "optimizer",
            "learning_rate",
            "momentum",
            "optimizer_params",
        ),
        of("the default regularization", "regularization", "", *_REGULARIZATION),
        Option(
            "no dropout, no decay",
            "regularization",
            {name: 0.0 for name in _REGULARIZATION if name in own},
            "too strong",
        ),
        of("cross-entropy", "loss", "", *_LOSS),
        of("the default pooling", "model_complexity", "", "pooling"),
    ]
    if isinstance(width, int):
        smaller, larger = max(width // 4, _WIDTHS[0]), min(4 * width, _WIDTHS[1])
        layers = {"num_layers": 1} if "num_layers" in own else {}
        if larger > width:
            options.append(
                Option("a wider network", "model_complexity", {"hidden_size": larger}, "too small")
            )
        if smaller < width:
            options.append(
                Option(
                    "a smaller network",
                    "model_complexity",
                    {"hidden_size": smaller, **layers},
                    "too large",
                )
            )
    return options
