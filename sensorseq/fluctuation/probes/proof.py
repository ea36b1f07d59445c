"""Proof: what a trial that passed proves, and what repairs the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Proof:
    """What trials proved.

    Parameters
    ----------
    cause, finding : str
        As in `Cause`.
    repair : dict
        Arguments that were tried and adopted.
    sentence : str
        The evidence.
    trials : tuple of str
        Names of the trials behind it.
    alternatives : tuple of dict
        Arguments that repair it as well, in this order.
    names_cause : bool
        Whether it proves the cause, too. A change of several arguments at once proves none.
    """

    cause: str
    finding: str
    repair: Mapping[str, Any]
    sentence: str
    trials: tuple[str, ...]
    alternatives: tuple[Mapping[str, Any], ...] = ()
    names_cause: bool = True
