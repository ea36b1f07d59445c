"""self_test: a part of the run, replayed unchanged, must give the same bits."""

import numpy as np

from sensorseq.fluctuation.probes.arm import Arm, ArmResult, Lab
from sensorseq.fluctuation.probes.purse import Purse
from sensorseq.fluctuation.run import plural

MOST_EPOCHS = 3
LEAST_AFTER = 2  # epochs that the run went on for after the snapshot
ROUNDING = 1e-4  # of a loss: a difference that the order of sums can grow to within an epoch

_MEANING = (
    "other data or other keywords than fit was given, or the processor sums in another order:"
    " nothing can be proved"
)

# Members are trained side by side; what re-runs a fit trains one alone.
ENSEMBLE = "members of an ensemble keep no states to go on from"


def is_of_ensemble(lab: Lab) -> bool:
    """Whether the run is that of a member of an ensemble, trained beside the others."""
    return int(lab.arguments.get("n_models") or 1) > 1 and not lab.record.snapshots


def self_test(lab: Lab, purse: Purse) -> tuple[bool, str]:
    """Replay the run from its last snapshot with epochs after it, and compare bit for bit.

    Every proof rests on this: an arm with a change is held against one without, and that one must
    be the run itself.

    Parameters
    ----------
    lab : Lab
        The run.
    purse : Purse
        Pays for one to three epochs.

    Returns
    -------
    passed : bool
        Whether the loss of the fixed training windows after each epoch, or where there is none
        that of each step, has the same bits.
    sentence : str
        What was compared, what differed, and what that means.
    """
    record = lab.record
    if is_of_ensemble(lab):
        return False, f"{ENSEMBLE.capitalize()}; probe a fit with n_models=1."
    labels = lab.train.target
    if len(record.train_rows) and (
        record.train_rows.max() >= len(labels)
        or not np.array_equal(labels[record.train_rows], record.train_target)
    ):
        return False, f"The training windows or their labels are not those of the fit: {_MEANING}."
    starts = [
        start
        for start, snapshot in enumerate(record.snapshots)
        if snapshot.epoch <= record.n_epochs - LEAST_AFTER
    ]
    if not starts:
        return False, (
            f"The run kept no state with {LEAST_AFTER} epochs after it, so it cannot be replayed:"
            " nothing can be proved. Fit it alone, for more epochs."
        )
    start = starts[-1]
    epoch = record.snapshots[start].epoch
    most = min(MOST_EPOCHS, record.n_epochs - epoch)
    arms = [Arm("self-test", n, start, seed=None) for n in range(most, 0, -1)]
    arm = next((arm for arm in arms if purse.affords([arm])), None)
    if arm is None:
        return False, "The budget does not pay for replaying a single epoch: nothing can be proved."
    return _compare(lab, purse.run([arm])[0], epoch)


def _compare(lab: Lab, result: ArmResult, epoch: int) -> tuple[bool, str]:
    """Hold an unchanged arm that began after so many epochs against the record."""
    record, n_epochs = lab.record, result.arm.n_epochs
    wanted = record.fixed_loss[epoch : epoch + n_epochs]
    got, what, unit = result.fixed_loss, "the loss of the fixed training windows", "epoch"
    first = epoch + 1
    if not len(wanted) or not np.isfinite(wanted).any():
        begin, end = record.epoch_steps[[epoch, epoch + n_epochs]]
        wanted = record.steps.get("loss", np.zeros(0))[begin:end]
        got = np.zeros(0) if result.record is None else result.record.steps["loss"]
        what, unit, first = "the loss of the batch", "step", int(begin) + 1
        if not len(wanted) or not np.isfinite(wanted).any():
            return False, "The run noted no loss that a replay could be held against."
    got = got[: len(wanted)]
    if np.array_equal(got, wanted, equal_nan=True):
        span = plural(n_epochs, "epoch")
        return True, f"{span} replayed unchanged from epoch {epoch} gave the same bits as the run."
    if len(got) < len(wanted):
        why = f" ({result.failed})" if result.failed else ""
        return False, (
            f"The replay from epoch {epoch} ended after {plural(len(result.fixed_loss), 'epoch')}"
            f" of {n_epochs}{why}: {_MEANING}."
        )
    is_same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    at = int(np.flatnonzero(~is_same)[0])
    apart = abs(float(got[at]) - float(wanted[at]))
    nats = record.unit_after
    likely = " By its size it is the order of the sums." if apart <= ROUNDING * wanted[at] else ""
    return False, (
        f"Replayed unchanged from epoch {epoch}, {what} was {got[at]:.9g} in {unit} {first + at}"
        f" where the run had {wanted[at]:.9g}{nats}: {_MEANING}.{likely}"
    )
