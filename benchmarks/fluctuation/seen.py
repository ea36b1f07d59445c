"""What was seen of each run: its outcome, what was answered, and what it is right to answer.

A run is judged by its first seed; the oracle looks at every seed. Injected faults that did not come
true are benign, and normal is the right answer on them. What shows in the curve alone (few or
shifted validation windows, dropout) is answered right by its name and by normal.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fluctuation.answers import NORMAL, OF_THE_CURVE, answers_of, report_of, right_answers
from fluctuation.oracle import Manifestation, Outcome, find_outcome, manifested
from fluctuation.plan import causes_of
from fluctuation.runs import load


@dataclass(eq=False)
class Seen:
    """One run, its outcome, and what was answered on it.

    Parameters
    ----------
    plan, facts : dict
        As in its evidence.
    outcome : Outcome
        On the fresh part.
    verdict : str
        Ours.
    answers : list of (str, float)
        Ours, from statistics, likeliest first.
    manifestation : Manifestation or None
        How an injected fault came true.
    right : frozenset of str
        What it is right to answer.
    by : dict of str to list of (str, float)
        Answers of each judge.
    repair : dict or None
        What probes and simple rules came to.
    """

    plan: dict[str, Any]
    facts: dict[str, Any]
    outcome: Outcome
    verdict: str
    answers: list[tuple[str, float]]
    manifestation: Manifestation | None = None
    right: frozenset[str] = frozenset()
    by: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    repair: dict[str, Any] | None = None

    @property
    def cluster(self) -> tuple[str, str]:
        """Data set and cause, or what it is instead of having one."""
        return self.plan["data"], self.plan["cause"] or self.plan["kind"]

    @property
    def fault(self) -> str:
        """How a fault came true; empty where none did."""
        return "" if self.manifestation is None else self.manifestation.fault


def see(path: Path) -> Seen:
    """Read one run and judge it."""
    run = load(path)
    report = report_of(run)
    return Seen(run.plan, run.facts, find_outcome(run), report.verdict, answers_of(report))


def pairs_of(plan: Mapping[str, Any], seen: Mapping[str, Seen]) -> list[tuple[Outcome, Outcome]]:
    """Return outcomes of a run and its twin from every seed that is there, the first one first."""
    pairs = []
    repeat = 0
    while True:
        behind = f"@{repeat}" if repeat else ""
        run, twin = seen.get(plan["name"] + behind), seen.get(plan["twin"] + behind)
        if run is None or twin is None:
            return pairs
        pairs.append((run.outcome, twin.outcome))
        repeat += 1


def settle(seen: Mapping[str, Seen]) -> tuple[list[Seen], Counter[str]]:
    """Say of every judged run what is right to answer; leave out those that nothing can be said of.

    Left out are injected runs whose twin is missing or has not clearly learned, and healthy runs
    and controls that have not.
    """
    settled, left_out = [], Counter[str]()
    for run in seen.values():
        if run.plan["repeat"]:
            continue
        if run.plan["role"] == "volatile":
            pairs = pairs_of(run.plan, seen)
            if not pairs or not pairs[0][1].truth.clearly_learned:
                left_out["injected: twin is missing or did not learn"] += 1
                continue
            run.manifestation = manifested(pairs)
        elif not run.outcome.truth.clearly_learned:
            left_out[f"{run.plan['role']}: did not clearly learn"] += 1
            continue
        run.right = right_answers(run.plan, run.fault)
        settled.append(run)
    return settled, left_out


def is_of_the_curve(run: Seen) -> bool:
    """Tell whether what is injected shows in a curve alone."""
    return bool(set(causes_of(run.plan)) & set(OF_THE_CURVE))


def is_single(run: Seen) -> bool:
    """Tell whether a cause is to be named: one fault that came true, or one of the curve."""
    n_causes = len(causes_of(run.plan))
    return n_causes == 1 and (bool(run.fault) or is_of_the_curve(run))


def is_nothing(run: Seen) -> bool:
    """Tell whether normal alone is right."""
    return run.right == {NORMAL}


def is_undecided(run: Seen) -> bool:
    """Tell whether nothing was injected, or to no effect, into a rate that does not fall.

    Whether that rate is too high is what a report is to tell; no twin settles it.
    """
    return is_nothing(run) and run.plan["arguments"].get("lr_schedule") == "constant"
