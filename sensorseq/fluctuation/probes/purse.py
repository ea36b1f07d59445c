"""Purse and Findings: what probes may spend, and what each brings back."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sensorseq.fluctuation.causes.cause import NotTested, Suspect, Trial
from sensorseq.fluctuation.probes.arm import Arm, ArmResult, Lab
from sensorseq.fluctuation.probes.proof import Proof


@dataclass
class Findings:
    """What a probe brings back.

    Parameters
    ----------
    trials : list of Trial
        What was tried.
    not_tested : list of NotTested
        What was not, and why.
    suspects : list of Suspect
        Windows whose labels look wrong.
    proofs : list of Proof
        What is proved, the best first.
    """

    trials: list[Trial] = field(default_factory=list)
    not_tested: list[NotTested] = field(default_factory=list)
    suspects: list[Suspect] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)

    def join(self, other: "Findings") -> None:
        """Take in what another probe brought back."""
        self.trials += other.trials
        self.not_tested += other.not_tested
        self.suspects += other.suspects
        self.proofs += other.proofs


class Purse:
    """What probes may still spend: epochs of training, counted, and the time beside them.

    The count decides what is tried, so that the same run gives the same proofs; the clock, where
    there is one, leaves out what would take longer than was announced, on a busy machine more.

    Parameters
    ----------
    lab : Lab
        Knows what an arm costs, and runs it.
    n_epochs : float
        Epochs of the fit, in all.
    seconds : float
        Time, in all; infinity for no clock.
    epoch_s : float
        What an epoch of the fit took; that of the arms takes its place.
    clock : callable, optional
        Seconds since something.
    began_s : float, optional
        What the clock showed when the time began; now, if not given.
    """

    def __init__(
        self,
        lab: Lab,
        n_epochs: float,
        seconds: float = math.inf,
        epoch_s: float = 0.0,
        *,
        clock: Callable[[], float] = time.perf_counter,
        began_s: float | None = None,
    ) -> None:
        self.lab = lab
        self.n_epochs = n_epochs
        self.spent = 0.0
        self._charged = 0.0
        self._seconds, self._epoch_s = seconds, epoch_s
        self._clock = clock
        self._began_s = clock() if began_s is None else began_s
        self._running_s = 0.0

    @property
    def left(self) -> float:
        """Epochs that are left, as many as the time is thought to reach for."""
        left = max(0.0, self.n_epochs - self.spent)
        if math.isinf(self._seconds):
            return left
        seconds = max(0.0, self._seconds - (self._clock() - self._began_s))
        run = self.spent - self._charged
        pace = self._running_s / run if run > 0 else self._epoch_s
        return min(left, seconds / pace) if pace > 0 else left * (seconds > 0)

    def affords(self, arms: Sequence[Arm]) -> bool:
        """Whether these can be run."""
        return self.cost_of(arms) <= self.left

    def cost_of(self, arms: Sequence[Arm]) -> float:
        """Return what arms cost together."""
        return sum(self.lab.cost_of(arm) for arm in arms)

    def charge(self, n_epochs: float) -> None:
        """Pay for work that is no arm, in epochs of the fit; it says nothing of the pace."""
        self.spent += n_epochs
        self._charged += n_epochs

    def run(self, arms: Sequence[Arm]) -> list[ArmResult]:
        """Pay for arms and run them; who calls has asked `affords`."""
        self.spent += self.cost_of(arms)
        started = self._clock()
        results = self.lab.run(arms)
        self._running_s += self._clock() - started
        return results
