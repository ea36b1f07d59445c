"""spike_replay: whether the leaps of a loss go away when the steps before them are clipped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sensorseq.fluctuation.causes.cause import NotTested, Trial
from sensorseq.fluctuation.probes.arm import Arm, ArmResult, Floats, Lab
from sensorseq.fluctuation.probes.batch_rows import rows_of_steps, windows_of_spikes
from sensorseq.fluctuation.probes.find_spikes import (
    LOOK_BACK,
    REACH,
    Spike,
    bounded,
    find_spikes,
    heights,
)
from sensorseq.fluctuation.probes.purse import Findings, Purse
from sensorseq.fluctuation.run import plural

CAUSE = "gradient_clipping"
MOST_SPIKES, LEAST_SPIKES = 3, 2
EPOCHS_AFTER = 2
SHRUNK = 0.8  # share of its height that a spike must lose
REPRODUCED = 0.2  # share by which a replayed spike may differ from that of the run
QUANTILE = 0.75  # of the gradient norms before the spikes: what is clipped at
COMPARABLE = 0.5  # share of its height that makes another spike on a path one like it
MARGIN_NATS = 0.02  # by which the loss after it may be worse
NUDGE = 0.999  # on the learning rate: what changes the path and nothing else
MOST_LISTED = 6  # windows in a sentence


@dataclass(frozen=True)
class _Replayed:
    """A spike as the arms from one snapshot had it: heights in nats."""

    spike: Spike
    unchanged: float
    clipped: float
    clipped_largest: float  # anywhere on the clipped path
    nudged_largest: float
    change_after: float  # of the loss of the fixed training windows, over the epochs after it


def spike_replay(lab: Lab, purse: Purse) -> Findings:
    """Replay the largest leaps of the loss as they were, clipped, and on a path nudged a little.

    From the snapshot before each spike the same batches are gone through three times: unchanged,
    which must give the spike again; with ``max_grad_norm`` at the third quartile of the gradient
    norms before the spikes; and with a learning rate that is lower by a thousandth. Where the
    nudged path has no spike half as high anywhere, the spike hung on the least detail, and that it
    is gone says nothing of clipping.

    Confirmed when at least two of at most three spikes lose over 80 % of their height, without one
    half as high elsewhere on the clipped path, and the loss of the fixed training windows over the
    two epochs after them is no worse than 0.02 nats;
    rejected when no spike does.

    Parameters
    ----------
    lab : Lab
        The run.
    purse : Purse
        Pays for three arms from each snapshot; spikes that it does not pay for are left out.
    """
    record = lab.record
    if "loss" not in record.steps or not len(record.steps["loss"]):
        return _not_tested("the run noted no loss of its steps", "a fit in one process")
    spikes = find_spikes(record.steps, record.epoch_steps)
    if not spikes:
        return _not_tested("the loss of the batches leaps up after no step: nothing to replay")
    data = _suspicious_windows(lab, spikes)
    count = f"the loss leaps up after {plural(len(spikes), 'step')}"
    if len(spikes) < LEAST_SPIKES:
        return _not_tested(f"{count} only, and {LEAST_SPIKES} are needed.{data}", "a longer run")
    if "max_grad_norm" not in lab.changeable:
        return _not_tested(f"{count}, but max_grad_norm cannot be changed here.{data}")
    limit = _limit(record.steps["grad_norm"], spikes)
    now = lab.arguments.get("max_grad_norm")
    if not limit > 0:
        return _not_tested(f"{count}, but the gradient norms before are not known.{data}")
    if now is not None and lab.arguments.get("clip_by", "norm") == "norm" and now <= limit:
        return _not_tested(
            f"{count} although more than a quarter of the gradients before were clipped: their"
            f" third quartile is {limit:.3g}, and all were bounded by {now:.3g}.{data}"
        )
    change: dict[str, Any] = {"max_grad_norm": limit}
    if lab.arguments.get("clip_by", "norm") != "norm" and "clip_by" in lab.changeable:
        change["clip_by"] = "norm"
    chosen = _affordable(lab, purse, spikes, change)
    if sum(map(len, chosen.values())) < LEAST_SPIKES:
        return _not_tested(
            f"{count}, and fewer than {LEAST_SPIKES} can be replayed: no state of the run lies"
            f" close enough before them for the budget of {purse.left:.1f} epochs.{data}",
            "a larger budget",
        )
    spent = purse.spent
    trios = {start: _arms(lab, start, of, change) for start, of in chosen.items()}
    results = purse.run([arm for arms in trios.values() for arm in arms])
    replayed, lost = list[_Replayed](), 0
    curves: dict[str, list[list[float]]] = {"A": [], "A'": [], "B": []}
    for n, (start, of) in enumerate(chosen.items()):
        trio = results[3 * n : 3 * n + 3]
        for name, result in zip(("A", "B", "A'"), trio, strict=True):
            curves[name].append([float(value) for value in result.fixed_loss])
        for spike in of:
            seen = _measure(lab, start, spike, trio)
            if seen is None:
                lost += 1
            else:
                replayed.append(seen)
    if len(replayed) < LEAST_SPIKES:
        return _not_tested(
            f"{count}, but unchanged replays gave {lost} of {lost + len(replayed)} not again.{data}"
        )
    outcome, sentence = _judge(replayed, limit)
    trial = Trial(
        CAUSE,
        f"max_grad_norm = {limit:.3g}",
        change,
        "replay",
        outcome,
        sentence + data,
        n_pairs=len(replayed),
        raw_change=float(np.max([seen.change_after for seen in replayed])),
        curves=curves,
        cost_epochs=purse.spent - spent,
    )
    return Findings([trial])


def _not_tested(reason: str, would_settle: str = "") -> Findings:
    return Findings(not_tested=[NotTested(CAUSE, reason, would_settle)])


def _limit(norms: Floats, spikes: Sequence[Spike]) -> float:
    """Return the third quartile of the gradient norms before the largest spikes, in 3 digits."""
    before = [
        norms[max(0, spike.step - LOOK_BACK - spike.n_before) : spike.step - LOOK_BACK]
        for spike in spikes[:MOST_SPIKES]
    ]
    known = np.concatenate(before)
    known = known[np.isfinite(known)]
    return float(f"{np.quantile(known, QUANTILE):.3g}") if len(known) else 0.0


def _affordable(
    lab: Lab, purse: Purse, spikes: Sequence[Spike], change: dict[str, Any]
) -> dict[int, list[Spike]]:
    """Return up to three of the largest spikes that can be paid for, by the snapshot before."""
    chosen: dict[int, list[Spike]] = {}
    for spike in spikes[: 2 * MOST_SPIKES]:
        start = _snapshot_before(lab, spike)
        if start is None or sum(map(len, chosen.values())) == MOST_SPIKES:
            continue
        more = {**chosen, start: [*chosen.get(start, []), spike]}
        arms = [arm for key, of in more.items() for arm in _arms(lab, key, of, change)]
        if purse.affords(arms):
            chosen = more
    return chosen


def _snapshot_before(lab: Lab, spike: Spike) -> int | None:
    before = [
        start
        for start, snapshot in enumerate(lab.record.snapshots)
        if snapshot.step <= spike.step - LOOK_BACK
    ]
    return before[-1] if before else None


def _arms(lab: Lab, start: int, spikes: Sequence[Spike], change: dict[str, Any]) -> list[Arm]:
    """Return the unchanged, the clipped and the nudged arm, to two epochs after the last spike."""
    begin = lab.record.snapshots[start].epoch
    last = max(_epoch_of(lab, spike) for spike in spikes) + 1 + EPOCHS_AFTER
    n_epochs = min(last, lab.record.n_epochs) - begin
    return [
        Arm("unchanged", n_epochs, start, seed=None),
        Arm(f"max_grad_norm = {change['max_grad_norm']}", n_epochs, start, None, change),
        Arm("learning_rate x 0.999", n_epochs, start, None, rate_factor=NUDGE),
    ]


def _epoch_of(lab: Lab, spike: Spike) -> int:
    """Return the epoch, counted from 0, in which a spike ends."""
    last = min(spike.step + REACH, int(lab.record.epoch_steps[-1]) - 1)
    return int(np.searchsorted(lab.record.epoch_steps, last, side="right")) - 1


def _measure(lab: Lab, start: int, spike: Spike, trio: Sequence[ArmResult]) -> _Replayed | None:
    """Return a spike as the three arms had it; None where the unchanged one did not give it."""
    snapshot = lab.record.snapshots[start]
    own = lab.record.steps["loss"]
    losses = [
        np.zeros(0) if result.record is None else bounded(result.record.steps["loss"], own)
        for result in trio
    ]
    at, end = spike.step + 1 - snapshot.step, spike.step + 1 + REACH - snapshot.step
    if any(len(loss) < at for loss in losses) or len(losses[0]) < end:
        return None
    unchanged = losses[0]
    seen = []
    for loss in losses[:2]:
        # its level is that of the run, and by how much the same batches before were better or worse
        before = slice(max(0, at - spike.n_before), at)
        shift = float(np.median(loss[before] - unchanged[before])) if at else 0.0
        seen.append(float(np.median(loss[at:end])) - spike.level - shift if len(loss) > at else 0.0)
    if not abs(seen[0] - spike.height) <= REPRODUCED * spike.height:
        return None
    past = bounded(own, own)[: snapshot.step][-spike.n_before :]
    largest = [_largest(np.concatenate([past, loss]), spike.n_before) for loss in losses[1:]]
    first = _epoch_of(lab, spike) - snapshot.epoch
    after = [result.fixed_loss[first : first + 1 + EPOCHS_AFTER] for result in trio[:2]]
    if not len(after[0]) or not np.isfinite(after[0]).all():
        after = [result.loss[first : first + 1 + EPOCHS_AFTER] for result in trio[:2]]
    was_finite, is_finite = (len(part) > 0 and np.isfinite(part).all() for part in after)
    change = float(np.mean(after[1]) - np.mean(after[0])) if was_finite and is_finite else np.inf
    if is_finite and not was_finite:
        change = -np.inf
    return _Replayed(spike, seen[0], seen[1], largest[0], largest[1], change)


def _largest(loss: Floats, n_before: int) -> float:
    """Return the largest height of a path."""
    return float(heights(loss, n_before)[1].max(initial=-np.inf))


def _judge(replayed: Sequence[_Replayed], limit: float) -> tuple[str, str]:
    """Return the outcome, and a sentence."""
    n = len(replayed)
    gone = [
        seen
        for seen in replayed
        if seen.clipped < (1 - SHRUNK) * seen.unchanged
        and seen.clipped_largest < COMPARABLE * seen.unchanged
    ]
    by_nudge = [seen for seen in gone if seen.nudged_largest < COMPARABLE * seen.unchanged]
    proved = [seen for seen in gone if seen not in by_nudge]
    worst = max(seen.change_after for seen in replayed)
    became = f"changed by {worst:+.3f} nats at worst"
    if np.isinf(worst):
        became = "stayed finite, as it had not" if worst < 0 else "did not stay finite"
    pairs = ", ".join(f"{seen.unchanged:.2f} to {seen.clipped:.2f}" for seen in replayed)
    where = ", ".join(str(seen.spike.step + 1) for seen in replayed)
    sentence = (
        f"Replayed from states before them with gradients clipped at {limit:.3g}, the leaps of the"
        f" loss after steps {where} went from {pairs} nats; {len(gone)} of {n} lost over"
        f" {100 * SHRUNK:.0f} % without one half as high elsewhere, and the loss of the fixed"
        f" training windows over the epochs after {became}."
    )
    if by_nudge:
        sentence += (
            f" For {len(by_nudge)} of them a learning rate lower by a thousandth does the same:"
            " they hang on the least detail."
        )
    if len(proved) >= LEAST_SPIKES and worst <= MARGIN_NATS:
        return "confirmed", sentence
    return ("rejected" if not gone else "undecided"), sentence


def _suspicious_windows(lab: Lab, spikes: Sequence[Spike]) -> str:
    """Return a sentence on windows that come with the spikes; empty where there are none."""
    steps = rows_of_steps(lab)
    if steps is None:
        return ""
    n_windows = len(lab.train.target)
    batches = [steps[spike.largest] for spike in spikes]
    found = windows_of_spikes(batches, n_windows)[:MOST_LISTED]
    if not found:
        return ""
    share = sum(map(len, batches)) / n_windows
    rows = lab.train.rows
    listed = ", ".join(
        f"{row if rows is None else rows[row]} (in {count}, values up to"
        f" {np.abs(lab.train.X[row]).max():.3g})"
        for row, count in found
    )
    return (
        f" Of the {len(batches)} spiking batches, these windows are in more than the {share:.1f}"
        f" that chance gives: rows {listed}. Look at them first: that is a data problem."
    )
