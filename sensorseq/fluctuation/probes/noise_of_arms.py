"""ArmNumbers: the noise of a re-run and the loss that it came to."""

import math
from typing import NamedTuple

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.probes.arm import ArmResult, Floats
from sensorseq.fluctuation.probes.recorded import LATER
from sensorseq.fluctuation.thresholds import FIXED_LOSS_NOISE_NATS

FIRST_SHARE = 0.2  # of a re-run is left out: what the change itself sets off
FALLEN_SHARE = 0.5  # of one in which the learning rate falls
FIRST_SHARE_ANEW = 1 / 3  # of one from first weights, which descends before it has a noise
# Nats, added before the logarithm: half the edge of a calm run. Quieter than healthy is no more
# evidence, and what happened to be still for a few epochs is none.
NOISE_FLOOR = 0.5 * FIXED_LOSS_NOISE_NATS
MOST_LOSS = 1.5  # times that of guessing, from where losses count alike
CALM_ACCURACY = 0.01  # noise, below which an accuracy is calm, however much calmer another one is
_FAILED = 10.0  # times the loss of guessing: what a run that diverged is taken to have come to


class ArmNumbers(NamedTuple):
    """What one re-run says.

    Parameters
    ----------
    log_noise : float
        Mean of the logarithms of the noise on two scales, nats and softened logarithm, each with
        `NOISE_FLOOR` added. The first alone favours whoever is slow to learn, the second whoever
        learns nothing.
    noise_nats : float
        From the mean absolute second difference, as in the verdict: a single leap counts, and does
        not count for everything. White noise has this as its standard deviation, whatever line it
        lies on.
    raw : float
        Mean loss of the fixed windows over the second half, in nats; NaN of a later stretch of the
        run, which has come further by then.
    averaged : float
        Their loss under the mean of the weights over that half; NaN where it was not measured.
    level_nats : float
        Noise of the loss where it counts: what is above `MOST_LOSS` drawn down to that.
    val_loss, val_error : float
        Mean loss and error rate of the validation windows over the second half; NaN without any.
    failed : bool
        Whether the run broke off, or came to no number. Its noise and losses are then ten times the
        loss of guessing, so that no unbroken run is worse.
    """

    log_noise: float
    noise_nats: float
    raw: float
    averaged: float
    level_nats: float
    failed: bool
    val_loss: float = math.nan
    val_error: float = math.nan


def n_judged(n_epochs: int, first_share: float = FIRST_SHARE) -> int:
    """Return how many epochs of a re-run its noise is measured on."""
    return n_epochs - math.ceil(first_share * n_epochs - 1e-9)


def measure_arm(
    result: ArmResult, log_classes: float, first_share: float = FIRST_SHARE
) -> ArmNumbers:
    """Measure the noise and the losses of a re-run.

    Parameters
    ----------
    result : ArmResult
        What the re-run gave.
    log_classes : float
        ln K, the loss of a guess among K classes, in nats.
    first_share : float, default 0.2
        Share of its epochs that is left out.
    """
    loss = np.asarray(result.fixed_loss, np.float64)
    if result.arm.decays:  # at first the rate is what it was
        first_share = max(first_share, FALLEN_SHARE)
    judged = loss[len(loss) - n_judged(len(loss), first_share) :]
    complete = not result.failed and len(loss) >= result.arm.n_epochs and len(judged) >= 3
    if not complete or not np.isfinite(loss).all():
        worst = _FAILED * log_classes
        return ArmNumbers(math.log(worst), worst, worst, worst, 0.0, True)
    nats = metrics.mean_noise(judged)
    relative = metrics.mean_noise(metrics.softened_log(np.maximum(judged, 0.0), log_classes))
    scale = 1.1 * log_classes  # so that both logarithms are alike at the loss of guessing
    both = math.log(nats + NOISE_FLOOR) + math.log(relative * scale + NOISE_FLOOR)
    raw = math.nan if result.arm.name == LATER else float(loss[len(loss) // 2 :].mean())
    level_nats = metrics.mean_noise(np.minimum(judged, MOST_LOSS * log_classes))
    later = result.arm.name == LATER
    return ArmNumbers(
        both / 2,
        nats,
        raw,
        float(result.averaged_loss),
        level_nats,
        False,
        math.nan if later else _late_mean(result.val_loss),
        math.nan if later else 1 - _late_mean(result.val_accuracy),
    )


def _late_mean(values: Floats) -> float:
    values = np.asarray(values, np.float64)
    return float(values[len(values) // 2 :].mean()) if len(values) else math.nan


def measure_by(
    judged_by: str, result: ArmResult, log_classes: float, first_share: float = FIRST_SHARE
) -> ArmNumbers:
    """Measure what a candidate is judged by: see `Candidate.judged_by`."""
    if judged_by == "accuracy":
        return measure_accuracy(result)
    numbers = measure_arm(result, log_classes, first_share)
    if judged_by != "validation" or numbers.failed:
        return numbers
    val_loss = np.asarray(result.val_loss, np.float64)
    raw = float(val_loss[len(val_loss) // 2 :].mean()) if len(val_loss) else math.nan
    if not math.isfinite(raw):
        return numbers
    return numbers._replace(raw=raw, averaged=math.nan)


def measure_accuracy(result: ArmResult) -> ArmNumbers:
    """Measure the same of the accuracy, for a change that gives the loss another meaning.

    Of the validation windows, or of the fixed ones without such; `raw` is the error rate.
    """
    accuracy = np.asarray(result.val_accuracy, np.float64)
    if not len(accuracy) and result.record is not None:
        accuracy = np.asarray(result.record.fixed_accuracy, np.float64)
    judged = accuracy[len(accuracy) - n_judged(len(accuracy)) :]
    if result.failed or len(judged) < 3 or not np.isfinite(accuracy).all():
        return ArmNumbers(0.0, 1.0, 1.0, math.nan, 1.0, True)
    noise = rms_noise(judged)
    raw = 1.0 - float(accuracy[len(accuracy) // 2 :].mean())
    return ArmNumbers(math.log(max(noise, CALM_ACCURACY)), noise, raw, math.nan, noise, False)


def rms_noise(values: Floats) -> float:
    """Return the root mean square second difference over the square root of 6."""
    return float(np.sqrt(np.mean(np.diff(values, 2) ** 2) / 6))


def white_noise_log_sd(n_points: int) -> float:
    """Return the standard deviation of the logarithm of `rms_noise` of white noise.

    What two re-runs differ by if nothing but their length limits the estimate. The mean square of
    correlated differences is taken for that of as many independent ones as give it the same
    variance; the logarithm of a mean square of v normal values has variance ``trigamma(v / 2)``.

    References
    ----------
    .. [1] F. E. Satterthwaite, *An approximate distribution of estimates of variance components*,
       1946.
    """
    n = n_points - 2
    # Second differences of white noise: covariances 6, -4, 1, so squares 36, 16 and 1.
    squares = 36 * n + 2 * (16 * max(n - 1, 0) + max(n - 2, 0))
    freedom = (6 * n) ** 2 / squares
    return 0.5 * math.sqrt(trigamma(freedom / 2))


def trigamma(x: float) -> float:
    """Return the second derivative of the logarithm of the gamma function, for x > 0.

    By its recurrence up to 6, from where four terms of the asymptotic series are exact to 1e-8.
    """
    total = 0.0
    while x < 6:
        total += 1 / x**2
        x += 1
    return total + 1 / x + 1 / (2 * x**2) + 1 / (6 * x**3) - 1 / (30 * x**5) + 1 / (42 * x**7)
