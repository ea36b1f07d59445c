"""Causes in the text of a report."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_strategies import CAUSES, WORDS
from sample_reports import SAMPLES, VERDICTS, make_report, restless

from sensorseq.cli.models import rerun_command
from sensorseq.diagnosis.causes import CAUSE_NAMES, Cause
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.report_text import list_steps, literal, write_report
from sensorseq.diagnosis.statements import statement_of


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
    counts=st.tuples(*[st.none() | st.integers(0, 10**40)] * 3),
)
@settings(max_examples=5)
def test_a_print_fits_a_screen_whatever_was_found(verdict, sentences, causes, counts):
    n_val, n_train, best_epoch = counts
    told = tuple(statement_of("loss_not_judged", loss=sentence) for sentence in sentences)
    facts = {"n_val": n_val, "n_train": n_train, "best_epoch": best_epoch}
    report = FluctuationReport(verdict, None, told, causes, **facts)
    lines = str(report).split("\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert lines[-1].endswith("shows the curves and all numbers.")
    heads = sum(line.startswith(("Cause ", "Suspected ")) for line in lines)
    assert heads == bool(causes)
    assert "\n" not in repr(report)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_cause_is_shown_with_the_evidence_of_the_first(name):
    report = SAMPLES[name]()
    lines = lines_of(report)
    for cause in (one for one in report.causes if one.name != "unknown"):
        assert sum(line.endswith(f" {cause.title}") for line in lines) == 1
    first = report.causes[0]
    assert " ".join(first.evidence.split()[:8]) in said(report)


def test_a_command_on_several_lines_can_be_pasted_unchanged():
    changed = []

    def again(changes):
        changed.append(changes or {})
        options = " ".join(f"--set {name}={value}" for name, value in changed[-1].items())
        return f"sensorseq train {'long_' * 9}name.h5 -o model.safetensors {options} --seed 3"

    text = write_report(restless(), again, "report.html")
    lines = text.splitlines()
    first, _ = [n for n, line in enumerate(lines) if line.strip().startswith("sensorseq train")]
    last = next(n for n in range(first, len(lines)) if not lines[n].endswith(" \\"))
    assert last > first
    typed = " ".join(line.strip().removesuffix("\\") for line in lines[first : last + 1])
    assert typed.split() == again(changed[1]).split()
    assert max(map(len, lines)) <= 80
    assert "report.html shows the curves" in text
    assert "report.explanation" not in text


def run_of(verdict):
    """Return a report with the given verdict on 60 validation windows."""
    return make_report(next(kind for kind, of in VERDICTS.items() if of == verdict))


@pytest.mark.parametrize(
    "verdict", ["normal", "fluctuating", "diverged", "not_learning", "too_short_to_tell"]
)
def test_the_text_answers_the_questions_and_repeats_nothing(verdict):
    report = run_of(verdict)
    assert report.verdict == verdict
    printed = said(report)
    for label in ("Verdict", "Problem", "Step", "Gain", "Longer?"):
        assert f"\n{label} " in str(report)
    assert all(printed.count(sentence) <= 1 for sentence in report.explanation)
    assert report.explanation[0] in printed


def test_a_calm_run_needs_few_lines():
    lines = lines_of(run_of("normal"))
    assert len(lines) <= 18
    assert lines[2:4] == [
        "Problem   None: the curve is as calm as can be expected.",
        "Step      Keep the settings, or fit the defaults to see if the data allow more:",
    ]
    assert lines[5].startswith("Gain      The accuracy on 60 validation windows is known to +-")


def test_the_first_remedy_is_the_defaults_unless_the_data_have_a_fault():
    first, second = list_steps(restless())
    assert [first.name, second.name] == ["defaults", "repair"]
    copies = Cause("data_bug", "58 copies.", advice="Remove the copies.", sources={"data": "58"})
    faulty = replace(restless(), causes=(copies, *restless().causes))
    assert [step.name for step in list_steps(faulty)] == ["change", "defaults"]
    assert said(faulty).index("Remove the copies.") < said(faulty).index("Fit the default settings")


def test_a_repair_is_the_call_that_makes_it_and_is_marked_as_untested():
    assert '(untested) clf.set_params(lr_schedule="cosine")' in said(restless())
    assert "SensorLSTMClassifier().fit(X, y, groups=groups)" in said(restless())


def test_a_fit_on_the_command_line_gets_commands_instead_of_python():
    report = restless()

    command = rerun_command({"motors": ["a"], "dropout": 0.5}, "t.h5", "t.safetensors", " --seed 1")
    text = " ".join(write_report(report, command).replace("\\\n", "").split())
    assert "-o t.safetensors --set" in text
    assert "--set dropout=0.5 --set lr_schedule=cosine --seed 1" in text
    assert "sensorseq train t.h5 -o defaults.safetensors --set 'motors=[\"a\"]'" in text
    assert "set_params" not in text
    assert "Classifier" not in text
    assert len(write_report(report, command).split("\n")) <= 24


def test_an_unknown_cause_gets_no_repair():
    unknown = Cause("unknown", "x.", advice="Begin with the defaults.")
    text = said(replace(restless(), causes=(unknown, *restless().causes)))
    assert "set_params" not in text
    assert "Then Begin with the defaults." in text


def test_a_run_that_overfits_is_never_only_normal():
    overfits = statement_of("overfits", epoch=9)
    report = FluctuationReport("normal", None, (statement_of("loss_calm"), overfits), n_epochs=40)
    lines = str(report).split("\n")
    assert lines[1] == "Verdict   NORMAL, BUT OVERFITS"
    assert lines[2].startswith("Problem   The network overfits")
    assert lines[3].startswith("Step      Fit the default settings, and compare held-out accuracy:")
    assert "Then      Record more groups" in str(report)
    assert "The network overfits: the validation loss rises from epoch 9 on." in str(report)
    assert repr(report) == "FluctuationReport('NORMAL, BUT OVERFITS', 40 epochs)"


def test_if_there_are_too_many_causes_their_number_is_given():
    causes = tuple(Cause(name, "x. " * 60) for name in CAUSE_NAMES)
    report = FluctuationReport(
        "fluctuating",
        "mild",
        (statement_of("loss_not_judged", loss="y " * 160),),
        causes,
    )
    lines = lines_of(report)
    shown = [line for line in lines if line.split(" ")[-1] in CAUSE_NAMES]
    assert len(shown) >= 3
    known = [cause for cause in causes if cause.name != "unknown"]
    assert f"{len(known) - len(shown)} more in report.causes" in str(report)
    assert lines[-1].startswith("More")


@pytest.mark.parametrize(
    "value", ["cosine", 'say "x"', "back\\slash", 3, 2.5e-05, None, True, (0.9, 0.999), {"a": 1}]
)
def test_values_are_typed_as_python_reads_them(value):
    assert eval(literal(value)) == value


def test_the_repr_names_the_first_cause():
    said = repr(restless())
    assert said.endswith("150 epochs, suspected learning_rate: schedule missing)")


def with_unknown():
    """Return a report with two causes, of which the first is unknown."""
    rate = restless().causes[0]
    batch = replace(rate, name="batch_size", finding="too small")
    unknown = Cause("unknown", "No cause was found.")
    return replace(restless(), causes=(unknown, rate, batch))


def test_an_unknown_cause_has_no_rank():
    lines = str(with_unknown()).splitlines()
    assert "Cause     unclear" in lines
    heads = [line.split(":")[0].strip() for line in lines if line.endswith(("missing", "small"))]
    assert heads == ["1 learning_rate", "2 batch_size"]


def test_a_data_fault_is_a_problem_even_if_the_curve_is_calm():
    told = {"finding": "copies among the training windows", "advice": "Remove the copies."}
    evidence = "70 of 100 training windows are copies of other training windows."
    sources = {"data": "70 of 100"}
    fault = Cause("data_bug", evidence, sources=sources, **told)
    text = said(replace(run_of("normal"), causes=(fault,)))
    assert "Problem The curve is calm, but the data seem to have a fault: copies among" in text
    assert "Step Remove the copies. Gain Unknown until" in text
    harmless = said(replace(run_of("normal"), causes=(replace(fault, is_minor=True),)))
    assert "Problem None" in harmless
