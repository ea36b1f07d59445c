"""Every member keeps the same laws, and so does a weighted sum of members."""

import copy
import pickle

import numpy as np
import pytest
import torch
from fits import learn_few_features, plain_classifier

from sensorseq.errors import InputError
from sensorseq.io.model_file import arrays_below
from sensorseq.learners import weigh
from sensorseq.prediction.members.choice import LSTM
from sensorseq.prediction.members.kinds import all_kinds
from sensorseq.prediction.members.motors import MOTORS
from sensorseq.prediction.members.sum import Sum

KINDS = dict(all_kinds())

N, T, C = 40, 30, 2
RNG = np.random.default_rng(0)
Y = np.arange(N) % 3
X = RNG.normal(size=(N, T, C)) + np.sin(np.arange(T)[:, None] * (0.3 + 0.3 * Y[:, None, None]))
NEW = np.tile(RNG.normal(size=(35, T, C)), (15, 1, 1)).astype(np.float32)  # more than a block
LENGTHS = RNG.integers(12, T + 1, len(NEW))


def averages(windows, lengths):
    return windows.mean(axis=1)


@pytest.fixture(scope="module")
def members():
    """A trained member of each kind, a user's function, and their sum."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        learn_few_features(patch)
        patch.setattr(weigh, "fit_weights", lambda logits, *_: (np.ones(len(logits)), np.zeros(3)))
        for kind in (*KINDS, averages):
            features = None if kind in (LSTM, MOTORS) else kind
            more = {"patch": 6, "n_models": 2} if kind == LSTM else {}
            more |= {"motors": [(1, 0)]} if kind == MOTORS else {}
            fitted = plain_classifier(max_epochs=1, hidden_size=4, features=features, **more)
            of_fit = fitted.fit(X, Y, lengths=np.where(Y, T, T - 9)).model_.sum.members
            found |= of_fit if kind == LSTM else {k: m for k, m in of_fit.items() if k != LSTM}
    assert [*found] == [*KINDS, "function_0"]
    weights = dict(zip(found, np.linspace(2.0, 0.0, len(found)).tolist(), strict=True))
    return {**found, "sum": Sum(dict(found), weights, np.array([0.1, 0.0, -0.1]))}


@pytest.mark.parametrize("name", [*KINDS, "function_0", "sum"])
class TestEveryMember:
    def test_gives_a_window_the_same_logits_in_any_batch_and_order(self, members, name):
        member, order = members[name], RNG.permutation(len(NEW))
        for lengths in (None, LENGTHS):
            of_order = None if lengths is None else lengths[order]
            together = member.logits(NEW, lengths)
            assert together.shape == (len(NEW), 3)
            assert together.dtype == np.float64
            np.testing.assert_array_equal(member.logits(NEW[order], of_order), together[order])
            first = None if lengths is None else lengths[:1]
            np.testing.assert_array_equal(member.logits(NEW[:1], first), together[:1])
        assert member.logits(NEW[:0], None).shape == (0, 3)

    def test_gives_the_same_logits_with_any_number_of_threads(self, members, name):
        before, expected = torch.get_num_threads(), members[name].logits(NEW, None)
        try:
            torch.set_num_threads(3)
            np.testing.assert_array_equal(members[name].logits(NEW, None), expected)
        finally:
            torch.set_num_threads(before)

    def test_is_the_same_when_copied_or_pickled(self, members, name):
        for again in (copy.deepcopy(members[name]), pickle.loads(pickle.dumps(members[name]))):
            np.testing.assert_array_equal(again.logits(NEW, None), members[name].logits(NEW, None))


@pytest.mark.parametrize("name", KINDS)
def test_a_member_reads_only_valid_steps(members, name):
    is_valid = np.arange(T)[None, :, None] < LENGTHS[:, None, None]
    found = [members[name].logits(np.where(is_valid, NEW, end), LENGTHS) for end in (0, 7)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", [name for name in KINDS if name != LSTM])
def test_a_member_is_restored_from_its_state(members, name):
    settings, arrays = members[name].state()
    again = KINDS[name](settings, arrays)
    np.testing.assert_array_equal(again.logits(NEW, LENGTHS), members[name].logits(NEW, LENGTHS))
    again.check(C, 3)
    for wrong in ((C + 1, 3), (C, 4)):
        with pytest.raises(ValueError, match="the model has"):
            again.check(*wrong)


def test_a_sum_adds_weighted_logits_and_its_bias(members):
    whole = members["sum"]
    expected = whole.bias + sum(
        weight * members[name].logits(NEW, LENGTHS) for name, weight in whole.weights.items()
    )
    np.testing.assert_allclose(whole.logits(NEW, LENGTHS), expected, rtol=0, atol=1e-12)


def test_a_member_of_weight_0_is_not_computed(members):
    def fails(windows, lengths):
        raise AssertionError("computed")

    whole = members["sum"]
    unused = copy.copy(whole.members["function_0"])
    object.__setattr__(unused, "describe", fails)
    np.testing.assert_array_equal(
        whole.with_member("function_0", unused).logits(NEW, None), whole.logits(NEW, None)
    )


@pytest.mark.parametrize("wrong", [np.zeros((len(NEW), 2)), np.full((len(NEW), 3), np.nan)])
def test_a_member_that_returns_a_wrong_shape_or_nan_is_named(wrong, members):
    class Wrong:
        def logits(self, windows, lengths):
            return wrong

    whole = members["sum"].with_member("rocket", Wrong())
    with pytest.raises(InputError, match=r"the member 'rocket' returned .* expected .* 3\)"):
        whole.logits(NEW, None)


def test_a_sum_is_restored_with_its_weights_and_bias(members):
    whole = members["sum"]
    kept = {name: member for name, member in whole.members.items() if name in KINDS}
    plain = Sum(kept, {name: whole.weights[name] for name in kept}, whole.bias)
    settings, arrays = plain.state()
    again = Sum.restore(settings, arrays)
    assert again.weights == plain.weights
    np.testing.assert_array_equal(again.bias, plain.bias)
    assert arrays_below(arrays, "member.lstm.patch.")
    again = again.with_member(LSTM, whole.lstm)  # a file keeps the networks apart
    np.testing.assert_array_equal(again.logits(NEW, LENGTHS), plain.logits(NEW, LENGTHS))
