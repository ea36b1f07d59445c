"""What print(report) says of causes and probes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_strategies import CAUSES, PROBES, WORDS
from sample_reports import SAMPLES, expected_roughness, restless, unproved

from sensorseq.fluctuation.cause_words import likely, literal
from sensorseq.fluctuation.causes.cause import CAUSE_NAMES, Cause, NotTested, Probes
from sensorseq.fluctuation.fix_block import make_fix
from sensorseq.fluctuation.page import make_page
from sensorseq.fluctuation.report import FluctuationReport


def lines_of(report):
    lines = str(report).split("\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line != line.rstrip()]
    return lines


def said(report):
    return " ".join(str(report).split())


@given(
    verdict=st.sampled_from(["normal", "fluctuating", "not_learning"]) | WORDS,
    sentences=st.lists(WORDS, max_size=5),
    causes=st.lists(CAUSES, max_size=5).map(tuple),
    probes=st.none() | PROBES,
    counts=st.tuples(*[st.none() | st.integers(0, 10**40)] * 3),
)
def test_a_print_fits_a_screen_whatever_was_found(verdict, sentences, causes, probes, counts):
    n_val, n_train, best_epoch = counts
    report = FluctuationReport(
        verdict,
        None,
        tuple(sentences),
        causes,
        n_val=n_val,
        n_train=n_train,
        best_epoch=best_epoch,
        probes=probes,
    )
    lines = str(report).split("\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert lines[-1].endswith("shows the curves and every figure.")
    if causes:
        assert sum(line.startswith("Cause ") for line in lines) == 1
    assert "\n" not in repr(report)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_cause_is_there_with_its_grade_and_what_it_rests_on(name):
    report = SAMPLES[name]()
    lines = lines_of(report)
    for cause in report.causes:
        (line,) = [line for line in lines if f" {cause.title} " in line]
        assert cause.grade.upper() in line
        if cause.grade == "rejected":
            assert line.split()[0] == "-"
            assert "%" not in line
        else:
            assert line.endswith(f" {100 * cause.confidence:.0f} %")
    first = report.causes[0]
    assert " ".join(first.evidence.split()[:8]) in said(report)


def test_a_proved_repair_is_the_call_that_makes_it():
    text = said(restless())
    assert 'Fix clf.set_params(lr_schedule="cosine", learning_rate=0.003)' in text
    assert "proved by 4 paired re-runs; proof.apply()" in text
    assert "Cost probes 28 s, 0.68 times the fit (1.00 allowed), for 5 trials" in text
    assert "Untested sequence_length (the recordings were not given)" in text


def test_what_is_not_proved_is_said_to_be_so():
    assert 'Fix not proved: clf.set_params(lr_schedule="cosine")' in said(unproved())
    bare = replace(unproved(), probes=None, origin=object())
    assert "Fix not proved: " in said(bare)
    assert "report.probe(X, y, groups=groups) tries it" in said(bare)
    foreign = said(replace(bare, origin=None))
    assert "report.probe(" not in foreign
    assert "SensorLSTMClassifier and probe_module try it by re-runs" in foreign
    assert "proved by" not in said(bare)


def test_a_cause_that_is_not_known_is_not_repaired():
    unknown = Cause("unknown", "observed", 0.4, "x.", advice="Probes would tell them apart.")
    report = replace(unproved(), causes=(unknown, *unproved().causes))
    assert "Fix the cause is not identified. No change passed its stop rule." in said(report)
    bare = said(replace(report, probes=None, origin=object()))
    assert "Fix the cause is not identified. Probes would tell them apart." in bare
    assert "report.probe(X, y, groups=groups) tries it" in bare


def test_a_repair_that_a_whole_fit_has_shown_is_said_to_be():
    report = restless()
    first = replace(report.causes[0], grade="repaired")
    report = replace(report, causes=(first, *report.causes[1:]))
    assert "repaired: a whole fit with its repair is calm, and as accurate" in said(report)


def test_a_proof_without_arguments_is_told_in_words():
    report = restless()
    first = replace(report.causes[0], recommendation={}, advice="Take lr=0.003 in the optimizer.")
    probes = replace(report.probes, repair={}, previous={})
    report = replace(report, causes=(first, *report.causes[1:]), probes=probes)
    text = said(report)
    assert "Fix proved by 4 paired re-runs. Take lr=0.003 in the optimizer." in text
    assert "no argument of the classifier" not in text
    assert "Take lr=0.003 in the optimizer." in make_fix(report)


def test_a_page_offers_probes_only_where_the_fit_is_at_hand():
    bare = replace(unproved(), probes=None)
    assert "report.probe(" not in make_fix(bare)
    assert "probe_module" in make_fix(bare)
    assert "report.probe(" in make_fix(replace(bare, origin=object()))


def test_a_normal_run_is_told_nothing_to_repair_and_stays_short():
    report = expected_roughness()
    assert len(lines_of(report)) <= 16
    text = said(report)
    assert "This is expected." in text
    assert "small_validation_set SUPPORTED 97 %" in text
    assert "Advice Report the accuracy with its interval" in text
    assert "Fix" not in text


def test_a_rejected_cause_recommends_nothing():
    report = unproved()
    report = replace(report, causes=report.causes[-1:], probes=None)
    assert "max_grad_norm" not in str(report)
    assert repr(report) == "FluctuationReport('FLUCTUATING (STRONG)', 150 epochs)"


def test_where_there_are_too_many_causes_their_number_is_said():
    causes = tuple(Cause(name, "observed", 0.05, "x. " * 60) for name in CAUSE_NAMES)
    not_tested = (NotTested("loss", "why " * 80),)
    probes = Probes(1.0, not_tested=not_tested, repair={"a_name" * 9: "value" * 30})
    report = FluctuationReport("fluctuating", "mild", ("y " * 200,), causes, probes=probes)
    lines = lines_of(report)
    shown = [line for line in lines if "OBSERVED" in line]
    assert len(shown) >= 3
    assert f"... {18 - len(shown)} more: report.causes" in str(report)
    assert lines[-1].startswith("More")


def test_no_probability_is_told_as_certain():
    assert [likely(p) for p in (0.0, 0.003, 0.5, 0.996, 1.0)] == [
        "0 %",
        "< 1 %",
        "50 %",
        "> 99 %",
        "100 %",
    ]
    assert likely(float("nan")) == ""


@pytest.mark.parametrize(
    "value", ["cosine", 'say "x"', "back\\slash", 3, 2.5e-05, None, True, (0.9, 0.999), {"a": 1}]
)
def test_values_are_typed_as_python_reads_them(value):
    assert eval(literal(value)) == value


def test_the_repr_names_the_first_cause():
    said = repr(restless())
    assert said.endswith("150 epochs, learning_rate: schedule missing proved)")


def with_unknown():
    """A report in which the likeliest cause is likelier than what none of them explains."""
    rate = replace(unproved().causes[0], confidence=0.42, grade="observed")
    batch = replace(rate, name="batch_size", finding="too small", confidence=0.28)
    unknown = Cause("unknown", "observed", 0.30, "No cause reaches a half.")
    return replace(unproved(), causes=(unknown, rate, batch), probes=None)


def test_what_is_not_known_has_no_rank_among_the_causes():
    lines = str(with_unknown()).splitlines()
    heads = [line.split() for line in lines if "OBSERVED" in line]
    assert heads[0][:3] == ["Cause", "?", "unknown"]
    assert [(head[0], head[1].rstrip(":")) for head in heads[1:]] == [
        ("1", "learning_rate"),
        ("2", "batch_size"),
    ]
    page = make_page(with_unknown())
    cards = [card.split("</h3>")[0] for card in page.split("<h3>")[1:]]
    assert [card.split(":")[0] for card in cards[:3]] == [
        "unknown",
        "1. learning_rate",
        "2. batch_size",
    ]
    assert "30 % likely to be none of those listed<" in page
    assert "42 % likely<" in page
