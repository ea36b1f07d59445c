"""What the page shows of causes, probes, suspects and the repair."""

import html
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_reader import Reader
from report_strategies import CAUSES as ANY_CAUSES
from report_strategies import PROBES
from sample_reports import (
    CAUSES,
    SAMPLES,
    TRIALS,
    expected_roughness,
    make_suspects,
    restless,
    unproved,
)

from sensorseq.fluctuation.arm_figures import draw_arms
from sensorseq.fluctuation.cause_figures import choose_figures
from sensorseq.fluctuation.causes.cause import CAUSE_NAMES, Cause, Probes, Suspect
from sensorseq.fluctuation.fix_block import make_fix
from sensorseq.fluctuation.page import make_fragment, make_page
from sensorseq.fluctuation.report import FluctuationReport
from sensorseq.fluctuation.suspect_figures import make_suspects as show_suspects


def text_of(page):
    return Reader(page).text


def items(page, style):
    return re.findall(rf'(?s)<li class="{style}[^"]*">(.*?)</li>', page)


# --- causes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_every_cause_is_a_card_in_order_with_grade_chance_and_evidence(name):
    report = SAMPLES[name]()
    cards = items(make_page(report), "cause")
    assert len(cards) == len(report.causes)
    for card, cause in zip(cards, report.causes, strict=True):
        said = text_of(card)
        assert cause.title in said
        assert f" {cause.grade} " in said  # the word; its icon is beside it
        assert '<svg class="icon"' in card
        assert cause.evidence in said
        is_rejected = cause.grade == "rejected"
        assert ("% likely" in said) != is_rejected
        assert ("<figure>" in card) != (is_rejected or cause.name == "unknown")


def test_rejected_causes_are_folded_and_recommend_nothing():
    page = make_page(restless())
    folded = re.search("(?s)<details><summary>1 cause looked at.*?</details>", page)[0]
    assert "gradient_clipping" in folded
    assert "max_grad_norm" not in folded
    assert folded.count("<li") == 1


def test_the_grades_that_occur_are_explained():
    said = text_of(make_page(restless()))
    for words in (
        "observed : the figures",
        "proved : its repair does better",
        "rejected : what was tried",
    ):
        assert words in said
    assert "repaired :" not in said


def test_no_picture_comes_twice_and_none_is_lost():
    report = restless()
    titles = re.findall("<figcaption><strong>([^<]+)</strong>", make_page(report))
    evidence = [title for title in titles if "?" in title or "itself" in title]
    assert len(evidence) == len(set(evidence)) == 6


def test_a_picture_shows_what_the_sentence_quotes():
    evidence = restless().evidence
    cause = Cause("batch_size", "observed", 0.5, "x.")
    for statistic, expected in (
        ("batch_loss_noise_over_sampling", "batch_loss"),
        ("fixed_loss_noise", "fixed_loss"),
        ("train_loss_noise", "loss"),
    ):
        quoted = replace(cause, statistics=(statistic,))
        assert [name for name, _ in choose_figures((quoted,), evidence)] == [expected]
    high = Cause("learning_rate", "observed", 0.5, "x.", finding="too high")
    assert choose_figures((high,), evidence)[0][0] == "overshoot"


@pytest.mark.parametrize("name", CAUSE_NAMES)
def test_every_cause_has_a_picture_or_none_and_never_an_empty_one(name):
    cause = Cause(name, "observed", 0.5, "x.")
    ((series, picture),) = choose_figures((cause,), restless().evidence)
    assert (series == "") == (picture == "")
    assert choose_figures((cause,), {}) == [("", "")]
    rejected = replace(cause, grade="rejected")
    assert choose_figures((rejected,), restless().evidence) == [("", "")]


def test_a_bare_history_shows_the_loss_that_it_has():
    history = restless().history
    report = FluctuationReport.from_history(dict(history), 42, n_classes=6)
    assert "fixed_loss" not in report.evidence
    report = replace(report, causes=CAUSES[:1])
    assert "What the training loss does" in text_of(make_page(report))


# --- what to change -----------------------------------------------------------------------------


class Classifier:
    def set_params(self, **arguments):
        self.arguments = arguments


def run_fix(page):
    """Run the code that a reader copies, and return what it sets."""
    clf = Classifier()
    exec(html.unescape(re.search('(?s)<code id="code-repair">(.+?)</code>', page)[1]), {"clf": clf})
    return clf.arguments


def test_a_proved_repair_is_a_table_and_code_that_does_it():
    report = restless()
    page = make_page(report)
    assert run_fix(page) == report.probes.repair
    block = make_fix(report)
    rows = re.findall("<tr><th.*?</tr>", block)
    assert [" ".join(text_of(row).split()) for row in rows[1:]] == [
        'lr_schedule "constant" "cosine"',
        "learning_rate 0.001 0.003",
    ]
    said = text_of(block)
    assert "proved by re-runs." in said
    assert report.probes.note in said
    assert "Would repair it as well: clf.set_params(ema_decay=0.99) or" in said
    assert "better = proof.apply()" in said


def test_what_is_not_proved_says_so_beside_its_code():
    report = unproved()
    block = make_fix(report)
    assert run_fix(make_page(report)) == {"lr_schedule": "cosine"}
    assert "not proved ; it is what the likeliest cause asks for." in text_of(block)
    assert "proof.apply" not in block
    assert "report.probe(" not in block
    bare = replace(report, probes=None, origin="a fit of this process")
    assert "report.probe(X, y, groups=groups" in make_fix(bare)
    foreign = make_fix(replace(bare, origin=None))
    assert "report.probe(" not in foreign
    assert "probe_module" in foreign


def test_a_repair_shown_by_a_whole_fit_is_called_repaired():
    report = restless()
    report = replace(report, causes=(replace(report.causes[0], grade="repaired"),))
    said = text_of(make_fix(report))
    assert said.startswith("What to change repaired a whole fit with its repair is calm")


def test_a_normal_run_has_nothing_to_change():
    page = make_page(expected_roughness())
    assert "What to change" not in page
    said = text_of(page)
    assert "This is expected." in said
    assert "Report the accuracy with its interval" in said


def test_advice_without_an_argument_is_said_as_such():
    report = replace(unproved(), causes=CAUSES[2:3], probes=None)
    said = text_of(make_fix(report))
    assert "No argument of the classifier repairs it." in said
    assert CAUSES[2].advice in said
    assert "<table" not in make_fix(report)


# --- probes -------------------------------------------------------------------------------------


def polylines(picture, style):
    return re.findall(f'<polyline class="{style}" points="([^"]+)"', picture)


@pytest.mark.parametrize("trial", TRIALS[:3], ids=lambda trial: trial.outcome)
def test_every_re_run_is_drawn_on_one_axis(trial):
    picture = draw_arms(trial)
    for style, name in (("arm-same", "A"), ("arm-other", "A'"), ("arm-changed", "B")):
        drawn = polylines(picture, style)
        assert len(drawn) == len(trial.curves[name])
        for points, curve in zip(drawn, trial.curves[name], strict=True):
            heights = [-float(pair.split(",")[1]) for pair in points.split()]
            # one axis for all: the same values lie at the same heights, up to rounding
            np.testing.assert_allclose(np.corrcoef(heights, curve)[0, 1], 1, atol=1e-3)
    assert picture.count("<svg") == 4  # the panel, and three keys


def test_an_unchanged_re_run_that_serves_twice_is_drawn_once():
    curves = dict(TRIALS[0].curves)
    picture = draw_arms(replace(TRIALS[0], curves=curves | {"A'": curves["A"][1:2]}))
    assert len(polylines(picture, "arm-same")) == 3
    assert len(polylines(picture, "arm-other")) == 1


def test_a_sentence_does_not_repeat_the_name_above_it():
    trial = replace(TRIALS[0], sentence=f"{TRIALS[0].name}: noise x0.31.")
    page = make_page(replace(restless(), probes=Probes(1.0, trials=(trial,))))
    assert "<p>Noise x0.31.</p>" in page


def test_what_differs_between_the_unchanged_ones_is_said():
    assert "Nothing but the order of the windows differs between A and A'" in text_of(
        draw_arms(TRIALS[0])
    )
    assert "Nothing but the seed differs between A and A'" in text_of(draw_arms(TRIALS[2]))


def test_trials_are_told_with_outcome_cost_and_what_they_measured():
    page = make_page(restless())
    said = text_of(page)
    for trial in TRIALS:
        assert trial.name in said
        assert trial.sentence in said
    assert page.count('<article class="trial') == 3
    assert "Tried without a curve" in said
    for words in (
        "confirmed for learning_rate; re-runs from a state of this run, noise x0.31,"
        " loss -0.083 nats, cost 21.5 epochs",
        "undecided for weight_init; re-runs from first weights",
        "rejected for gradient_clipping; replay of single steps",
        "for evaluation_not_deterministic; no step of training",
        "That took 28 s, 0.68 times the fit (1.00 allowed), for 5 trials.",
        "replayed unchanged, came out the same in every bit.",
        "sequence_length : the recordings were not given. What would settle it: report.probe(",
    ):
        assert words in said


def test_one_explosion_does_not_flatten_the_others():
    curves = {"A": [[1.0, 0.9, 0.8]], "A'": [[1.0, 0.95, 0.85]], "B": [[1.0, 1e9, math.inf]]}
    picture = draw_arms(replace(TRIALS[0], curves=curves))
    heights = [float(pair.split(",")[1]) for pair in polylines(picture, "arm-same")[0].split()]
    assert max(heights) - min(heights) > 20
    assert "1 value above, up to 1e+09" in picture


@pytest.mark.parametrize(
    "change",
    [
        {"curves": {}},
        {"curves": {"A": [], "B": [[]]}},
        {"curves": {"A": [[math.nan]]}},
    ],
)
def test_a_trial_without_numbers_is_told_in_words(change):
    trial = replace(TRIALS[0], **change)
    assert draw_arms(trial) == ""
    page = make_page(replace(restless(), probes=Probes(1.0, trials=(trial,))))
    assert "Tried without a curve" in page
    assert trial.sentence in text_of(page)


# --- suspects -----------------------------------------------------------------------------------


def test_suspects_are_drawn_with_label_rival_place_and_what_was_not_done():
    section = show_suspects(make_suspects(3))
    said = text_of(section)
    assert section.count('<svg class="spark"') == 3
    assert "asphalt , but looks like gravel ; 1 % for its own label row 3 of those" in said
    assert "gravel , but looks like grass" in said
    assert "row 14 of those given to fit, of drive 1 from 12.5 s on" in said
    assert "nothing was deleted, and no label was changed" in said


def test_of_many_suspects_the_worst_are_drawn_and_the_others_counted():
    section = show_suspects(make_suspects(61))
    assert section.count("<figure>") == 24
    assert "The worst 24 of 61 are drawn" in text_of(section)


def test_channels_of_any_scale_are_seen():
    section = show_suspects(make_suspects(4))
    for style in ("c0", "c1"):  # the second is a hundredth of the first
        for points in re.findall(f'<polyline class="{style}" points="([^"]+)"', section):
            heights = [float(pair.split(",")[1]) for pair in points.split()]
            assert max(heights) - min(heights) > 40


def test_gaps_and_missing_signals_of_a_suspect_break_nothing():
    odd = (
        Suspect(0, "a", "b", math.nan, values=[[0.0, math.nan, 1.0, 2.0], [math.nan] * 4]),
        Suspect(1, "a", "b", 0.2),
        Suspect(2, "a", "b", 0.2, values=[[1.0]] * 9),
        Suspect(3, "a", "b", 0.2, start_s=math.nan, values=[[]]),
    )
    section = show_suspects(odd)
    Reader(section)
    assert "nan" not in section
    assert "the first 6 of 9 are drawn" in section
    assert section.count("<figure>") == 4


# --- the whole ----------------------------------------------------------------------------------


@pytest.mark.long
def test_a_page_stays_small_however_much_was_tried():
    rng = np.random.default_rng(0)
    curves = {name: rng.random((9, 900)).tolist() for name in ("A", "A'", "B")}
    trials = (replace(TRIALS[0], curves=curves),) * 40
    signal = rng.random((8, 900)).tolist()
    suspects = (Suspect(1, "a", "b", 0.1, values=signal),) * 200
    report = restless()
    page = make_page(replace(report, probes=Probes(1.0, trials=trials, suspects=suspects)))
    assert len(page) < 2_000_000
    assert page.count(f"<h3>{trials[0].name}</h3>") == 40


@pytest.mark.long
@given(causes=st.lists(ANY_CAUSES, max_size=3).map(tuple), probes=st.none() | PROBES)
def test_every_finding_has_a_page_and_a_fragment(causes, probes):
    report = replace(restless(0), causes=causes, probes=probes)
    for page, n_scripts in ((make_page(report), 1), (make_fragment(report), 0)):
        read = Reader(page)
        assert read.tags.count("script") == n_scripts
        places = {"points", "cx", "cy", "x1", "x2", "y1", "y2", "x", "y", "d", "style"}
        numbers = [value for name, value in read.attributes if name in places]
        assert not [value for value in numbers if re.search("nan|inf", value)]


def test_a_notebook_gets_causes_and_repair_without_links_and_buttons():
    fragment = make_fragment(restless())
    read = Reader(fragment)
    assert not {"script", "button"} & set(read.tags)
    assert not [name for name, _ in read.attributes if name in ("id", "src", "href")]
    assert 'lr_schedule="cosine"' in read.text
    for cause in CAUSES:
        assert cause.title in read.text


def test_what_is_open_depends_on_what_was_tried():
    proved, tried = text_of(make_page(restless())), text_of(make_page(unproved()))
    assert "What the cause is" not in proved
    assert "What the cause is: 5 trials by controlled re-runs proved none." in tried
    told = text_of(make_page(replace(unproved(), probes=None)))
    assert "they are told from figures, nothing was tried" in told
