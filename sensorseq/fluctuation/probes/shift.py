"""shift_probe: does the model do well on new windows of known groups, and badly on new groups."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorseq.fluctuation.causes.cause import NotTested, Trial
from sensorseq.fluctuation.probes.arm import Arm, ArmResult, Floats, Lab, LabWindows
from sensorseq.fluctuation.probes.purse import Findings, Purse
from sensorseq.fluctuation.run import plural, points
from sensorseq.training_record import TrainingRecord

CAUSE = "distribution_shift"
HELD_OUT = 0.15  # of the windows of each training group and class
RUN_SHARE = 3  # an arm is a third of the run
LEAST_GROUPS = 3  # of validation, and of training: below, no standard error can be told
LEAST_GAP = 0.1  # of accuracy, between known and new groups
LEAST_WINDOWS = 20  # held out
LEAST_IN_STRETCH = 4  # windows of a group and class, of which one is held out
MOST_ARMS = 2
LATE_SHARE = 3  # accuracies of the groups are those of the last third of the run
APART = 0.3  # of accuracy, between groups that do well and groups that do badly
APART_SDS = 4.0  # of the groups about the level of their kind; halves of a normal are 2.7 apart
# Two-sided 95 % points of Student's distribution by degrees of freedom; 2 is not far off beyond.
_STUDENT = (12.7, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


@dataclass(frozen=True)
class _Scored:
    """An accuracy, and its standard error over groups."""

    accuracy: float
    error: float
    n_groups: int


def shift_probe(lab: Lab, purse: Purse) -> Findings:
    """Hold windows of the training groups out, and compare them with the validation groups.

    Of each training group and class one stretch of rows, 15 % of it, is held out; the rest is
    trained on for a third of the run, the rate falling to nearly nothing. Confirmed where the
    accuracy on the held-out windows exceeds the one on the validation groups by over 10 points in
    every arm, and surely by more than nothing (95 % interval over groups, by Student's
    distribution); rejected where it surely does not exceed it by 10 points.

    Windows that overlap those before and after make the held-out ones too easy; a stretch of
    neighbours keeps that to its ends.

    Parameters
    ----------
    lab : Lab
        The run.
    purse : Purse
        Pays for two arms, or one.
    """
    train, validation = lab.train, lab.validation
    if validation is None or not len(validation.target):
        return _not_tested("there are no validation windows", "a fit with a validation part")
    if train.groups is None or validation.groups is None:
        return _not_tested(
            "it is not known which recording or subject a window comes from",
            "groups= in fit and here",
        )
    known, new = len(np.unique(train.groups)), len(np.unique(validation.groups))
    seen = _by_group(lab.record, validation)
    if np.isin(validation.groups, train.groups).any():
        return _not_tested("groups are in both parts", "a split by whole groups")
    if min(known, new) < LEAST_GROUPS:
        return _not_tested(
            f"{plural(known, 'training group')} and {plural(new, 'validation group')} are too few:"
            f" {LEAST_GROUPS} are needed in each to tell a shift from a group that is hard.{seen}",
            "more groups",
        )
    n_epochs = max(1, math.ceil(lab.n_epochs / RUN_SHARE))
    arms = []
    for seed in range(1, MOST_ARMS + 1):
        held = held_out_rows(train, seed)
        rows = np.arange(len(train.target)) if train.rows is None else np.asarray(train.rows)
        kept = np.flatnonzero(~np.isin(rows, rows[held]))  # copies of a window go with it
        name = f"hold out {100 * HELD_OUT:.0f} % of known groups"
        arms.append(Arm(name, n_epochs, 0, seed, decays=True, train_rows=kept, predict_rows=held))
    if any(len(arm.predict_rows) < LEAST_WINDOWS for arm in arms if arm.predict_rows is not None):
        return _not_tested(f"the groups have too few windows to hold some of each out.{seen}")
    while arms and not purse.affords(arms):
        arms.pop()
    if not arms:
        return _not_tested(
            f"{plural(n_epochs, 'epoch')} from the first weights cost more than the"
            f" {purse.left:.1f} that are left.{seen}",
            "a larger budget",
        )
    spent = purse.spent
    results = purse.run(arms)
    pairs = [pair for result in results if (pair := _score(lab, result)) is not None]
    if not pairs:
        why = "; ".join(sorted({result.failed for result in results if result.failed}))
        return _not_tested(f"the arms gave no outputs{f' ({why})' if why else ''}.{seen}")
    outcome, sentence = _judge(pairs, 1 / lab.n_classes)
    trial = Trial(
        CAUSE,
        "hold out windows of known groups",
        {},
        "init",
        outcome,
        sentence + seen,
        n_pairs=len(pairs),
        cost_epochs=purse.spent - spent,
    )
    return Findings([trial])


def _not_tested(reason: str, would_settle: str = "") -> Findings:
    return Findings(not_tested=[NotTested(CAUSE, reason, would_settle)])


def held_out_rows(train: LabWindows, seed: int) -> NDArray[np.int64]:
    """Return a stretch of neighbouring windows of each group and class.

    Classes of which a group has fewer than four windows are taken together; of a group that has
    fewer than four in all nothing is held out.
    """
    rng = np.random.default_rng(seed)
    _, group = np.unique(np.asarray(train.groups), return_inverse=True)
    n_classes = int(train.target.max()) + 1
    both = group * (n_classes + 1) + train.target
    is_rare = np.bincount(both)[both] < LEAST_IN_STRETCH
    both = np.where(is_rare, group * (n_classes + 1) + n_classes, both)
    order = np.arange(len(both)) if train.rows is None else np.asarray(train.rows)
    chosen = []
    for cell in np.unique(both):
        members = np.flatnonzero(both == cell)
        members = members[np.argsort(order[members], kind="stable")]
        n = max(round(HELD_OUT * len(members)), int(len(members) >= LEAST_IN_STRETCH))
        first = int(rng.integers(0, len(members) - n + 1))
        chosen.append(members[first : first + n])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _score(lab: Lab, result: ArmResult) -> tuple[_Scored, _Scored] | None:
    """Return the accuracies on known and on new groups, by the same weights."""
    train, validation, rows = lab.train, lab.validation, result.arm.predict_rows
    if result.failed or result.outputs is None or rows is None or validation is None:
        return None
    hits = result.outputs.argmax(axis=1) == train.target[rows]
    inner = _clustered(hits.astype(np.float64), np.asarray(train.groups)[rows])
    record = result.record
    if record is None or not record.val_predicted.shape[0] or not record.val_predicted.shape[1]:
        return None
    right = record.val_correct[-1].astype(np.float64)
    return inner, _clustered(right, np.asarray(validation.groups)[record.val_rows])


def _clustered(hits: Floats, groups: NDArray[np.generic]) -> _Scored:
    """Return the mean and its standard error, windows of a group counting as one draw."""
    _, code = np.unique(groups, return_inverse=True)
    n_groups = int(code.max()) + 1
    sums = np.bincount(code, hits - hits.mean(), n_groups)
    spread = np.sqrt((sums**2).sum() * n_groups / max(n_groups - 1, 1)) / len(hits)
    # no group differs from another: what windows alone would give, with one miss more
    p = (hits.sum() + 1) / (len(hits) + 2)
    return _Scored(
        float(hits.mean()), float(max(spread, np.sqrt(p * (1 - p) / len(hits)))), n_groups
    )


def _judge(pairs: list[tuple[_Scored, _Scored]], guess: float) -> tuple[str, str]:
    """Return the outcome, and a sentence."""
    gaps = [inner.accuracy - outer.accuracy for inner, outer in pairs]
    inner = float(np.mean([pair[0].accuracy for pair in pairs]))
    outer = float(np.mean([pair[1].accuracy for pair in pairs]))
    # what is held out is another part each time, the validation groups are the same
    of_inner = math.hypot(*(pair[0].error for pair in pairs)) / len(pairs)
    of_outer = float(np.mean([pair[1].error for pair in pairs]))
    df = min(min(pair[0].n_groups, pair[1].n_groups) for pair in pairs) - 1
    width = _STUDENT[df - 1] if df <= len(_STUDENT) else 2.0
    width *= math.hypot(of_inner, of_outer)
    low, high = inner - outer - width, inner - outer + width
    sentence = (
        f"After {plural(len(pairs), 're-run')} without them, windows of {pairs[0][0].n_groups}"
        f" known groups are right in {points(inner)} %, those of {pairs[0][1].n_groups} new groups"
        f" in {points(outer)} %: {points(inner - outer)} points (95 % interval {points(low)} to"
        f" {points(high)})."
    )
    is_high = inner >= guess + (1 - guess) / 2
    if min(gaps) > LEAST_GAP and low > 0 and is_high:
        return "confirmed", (
            f"{sentence} What is learned does not carry over to new groups: no argument of the"
            " training changes that; more groups, or scaling each recording by itself, may."
        )
    if high < LEAST_GAP:
        return "rejected", sentence
    if not is_high and min(gaps) > LEAST_GAP:
        sentence += " Known groups are not learned well either."
    return "undecided", sentence


def _by_group(record: TrainingRecord, validation: LabWindows) -> str:
    """Return a sentence where validation groups are of two kinds, empty where they are not."""
    n_epochs = record.val_predicted.shape[0]
    if not n_epochs or validation.groups is None or not len(record.val_rows):
        return ""
    late = record.val_correct[-max(1, n_epochs // LATE_SHARE) :].mean(axis=0)
    names, code = np.unique(np.asarray(validation.groups)[record.val_rows], return_inverse=True)
    accuracy = np.bincount(code, late) / np.bincount(code)
    split = two_kinds(accuracy)
    if split is None:
        return ""
    order = np.argsort(accuracy, kind="stable")
    bad = order[:split]
    listed = ", ".join(str(names[i]) for i in bad[:5]) + (", ..." if len(bad) > 5 else "")
    return (
        f" In the run itself {plural(split, 'validation group')} of {len(names)} ({listed}) stayed"
        f" at {points(accuracy[bad].mean())} % over its last third, the others at"
        f" {points(accuracy[order[split:]].mean())} %."
    )


def two_kinds(accuracy: Floats) -> int | None:
    """Return how many groups do badly where they are of two kinds; None where they are of one.

    The split that leaves the least scatter about two levels; these have to be `APART`, and
    `APART_SDS` of that scatter.
    """
    values = np.sort(np.asarray(accuracy, np.float64))
    best: tuple[float, int] | None = None
    for n in range(1, len(values)):
        rest = float(((values[:n] - values[:n].mean()) ** 2).sum())
        rest += float(((values[n:] - values[n:].mean()) ** 2).sum())
        if best is None or rest < best[0]:
            best = rest, n
    if best is None or len(values) < 2 * LEAST_GROUPS:
        return None
    apart = float(values[best[1] :].mean() - values[: best[1]].mean())
    scatter = math.sqrt(best[0] / (len(values) - 2))
    return best[1] if apart >= max(APART, APART_SDS * scatter) else None
