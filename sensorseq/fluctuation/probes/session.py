"""probe_fit: from a report and the data of its fit to the proofs."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.probes.probe import check_budget, probe_lab

if TYPE_CHECKING:
    from sensorseq.fluctuation.report import FluctuationReport


def probe_fit(
    report: "FluctuationReport",
    X: Any,
    y: Any,
    given: Mapping[str, Any],
    *,
    budget: float = 1.0,
    verbose: int = 1,
    is_clocked: bool = True,
    allowed: frozenset[str] | None = None,
) -> "FluctuationReport":
    """Do what `FluctuationReport.probe` says.

    Without a clock the count of epochs alone ends the probes: the same fit then has the same
    proofs on a machine that is busy. `allowed` are the arguments that a repair may change.
    """
    began_s = time.perf_counter()
    budget = check_budget(budget)
    if report.origin is None or report.record is None:
        raise ArgumentError(
            "probe repeats a fit of this process, and this report has none: it is of a history"
            " alone, of partial_fit, or it was copied, saved or pickled. Fit in this process and"
            " take fluctuation_ of that estimator; for a custom module take"
            " sensorseq.fluctuation.probe_module."
        )
    origin = report.origin
    say: Callable[[str], Any] = _say if verbose else _say_nothing
    say(
        f"probing {report.n_epochs} epochs: at most {budget:g}x the fit, about"
        f" {budget * origin.fit_s:.1f} s, beside checks of the data"
    )
    keywords = {name: value for name, value in given.items() if value is not None}
    lab = origin.open(report.record, X, y, **keywords)
    proof = probe_lab(
        lab,
        origin.in_arguments(report),
        budget,
        origin.fit_s,
        allowed=allowed,
        say=say,
        began_s=began_s,
        is_clocked=is_clocked,
    )
    told: FluctuationReport = origin.in_words(proof)
    return told


def _say(line: str) -> None:
    print(f"sensorseq: {line}", file=sys.stderr, flush=True)


def _say_nothing(_: str) -> None:
    pass
