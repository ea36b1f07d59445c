"""Seen: the features of one run beside the arguments that word its recommendations."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sensorseq.fluctuation.thresholds import FIXED_LOSS_NOISE_NATS

KEEP: Any = object()  # in place of a new value: leave that argument alone
_NOTHING = object()


@dataclass(frozen=True)
class Seen:
    """What happened, and what was asked for.

    Parameters
    ----------
    features : mapping of str to float
        Of `measure`.
    arguments : mapping of str to object
        Of the estimator; empty where they are not known.
    side : str
        Which side of a cause is looked at, see `theory.SIDES`.
    clip_at : float
        75 % quantile of the late gradient norms, NaN where they were not recorded.
    noise_edge : float
        What ``loss_noise`` of a calm run stays below: it depends on which training loss that is of.
    """

    features: Mapping[str, float]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    side: str = ""
    clip_at: float = math.nan
    noise_edge: float = FIXED_LOSS_NOISE_NATS

    def __getitem__(self, feature: str) -> float:
        return self.features[feature]

    def knows(self, *features: str) -> bool:
        """Whether all of these were measured."""
        return all(math.isfinite(self.features[name]) for name in features)

    def above(self, feature: str, limit: float) -> bool:
        """Whether it was measured and is above a limit."""
        return self.knows(feature) and self.features[feature] > limit

    def below(self, feature: str, limit: float) -> bool:
        """Whether it was measured and is below a limit."""
        return self.knows(feature) and self.features[feature] < limit

    def number(self, argument: str) -> float | None:
        """Return an argument that is a number, or None."""
        value = self.arguments.get(argument)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return value

    def changed(self, **new: Any) -> dict[str, Any]:
        """Return the arguments whose value would change; all where the old ones are not known."""
        return {
            name: value
            for name, value in new.items()
            if value is not KEEP and self._differs(self.arguments.get(name, _NOTHING), value)
        }

    def raised(self, **new: float) -> dict[str, Any]:
        """Return the arguments that are below their new value, or not known."""
        return self.changed(
            **{
                name: KEEP if (self.number(name) or 0) >= value else value
                for name, value in new.items()
            }
        )

    def stopped_early(self, **new: Any) -> dict[str, Any]:
        """Return what makes it stop at its best epoch; windows are held out where none are."""
        fraction = 0.2 if self.number("validation_fraction") == 0 else KEEP
        return self.changed(
            early_stopping=True, restore_best=True, validation_fraction=fraction, **new
        )

    @staticmethod
    def _differs(old: Any, new: Any) -> bool:
        if isinstance(old, int | float) and isinstance(new, int | float):
            return old != new
        return type(old) is not type(new) or bool(old != new)


def scaled(value: float | None, factor: float) -> Any:
    """Return a value times a factor to three digits; `KEEP` of None."""
    return KEEP if value is None else float(f"{value * factor:.3g}")


def counted(value: float | None, factor: float, least: int = 1) -> Any:
    """Return a count times a factor, rounded, not below `least`; `KEEP` of None.

    `KEEP` as well where fewer are asked for and `least` is not fewer.
    """
    if value is None:
        return KEEP
    new = max(round(value * factor), least)
    return KEEP if factor < 1 and new >= value else new
