"""What trials make of the ranked causes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.fluctuation.causes.cause import CAUSE_NAMES, Cause, Trial
from sensorseq.fluctuation.probes.proof import Proof
from sensorseq.fluctuation.probes.regrade import regrade


def cause(name, confidence, grade="observed"):
    return Cause(name, grade, confidence, "seen", recommendation={"batch_size": 64})


def trial(name, outcome):
    return Trial(name, "a change", {}, "snapshot", outcome, f"{name} {outcome}.")


def proof(name, **repair):
    return Proof(name, "too high", repair, "proved so.", ("a change",))


RANKED = (cause("unknown", 0.5), cause("learning_rate", 0.3), cause("batch_size", 0.2))


def test_what_is_proved_comes_first_with_its_repair():
    trials = [trial("batch_size", "rejected"), trial("learning_rate", "confirmed")]
    first, last = regrade(RANKED, trials, [proof("learning_rate", learning_rate=1e-3)])
    assert (first.name, first.grade, first.finding) == ("learning_rate", "proved", "too high")
    assert first.recommendation == {"learning_rate": 1e-3}
    assert first.evidence == "proved so."
    assert first.confidence == pytest.approx(15 * 0.3 / (15 * 0.3 + 0.7))
    assert (last.name, last.grade, last.evidence) == (
        "batch_size",
        "rejected",
        "batch_size rejected.",
    )
    assert last.confidence < 0.2


def test_without_a_proof_what_is_unknown_stays_unknown():
    first, *rest = regrade(RANKED, [trial("learning_rate", "undecided")], [])
    assert first.name == "unknown"
    assert [part.confidence for part in rest] == [0.3, 0.2]


def test_what_is_unknown_is_told_by_what_is_left():
    first, *rest = regrade(RANKED, [trial("learning_rate", "rejected")], [])
    left = 1 - sum(part.confidence for part in rest)
    assert first.confidence == pytest.approx(left)
    assert first.evidence == (
        "Abnormal, and no cause was proved: the likeliest left, batch_size, has 20 %, less than a"
        f" half, and {100 * left:.0f} % is left for what is not listed."
    )
    assert "larger budget" in first.advice
    trials = [trial("learning_rate", "rejected"), trial("batch_size", "rejected")]
    first, *_ = regrade(RANKED, trials, [])
    assert (first.evidence, first.advice) == ("Abnormal, and no cause was proved.", "")


def test_what_was_said_of_the_other_side_is_not_kept():
    said = {"advice": "raise it", "statistics": ("noise",)}
    for finding, kept in (("too low", False), ("too high", True)):
        ranked = Cause("learning_rate", "observed", 0.3, "seen", finding, **said)
        trials = [trial("learning_rate", "confirmed")]
        (first,) = regrade([ranked], trials, [proof("learning_rate")])
        assert (first.advice == "raise it", first.statistics == ("noise",)) == (kept, kept)


def test_a_trial_that_decides_nothing_names_no_cause():
    found = regrade(RANKED, [trial("label_noise", "undecided")], [])
    assert "label_noise" not in {part.name for part in found}
    found = regrade(RANKED, [trial("label_noise", "rejected")], [])
    assert found[-1].name == "label_noise"
    found = regrade(RANKED, [trial("label_noise", "confirmed")], [proof("label_noise")])
    assert found[0].name == "label_noise"


@given(
    st.dictionaries(st.sampled_from(CAUSE_NAMES), st.floats(0.0, 0.3), max_size=3),
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
    assert sum(part.confidence for part in found) <= 1 + 1e-9
    assert {part.name for part in found if part.grade == "proved"} == {p.cause for p in proofs}
    assert len({part.name for part in found}) == len(found)
