"""Which snapshot of a run its re-runs go on from."""

import numpy as np

from sensorseq.fluctuation.probes.arm import Lab
from sensorseq.fluctuation.probes.noise_of_arms import rms_noise
from sensorseq.fluctuation.thresholds import FIXED_LOSS_NOISE_NATS

_DESCENT = 0.2  # of the run, in which its noise is not looked at


def choose_snapshot(lab: Lab, n_epochs: int) -> int | None:
    """Return the latest snapshot of the restless half that has room for a re-run before the end.

    A re-run takes the learning rates that the run had from there on, so that it may not go beyond.
    The restless half is the second, unless that is calm and the first is not. The first weights are
    no choice: what they do at first is a descent, not a fluctuation.

    Returns
    -------
    int or None
        None where there is none.
    """
    snapshots = lab.record.snapshots
    eligible = [
        number
        for number, snapshot in enumerate(snapshots)
        if snapshot.epoch > 0 and snapshot.epoch + n_epochs <= lab.n_epochs
    ]
    early = [number for number in eligible if snapshots[number].epoch <= lab.n_epochs // 2]
    if early and _is_restless_early(lab):
        return early[-1]
    return eligible[-1] if eligible else None


def earliest_snapshot(lab: Lab, n_epochs: int) -> int | None:
    """Return the first snapshot after the first weights with so many epochs after it.

    So most of the run is there to hold a re-run against.
    """
    for number, snapshot in enumerate(lab.record.snapshots):
        if snapshot.epoch > 0 and snapshot.epoch + n_epochs <= lab.n_epochs:
            return number
    return None


def _is_restless_early(lab: Lab) -> bool:
    loss = np.asarray(lab.record.fixed_loss, np.float64)
    first, second = loss[int(_DESCENT * len(loss)) : len(loss) // 2], loss[len(loss) // 2 :]
    if min(len(first), len(second)) < 4 or not np.isfinite(loss).all():
        return False
    return rms_noise(second) < min(FIXED_LOSS_NOISE_NATS, rms_noise(first))
