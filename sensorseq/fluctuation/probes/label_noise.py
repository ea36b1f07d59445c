"""label_noise_probe: are labels wrong, which ones, and does it matter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.fluctuation.causes.cause import NotTested, Suspect, Trial
from sensorseq.fluctuation.probes.arm import Arm, ArmResult, Floats, Lab, LabWindows
from sensorseq.fluctuation.probes.confident import Disagreement, weigh_labels
from sensorseq.fluctuation.probes.folds import assign_folds
from sensorseq.fluctuation.probes.proof import Proof
from sensorseq.fluctuation.probes.purse import Findings, Purse

RECOMMENDATION: Mapping[str, Any] = {"label_smoothing": 0.1}
ADVICE = (
    "Look at the suspected windows and correct the labels that are wrong, in the recordings; none"
    " was left out, and the validation labels were not looked at."
)
LEAST_AUC = 0.85  # of telling wrong labels from right ones, as a detector must
# of telling planted labels from given ones, a third of which may be wrong themselves; below, what
# looks like wrong labels is the doing of models that know little
LEAST_AUC_AS_GIVEN = 0.75
LEAST_SHARE, LEAST_SUSPECTS = 0.02, 3  # wrong labels that are worth a cause
N_SEEDS = 3
N_STANDARD_ERRORS = 2.0
# Of an arm: a third of the run's between these, fewer than that where the purse holds no more, and
# never fewer than give so many steps.
MOST_EPOCHS, LEAST_EPOCHS, LEAST_STEPS = 15, 6, 30
DRAWN_POINTS = 200  # of a channel of a suspect
_CAUSE = "label_noise"


def label_noise_probe(
    lab: Lab, purse: Purse, *, n_folds: int = 3, seed: int = 0, is_free: bool = False
) -> Findings:
    """Look for wrong labels among the training windows, in three stages that cost ever more.

    1. Without a step: windows that the run itself kept taking for another class while it learned,
       by the mean margin over the first half of its epochs [1]_. Where there are none, the cause is
       rejected.
    2. `n_folds` re-runs from first weights, each without the groups of one fold, judge the windows
       that they have not seen, see `weigh_labels`. It is undecided when wrong labels planted among
       these windows are not told from right ones with an AUC of 0.85, and rejected when there are
       hardly any. A suspect is suspected by both stages.
    3. Re-runs without the suspects, without as many random windows and without as many hard ones
       that are no suspects, of the same classes, from three orders of the windows each. It is
       confirmed when the first lower the validation loss by more than both others, by over two
       standard errors.

    Nothing is left out of the data for good, and the labels of validation windows are used as they
    are.

    Parameters
    ----------
    lab : Lab
        The fit. Its `train.groups` stay together in the folds; without them single windows are
        dealt out, and labels that are wrong for a whole recording may not be found.
    purse : Purse
        Pays for the re-runs.
    n_folds : int, default=3
        Folds.
    seed : int, default=0
        Of the folds and of the random windows.
    is_free : bool, default=False
        Only the first stage.

    Returns
    -------
    Findings
        One trial, or why there was none, and the suspects, the surest first; where it is confirmed
        also the proof. The planted labels need no training: a model has not seen the label of a
        window that it judges.

    References
    ----------
    .. [1] G. Pleiss, T. Zhang, E. Elenberg, K. Weinberger, *Identifying Mislabeled Data using the
       Area Under the Margin Ranking*, NeurIPS 2020.
    """
    train, rng = lab.train, np.random.default_rng(seed)
    if lab.n_classes < 2 or len(train.target) < 2 * n_folds:
        return _not_tested("there are too few windows or classes", "more windows")
    if train.groups is not None and len(np.unique(train.groups)) < n_folds:
        return _not_tested(
            f"out-of-fold models need {n_folds} groups of windows, and there are"
            f" {len(np.unique(train.groups))}",
            "more recordings",
        )
    margins = _Margins(lab)
    if margins.are_known and margins.n_negative < _least_suspects(len(margins.is_negative)):
        return Findings(trials=[_trial("rejected", f"{margins.sentence()}.", "inference", 0.0)])
    if is_free:
        return _not_tested(
            f"the statistics hardly speak for it, and another cause is proved.{margins.aside()}",
            "probing the repaired fit",
        )
    fold = assign_folds(train.target, train.groups, n_folds, rng)
    arms = _affordable(purse, _fold_arms(lab, fold, n_folds))
    if not purse.affords(arms):
        return _not_tested(
            f"models that have not seen the labels cost {purse.cost_of(arms):.0f} epochs at least,"
            f" and {purse.left:.0f} are left",
            "a larger budget",
        )
    spent, results = purse.spent, purse.run(arms)
    found = _judge_folds(lab, fold, results)
    if isinstance(found, str):
        return Findings(trials=[_trial("undecided", found, "init", purse.spent - spent)])
    return _Search(lab, purse, margins, found, spent, rng).finish()


@dataclass
class _Judged:
    """The windows whose labels could be judged, and what came of it."""

    rows: NDArray[np.int64]
    disagreement: Disagreement
    n_folds: int


class _Margins:
    """Which training windows the run itself kept taking for another class."""

    def __init__(self, lab: Lab) -> None:
        margin, n_windows = lab.record.train_margin, len(lab.train.target)
        # The first epochs say little, and in the later ones wrong labels are learned by heart.
        n_epochs = len(margin)
        first, last = math.ceil(n_epochs / 10), math.ceil(n_epochs / 2)
        margin = np.asarray(margin[first : max(last, first + 1)], np.float64)
        self.are_known = bool(margin.size) and len(lab.record.train_rows) == margin.shape[1]
        self.n_windows = n_windows
        self.mean = np.full(n_windows, np.nan)
        self.is_negative = np.zeros(n_windows, bool)
        if not self.are_known:
            return
        seen = np.isfinite(margin)
        n_seen = np.maximum(1, seen.sum(axis=0))
        rows = lab.record.train_rows
        self.mean[rows] = np.where(seen, margin, 0.0).sum(axis=0) / n_seen
        share = (seen & (margin < 0)).sum(axis=0) / n_seen
        self.is_negative[rows] = (self.mean[rows] < 0) & (share > 0.5)

    @property
    def n_negative(self) -> int:
        return int(self.is_negative.sum())

    def aside(self) -> str:
        return f" {self.sentence()}" if self.are_known else ""

    def sentence(self) -> str:
        n_known = int(np.isfinite(self.mean).sum())
        return (
            f"In the first half of its epochs the run kept taking {self.n_negative} of {n_known}"
            f" training windows for another class"
        )


class _Search:
    """The suspects of both stages, and whether leaving them out helps."""

    def __init__(
        self,
        lab: Lab,
        purse: Purse,
        margins: _Margins,
        found: _Judged,
        spent: float,
        rng: np.random.Generator,
    ) -> None:
        self._lab, self._purse, self._margins, self._found = lab, purse, margins, found
        self._spent, self._rng = spent, rng
        n_windows = len(lab.train.target)
        self._score = np.full(n_windows, -np.inf)
        self._score[found.rows] = found.disagreement.score
        self._by_folds = np.zeros(n_windows, bool)
        self._by_folds[found.rows] = found.disagreement.is_suspect
        self._by_both = self._by_folds.copy()
        if margins.are_known:
            self._by_both &= margins.is_negative

    def finish(self) -> Findings:
        judged, n_judged = self._found.disagreement, len(self._found.rows)
        n_found, n_both = int(self._by_folds.sum()), int(self._by_both.sum())
        told = (
            f"{self._found.n_folds} models that had not seen them contradict {n_found} of"
            f" {n_judged} labels ({n_found / n_judged:.0%}); planted wrong labels are told from the"
            f" others with an AUC of {judged.auc_as_given:.2f}"
        )
        if judged.auc < LEAST_AUC or judged.auc_as_given < LEAST_AUC_AS_GIVEN:
            return self._findings("undecided", f"{told}, too low to name any.", suspects=False)
        if self._margins.are_known:
            told += f". {self._margins.sentence()}; {n_both} are in both"
        n_least = _least_suspects(n_judged)
        if n_both < n_least:
            return self._findings("rejected", f"{told}: fewer than the {n_least} that matter.")
        outcome, sentence, n_pairs = self._leave_out()
        return self._findings(outcome, f"{told}. {sentence}", n_pairs=n_pairs)

    def _leave_out(self) -> tuple[str, str, int]:
        """Train without the suspects, and without others; say what it did."""
        lab, purse = self._lab, self._purse
        if not self._margins.are_known:
            return "undecided", "The run's own margins are not known.", 0
        if lab.validation is None:
            return "undecided", "What they do cannot be told without validation windows.", 0
        suspects = np.flatnonzero(self._by_both)
        hard = self._like(suspects, np.argsort(-self._score, kind="stable"))
        arms = []
        for seed in range(1, N_SEEDS + 1):
            random = self._like(suspects, self._rng.permutation(len(self._score)))
            for name, rows in (("suspects", suspects), ("random", random), ("hard", hard)):
                arms.append(_arm(lab, f"without {name}, order {seed}", seed, left_out=rows))
        arms = _affordable(purse, arms)
        if not purse.affords(arms):
            cost = f"at least {purse.cost_of(arms):.0f} epochs, and {purse.left:.0f} are left"
            return "undecided", f"To see what they do costs {cost}.", 0
        results = purse.run(arms)
        losses = np.array([_late_loss(result) for result in results]).reshape(N_SEEDS, 3)
        if not np.isfinite(losses).all():
            return "undecided", "A re-run without some windows gave no validation loss.", 0
        gains = losses[:, 1:] - losses[:, :1]  # over leaving out random, and hard ones
        mean, error = gains.mean(axis=0), gains.std(axis=0, ddof=1) / math.sqrt(N_SEEDS)
        nats = lab.record.unit_after
        said = (
            f"Without them the validation loss is {mean[0]:.3f} +- {error[0]:.3f}{nats} lower than"
            f" without as many random windows, and {mean[1]:.3f} +- {error[1]:.3f} lower than"
            " without as many hard ones."
        )
        if bool((mean > N_STANDARD_ERRORS * error).all()):
            return "confirmed", said, N_SEEDS
        # They are missed more than the others: whatever their labels are, they do no harm.
        is_worse = bool((mean < 0).all() and (mean < -N_STANDARD_ERRORS * error).any())
        return "rejected" if is_worse else "undecided", said, N_SEEDS

    def _like(self, suspects: NDArray[np.int64], preferred: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return as many unsuspected windows of the same labels, the first of `preferred`."""
        label = self._lab.train.target
        rows = preferred[~self._by_folds[preferred]]
        chosen = [
            rows[label[rows] == code][: int((label[suspects] == code).sum())]
            for code in np.unique(label[suspects])
        ]
        return np.asarray(np.concatenate(chosen), np.int64)

    def _findings(
        self, outcome: str, sentence: str, *, n_pairs: int = 0, suspects: bool = True
    ) -> Findings:
        trial = _trial(outcome, sentence, "init", self._purse.spent - self._spent, n_pairs)
        found = Findings([trial], suspects=self._suspects() if suspects else [])
        if outcome == "confirmed":
            # What repairs it are right labels; the argument was not tried.
            proof = Proof(_CAUSE, "", {}, sentence, (trial.name,), (RECOMMENDATION,))
            found.proofs.append(proof)
        return found

    def _suspects(self) -> list[Suspect]:
        rows, judged = self._found.rows, self._found.disagreement
        order = np.argsort(-judged.score, kind="stable")
        order = order[self._by_both[rows[order]]]
        return [
            _suspect(self._lab, int(rows[i]), int(judged.rival[i]), float(judged.probability[i]))
            for i in order
        ]


def _fold_arms(lab: Lab, fold: NDArray[np.int64], n_folds: int) -> list[Arm]:
    return [
        _arm(
            lab,
            f"without fold {number + 1} of {n_folds}",
            seed=1,
            left_out=np.flatnonzero(fold == number),
            predict_rows=np.flatnonzero(fold == number),
        )
        for number in range(n_folds)
    ]


def _arm(
    lab: Lab,
    name: str,
    seed: int,
    left_out: NDArray[np.int64],
    predict_rows: NDArray[np.int64] | None = None,
) -> Arm:
    rows = np.setdiff1d(np.arange(len(lab.train.target)), left_out)
    arm = Arm(
        name,
        n_epochs=min(math.ceil(lab.n_epochs / 3), MOST_EPOCHS),
        start=0 if lab.record.snapshots else None,
        seed=seed,
        decays=True,  # what is asked for is a good model soon
        train_rows=rows,
        predict_rows=predict_rows,
    )
    return replace(arm, n_epochs=max(arm.n_epochs, _least_epochs(lab, arm)))


def _least_epochs(lab: Lab, arm: Arm) -> int:
    n_windows = len(lab.train.target)
    share = 1.0 if arm.train_rows is None else len(arm.train_rows) / n_windows
    n_epochs = math.ceil(LEAST_STEPS / max(1.0, share * lab.steps_per_epoch))
    return min(max(LEAST_EPOCHS, n_epochs), lab.n_epochs)


def _affordable(purse: Purse, arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms with as many epochs as can be paid for, or the fewest that make sense."""
    found = list(arms)
    most, least = arms[0].n_epochs, max(_least_epochs(purse.lab, arm) for arm in arms)
    for n_epochs in range(most, least - 1, -1):
        found = [replace(arm, n_epochs=n_epochs) for arm in arms]
        if purse.affords(found):
            break
    return found


def _judge_folds(lab: Lab, fold: NDArray[np.int64], results: Sequence[ArmResult]) -> _Judged | str:
    """Weigh the labels that models could judge; say why when there are none."""
    target = lab.train.target
    logits = np.full((len(target), lab.n_classes), np.nan)
    can_judge = np.zeros(len(target), bool)
    for number, result in enumerate(results):
        if result.outputs is None:
            why = result.failed or "it gave no outputs"
            return f"A model that had not seen the labels was not to be had: {why}."
        rows = np.flatnonzero(fold == number)
        logits[rows] = result.outputs
        # a class that a model has hardly seen is one it cannot know again
        n_seen = np.bincount(target[fold != number], minlength=lab.n_classes)
        can_judge[rows] = n_seen[target[rows]] >= 2
    rows = np.flatnonzero(can_judge & np.isfinite(logits).all(axis=1))
    if len(np.unique(target[rows])) < 2:
        return "No two classes are in several groups, so that no model could judge the labels."
    judged = weigh_labels(np.asarray(logits[rows], np.float64), target[rows])
    return _Judged(rows, judged, len(results))


def _late_loss(result: ArmResult) -> float:
    """Return the mean validation loss over the last third of an arm."""
    loss: Floats = result.val_loss
    if result.failed or not len(loss):
        return math.nan
    return float(loss[-max(1, len(loss) // 3) :].mean())


def _suspect(lab: Lab, row: int, rival: int, probability: float) -> Suspect:
    train: LabWindows = lab.train
    n_steps = train.X.shape[1] if train.lengths is None else int(train.lengths[row])
    shown = np.unique(np.linspace(0, n_steps - 1, min(n_steps, DRAWN_POINTS)).astype(np.int64))
    values = np.asarray(train.X[row][shown], np.float64).T
    return Suspect(
        row=row if train.rows is None else int(train.rows[row]),
        label=str(lab.classes[int(train.target[row])]),
        rival=str(lab.classes[rival]),
        probability=probability,
        recording=None if train.groups is None else str(train.groups[row]),
        values=[[float(value) for value in channel] for channel in values],
    )


def _least_suspects(n_windows: int) -> int:
    return max(LEAST_SUSPECTS, math.ceil(LEAST_SHARE * n_windows))


def _trial(outcome: str, sentence: str, kind: str, cost: float, n_pairs: int = 0) -> Trial:
    name = "labels judged by models that have not seen them"
    if kind == "inference":
        name = "margins of the training windows"
    return Trial(
        cause=_CAUSE,
        name=name,
        change={},
        kind=kind,
        outcome=outcome,
        sentence=sentence,
        n_pairs=n_pairs,
        cost_epochs=cost,
    )


def _not_tested(reason: str, would_settle: str) -> Findings:
    return Findings(not_tested=[NotTested(_CAUSE, reason, would_settle)])
