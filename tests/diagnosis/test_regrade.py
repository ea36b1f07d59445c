"""What trials make of the ranked causes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.diagnosis.causes import CAUSE_NAMES, Cause, Trial
from sensorseq.diagnosis.probe import regrade


def cause(name, confidence, **more):
    more = {"advice": "raise it", **more}
    return Cause(name, "suspected", confidence, "seen", recommendation={"batch_size": 64}, **more)


def trial(name, outcome, change="a change"):
    return Trial(name, change, {}, "race", outcome, f"{name} {outcome}.")


def proof(name, finding="too high", **repair):
    return Cause(name, "proved", 0.05, "proved so.", finding, repair)


RANKED = (cause("unknown", 0.8), cause("learning_rate", 0.2), cause("preprocessing", 0.15))


def test_what_is_proved_comes_first_with_its_repair_and_what_did_worse_goes():
    trials = [trial("preprocessing", "rejected"), trial("learning_rate", "confirmed")]
    (first,) = regrade(RANKED, trials, [proof("learning_rate", learning_rate=1e-3)])
    assert (first.name, first.grade, first.finding) == ("learning_rate", "proved", "too high")
    assert first.recommendation == {"learning_rate": 1e-3}
    assert first.evidence == first.sources["race"] == "proved so."


def test_words_of_another_side_are_not_kept():
    for finding, kept in (("too low", False), ("too high", True)):
        ranked = cause("learning_rate", 0.3, finding=finding)
        (first,) = regrade([ranked], [trial("learning_rate", "confirmed")], [proof(ranked.name)])
        assert (first.advice == "raise it") == kept


def test_without_a_proof_what_is_unknown_stays_unknown():
    first, *rest = regrade(RANKED, [trial("learning_rate", "undecided")], [])
    assert first.name == "unknown"
    assert [part.confidence for part in rest] == [0.2, 0.15]
    first, second = regrade(RANKED, [trial("learning_rate", "rejected")], [])
    assert (first.name, second.name) == ("unknown", "preprocessing")
    assert first.confidence == pytest.approx(0.85)
    (left,) = regrade(RANKED[1:2], [trial("learning_rate", "rejected")], [])
    assert left.name == "unknown"
    assert regrade(RANKED[1:2], [trial("learning_rate", "rejected")], [], calm=True) == ()


def test_what_costs_a_calm_run_accuracy_comes_before_what_makes_it_rough():
    rough, found = cause("small_validation_set", 1.0), cause("weight_init", 0.6)
    assert regrade((rough, found), [], [], calm=True)[0] == found
    (joined,) = regrade((found, cause("weight_init", 0.2)), [], [], calm=True)
    assert joined.confidence == 0.8


@given(
    st.dictionaries(st.sampled_from(CAUSE_NAMES), st.floats(0.0, 1.0), max_size=3),
    st.lists(
        st.tuples(
            st.sampled_from(CAUSE_NAMES[:-1]),
            st.sampled_from(["confirmed", "rejected", "undecided"]),
        ),
        max_size=6,
    ),
)
def test_confidences_stay_probabilities(confidences, outcomes):
    causes = [cause(name, value) for name, value in confidences.items()]
    trials = [trial(*outcome) for outcome in outcomes]
    proofs = [proof(name) for name in {t.cause for t in trials if t.outcome == "confirmed"}]
    found = regrade(causes, trials, proofs)
    assert all(0 <= part.confidence <= 1 for part in found)
    assert {part.name for part in found if part.grade == "proved"} == {p.name for p in proofs}
    names = [part.name for part in found]
    assert len(set(names)) == len(names)
    undone = {name for name, _ in outcomes} - {name for name, of in outcomes if of != "rejected"}
    assert undone.isdisjoint(names)


def test_a_cause_that_was_proved_before_stays_proved_when_other_trials_say_nothing():
    before = regrade(RANKED, [], [proof("learning_rate", learning_rate=1e-3)])
    first, *_ = regrade(before, [trial("optimizer", "rejected")], [])
    assert (first.name, first.grade) == ("learning_rate", "proved")
