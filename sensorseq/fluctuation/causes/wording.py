"""Figures in words, for evidence: nothing is said of what was not measured."""

from collections.abc import Iterable

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.seen import Seen

LEAST_SHARE = 0.0005  # of a fraction that is worth words


def percent(share: float) -> str:
    """Return a fraction in per cent."""
    return f"{100 * share:.3g} %"


def figure(value: float) -> str:
    """Return a number with the digits that mean something."""
    return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"


def tell(seen: Seen, *parts: tuple[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return one sentence of the parts whose feature was measured, and those features.

    Parameters
    ----------
    seen : Seen
        Of which run.
    *parts : (str, str)
        A feature, and what is said of it: ``{n}`` is its value, ``{p}`` the same in per cent,
        ``{points}`` a fraction in points, ``{nats}`` a loss.
    """
    said, used = [], []
    for feature, words in parts:
        if not seen.knows(feature):
            continue
        value = seen[feature]
        if value < LEAST_SHARE and ("{p}" in words or "{points}" in words):
            continue  # nothing, or the other way round
        said.append(
            words.format(
                n=figure(value),
                p=percent(value),
                points=f"{100 * value:.1f}",
                nats=f"{value:.3f}",
            )
        )
        used.append(feature)
    if not said:
        return "", ()
    if len(said) > 1:
        said = [", ".join(said[:-1]) + ", and " + said[-1]]
    return f"{said[0][0].upper()}{said[0][1:]}.", tuple(used)


def cause_of(
    name: str,
    seen: Seen,
    parts: Iterable[tuple[str, str]],
    recommendation: dict[str, object],
    alternatives: Iterable[dict[str, object]] = (),
    advice: str = "",
) -> Cause | None:
    """Return a Cause without a confidence; None where nothing was measured that speaks for it.

    Alternatives that change nothing, or the same as the recommendation, are left out; where the
    recommendation changes nothing the first of them takes its place.
    """
    evidence, used = tell(seen, *parts)
    if not evidence:
        return None
    offered = [dict(recommendation), *(dict(other) for other in alternatives)]
    offered = [part for i, part in enumerate(offered) if part and part not in offered[:i]]
    return Cause(
        name=name,
        grade="observed",
        confidence=0.0,
        evidence=evidence,
        finding=seen.side,
        recommendation=offered[0] if offered else {},
        alternatives=tuple(offered[1:]),
        advice=advice,
        statistics=used,
    )
