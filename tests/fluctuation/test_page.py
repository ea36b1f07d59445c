import base64
import csv
import io
import json
import math
import re

import numpy as np
import pytest
from hypothesis import strategies as st
from page_reader import Reader
from sample_reports import restless

from sensorseq.errors import OutputError
from sensorseq.fluctuation.causes.cause import Cause, NotTested, Probes, Suspect, Trial
from sensorseq.fluctuation.page import make_fragment, make_page
from sensorseq.fluctuation.report import FluctuationReport
from sensorseq.fluctuation.run import Statistic
from sensorseq.fluctuation.statements import say
from sensorseq.html.style import scoped

HOSTILE = "</script></style><script>alert(1)</script>&\"'<img src=x onerror=alert(1)>"


def make_history(kind, n_epochs=40):
    rng = np.random.default_rng(0)
    loss = 0.4 + 1.4 * np.exp(-np.arange(n_epochs) / 5)
    swing = {"calm": 0.005, "hot": 0.2}.get(kind, 0.005) * rng.normal(size=n_epochs)
    level = 0.85 - 0.6 * np.exp(-np.arange(n_epochs) / 5)
    history = {
        "loss": loss + swing,
        "val_loss": 1.1 * loss + 0.8 * swing,
        "accuracy": np.clip(level - 0.4 * swing, 0, 1),
        "val_accuracy": np.clip(rng.binomial(60, level) / 60 - 0.6 * swing, 0, 1),
    }
    if kind == "diverged":
        history["loss"][25:] = math.nan
    if kind == "guessing":
        history = {"loss": 1.79 + swing, "accuracy": rng.binomial(300, 1 / 6, n_epochs) / 300}
    if kind == "short":
        history = {name: values[:4] for name, values in history.items()}
    return {name: values.tolist() for name, values in history.items()}


def make_report(kind, **facts):
    facts = {"n_val": 60, "n_train": 300, "n_classes": 6, "best_epoch": 3} | facts
    return FluctuationReport.from_history(make_history(kind), **facts)


VERDICTS = {
    "calm": "normal",
    "hot": "fluctuating",
    "diverged": "diverged",
    "guessing": "not_learning",
    "short": "too_short_to_tell",
}


@pytest.fixture(params=VERDICTS)
def report(request):
    report = make_report(request.param)
    assert report.verdict == VERDICTS[request.param]
    return report


# --- the page -----------------------------------------------------------------------------------


def test_the_page_needs_nothing_but_itself(report):
    page = make_page(report)
    read = Reader(page)
    assert not {"link", "img", "iframe", "object", "base", "form"} & set(read.tags)
    assert read.tags.count("script") == 1
    assert not [name for name, _ in read.attributes if name in ("src", "xlink:href", "srcset")]
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    links = [value for name, value in read.attributes if name == "href"]
    assert links
    assert all(link.startswith("data:") for link in links)
    assert not re.search(r"https?://|url\(|@import", page)
    assert len(page) < 150_000


def test_the_page_says_its_language_encoding_and_width(report):
    page = make_page(report)
    assert page.startswith('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">')
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    title = re.search("<title>(.+)</title>", page)[1]
    assert report.verdict.replace("_", " ") in title
    assert Reader(page).tags.count("h1") == 1


def test_all_that_the_report_says_is_there_without_scripts(report):
    text = Reader(re.sub("(?s)<script>.*?</script>", "", make_page(report))).text
    assert (
        f"{report.verdict.replace('_', ' ')}{f' ({report.severity})' if report.severity else ''}"
        in text
    )
    for sentence in report.explanation:
        assert sentence.replace("+-", "±") in text
    for question in ("Is this normal?", "Will more epochs help?", "Which weights are kept?"):
        assert question in text
    assert "What this report cannot tell" in text
    assert 'clf.fluctuation_.to_html("report.html")' in text
    hidden = {name for name, _ in Reader(make_page(report)).attributes} & {"hidden"}
    assert hidden  # the buttons, which do nothing without the script, and they alone
    assert set(re.findall(r"<(\w+)[^>]* hidden", make_page(report))) == {"button"}


def test_the_sections_come_in_the_order_they_matter():
    headings = re.findall("<h2>([^<]+)</h2>", make_page(restless()))
    assert headings == [
        "Every epoch as it was",
        "Causes",
        "What to change",
        "Probes",
        "Windows whose labels look wrong",
        "Not tested, and why",
        "More evidence",
        "What was measured",
        "What this report cannot tell",
        "Make this report",
        "The history",
    ]


def test_causes_are_told_only_where_there_are_some():
    bare = FluctuationReport(**vars(make_report("hot")) | {"causes": ()})
    assert "Causes" not in make_page(bare)
    assert "<h2>Causes</h2>" in make_page(restless())


def hostile_cause():
    arguments = {HOSTILE: HOSTILE}
    return Cause(
        HOSTILE, HOSTILE, 0.5, HOSTILE, HOSTILE, arguments, (arguments,), HOSTILE, (HOSTILE,)
    )


def hostile_probes():
    curves = {name: [[1.0, 2.0]] for name in ("A", "A'", "B", HOSTILE)}
    more = {"curves": curves}
    facts = (HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, HOSTILE, HOSTILE, HOSTILE)
    return Probes(
        1.0,
        trials=(Trial(*facts, **more), Trial(*facts)),
        not_tested=(NotTested(HOSTILE, HOSTILE, HOSTILE),),
        suspects=(Suspect(1, HOSTILE, HOSTILE, 0.1, HOSTILE, 1.0, [[1.0, 2.0]]),),
        repair={HOSTILE: HOSTILE},
        previous={HOSTILE: HOSTILE},
        note=HOSTILE,
    )


def test_names_are_text_whatever_they_hold():
    history = make_history("hot") | {HOSTILE: list(range(40))}
    report = FluctuationReport.from_history(history, 60, best_epoch=3)
    report = FluctuationReport(
        **vars(report)
        | {
            "statements": (say("text", text=HOSTILE), *report.statements),
            "statistics": {HOSTILE: Statistic(1.0, HOSTILE, 2.0, HOSTILE, 0.5, 1.5, 0.03)},
            "causes": (hostile_cause(),),
            "probes": hostile_probes(),
        }
    )
    for page, n_scripts in ((make_page(report), 1), (make_fragment(report), 0)):
        read = Reader(page)
        assert read.tags.count("script") == n_scripts
        assert "img" not in read.tags
        assert sum(HOSTILE in text for text in read.texts) > 8


def test_only_the_page_s_own_script_may_run():
    page = make_page(make_report("hot"))
    script = re.search("(?s)<script>(.*)</script>", page)[1]
    import hashlib

    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def test_ten_thousand_epochs_fit_and_keep_their_extremes():
    t = np.arange(10_000)
    loss = 0.3 + 1.5 * np.exp(-t / 900)
    history = {
        "loss": loss.tolist(),
        "val_loss": (1.1 * loss).tolist(),
        "val_accuracy": (1 - loss / 2).tolist(),
    }
    history["val_accuracy"][7777] = 0.011
    report = FluctuationReport(
        "normal", None, (), n_epochs=10_000, n_val=300, best_epoch=9000, history=history
    )
    page = make_page(report)
    assert len(page) < 2_000_000
    curves = page[page.index('aria-label="accuracy by epoch"') :]
    lowest = max(
        float(pair.split(",")[1])
        for pair in re.search('<polyline class="validation dense" points="([^"]+)"', curves)[
            1
        ].split()
    )
    floor = float(re.search('<line class="axis"[^>]* y1="([^"]+)"', curves)[1])
    assert lowest > floor - 12  # the one bad epoch, four points above the lower edge
    assert "The first 300 of 10000 epochs" in page


# --- the history --------------------------------------------------------------------------------


def downloads(page):
    found = re.findall(r'download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', page)
    return {name: base64.b64decode(content).decode() for name, content in found}


def test_the_files_in_the_page_are_the_history(report):
    files = downloads(make_page(report))
    columns = json.loads(files["history.json"])
    assert list(columns) == list(report.history)
    for name, values in report.history.items():
        np.testing.assert_array_equal(columns[name], values)
    rows = list(csv.DictReader(io.StringIO(files["history.csv"])))
    for name, values in report.history.items():
        np.testing.assert_array_equal([float(row[name]) for row in rows], values)


def test_the_code_in_the_page_makes_the_page(tmp_path, monkeypatch, report):
    page = make_page(report)
    (tmp_path / "history.csv").write_text(downloads(page)["history.csv"])
    monkeypatch.chdir(tmp_path)
    code = re.search('(?s)<code id="code-foreign">(.+?)</code>', page)[1]
    import html

    exec(html.unescape(code), {})
    assert (tmp_path / "report.html").read_text() == page


def test_a_history_too_long_to_carry_is_said_to_be():
    rng = np.random.default_rng(0)
    report = FluctuationReport(
        "normal", None, (), history={f"c{i}": rng.random(40_000).tolist() for i in range(5)}
    )
    page = make_page(report)
    assert downloads(page) == {}
    assert "history.csv and history.json: too long to be carried here" in Reader(page).text
    assert len(page) < 2_000_000


# --- figures ------------------------------------------------------------------------------------

EVIDENCE = {
    "fixed_loss": {"epoch": [1, 2, 3], "value": [3.0, 2.0, 9.0], "trend": [3.0] * 3, "band": 1.5},
    "batch_loss": {"step": [0, 1, 2], "value": [3.0, 2.0, 4.0], "floor": [0.5, 0.2, 0.1]},
    "common_mode": {"observed": 2.0, "null": [0.5, 0.8, 1.0, 1.2, 1.6], "by": "windows"},
    "flips": {"rate": [0.0, 0.0, 0.1, 0.5]},
    "grad_norm": {"step": list(range(50)), "value": [0.1, 1.0, 30.0, math.nan, 0.0] * 10},
    "overshoot": {"step": [0, 8, 16], "change": [-0.1, 0.2, -0.05]},
}
FIGURES = {  # what a caption says of the numbers above
    "fixed_loss": "1 of 3 epochs lie outside the band",
    "batch_loss": "drawing of windows alone",
    "common_mode": "on their own: 2. Shifted against each other in time, windows of this run reach"
    " as much in less than 1 % of all shuffles",
    "flips": "50 % of them never did; 25 % make half of all changes",
    "grad_norm": "the largest is 30: 30 times that",
    "overshoot": "1 of 3 made it worse",
}


def test_a_report_from_a_bare_history_has_no_empty_figures():
    report = make_report("hot")
    bare = FluctuationReport(**vars(report) | {"evidence": {}})
    assert "<figure" not in make_page(bare)
    assert "<h2>Evidence</h2>" not in make_page(bare)


@pytest.mark.parametrize("name", EVIDENCE)
def test_every_series_has_its_figure_and_a_caption(name):
    report = FluctuationReport(**vars(make_report("hot")) | {"evidence": {name: EVIDENCE[name]}})
    page = make_page(report)
    Reader(page)
    assert FIGURES[name] in Reader(page).text
    assert page.count("<figure>") == page.count("<figcaption>") == 1
    assert "nan" not in "".join(re.findall('points="([^"]+)"', page))


def test_shuffles_that_tie_with_the_run_count_as_reaching_as_much():
    null = [1.0] * 97 + [1.7] * 4
    evidence = {"common_mode": {"observed": 1.7, "null": null, "by": "groups"}}
    page = make_page(FluctuationReport("normal", None, (), evidence=evidence))
    assert "groups of this run reach as much in 4 % of all shuffles" in Reader(page).text


def test_what_no_one_should_miss_is_marked_in_the_curve():
    history = make_history("calm") | {}
    history["loss"][20] += 3.0
    history["loss"][30] += 3.0
    report = FluctuationReport.from_history(history, 400, n_classes=6, best_epoch=38)
    page = make_page(report)
    lowest = int(np.argmin(history["val_loss"])) + 1
    assert page.count("<title>spike in epoch") == 2
    assert "<title>spike in epoch 21: " in page
    assert "weights kept: epoch 38" in page
    assert f"lowest validation loss: epoch {lowest}" in page
    assert "95 % of the sampling noise of 400 windows" in page


def test_a_loss_that_is_no_number_is_marked_not_dropped():
    page = make_page(make_report("diverged"))
    assert page.count("<title>loss: no number</title>") == 15


@pytest.mark.parametrize(
    "report",
    [
        FluctuationReport("too_short_to_tell", None, (say("no_history"),)),
        FluctuationReport("normal", None, ()),
        FluctuationReport(
            "of a later version", "odd", (say("of_later"),), history={"loss": [None, None]}
        ),
        FluctuationReport.from_history({"loss": [math.nan, 1.0]}),
        FluctuationReport.from_history({"val_accuracy": [None, 0.5, None, 1.0]}, 3),
        FluctuationReport.from_history({"val_accuracy": [1.0]}, 3, best_epoch=1),
        FluctuationReport.from_history({"loss": [0.0] * 30, "val_loss": [0.0] * 30}),
        FluctuationReport.from_history({"loss": [1e300] * 29 + [math.inf]}),
    ],
    ids=["no history", "nothing", "foreign", "NaN", "gaps", "one epoch", "flat", "huge"],
)
def test_every_report_has_a_page_a_fragment_and_a_print(report):
    for page in (make_page(report), make_fragment(report)):
        Reader(page)
        assert not re.search(r'="[^"]*\b(nan|inf)\b', page)
    assert FluctuationReport.from_dict(report.to_dict()).explanation == report.explanation
    Reader(make_page(FluctuationReport.from_dict(report.to_dict())))


def test_a_table_names_units_floors_intervals_and_chance():
    statistics = {
        "val_accuracy_noise": Statistic(
            0.074, "fraction", 0.031, "of 42 windows", 0.06, 0.09, 1e-5
        ),
        "made_up": Statistic(math.inf, "nats"),
    }
    text = Reader(make_page(FluctuationReport("normal", None, (), (), statistics))).text
    assert "validation accuracy: noise per epoch 7.4 points 3.1 points: of 42 windows" in text
    assert "6 to 9 points < 0.001" in text
    assert "made up infinite" in text


# --- to_html and the notebook -------------------------------------------------------------------


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    report = make_report("hot")
    path = tmp_path / "report.html"
    assert report.to_html(path) is None
    assert path.read_bytes() == make_page(report).encode()
    with pytest.raises(OutputError, match=r"folder .*nowhere is missing; create it"):
        report.to_html(tmp_path / "nowhere" / "report.html")


def test_a_notebook_gets_the_top_of_the_page_and_no_script(report):
    fragment = report._repr_html_()
    read = Reader(fragment)
    assert "script" not in read.tags
    assert not [name for name, _ in read.attributes if name in ("id", "src", "href")]
    for sentence in report.explanation:
        assert sentence.replace("+-", "±") in read.text


def test_the_styles_of_a_fragment_stay_inside_of_it():
    style = scoped(".sensorseq-report")
    selectors = re.findall(r"(?:^|[{}])\s*([^{}@]+)\{", style)
    assert len(selectors) > 50
    for selector in selectors:
        for part in selector.split(","):
            *_, last = re.split(r"(?=\.sensorseq-report)", part.strip())
            assert last.startswith(".sensorseq-report"), part


# --- print --------------------------------------------------------------------------------------

ODD = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=300)
COUNTS = st.none() | st.integers(0, 10**40)
