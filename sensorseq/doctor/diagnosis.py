"""CheckResult and Diagnosis: what each check found, what that means and what to do next."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WIDTH = 80
PASSED, FAILED, NOT_POSSIBLE = "passed", "failed", "not possible"


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Parameters
    ----------
    name : str
        Of the check, such as ``"overfits_a_batch"``.
    status : {"passed", "failed", "not possible"}
        The last when the data do not allow it; `finding` says why.
    finding : str
        What was done, what came of it, and what that means.
    advice : str
        What to do next; empty when there is nothing to do.
    figures : mapping
        The numbers behind it.
    """

    name: str
    status: str
    finding: str
    advice: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary of plain values."""
        return {
            "name": self.name,
            "status": self.status,
            "finding": self.finding,
            "advice": self.advice,
            "figures": dict(self.figures),
        }

    def __str__(self) -> str:
        words = f"{self.finding} {self.advice}".strip()
        body = textwrap.fill(words, WIDTH, initial_indent="  ", subsequent_indent="  ")
        return f"{self.status:<12}  {self.name.replace('_', ' ')}\n{body}"


@dataclass(frozen=True)
class Diagnosis:
    """Every check of a training. `print` shows it in 80 columns.

    Parameters
    ----------
    results : tuple of CheckResult
        In the order they were made.
    notes : tuple of str
        What was left out to be quick.
    """

    results: tuple[CheckResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(result.status != FAILED for result in self.results)

    def __getitem__(self, name: str) -> CheckResult:
        for result in self.results:
            if result.name == name:
                return result
        known = ", ".join(result.name for result in self.results)
        raise KeyError(f"no check {name!r}; there are {known}")

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
