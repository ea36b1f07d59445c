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
    """A spike as the clipped arm from the snapshot before it had it: heights in nats."""

    start: int
    spike: Spike
    height: float
    largest: float  # anywhere on the clipped path
    change_after: float  # of the loss of the fixed training windows, over the epochs after it

    @property
    def is_gone(self) -> bool:
        """Whether it has shrunk, and has not come back elsewhere."""
        limits = (1 - SHRUNK) * self.spike.height, COMPARABLE * self.spike.height
        return self.height < limits[0] and self.largest < limits[1]


def spike_replay(lab: Lab, purse: Purse, *, share: float = 1.0) -> Findings:
    """Replay the largest leaps of the loss as they were, clipped, and on a path nudged a little.

    From the snapshot before each spike the same batches are gone through with ``max_grad_norm`` at
    the third quartile of the gradient norms before the spikes. Where spikes are gone, twice more:
    unchanged, which must give them again; and with a learning rate that is lower by a thousandth.
    Where this nudged path has no spike half as high anywhere, the spike hung on the least detail,
    and that it is gone says nothing of clipping.

    Confirmed when at least two of at most three spikes lose over 80 % of their height, without one
    half as high elsewhere on the clipped path, and the loss of the fixed training windows over the
    two epochs after them is no worse than 0.02 nats; rejected when no spike does. That an unchanged
    arm is the run has to be known from `self_test`.

    Parameters
    ----------
    lab : Lab
        The run.
    purse : Purse
        Pays for three arms from each snapshot; spikes that it does not pay for are left out.
    share : float, default 1
        Of what is left in it that may be spent here.
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
    budget = share * purse.left
    chosen = _affordable(lab, purse, budget, spikes, change)
    if sum(map(len, chosen.values())) < LEAST_SPIKES:
        return _not_tested(
            f"{count}, and fewer than {LEAST_SPIKES} can be replayed: no state of the run lies"
            f" close enough before them for the budget of {budget:.1f} epochs.{data}",
            "a larger budget",
        )
    spent = purse.spent
    arms = [_arms(lab, start, of, change) for start, of in chosen.items()]
    results = purse.run([clipped for clipped, _, _ in arms])
    replayed = [
        _measure(lab, start, spike, result)
        for (start, of), result in zip(chosen.items(), results, strict=True)
        for spike in of
    ]
    outcome, sentence = _judge(replayed, limit, record.unit_after)
    curves = {"A": [_noted(lab, result) for result in results], "B": _losses(results)}
    if outcome == "confirmed":
        controls = [arm for _, *both in arms for arm in both]
        if not purse.affords(controls):
            outcome = "undecided"
            sentence += " There was no time left to see whether they go away by less."
        else:
            of_controls = purse.run(controls)
            unchanged, nudged = of_controls[::2], of_controls[1::2]
            outcome, more = _control(lab, list(chosen), replayed, unchanged, nudged)
            sentence += more
            curves |= {"A": _losses(unchanged), "A'": _losses(nudged)}
    trial = Trial(
        CAUSE,
        f"max_grad_norm = {limit:.3g}",
        change,
        "replay",
        outcome,
        sentence + data,
        n_pairs=len(replayed),
        raw_change=max(seen.change_after for seen in replayed),
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
    lab: Lab, purse: Purse, budget: float, spikes: Sequence[Spike], change: dict[str, Any]
) -> dict[int, list[Spike]]:
    """Return up to three of the largest spikes that can be paid for, by the snapshot before."""
    chosen: dict[int, list[Spike]] = {}
    for spike in spikes[: 2 * MOST_SPIKES]:
        start = _snapshot_before(lab, spike)
        if start is None or sum(map(len, chosen.values())) == MOST_SPIKES:
            continue
        more = {**chosen, start: [*chosen.get(start, []), spike]}
        arms = [arm for key, of in more.items() for arm in _arms(lab, key, of, change)]
        if purse.cost_of(arms) <= budget:
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
    """Return the clipped, the unchanged and the nudged arm, to two epochs after the last spike."""
    begin = lab.record.snapshots[start].epoch
    last = max(_epoch_of(lab, spike) for spike in spikes) + 1 + EPOCHS_AFTER
    n_epochs = min(last, lab.record.n_epochs) - begin
    return [
        Arm(f"max_grad_norm = {change['max_grad_norm']}", n_epochs, start, None, change),
        Arm("unchanged", n_epochs, start, seed=None),
        Arm("learning_rate x 0.999", n_epochs, start, None, rate_factor=NUDGE),
    ]


def _epoch_of(lab: Lab, spike: Spike) -> int:
    """Return the epoch, counted from 0, in which a spike ends."""
    last = min(spike.step + REACH, int(lab.record.epoch_steps[-1]) - 1)
    return int(np.searchsorted(lab.record.epoch_steps, last, side="right")) - 1


def _losses(results: Sequence[ArmResult]) -> list[list[float]]:
    return [[float(value) for value in result.fixed_loss] for result in results]


def _noted(lab: Lab, result: ArmResult) -> list[float]:
    """Return what the run noted over the epochs of an arm."""
    assert result.arm.start is not None
    first = lab.record.snapshots[result.arm.start].epoch
    return [float(value) for value in lab.record.fixed_loss[first : first + result.arm.n_epochs]]


def _path(lab: Lab, start: int, result: ArmResult) -> Floats:
    """Return the loss of every step of the run with those of an arm in their place."""
    own = lab.record.steps["loss"]
    begin = lab.record.snapshots[start].step
    of_arm = np.zeros(0) if result.record is None else result.record.steps["loss"]
    return bounded(np.concatenate([own[:begin], of_arm]), own)


def _height_at(path: Floats, spike: Spike) -> float:
    """Return the height of a spike on a path; infinite where it ends before."""
    end = spike.step + 1 + REACH
    if len(path) < end:
        return np.inf
    level = float(np.median(path[spike.step + 1 - spike.n_before : spike.step + 1]))
    return float(np.median(path[spike.step + 1 : end])) - level


def _largest(lab: Lab, start: int, path: Floats, n_before: int) -> float:
    """Return the largest height on the part of a path that is an arm's."""
    first = max(0, lab.record.snapshots[start].step - n_before)
    return float(heights(path[first:], n_before)[1].max(initial=-np.inf))


def _measure(lab: Lab, start: int, spike: Spike, result: ArmResult) -> _Replayed:
    """Return a spike as the clipped arm had it."""
    path = _path(lab, start, result)
    first = _epoch_of(lab, spike)
    offset = lab.record.snapshots[start].epoch
    after = slice(first - offset, first - offset + 1 + EPOCHS_AFTER)
    now = np.asarray(result.fixed_loss[after], np.float64)
    was = np.asarray(lab.record.fixed_loss[offset:][after], np.float64)
    was_finite, is_finite = (len(part) > 0 and np.isfinite(part).all() for part in (was, now))
    change = float(now.mean() - was.mean()) if was_finite and is_finite else np.inf
    if is_finite and not was_finite:
        change = -np.inf
    return _Replayed(
        start, spike, _height_at(path, spike), _largest(lab, start, path, spike.n_before), change
    )


def _judge(replayed: Sequence[_Replayed], limit: float, unit: str) -> tuple[str, str]:
    """Return what the clipped arms alone say, and a sentence."""
    n_gone = sum(seen.is_gone for seen in replayed)
    worst = max(seen.change_after for seen in replayed)
    became = f"changed by {worst:+.3f}{unit} at worst"
    if np.isinf(worst):
        became = "stayed finite, as it had not" if worst < 0 else "did not stay finite"
    pairs = ", ".join(f"{seen.spike.height:.2f} to {seen.height:.2f}" for seen in replayed)
    where = ", ".join(str(seen.spike.step + 1) for seen in replayed)
    sentence = (
        f"Replayed from states before them with gradients clipped at {limit:.3g}, the leaps of the"
        f" loss after steps {where} went from {pairs}{unit}; {n_gone} of {len(replayed)} lost over"
        f" {100 * SHRUNK:.0f} % without one half as high elsewhere, and the loss of the fixed"
        f" training windows over the epochs after {became}."
    )
    if n_gone >= LEAST_SPIKES and worst <= MARGIN_NATS:
        return "confirmed", sentence
    return ("undecided" if n_gone else "rejected"), sentence


def _control(
    lab: Lab,
    starts: Sequence[int],
    replayed: Sequence[_Replayed],
    unchanged: Sequence[ArmResult],
    nudged: Sequence[ArmResult],
) -> tuple[str, str]:
    """Return the outcome in the light of the arms that are not clipped, and what to add."""
    n_lost, n_nudged, n_proved = 0, 0, 0
    for seen in replayed:
        at, height = starts.index(seen.start), seen.spike.height
        again = _height_at(_path(lab, seen.start, unchanged[at]), seen.spike)
        path = _path(lab, seen.start, nudged[at])
        of_nudge = _largest(lab, seen.start, path, seen.spike.n_before)
        if not abs(again - height) <= REPRODUCED * height:
            n_lost += 1
        elif seen.is_gone and of_nudge < COMPARABLE * height:
            n_nudged += 1
        else:
            n_proved += seen.is_gone
    said = ""
    if n_lost:
        said += f" Unchanged replays gave {n_lost} of {len(replayed)} not again."
    if n_nudged:
        said += (
            f" For {n_nudged} of them a learning rate lower by a thousandth does the same: they"
            " hang on the least detail."
        )
    return ("confirmed" if n_proved >= LEAST_SPIKES else "undecided"), said


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
