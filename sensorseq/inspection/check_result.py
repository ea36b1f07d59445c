"""Results of training checks, each with its meaning and with advice."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sensorseq.inspection.finding import Finding

WIDTH = 80
Outcome = tuple[str, Finding]
PASSED, FAILED, NOT_POSSIBLE = "passed", "failed", "not possible"


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Parameters
    ----------
    name, status : str
        The name of the check, such as ``"overfits_a_batch"``, and the status ``"passed"``,
        ``"failed"`` or ``"not possible"`` (if the data do not allow the check; see `finding`).
    finding, advice : str
        The result and its meaning, and the next step; `advice` is empty if no step is needed.
    figures : mapping
        The numbers behind the finding.
    """

    name: str
    status: str
    finding: str
    advice: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary of plain values."""
        return vars(self) | {"figures": dict(self.figures)}

    def __str__(self) -> str:
        words = f"{self.finding} {self.advice}".strip()
        body = textwrap.fill(words, WIDTH, initial_indent="  ", subsequent_indent="  ")
        return f"{self.status:<12}  {self.name.replace('_', ' ')}\n{body}"


@dataclass(frozen=True)
class Diagnosis:
    """The results of all checks; print the object to see them in 80 columns.

    Parameters
    ----------
    results : tuple of CheckResult
        The results in the order of the checks.
    notes : tuple of str
        Sentences about parts of the data or the network that were left out to save time.
    """

    results: tuple[CheckResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True if no check failed."""
        return all(result.status != FAILED for result in self.results)

    def __getitem__(self, name: str) -> CheckResult:
        for result in self.results:
            if result.name == name:
                return result
        names = ", ".join(result.name for result in self.results)
        raise KeyError(f"there is no check {name!r}; the checks are {names}")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "passed": self.passed,
            "checks": [result.to_dict() for result in self.results],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        counts = [
            f"{sum(result.status == status for result in self.results)} {status}"
            for status in (PASSED, FAILED, NOT_POSSIBLE)
        ]
        head = f"{len(self.results)} checks: {', '.join(counts)}"
        notes = [textwrap.fill(note, WIDTH) for note in self.notes]
        return "\n\n".join([head, *map(str, self.results), *notes])
