"""Option: settings that may repair a run; `list_options`: those worth trying, in their order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.table import ARGUMENTS_OF, OWNER_OF
from sensorseq.fluctuation.race.arm import Lab

DEFAULTS = "the defaults"  # the first option
FEATURES = "the defaults plus features"
SEVERAL = "unknown"  # the cause of a change that no single argument makes

# What the defaults decide, in the order in which they are listed.
_PRESET_CAUSES = (
    "optimizer",
    "learning_rate",
    "batch_size",
    "gradient_clipping",
    "regularization",
    "preprocessing",
    "weight_init",
    "loss",
)
_RATE_FACTORS = (0.1, 10.0, 0.3, 3.0)
_WIDTHS = (8, 128)  # no option makes a network smaller or larger


@dataclass(frozen=True)
class Option:
    """Settings that may repair a run."""

    name: str  # what it changes, in words
    cause: str  # of `CAUSE_NAMES`, if it changes one thing; otherwise `SEVERAL`
    change: Mapping[str, Any]
    finding: str = ""  # which side of the cause it speaks for
    is_preset: bool = False  # the defaults, as far as the run differs from them
    # tried on the last part of the run, with a rate that falls to nearly nothing
    ends_run: bool = False


def list_options(
    lab: Lab, causes: Sequence[Cause], allowed: frozenset[str] | None = None
) -> list[Option]:
    """Return the options of a run: presets first, then single changes, the likeliest cause first.

    An option that the run already has, or that its lab cannot make, is left out. `allowed` are the
    arguments that may change; by default all that the lab can change.
    """
    may_change = lab.changeable if allowed is None else lab.changeable & allowed
    confidence = {cause.name: cause.confidence for cause in causes}
    singles = sorted(_singles(lab), key=lambda one: -confidence.get(one.cause, 0.0))
    found: list[Option] = []
    for option in [*_presets(lab), *singles]:
        new = {
            name: value
            for name, value in option.change.items()
            if not _is_same(lab.arguments.get(name), value)
        }
        change = {name: value for name, value in new.items() if name in may_change}
        is_whole = option.cause == SEVERAL or len(change) == len(new)
        if change and is_whole and all(change != other.change for other in found):
            found.append(_named(replace(option, change=change), lab.arguments))
    return found


def _named(option: Option, own: Mapping[str, Any]) -> Option:
    """Return an option with its cause, where a preset changes the arguments of one cause only."""
    if not option.is_preset:
        return option
    causes = {OWNER_OF.get(name, SEVERAL) for name in option.change}
    if len(causes) != 1:
        return option
    rate, finding = option.change.get("learning_rate"), ""
    if rate is not None and isinstance(own.get("learning_rate"), int | float):
        finding = "too high" if rate < own["learning_rate"] else "too low"
    return replace(option, cause=causes.pop(), finding=finding)


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and one == other)


def _presets(lab: Lab) -> list[Option]:
    def preset(*causes: str) -> dict[str, Any]:
        names = dict.fromkeys(name for cause in causes for name in ARGUMENTS_OF[cause])
        return {name: lab.defaults[name] for name in names if name in lab.defaults}

    whole, same_network = preset(*_PRESET_CAUSES, "model_complexity"), preset(*_PRESET_CAUSES)
    features = {name: lab.defaults[name] for name in ("features",) if name in lab.changeable}
    return [
        Option(DEFAULTS, SEVERAL, whole, is_preset=True),
        Option("the defaults, with the same network", SEVERAL, same_network, is_preset=True),
        Option(FEATURES, SEVERAL, whole | features, is_preset=True),
    ]


def _singles(lab: Lab) -> list[Option]:
    own, defaults = lab.arguments, lab.defaults

    def reset(name: str, cause: str, finding: str = "", *arguments: str) -> Option:
        names = [key for key in arguments or ARGUMENTS_OF[cause] if key in defaults]
        return Option(name, cause, {key: defaults[key] for key in names}, finding)

    rate, width = own.get("learning_rate"), own.get("hidden_size")
    options = []
    if own.get("lr_schedule", "constant") == "constant":
        change = {"lr_schedule": "cosine"}
        options.append(
            Option("cosine decay", "learning_rate", change, "schedule missing", ends_run=True)
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
    nothing = {name: 0.0 for name in ARGUMENTS_OF["regularization"] if name in own}
    options += [
        reset("standard scaling", "preprocessing", "scale of the inputs"),
        reset("the default first weights", "weight_init"),
        reset(f"batches of {defaults.get('batch_size')}", "batch_size"),
        reset("clipping", "gradient_clipping"),
        reset("the default optimizer", "optimizer"),
        reset("the default regularization", "regularization"),
        Option("no dropout, no decay", "regularization", nothing, "too strong"),
        reset("cross-entropy", "loss"),
        reset("the default pooling", "model_complexity", "", "pooling"),
    ]
    if isinstance(width, int):
        smaller, larger = max(width // 4, _WIDTHS[0]), min(4 * width, _WIDTHS[1])
        layers = {"num_layers": 1} if "num_layers" in own else {}
        if larger > width:
            wider = {"hidden_size": larger}
            options.append(Option("a wider network", "model_complexity", wider, "too small"))
        if smaller < width:
            less = {"hidden_size": smaller, **layers}
            options.append(Option("a smaller network", "model_complexity", less, "too large"))
    return options
