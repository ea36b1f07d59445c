"""New windows of known groups against new groups: which of the two the model fails on."""

from types import SimpleNamespace

import numpy as np
import pytest
from probe_labs import SmallLab, with_record

from sensorseq.fluctuation.probes.arm import ArmResult, LabWindows
from sensorseq.fluctuation.probes.purse import Purse
from sensorseq.fluctuation.probes.shift import held_out_rows, shift_probe, two_kinds
from sensorseq.training_record import TrainingRecord

N_GROUPS, N_CLASSES = 12, 3


def grouped(n_groups=N_GROUPS, per_group=30, first=0):
    groups = np.repeat(np.arange(first, first + n_groups), per_group)
    target = np.tile(np.arange(per_group) // (per_group // N_CLASSES), n_groups)
    rows = np.arange(len(groups)) + 10_000 * first
    return LabWindows(np.zeros((len(groups), 4, 1)), None, target, groups, rows)


class FakeLab:
    """Arms come out right in so many of the windows, each group about its own level."""

    def __init__(self, known, new, *, spread=0.05, n_new=8, per_group=30, seed=0):
        self.levels, self.spread = (known, new), spread
        self.rng = np.random.default_rng(seed)
        self.train, self.validation = grouped(N_GROUPS, per_group), grouped(n_new, per_group, 100)
        self.n_epochs, self.n_classes = 30, N_CLASSES
        self.record = self.record_of(self.hits(self.validation, new))
        self.arms = []

    def hits(self, windows, level):
        """Return which windows come out right."""
        _, code = np.unique(windows.groups, return_inverse=True)
        p = np.clip(self.rng.normal(level, self.spread, code.max() + 1), 0, 1)
        return self.rng.random(len(code)) < p[code]

    def record_of(self, hits):
        target = self.validation.target
        predicted = np.where(hits, target, (target + 1) % N_CLASSES)
        return TrainingRecord(
            val_rows=np.arange(len(target)), val_target=target,
            val_predicted=predicted[None].astype(np.uint16),
        )  # fmt: skip

    def cost_of(self, arm):
        return float(arm.n_epochs)

    def run(self, arms):
        self.arms += arms
        return [self.run_one(arm) for arm in arms]

    def run_one(self, arm):
        rows = arm.predict_rows
        part = LabWindows(None, None, self.train.target[rows], self.train.groups[rows])
        right = self.hits(part, self.levels[0])
        classes = np.where(right, part.target, (part.target + 1) % N_CLASSES)
        none = np.zeros(0)
        record = self.record_of(self.hits(self.validation, self.levels[1]))
        return ArmResult(arm, none, none, none, none, 0.5, record, np.eye(N_CLASSES)[classes])


def outcomes(n_runs, *levels, **options):
    labs = [FakeLab(*levels, seed=seed, **options) for seed in range(n_runs)]
    return [shift_probe(lab, Purse(lab, 30)).trials[0].outcome for lab in labs]


def test_a_shift_between_groups_is_confirmed():
    assert outcomes(20, 0.95, 0.6).count("confirmed") >= 19
    lab = FakeLab(0.95, 0.6)
    (trial,) = shift_probe(lab, Purse(lab, 30)).trials
    assert trial.cause == "distribution_shift"
    assert not trial.change
    assert trial.n_pairs == 2
    assert trial.cost_epochs == 20
    assert "12 known groups" in trial.sentence
    assert "8 new groups" in trial.sentence
    assert "no argument of the training changes that" in trial.sentence


def test_groups_that_are_alike_are_acquitted():
    assert outcomes(40, 0.85, 0.85, spread=0.03).count("confirmed") == 0
    many = outcomes(40, 0.85, 0.85, spread=0.03, per_group=90)
    assert many.count("rejected") >= 30


def test_groups_that_are_unlike_each_other_in_both_parts_are_not_taken_for_a_shift():
    assert outcomes(60, 0.8, 0.8, spread=0.2).count("confirmed") <= 2
    assert outcomes(60, 0.8, 0.8, spread=0.2, n_new=3).count("confirmed") <= 2


def test_a_model_that_learns_no_group_well_is_not_shifted():
    assert outcomes(20, 0.55, 0.35).count("confirmed") == 0


def test_the_arms_train_on_all_but_what_they_predict():
    lab = FakeLab(0.9, 0.9)
    shift_probe(lab, Purse(lab, 30))
    assert [arm.seed for arm in lab.arms] == [1, 2]
    for arm in lab.arms:
        both = np.concatenate([arm.train_rows, arm.predict_rows])
        np.testing.assert_array_equal(np.sort(both), np.arange(len(lab.train.target)))
        assert arm.start == 0
        assert arm.n_epochs == 10
        assert 0.1 <= len(arm.predict_rows) / len(both) <= 0.2
    assert not np.array_equal(lab.arms[0].predict_rows, lab.arms[1].predict_rows)


def test_stretches_of_neighbours_are_held_out_of_every_group_and_class():
    train = grouped(5, 30)
    shuffled = np.random.default_rng(0).permutation(len(train.target))
    train = LabWindows(
        train.X, None, train.target[shuffled], train.groups[shuffled], train.rows[shuffled]
    )
    held = held_out_rows(train, 3)
    assert len(np.unique(held)) == len(held)
    for group in range(5):
        for k in range(3):
            rows = np.sort(
                train.rows[held][(train.groups[held] == group) & (train.target[held] == k)]
            )
            assert len(rows) == 2
            assert rows[1] == rows[0] + 1  # of the windows as they were recorded


def test_groups_of_few_windows_are_held_out_of_whatever_their_class():
    train = grouped(40, 6)  # two of each class
    held = held_out_rows(train, 0)
    assert len(held) == 40
    assert len(np.unique(train.groups[held])) == 40
    assert not len(held_out_rows(grouped(40, 3), 0))


def test_one_arm_is_run_where_two_cost_too_much_and_none_where_one_does():
    lab = FakeLab(0.95, 0.6)
    purse = Purse(lab, 12)
    assert shift_probe(lab, purse).trials[0].n_pairs == 1
    (gap,) = shift_probe(lab, purse).not_tested
    assert purse.spent == 10
    assert "cost more than the 2.0 that are left" in gap.reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"validation": None}, "no validation windows"),
        ({"train": grouped()._replace(groups=None)}, "not known which recording"),
        ({"validation": grouped(8)}, "groups are in both parts"),
        ({"validation": grouped(2, first=100)}, "2 validation groups are too few"),
        ({"train": grouped(4, 9)}, "too few windows to hold"),
    ],
)
def test_what_cannot_be_tested_is_said(change, said):
    lab = FakeLab(0.95, 0.6)
    lab.record = TrainingRecord()
    vars(lab).update(change)
    found = shift_probe(lab, Purse(lab, 30))
    assert not found.trials
    assert said in found.not_tested[0].reason
    assert not lab.arms


def test_arms_that_fail_prove_nothing():
    lab = FakeLab(0.95, 0.6)
    lab.run_one = lambda arm: SimpleNamespace(arm=arm, failed="a loss is not finite", outputs=None)
    (gap,) = shift_probe(lab, Purse(lab, 30)).not_tested
    assert "a loss is not finite" in gap.reason


def test_groups_of_two_kinds_are_listed():
    lab = FakeLab(0.95, 0.9)
    bad = np.isin(lab.validation.groups, [101, 104, 106])
    lab.record = lab.record_of(np.where(bad, np.arange(len(bad)) % 5 == 0, True))
    (trial,) = shift_probe(lab, Purse(lab, 30)).trials
    assert "3 validation groups of 8 (101, 104, 106) stayed at 20.0 %" in trial.sentence


def test_groups_of_one_kind_are_not_split():
    rng = np.random.default_rng(0)
    drawn = [two_kinds(rng.binomial(12, 0.7, rng.integers(6, 30)) / 12) for _ in range(300)]
    assert sum(split is not None for split in drawn) <= 15
    assert two_kinds(np.array([0.1, 0.15, 0.12, 0.9, 0.95, 0.92])) == 3
    assert two_kinds(np.array([0.1, 0.9])) is None  # too few to tell


def test_a_real_fit_with_groups_of_their_own_is_confirmed():
    """What tells the classes in training has the opposite sign in the new groups."""
    rng = np.random.default_rng(0)

    def make(n_groups, first, sign):
        windows = grouped(n_groups, 30, first)
        X = rng.normal(0, 0.5, (len(windows.target), 9, 2)).astype(np.float32)
        X += sign * (windows.target - 1)[:, None, None].astype(np.float32)
        return windows._replace(X=X)

    lab = SmallLab(make(8, 0, 1), make(6, 100, -1), max_epochs=12, batch_size=16)
    (trial,) = shift_probe(lab, Purse(lab, 12)).trials
    assert trial.outcome == "confirmed", trial.sentence
    same = SmallLab(make(8, 0, 1), make(6, 100, 1), max_epochs=12, batch_size=16)
    (trial,) = shift_probe(same, Purse(same, 12)).trials
    assert trial.outcome == "rejected", trial.sentence
    assert shift_probe(with_record(same), Purse(same, 1)).not_tested
