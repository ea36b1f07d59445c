"""weigh_levels: whether a calm came with progress, at its price, or by standing still."""

import math

from sensorseq.fluctuation.probes.stop_rule import SURE_Z

MARGIN_NATS = 0.02  # a loss that is higher by less is not worse
MARGIN_ACCURACY = 0.01
SLOWER_Z = 1.645  # one-sided 95 %
SETTLED_PAIRS = 3  # from here on the means decide, however near to the margin


def weigh_levels(
    raw: float,
    raw_error: float,
    averaged: float,
    averaged_error: float,
    n_pairs: int,
    margin: float = MARGIN_NATS,
    settled_pairs: int = SETTLED_PAIRS,
) -> str:
    """Return what the losses of a calmer re-run say about its change.

    Over a short stretch a lower rate always looks calmer, and lower in loss, too, as its weights
    are near the middle of what they move about. The mean of the weights has that advantage taken
    away: it shows which setting gets on.

    Parameters
    ----------
    raw, averaged : float
        Loss with the change less that without: of the weights as they are, and of their mean over
        the second half; NaN for the latter where it was not measured.
    raw_error, averaged_error : float
        Their standard errors.
    n_pairs : int
        Pairs of re-runs. Two say something only where it is sure at 90 %.
    margin : float
        What is not worse.
    settled_pairs : int, default 3
        From so many pairs on the means decide.

    Returns
    -------
    str
        ``"both"``: neither is worse, so that the setting was wrong. ``"price"``: only the mean is
        worse; the noise was the price of progress. ``"slower"``: the loss is worse. ``"open"``: not
        to be told yet.
    """
    raw_side = _side(raw - margin, raw_error, n_pairs < settled_pairs)
    if raw_side != "not worse":
        return {"worse": "slower", "open": "open"}[raw_side]
    if math.isnan(averaged):
        return "both"
    averaged_side = _side(averaged - margin, averaged_error, n_pairs < settled_pairs)
    return {"worse": "price", "open": "open", "not worse": "both"}[averaged_side]


def _side(excess: float, error: float, must_be_sure: bool) -> str:
    if must_be_sure and abs(excess) < SURE_Z * error:
        return "open"
    return "worse" if excess > 0 else "not worse"
