"""Wrong labels that were planted are found by models that a ridge regression stands in for."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.fluctuation.probes.arm import ArmResult, LabWindows
from sensorseq.fluctuation.probes.confident import weigh_labels
from sensorseq.fluctuation.probes.folds import assign_folds
from sensorseq.fluctuation.probes.label_noise import label_noise_probe
from sensorseq.fluctuation.probes.purse import Purse
from sensorseq.training_record import Snapshot, TrainingRecord

N_TIMESTEPS, N_CLASSES = 12, 4


def log_softmax(logits):
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def nearest_centroids(X, target, sharpness=0.5):
    """Return a function of windows to logits: squared distances to the mean of each class."""
    X = X[:, :N_TIMESTEPS, :1]
    flat = X.reshape(len(X), -1)
    centroids = np.stack([flat[target == k].sum(axis=0) for k in range(N_CLASSES)])
    centroids /= np.maximum(1, np.bincount(target, minlength=N_CLASSES))[:, None]

    def predict(windows):
        windows = windows[:, :N_TIMESTEPS, :1]
        differences = windows.reshape(len(windows), 1, -1) - centroids
        return -sharpness * (differences**2).sum(axis=2)

    return predict


@dataclass
class CentroidLab:
    """A lab whose training is one pass over the windows: the mean of each class."""

    train: LabWindows
    validation: LabWindows | None
    true_target: np.ndarray
    n_epochs: int = 30
    steps_per_epoch: int = 8
    n_classes: int = N_CLASSES
    classes: tuple = ("asphalt", "grass", "gravel", "sand")
    arguments: dict = field(default_factory=dict)
    changeable: frozenset = frozenset()
    failing: str = ""
    arms: list = field(default_factory=list)

    def __post_init__(self):
        predict = nearest_centroids(self.train.X, self.train.target)
        logits = predict(self.train.X)
        every = np.arange(len(logits))
        own, others = logits[every, self.train.target], logits.copy()
        others[every, self.train.target] = -np.inf
        margin = own - others.max(axis=1)
        self.record = TrainingRecord(
            train_rows=every,
            train_target=self.train.target,
            train_margin=np.tile(margin, (self.n_epochs, 1)).astype(np.float16),
            snapshots=[Snapshot(0, 0, {})],
        )

    def cost_of(self, arm):
        return arm.n_epochs * len(arm.train_rows) / len(self.train.target)

    def run(self, arms):
        self.arms += arms
        return [self._run(arm) for arm in arms]

    def _run(self, arm):
        nothing = np.zeros(0)
        if self.failing:
            return ArmResult(arm, nothing, nothing, nothing, nothing, np.nan, failed=self.failing)
        rows = arm.train_rows
        # an order is another draw of most of the windows
        rows = np.random.default_rng(arm.seed).permutation(rows)[: int(0.95 * len(rows))]
        predict = nearest_centroids(self.train.X[rows], self.train.target[rows])
        val_loss = nothing
        if self.validation is not None:
            log_p = log_softmax(predict(self.validation.X))
            target = self.validation.target
            val_loss = np.full(arm.n_epochs, -log_p[np.arange(len(target)), target].mean())
        outputs = None if arm.predict_rows is None else predict(self.train.X[arm.predict_rows])
        return ArmResult(arm, nothing, nothing, val_loss, nothing, np.nan, outputs=outputs)


def make_lab(n_windows=320, share=0.0, noise=1.0, seed=0, pairwise=False, validation=True, **more):
    """Return a lab of four classes of sines, with a share of wrong labels, and which are wrong."""
    rng = np.random.default_rng(seed)
    n_all = n_windows + 200
    target = rng.integers(0, N_CLASSES, n_all)
    phase = np.arange(N_TIMESTEPS)[None, :] * (1 + target[:, None]) * np.pi / N_TIMESTEPS
    X = (np.sin(phase) + noise * rng.normal(size=phase.shape))[:, :, None]
    is_wrong = np.zeros(n_windows, bool)
    is_wrong[rng.choice(n_windows, round(share * n_windows), replace=False)] = True
    label = target[:n_windows].copy()
    shift = 1 if pairwise else rng.integers(1, N_CLASSES, n_windows)
    label = np.where(is_wrong, (label + shift) % N_CLASSES, label)
    groups = rng.integers(0, 16, n_windows)
    train = LabWindows(X[:n_windows], None, label, groups, np.arange(n_windows) + 1000)
    held = LabWindows(X[n_windows:], None, target[n_windows:]) if validation else None
    return CentroidLab(train, held, target[:n_windows], **more), is_wrong


def probe(lab, n_epochs=1000.0):
    return label_noise_probe(lab, Purse(lab, n_epochs))


@pytest.mark.parametrize("pairwise", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.25])
def test_finds_planted_wrong_labels_and_proves_that_they_matter(share, pairwise):
    lab, is_wrong = make_lab(share=share, noise=0.8, pairwise=pairwise)
    findings = probe(lab)
    (trial,) = findings.trials
    assert trial.outcome == "confirmed", trial.sentence
    found = np.array([suspect.row for suspect in findings.suspects]) - 1000
    assert is_wrong[found].mean() >= 0.85
    assert is_wrong[found].sum() >= 0.6 * is_wrong.sum()
    rivals = [lab.classes.index(suspect.rival) for suspect in findings.suspects]
    at_wrong = is_wrong[found]
    assert (np.array(rivals) == lab.true_target[found])[at_wrong].mean() > 0.9
    assert trial.cost_epochs == pytest.approx(sum(lab.cost_of(arm) for arm in lab.arms))
    assert trial.n_pairs == 3
    (proof,) = findings.proofs
    assert (proof.cause, proof.repair, proof.sentence) == ("label_noise", {}, trial.sentence)
    assert proof.alternatives == ({"label_smoothing": 0.1},)


@pytest.mark.parametrize("noise", [0.5, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_right_labels_are_hardly_ever_suspected(noise, seed):
    lab, _ = make_lab(noise=noise, seed=seed)
    findings = probe(lab)
    (trial,) = findings.trials
    assert trial.outcome != "confirmed", trial.sentence
    assert len(findings.suspects) <= 0.02 * len(lab.train.target)


def test_right_labels_of_an_easy_problem_are_cleared_without_a_step():
    lab, _ = make_lab(noise=0.3)
    findings = probe(lab)
    assert [trial.outcome for trial in findings.trials] == ["rejected"]
    assert findings.trials[0].kind == "inference"
    assert not lab.arms


def test_labels_of_pure_noise_are_undecided_and_none_is_named():
    lab, _ = make_lab(noise=30.0)
    findings = probe(lab)
    assert findings.trials[0].outcome == "undecided"
    assert not findings.suspects
    assert not findings.proofs


def test_no_arm_trains_on_the_windows_that_it_judges_nor_on_their_groups():
    lab, _ = make_lab(share=0.2)
    probe(lab)
    judging = [arm for arm in lab.arms if arm.predict_rows is not None]
    judged = np.concatenate([arm.predict_rows for arm in judging])
    assert sorted(judged) == list(range(len(lab.train.target)))
    for arm in judging:
        seen, met = (set(lab.train.groups[rows]) for rows in (arm.train_rows, arm.predict_rows))
        assert not seen & met
        assert arm.n_epochs == 10  # a third


def test_a_suspect_can_be_drawn_and_found_again():
    lab, _ = make_lab(share=0.2)
    suspect = probe(lab).suspects[0]
    row = suspect.row - 1000
    assert suspect.values == [lab.train.X[row, :, 0].tolist()]
    assert suspect.recording == str(lab.train.groups[row])
    assert suspect.label == lab.classes[lab.train.target[row]]
    assert suspect.probability < 0.3
    assert suspect.start_s is None


def test_long_windows_are_thinned_and_padding_is_not_drawn():
    lab, _ = make_lab(share=0.2)
    X = np.zeros((len(lab.train.X), 5000, 2))
    X[:, :N_TIMESTEPS, :1] = lab.train.X
    X[:, 1200:] = 99.0
    lab.train = lab.train._replace(X=X, lengths=np.full(len(X), 1200))
    values = probe(lab).suspects[0].values
    assert [len(channel) for channel in values] == [200, 200]
    assert max(map(max, values)) < 99


def test_without_money_nothing_is_run():
    lab, _ = make_lab(share=0.2)
    findings = probe(lab, n_epochs=5.0)
    assert not lab.arms
    assert not findings.trials
    assert findings.not_tested[0].cause == "label_noise"
    assert "12 epochs at least, and 5 are left" in findings.not_tested[0].reason


def test_for_nothing_only_the_margins_are_looked_at():
    lab, _ = make_lab(share=0.2)
    findings = label_noise_probe(lab, Purse(lab, 1000.0), is_free=True)
    assert not lab.arms
    assert not findings.trials
    assert "another class" in findings.not_tested[0].reason
    lab, _ = make_lab(share=0.0, noise=0.3)
    findings = label_noise_probe(lab, Purse(lab, 1000.0), is_free=True)
    assert [trial.outcome for trial in findings.trials] == ["rejected"]


@pytest.mark.parametrize("n_epochs", [13.0, 16.5, 60.0, 80.0])
def test_arms_are_shorter_where_there_is_less_money(n_epochs):
    lab, _ = make_lab(share=0.2)
    purse = Purse(lab, n_epochs)
    label_noise_probe(lab, purse)
    assert purse.spent <= n_epochs
    lengths = [arm.n_epochs for arm in lab.arms]
    assert min(lengths) >= 6
    assert lengths[0] == min(10, int(n_epochs / 2))
    assert (len(lab.arms) > 3) == (n_epochs == 80)  # windows left out, in shorter arms
    assert len(lab.arms) == 3 or lengths[3] < 10


def test_money_for_the_folds_alone_leaves_it_undecided_with_suspects():
    lab, is_wrong = make_lab(share=0.2)
    findings = probe(lab, n_epochs=40.0)
    assert findings.trials[0].outcome == "undecided"
    assert len(findings.suspects) > 0.5 * is_wrong.sum()
    assert len(lab.arms) == 3


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda lab: setattr(lab, "validation", None), "validation windows"),
        (lambda lab: setattr(lab, "record", TrainingRecord()), "margins are not known"),
        (lambda lab: setattr(lab, "failing", "the loss was not finite"), "not finite"),
    ],
    ids=["no validation", "no margins", "failing arms"],
)
def test_what_is_missing_is_said(spoil, said):
    lab, _ = make_lab(share=0.2)
    spoil(lab)
    findings = probe(lab)
    assert findings.trials[0].outcome == "undecided"
    assert said in findings.trials[0].sentence


def test_too_few_groups_are_not_tested():
    lab, _ = make_lab(share=0.2)
    lab.train = lab.train._replace(groups=lab.train.groups % 2)
    assert "groups" in probe(lab).not_tested[0].reason


def test_a_class_of_one_group_is_not_suspected_as_a_whole():
    lab, _ = make_lab(noise=0.8)
    groups = np.where(lab.train.target == 0, "alone", lab.train.groups.astype(str))
    lab.train = lab.train._replace(groups=groups)
    lab.record.train_margin[:] = -1  # as if the run had learned nothing
    findings = probe(lab)
    assert not any(suspect.label == lab.classes[0] for suspect in findings.suspects)


def test_the_same_seed_gives_the_same_findings():
    first, second = (probe(make_lab(share=0.15)[0]) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0, 2.0, 5.0])
def test_the_share_of_wrong_labels_is_estimated_at_any_temperature(temperature):
    shares, areas, precisions = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        true = rng.integers(0, 5, 600)
        logits = temperature * 3 * (3 * np.eye(5)[true] + rng.normal(size=(600, 5)))
        is_wrong = rng.random(600) < 0.2
        label = np.where(is_wrong, (true + rng.integers(1, 5, 600)) % 5, true)
        found = weigh_labels(logits, label)
        shares.append(found.share - is_wrong.mean())
        areas.append(found.auc)
        precisions.append(is_wrong[found.is_suspect].mean())
    assert np.abs(shares).max() < 0.08
    assert np.mean(areas) > 0.95
    assert np.min(precisions) > 0.8


@pytest.mark.parametrize("n_classes", [2, 6])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.35])
def test_one_in_twenty_suspects_is_right(share, n_classes):
    n_suspects = n_right = n_wrong = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        true = rng.integers(0, n_classes, 400)
        logits = 8 * (4 * np.eye(n_classes)[true] + rng.normal(size=(400, n_classes)))
        is_wrong = rng.random(400) < share
        label = np.where(is_wrong, (true + rng.integers(1, n_classes, 400)) % n_classes, true)
        is_suspect = weigh_labels(logits, label).is_suspect
        n_suspects += is_suspect.sum()
        n_right += (is_suspect & ~is_wrong).sum()
        n_wrong += is_wrong.sum()
    assert n_right <= 0.06 * n_suspects
    assert n_suspects - n_right >= 0.65 * n_wrong


def test_labels_without_any_relation_to_the_models_have_an_auc_of_a_half():
    rng = np.random.default_rng(0)
    found = weigh_labels(rng.normal(size=(500, 4)), rng.integers(0, 4, 500))
    assert found.auc < 0.6


@given(
    n_windows=st.integers(6, 60),
    n_groups=st.integers(3, 12),
    n_folds=st.integers(2, 3),
    seed=st.integers(0, 1000),
)
def test_folds_hold_whole_groups_and_none_is_empty(n_windows, n_groups, n_folds, seed):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 3, n_windows)
    groups = rng.integers(0, n_groups, n_windows)
    groups[:n_folds] = np.arange(n_folds)  # at least so many
    fold = assign_folds(target, groups, n_folds, rng)
    for group in np.unique(groups):
        assert len(np.unique(fold[groups == group])) == 1
    assert set(fold) == set(range(n_folds))


def test_folds_share_out_every_class():
    target = np.repeat([0, 1, 2], [60, 30, 6])
    fold = assign_folds(target, None, 3, np.random.default_rng(0))
    counts = np.array([np.bincount(target[fold == k], minlength=3) for k in range(3)])
    assert (counts == [20, 10, 2]).all()
