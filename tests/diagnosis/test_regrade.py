"""Trials change the grades of the named causes."""

from hypothesis import given
from hypothesis import strategies as st

from sensorseq.diagnosis.causes import CAUSE_NAMES, Cause, Trial
from sensorseq.diagnosis.probe import regrade


def cause(name, **more):
    more = {"advice": "raise it", **more}
    return Cause(name, "suspected", "seen", recommendation={"batch_size": 64}, **more)


def trial(name, outcome, change="a change"):
    return Trial(name, change, {}, "race", outcome, f"{name} {outcome}.")


def proof(name, finding="too high", **repair):
    return Cause(name, "proved", "proved so.", finding, repair)


NAMED = (cause("preprocessing"), cause("learning_rate"))


def test_proved_causes_come_first_with_their_repair_and_rejected_causes_are_dropped():
    trials = [trial("preprocessing", "rejected"), trial("learning_rate", "confirmed")]
    (first,) = regrade(NAMED, trials, [proof("learning_rate", learning_rate=1e-3)])
    assert (first.name, first.grade, first.finding) == ("learning_rate", "proved", "too high")
    assert first.recommendation == {"learning_rate": 1e-3}
    assert first.evidence == first.sources["race"] == "proved so."


def test_advice_for_the_opposite_direction_is_not_kept():
    for finding, kept in (("too low", False), ("too high", True)):
        named = cause("learning_rate", finding=finding)
        (first,) = regrade([named], [trial("learning_rate", "confirmed")], [proof(named.name)])
        assert (first.advice == "raise it") == kept


def test_if_no_cause_is_left_the_cause_is_unknown():
    assert regrade(NAMED, [trial("learning_rate", "undecided")], []) == NAMED
    assert regrade(NAMED, [trial("learning_rate", "rejected")], []) == NAMED[:1]
    (left,) = regrade(NAMED[1:], [trial("learning_rate", "rejected")], [])
    assert left.name == "unknown"
    assert regrade(NAMED[1:], [trial("learning_rate", "rejected")], [], calm=True) == ()
    minor = cause("data_bug", is_minor=True)
    before = (left, minor)
    assert regrade(before, [], []) == before


def test_causes_that_cost_accuracy_come_before_causes_of_a_rough_curve():
    rough, found = cause("small_validation_set"), cause("weight_init")
    assert regrade((rough, found), [], [], calm=True) == (found, rough)


@given(
    st.sets(st.sampled_from(CAUSE_NAMES), max_size=3),
    st.lists(
        st.tuples(
            st.sampled_from(CAUSE_NAMES[:-1]),
            st.sampled_from(["confirmed", "rejected", "undecided"]),
        ),
        max_size=6,
    ),
)
def test_a_cause_is_listed_once_and_not_if_all_its_changes_did_worse(names, outcomes):
    causes = [cause(name) for name in sorted(names)]
    trials = [trial(*outcome) for outcome in outcomes]
    proofs = [proof(name) for name in {t.cause for t in trials if t.outcome == "confirmed"}]
    found = regrade(causes, trials, proofs)
    assert {part.name for part in found if part.grade == "proved"} == {p.name for p in proofs}
    names = [part.name for part in found]
    assert len(set(names)) == len(names)
    undone = {name for name, _ in outcomes} - {name for name, of in outcomes if of != "rejected"}
    assert undone.isdisjoint(names)


def test_a_cause_proved_before_stays_proved_if_other_trials_are_undecided():
    before = regrade(NAMED, [], [proof("learning_rate", learning_rate=1e-3)])
    first, *_ = regrade(before, [trial("optimizer", "rejected")], [])
    assert (first.name, first.grade) == ("learning_rate", "proved")
