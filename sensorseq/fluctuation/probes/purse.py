"""Purse and Findings: what probes may spend, and what each brings back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sensorseq.fluctuation.causes.cause import NotTested, Suspect, Trial
from sensorseq.fluctuation.probes.arm import Arm, ArmResult, Lab


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
    """

    trials: list[Trial] = field(default_factory=list)
    not_tested: list[NotTested] = field(default_factory=list)
    suspects: list[Suspect] = field(default_factory=list)

    def join(self, other: "Findings") -> None:
        """Take in what another probe brought back."""
        self.trials += other.trials
        self.not_tested += other.not_tested
        self.suspects += other.suspects


class Purse:
    """The epochs of training that probes may still spend; counted, so that none depends on a clock.

    Parameters
    ----------
    lab : Lab
        Knows what an arm costs, and runs it.
    n_epochs : float
        Epochs of the fit, in all.
    is_over : callable, optional
        Whether to stop in spite of what is left: the clock ran out.
    """

    def __init__(
        self, lab: Lab, n_epochs: float, is_over: Callable[[], bool] = lambda: False
    ) -> None:
        self.lab = lab
        self.n_epochs = n_epochs
        self.spent = 0.0
        self._is_over = is_over

    @property
    def left(self) -> float:
        """Epochs that are left."""
        return 0.0 if self._is_over() else max(0.0, self.n_epochs - self.spent)

    def affords(self, arms: Sequence[Arm]) -> bool:
        """Whether these can be run."""
        return self.cost_of(arms) <= self.left

    def cost_of(self, arms: Sequence[Arm]) -> float:
        """Return what arms cost together."""
        return sum(self.lab.cost_of(arm) for arm in arms)

    def run(self, arms: Sequence[Arm]) -> list[ArmResult]:
        """Pay for arms and run them; who calls has asked `affords`."""
        self.spent += self.cost_of(arms)
        return self.lab.run(arms)
