"""find_causes: rank what may have made a run fluctuate, from its statistics alone."""

from collections.abc import Mapping
from typing import Any

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.run import Run


def find_causes(
    run: Run, verdict: str, arguments: Mapping[str, Any] | None = None
) -> tuple[Cause, ...]:
    """Rank the causes of what a run did.

    Parameters
    ----------
    run : Run
        The run, after `judge`.
    verdict : str
        What `judge` said.
    arguments : mapping, optional
        Of the estimator. They word the recommendations and choose between equivalent ones; no
        cause is named or ranked by them.

    Returns
    -------
    tuple of Cause
        The likeliest first.
    """
    return ()
