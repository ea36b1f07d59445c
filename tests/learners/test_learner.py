"""Every learner keeps the same laws."""

import numpy as np
import pytest
from fits import learn_few_features, plain_classifier
from scipy.special import softmax
from sklearn.base import clone
from threads import torch_threads

from sensorseq.features import SummaryFeatures, SummarySteps
from sensorseq.features.motors import Motor
from sensorseq.learners import learner
from sensorseq.learners.kinds import all_learners
from sensorseq.learners.learner import Folds, LearnerData
from sensorseq.learners.motors import MotorsLearner
from sensorseq.prediction.members.motors import MotorWindows

N, RNG = 48, np.random.default_rng(0)
Y = np.arange(N) % 3
X = (RNG.normal(size=(N, 30, 2)) + 0.7 * Y[:, None, None]).astype(np.float32)
EVERY = np.arange(N)
MOTORS = MotorWindows([Motor((0, 1), ("i", "v"))], np.zeros(2), np.ones(2))
LEARNERS = {**all_learners(), "motors": MotorsLearner(MOTORS)}
FOLDS = Folds([(EVERY[k::2], EVERY[1 - k :: 2]) for k in (0, 1)], EVERY)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    learn_few_features(monkeypatch)


def fitted(name, weight=None, y=Y):
    data = LearnerData(X, None, y, np.ones(N) if weight is None else weight, 3, EVERY)
    return LEARNERS[name].fit(data, FOLDS, np.random.SeedSequence(0))


@pytest.mark.parametrize("name", LEARNERS)
class TestEveryLearner:
    def test_gives_the_same_bits_for_the_same_seed_with_any_number_of_threads(self, name):
        first = fitted(name)
        with torch_threads(3):
            again = fitted(name)
        np.testing.assert_array_equal(again.logits, first.logits)
        np.testing.assert_array_equal(again.member.logits(X, None), first.member.logits(X, None))

    def test_leaves_out_every_window_and_learns_the_classes(self, name):
        member, logits = fitted(name)
        assert np.isfinite(logits).all()
        assert np.mean(logits.argmax(axis=1) == Y) > 0.6
        assert np.mean(member.logits(X, None).argmax(axis=1) == Y) > 0.6

    def test_windows_of_little_weight_count_little(self, name):
        """Half of the windows have a wrong label; the others are classified better without them."""
        is_wrong = np.arange(N) % 4 > 1
        given = np.where(is_wrong, (Y + 1) % 3, Y)
        right = []
        for weight in (np.ones(N), np.where(is_wrong, 1e-3, 1.0)):
            logits = fitted(name, weight, given).logits
            right.append(softmax(logits, axis=1)[~is_wrong, Y[~is_wrong]].mean())
        assert right[1] > right[0]

    @pytest.mark.trains
    def test_a_clone_fits_the_same_model(self, name):
        kind = {"features": None, "motors": [(0, 1)]} if name == "motors" else {"features": name}
        clf = plain_classifier(**kind, max_epochs=1, hidden_size=4, random_state=0)
        one, other = (clone(clf).fit(X, Y).predict_proba(X) for _ in range(2))
        np.testing.assert_array_equal(one, other)


def long_windows(n_channels, lengths):
    X = np.random.default_rng(0).normal(size=(N, 80, n_channels))
    return LearnerData(X, np.asarray(lengths), Y, np.ones(N), 3, EVERY[:40])


def test_members_of_one_fit_read_a_spectrum_if_the_longest_training_window_is_long():
    for longest in (63, 64):
        lengths = np.where(EVERY == 39, longest, 30)
        lengths[40:] = 80  # these windows are held out
        data = long_windows(2, lengths)
        boosting = all_learners()["boosting"].fit(data, FOLDS, np.random.SeedSequence(0)).member
        steps = all_learners()["summary"].fit(data, FOLDS, np.random.SeedSequence(0)).member
        expected = 64 if longest == 64 else None
        assert boosting.summary.n_steps_ == steps.describe.summary.n_steps_ == expected
        assert boosting.summary.state() == steps.describe.summary.state()
        for member in (boosting, steps):
            settings, arrays = member.state()
            again = type(member).restore(
                *([SummarySteps] if member is steps else []), settings, arrays
            )
            np.testing.assert_array_equal(
                again.logits(data.X, data.lengths), member.logits(data.X, data.lengths)
            )


def test_boosting_and_steps_share_the_ranking_of_each_fold(monkeypatch):
    ranked, rank = [], learner.rank_statistics
    monkeypatch.setattr(
        learner, "rank_statistics", lambda *given: ranked.append(given) or rank(*given)
    )
    data = long_windows(12, np.full(N, 80))
    for name in ("boosting", "summary"):
        all_learners()[name].fit(data, FOLDS, np.random.SeedSequence(0))
    assert [len(values) for values, *_ in ranked] == [24, 24, 48]
    assert ranked[0][0].shape[1] == data.summary.n_features_ > 400
    few = data.important_statistics(EVERY, 10)
    assert len(few) == 10
    assert set(few) < set(data.important_statistics(EVERY, 150))
    assert len(ranked) == 3


@pytest.mark.parametrize("only_frequency", [False, True])
def test_boosting_uses_the_spectrum_only_if_it_helps_on_windows_left_out(only_frequency):
    """Cycles of 10, 12 and 14 per window lie in the same of five wide bands."""
    rng, at = np.random.default_rng(0), np.arange(128)
    noise = rng.normal(size=(N, 128, 1))
    if only_frequency:
        X = 0.3 * noise + np.sin(2 * np.pi * (10 + 2 * Y[:, None]) * at / 128)[:, :, None]
    else:
        X = noise + 0.3 * Y[:, None, None]
    data = LearnerData(X.astype(np.float32), None, Y, np.ones(N), 3, EVERY)
    member, logits = all_learners()["boosting"].fit(data, FOLDS, np.random.SeedSequence(0))
    n_basic = len(SummaryFeatures().fit(X).names)
    assert (member.trees.columns >= n_basic).any() == only_frequency
    assert np.mean(logits.argmax(axis=1) == Y) > 0.7
