"""The text and the drawings of a report's page agree."""

import base64
import csv
import hashlib
import html
import io
import math
import re
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_reader import Reader, in_notebook
from report_strategies import CAUSES as ANY_CAUSES
from sample_reports import (
    CAUSES,
    SAMPLES,
    VERDICTS,
    history_of,
    make_report,
    restless,
)

from sensorseq.cli.models import read_settings, rerun_command
from sensorseq.diagnosis.causes import Cause
from sensorseq.diagnosis.metrics import Statistic
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.report_page import color_of, draw_curves, make_fragment, make_page
from sensorseq.diagnosis.report_text import BY_DEFAULTS, list_steps, settings_as_options
from sensorseq.errors import OutputError

HOSTILE = "</script></style><script>alert(1)</script>&\"'<img src=x onerror=alert(1)>"


@pytest.fixture(params=VERDICTS)
def report(request):
    report = make_report(request.param)
    assert report.verdict == VERDICTS[request.param]
    return report


def text_of(page):
    return Reader(page).text


# --- the page -----------------------------------------------------------------------------------


def test_the_page_needs_nothing_but_itself(report):
    page = make_page(report)
    read = Reader(page)
    assert page.startswith('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">')
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert not {"link", "img", "iframe", "object", "base", "form"} & set(read.tags)
    assert read.tags.count("script") == read.tags.count("h1") == 1
    assert not [name for name, _ in read.attributes if name in ("src", "xlink:href", "srcset")]
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    links = [value for name, value in read.attributes if name == "href"]
    assert links
    assert all(link.startswith("data:") for link in links)
    assert not re.search(r"https?://|url\(|@import", page)
    assert len(page) < 150_000


def test_only_the_page_s_own_script_may_run(report):
    page = make_page(report)
    script = re.search("(?s)<script>(.*)</script>", page)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def test_all_that_the_report_says_is_there_without_scripts(report):
    page = make_page(report)
    text = text_of(re.sub("(?s)<script>.*?</script>", "", page))
    verdict = report.verdict.replace("_", " ")
    assert f"{verdict} ({report.severity})" if report.severity else verdict in text
    assert verdict in re.search("<title>(.+)</title>", page)[1]
    for sentence in report.explanation:
        assert sentence.replace("+-", "±") in text
    for question in (
        "What gain can I expect?",
        "Will more epochs help?",
        "Which weights are kept?",
    ):
        assert question in text
    assert "Limits of this report" in text
    # the buttons need the script, so only they are hidden without it
    assert set(re.findall(r"<(\w+)[^>]* hidden", page)) == {"button"}


def test_the_sections_come_in_the_order_they_matter():
    assert re.findall("<h2>([^<]+)</h2>", make_page(restless())) == [
        *("What to do", "Observations", "Causes", "Every epoch"),
        *("Measurements", "Limits of this report"),
        *("Make this report", "The history"),
    ]


def hostile_report():
    arguments = {HOSTILE: HOSTILE}
    cause = Cause(HOSTILE, HOSTILE, HOSTILE, arguments, HOSTILE)
    history = history_of("hot") | {HOSTILE: list(range(40))}
    statistics = {HOSTILE: Statistic(1.0, HOSTILE, 2.0, HOSTILE, 0.5, 1.5, 0.03)}
    report = FluctuationReport.from_history(history, 60, best_epoch=3)
    return replace(report, statistics=statistics, causes=(cause,))


def test_names_are_text_whatever_they_hold():
    report = hostile_report()
    for page, n_scripts in ((make_page(report), 1), (make_fragment(report), 0)):
        read = Reader(page)
        assert read.tags.count("script") == n_scripts
        assert "img" not in read.tags
        assert sum(HOSTILE in text for text in read.texts) >= 6


@pytest.mark.long
@given(causes=st.lists(ANY_CAUSES, max_size=3).map(tuple))
def test_every_finding_has_a_page_and_a_fragment(causes):
    report = replace(restless(), causes=causes)
    for page, n_scripts in ((make_page(report), 1), (make_fragment(report), 0)):
        read = Reader(page)
        assert read.tags.count("script") == n_scripts
        places = {"points", "cx", "cy", "x1", "x2", "y1", "y2", "x", "y", "d", "style"}
        numbers = [value for name, value in read.attributes if name in places]
        assert not [value for value in numbers if re.search("nan|inf", value)]


@pytest.mark.parametrize(
    "report",
    [
        FluctuationReport("too_short_to_tell", None, ()),
        FluctuationReport("of a later version", "odd", (), history={"loss": [None, None]}),
        FluctuationReport.from_history({"loss": [math.nan, 1.0]}),
        FluctuationReport.from_history({"val_accuracy": [None, 0.5, None, 1.0]}, 3),
        FluctuationReport.from_history({"val_accuracy": [1.0]}, 3, best_epoch=1),
        FluctuationReport.from_history({"loss": [0.0] * 30, "val_loss": [0.0] * 30}),
        FluctuationReport.from_history({"loss": [1e300] * 29 + [math.inf]}),
    ],
    ids=["no history", "foreign", "NaN", "gaps", "one epoch", "flat", "huge"],
)
def test_every_report_has_a_page_and_a_fragment(report):
    for page in (make_page(report), make_fragment(report)):
        Reader(page)
        assert not re.search(r'="[^"]*\b(nan|inf)\b', page)
    Reader(make_page(FluctuationReport.from_dict(report.to_dict())))


def test_ten_thousand_epochs_fit_and_keep_their_extremes():
    t = np.arange(10_000)
    loss = 0.3 + 1.5 * np.exp(-t / 900)
    history = {"loss": loss.tolist(), "val_accuracy": (1 - loss / 2).tolist()}
    history["val_accuracy"][7777] = 0.011
    report = FluctuationReport("normal", None, (), n_epochs=10_000, n_val=300, history=history)
    page = make_page(report)
    assert len(page) < 2_000_000
    accuracy = Panel(page, "accuracy by epoch")
    assert min(y for _, y in accuracy.line("validation dense")) == pytest.approx(1.1, abs=0.5)


# --- text and pictures agree --------------------------------------------------------------------


class Panel:
    """The axes of a picture; the tick labels are used to convert pixels to values."""

    def __init__(self, page, title):
        self.svg = re.search(f'(?s)<svg [^>]*aria-label="{title}".*?</svg>', page)[0]
        self.scale = {}
        for place, name in (('"end" dominant-baseline', "y"), ('"middle"', "x")):
            tick = f'<text class="tick" text-anchor={place}([^>]*)>([^<]+)</text>'
            labels = re.findall(tick, self.svg)
            at = [float(re.search(f' {name}="([^"]+)"', found)[1]) for found, _ in labels]
            values = [float(words.replace("\u202f", "")) for _, words in labels]
            self.scale[name] = np.polyfit(at, values, 1)

    def points(self, found):
        pixels = np.array([pair.split(",") for pair in found.split()], float)
        x, y = (np.polyval(self.scale[name], pixels[:, i]) for i, name in enumerate("xy"))
        return np.column_stack([x, y])

    def line(self, style):
        return self.points(re.search(f'<polyline class="{style}" points="([^"]+)"', self.svg)[1])

    def area(self, style):
        return self.points(re.search(f'<polygon class="{style}" points="([^"]+)"', self.svg)[1])

    def upright(self, style):
        found = re.search(f'<line class="{style}" x1="([^"]+)"', self.svg)[1]
        return float(np.polyval(self.scale["x"], float(found)))


@pytest.mark.parametrize("name", SAMPLES)
def test_what_the_page_says_is_what_it_draws(name):
    report = SAMPLES[name]()
    page = make_page(report)
    text = text_of(page)
    loss, accuracy = Panel(page, "loss by epoch"), Panel(page, "accuracy by epoch")
    # the epoch that was kept
    (said,) = {int(epoch) for epoch in re.findall(r"weights kept: epoch (\d+)", text)}
    assert said == report.best_epoch
    assert f"epoch {said} of {report.n_epochs}" in text
    for panel in (loss, accuracy):
        assert panel.upright("kept") == pytest.approx(said, abs=0.2)
    # the epoch with the lowest validation loss
    lowest = int(re.search(r"lowest validation loss: epoch (\d+)", text)[1])
    curve = loss.line("validation")
    assert curve[curve[:, 1].argmin(), 0] == pytest.approx(lowest, abs=0.2)
    # the curve contains every epoch
    np.testing.assert_allclose(accuracy.line("validation")[:, 0], np.arange(1, 151), atol=0.2)
    drawn, given_ = accuracy.line("validation")[:, 1], report.history["val_accuracy"]
    np.testing.assert_allclose(drawn, 100 * np.array(given_), atol=0.5)
    # the width of the band of sampling noise, at the last epoch
    points = float(re.search(r"±([\d.]+) points at the last epoch", text)[1])
    band = accuracy.area("band")
    last = band[np.isclose(band[:, 0], report.n_epochs, atol=0.2), 1]
    assert np.ptp(last) / 2 == pytest.approx(points, abs=0.4)
    floor = report.statistics["val_accuracy_noise"].floor
    assert points == pytest.approx(1.96 * 100 * floor, rel=0.15)


def test_important_epochs_are_marked_in_the_curve():
    history = history_of("calm")
    history["loss"][20] += 3.0
    history["loss"][30] += 3.0
    page = make_page(FluctuationReport.from_history(history, 400, n_classes=6, best_epoch=38))
    assert page.count("<title>spike in epoch") == 2
    assert "<title>spike in epoch 21: " in page
    assert make_page(make_report("diverged")).count("<title>loss: no number</title>") == 15


def test_one_explosion_does_not_flatten_the_rest_and_is_noted():
    drawn = draw_curves({"loss": [1.0] * 20 + [500.0] + [0.5] * 9})
    assert drawn.panels[0].y_limits[1] < 10
    assert "1 value above, up to 500" in drawn.pictures[0]


# --- verdict, causes, what to do ----------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_every_cause_is_a_card_in_order_with_its_evidence(name):
    report = SAMPLES[name]()
    cards = re.findall(r'(?s)<li class="cause">(.*?)</div></li>', make_page(report))
    assert len(cards) == len(report.causes)
    for card, cause in zip(cards, report.causes, strict=True):
        said = html.unescape(" ".join(re.sub("<[^>]+>", " ", card).split()))
        assert cause.title in said
        assert cause.evidence in said


def test_the_figure_describes_its_numbers():
    numbers = {"epoch": [1, 2, 3], "value": [3.0, 2.0, 9.0], "trend": [3.0] * 3, "band": 1.5}
    report = replace(make_report("hot"), evidence={"fixed_loss": numbers})
    assert "1 of 3 epochs lie outside the band" in text_of(make_page(report))
    nothing = {**numbers, "value": [math.nan] * 3}
    assert "outside the band" not in make_page(replace(report, evidence={"fixed_loss": nothing}))


def test_a_change_is_shown_as_a_table_and_as_code_or_a_command():
    report = restless()
    page = make_page(report)
    code = re.search('(?s)<code id="code-repair">(.+?)</code>', page)[1]
    typed, clf = {}, SimpleNamespace(set_params=lambda **arguments: typed.update(arguments))
    exec(html.unescape(code), {"clf": clf})
    assert typed == report.causes[0].recommendation
    (row,) = re.findall('(?s)<tr><th scope="row"><code>.*?</tr>', page)
    assert text_of(row) == 'lr_schedule "cosine"'
    text = text_of(page)
    assert "untested The likeliest cause calls for this:" in text
    assert "Fit the default settings, and compare held-out accuracy:" in text
    shell = text_of(make_page(report, rerun_command({})))
    assert "sensorseq train H5 -o MODEL --set lr_schedule=cosine" in shell
    assert "set_params" not in shell


def test_a_calm_network_may_still_be_less_accurate_than_the_defaults():
    (step,) = list_steps(SAMPLES["expected"]())
    assert step.text.startswith("Keep the settings, or fit the defaults to see if the data allow")
    assert step.code.startswith("better = SensorLSTMClassifier()")
    assert step.gain.startswith("The accuracy on 25 validation windows is known to")


def test_the_defaults_come_first_and_then_advice_in_words():
    first, step = list_steps(replace(restless(), causes=CAUSES[2:3]))
    assert (first.name, first.gain) == ("defaults", BY_DEFAULTS)
    assert step.text == CAUSES[2].advice
    assert not step.arguments
    assert not step.code


@pytest.mark.parametrize(
    ("value", "typed"),
    [
        (0.003, "0.003"),
        ("cosine", "cosine"),
        (None, "none"),
        (True, "true"),
        (np.float64(2.5), "2.5"),
        ((0.9, 0.999), "'optimizer_params=[0.9, 0.999]'"),
        ({"a": 1}, "'optimizer_params={a = 1}'"),
        ("two words", "'optimizer_params=\"two words\"'"),
    ],
)
def test_a_setting_of_the_command_line_is_read_as_the_value(value, typed):
    option = settings_as_options({"optimizer_params": value})
    assert option in (f" --set optimizer_params={typed}", f" --set {typed}")
    read = read_settings(shlex.split(option)[1:])["optimizer_params"]
    assert read == (list(value) if isinstance(value, tuple) else value)


def test_the_lamp_is_that_of_the_verdict():
    lamps = {name: color_of(make_report(name)) for name in VERDICTS}
    bad = dict.fromkeys(("hot", "diverged", "guessing"), "bad")
    assert lamps == {"calm": "good", "short": "", **bad}
    normal = {"verdict": "normal", "severity": None}
    fault = Cause("data_bug", "", sources={"data": "There are copies."})
    for generalization, causes in (("overfitting", ()), (None, (fault,))):
        found = SimpleNamespace(**normal, generalization=generalization, causes=causes)
        assert color_of(found) == "wait"


# --- the history, to_html and the notebook ------------------------------------------------------


def history_in(page):
    found = re.search('download="history.csv" href="data:text/csv;base64,([^"]+)"', page)
    return base64.b64decode(found[1]).decode()


def test_the_file_in_the_page_is_the_history(report):
    rows = list(csv.DictReader(io.StringIO(history_in(make_page(report)))))
    assert list(rows[0]) == list(report.history)
    for name, values in report.history.items():
        np.testing.assert_array_equal([float(row[name]) for row in rows], values)


def test_the_code_in_the_page_makes_the_page(in_tmp_path, report):
    page = make_page(report)
    Path("history.csv").write_text(history_in(page))
    exec(html.unescape(re.search('(?s)<code id="code-foreign">(.+?)</code>', page)[1]), {})
    assert Path("report.html").read_text() == page


def test_a_history_too_long_for_the_page_is_noted():
    rng = np.random.default_rng(0)
    history = {f"c{i}": rng.random(40_000).tolist() for i in range(5)}
    page = make_page(FluctuationReport("normal", None, (), history=history))
    assert "history.csv is too long to be included here" in text_of(page)
    assert len(page) < 100_000


def test_a_page_is_written_completely_or_not_at_all(tmp_path):
    report = make_report("hot")
    path = tmp_path / "report.html"
    assert report.to_html(path) is None
    assert path.read_bytes() == make_page(report).encode()
    with pytest.raises(OutputError, match=r"folder .*nowhere is missing; create it"):
        report.to_html(tmp_path / "nowhere" / "report.html")


def test_a_notebook_gets_the_top_of_the_page_without_a_script(report):
    read = Reader(in_notebook(report))
    assert not {"script", "button"} & set(read.tags)
    assert not [name for name, _ in read.attributes if name in ("id", "src", "href")]
    for sentence in report.explanation:
        assert sentence.replace("+-", "±") in read.text


def test_a_table_names_units_floors_intervals_and_chance():
    statistics = {
        "val_accuracy_noise": Statistic(
            0.074, "fraction", 0.031, "of 42 windows", 0.06, 0.09, 1e-5
        ),
        "made_up": Statistic(math.inf, "nats"),
    }
    text = text_of(make_page(FluctuationReport("normal", None, (), (), statistics)))
    assert "val accuracy noise 7.4 points 3.1 points: of 42 windows" in text
    assert "6 to 9 points < 0.001" in text
    assert "made up infinite" in text
