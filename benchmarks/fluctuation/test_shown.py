"""What README and docs show of the fluctuation benchmark is what its results say."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
import readme_table  # noqa: E402
from fluctuation import pictures as pictures  # noqa: E402
from fluctuation import repair as repair  # noqa: E402
from fluctuation import rows as table  # noqa: E402
from fluctuation import shown as shown  # noqa: E402
from fluctuation import simple_repairs as simple  # noqa: E402
from fluctuation.answers import NORMAL, UNKNOWN  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "fluctuation.json"


def rate(row, judge, hits, runs=100, kind="all"):
    return table.rate_row(row, judge, kind, [k < hits for k in range(runs)], range(runs))


def cost(judge, kind, value):
    spread = [0.9 * value, 1.1 * value]
    held = {"row": table.COST, "judge": judge, "kind": kind, "runs": 80, "value": value}
    return {**held, "cluster_bootstrap": spread}


def certainty(judge, *, error=0.05, runs=60):
    bins = [
        {"runs": 20, "confidence": 0.25, "right": 0.2, "wilson": [0.1, 0.4]},
        {"runs": 40, "confidence": 0.95, "right": 1.0, "wilson": [0.9, 1.0]},
    ]
    held = {"judge": judge, "runs": runs, "expected_error": error}
    return {**held, "bins": bins if runs else []}


def made_up():
    """Return results in the form of the benchmark's file."""
    ours, mixed = (table.STATISTICS, table.PROBED), {"optimizer": {"normal": 1, "optimizer": 5}}
    counts = {"normal": {"normal": 30, "learning_rate": 2}, **mixed}
    return {
        "environment": {
            "runs_judged": 394,
            "runs_probed": 210,
            "left_out": {"healthy: did not clearly learn": 3, "injected: twin": 4},
            "reliability": [
                *(certainty(judge, error=0.05 * k) for k, judge in enumerate(ours, 1)),
                certainty(table.CONFIGURATION, error=0.0, runs=0),
            ],
            "confusion": {**dict.fromkeys(ours, counts), table.CONFIGURATION: {}},
        },
        "rows": [
            rate(table.TOP_1, table.STATISTICS, 70),
            rate(table.TOP_1, table.STATISTICS, 1, 2, "optimizer"),
            rate(table.TOP_1, table.PROBED, 99),
            rate(table.TOP_2, table.PROBED, 50),
            rate(table.TOP_1, table.CONFIGURATION, 20),
            rate(table.PROVED, table.PROBED, 30, 30),
            rate(table.REPAIRED, repair.OURS, 91),
            rate(table.REPAIRED, repair.OURS, 60, 120, "also where no argument can"),
            rate(table.HARMED, repair.OURS, 30),
            rate(table.HARMED, repair.OURS, 20, 80, "where a fault came true"),
            rate(table.REPAIRED, simple.COSINE, 40),
            cost(table.PROBED, "median", 0.5),
            cost(table.PROBED, "95th percentile", 1.05),
            cost(table.QUICK, "95th percentile", 0.4),
        ],
    }


BOLD_NO = "**no**"


def line_of(text, start):
    found = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    assert len(found) == 1, start
    return [cell.strip() for cell in found[0].strip("|").split("|")]


@pytest.mark.parametrize(
    ("start", "wanted", "measured", "runs", "reached"),
    [
        ("first cause right, statistics alone", "at least 65 %", "70.0 %", "100", "yes"),
        ("first cause right, with probes", "at least 80 %", "99.0 %", "100", "**yes**"),
        ("one of the first two right, with probes", "at least 93 %", "50.0 %", "100", BOLD_NO),
        ("what is called proved is right", "at least 95 %", "100.0 %", "30", "yes"),
        ("harmed by the repair", "at most 2 %", "30.0 %", "100", BOLD_NO),
        (
            "cost of the probes, median",
            "at most 0.7x the fit",
            "0.50x [0.45, 0.55]",
            "80",
            "**yes**",
        ),
        ("cost of the probes, 95th percentile", "at most 1.0x the fit", "1.05x", "80", "no"),
        (
            "cost of the quick probes, 95th percentile",
            "at most 0.3x the fit",
            "0.40x",
            "80",
            "**no**",
        ),
        ("error of the confidence, with probes", "at most 0.08", "0.100", "60", "no"),
        ("same first answer from every seed", "at least 90 %", "not measured", "", ""),
    ],
)
def test_each_figure_stands_beside_what_was_wanted(start, wanted, measured, runs, reached):
    cells = line_of(shown.fluctuation_table(made_up()), start)
    assert cells[1] == wanted
    assert cells[2].startswith(measured)
    assert cells[3:] == [runs, reached]


def test_a_rate_of_all_is_not_without_doubt():
    row = rate(table.PROVED, table.PROBED, 30, 30)
    assert row["cluster_bootstrap"] == [1.0, 1.0]
    assert "100.0 % [88.6, 100.0]" in shown.fluctuation_table(made_up())


def test_the_arguments_alone_and_simple_repairs_stand_beside_ours():
    text = shown.fluctuation_table(made_up())
    assert line_of(text, table.CONFIGURATION)[1].startswith("20.0 %")
    assert line_of(text, table.CONFIGURATION)[2] == ""
    ours = line_of(text, repair.OURS)
    assert [cell.split(" [")[0] for cell in ours[1:]] == ["91.0 %", "50.0 %", "", "25.0 %"]
    assert line_of(text, simple.COSINE)[1].startswith("40.0 %")
    assert f"| {simple.UMLAUT} |" not in text  # not in the file
    assert all((ROOT / "docs" / link).exists() for link in re.findall(r"\]\(([^)]+)\)", text))
    assert "394 runs" in text
    assert "7 left out" in text
    assert len(text.splitlines()) < 45


def test_tables_that_belong_together_have_as_many_cells_in_every_line():
    text = shown.fluctuation_table(made_up())
    for block in text.split("\n\n"):
        counts = {line.count("|") for line in block.splitlines() if line.startswith("|")}
        assert len(counts) <= 1, block


def test_the_page_of_results_names_its_pictures_and_errors():
    text = shown.fluctuation_details(made_up())
    assert set(re.findall(r"\(images/(\w+)\.png\)", text)) == set(pictures.PICTURES)
    assert "ours, probes 0.100 over 60 runs" in text
    assert table.CONFIGURATION not in text  # it was never asked


def test_the_judges_of_the_pictures_are_those_of_the_table():
    assert pictures.OURS == (table.STATISTICS, table.PROBED)
    assert pictures.ENDS == (NORMAL, UNKNOWN)


@pytest.mark.parametrize(
    ("marker", "say"),
    [
        ("fluctuation", shown.fluctuation_table),
        ("fluctuation_details", shown.fluctuation_details),
    ],
)
def test_a_page_holds_a_table_only_where_there_are_results(tmp_path, marker, say):
    page = f"a\n<!-- bench:{marker} -->\n{{}}<!-- /bench -->\nb\n"
    stale = page.format("| 99 % |\n")
    assert readme_table.with_tables(stale, tmp_path) == page.format("")
    (tmp_path / "fluctuation.json").write_text(json.dumps(made_up()))
    full = readme_table.with_tables(stale, tmp_path)
    assert full == page.format(say(made_up()) + "\n")
    assert readme_table.with_tables(full, tmp_path) == full


@pytest.mark.parametrize("page", readme_table.PAGES)
def test_every_page_is_what_the_results_say(page):
    text = (ROOT / page).read_text()
    markers = [name for _, name, _ in readme_table.MARKED.findall(text)]
    assert markers == list(readme_table.PAGES[page])
    assert readme_table.with_tables(text) == text, "run benchmarks/readme_table.py"


def test_the_pictures_are_of_the_results_there_are():
    for name, (key, _) in pictures.PICTURES.items():
        path = pictures.IMAGES / f"{name}.png"
        assert path.exists() == RESULTS.exists(), "run benchmarks/fluctuation/pictures.py"
        if path.exists():
            figures = json.loads(RESULTS.read_text())["environment"][key]
            assert pictures.shown_in(path) == pictures.digest_of(figures), path.name


def test_pictures_are_drawn_and_hold_what_they_show(tmp_path):
    results = made_up()
    pictures.draw_all(results, tmp_path)
    for name, (key, _) in pictures.PICTURES.items():
        path = tmp_path / f"{name}.png"
        assert pictures.shown_in(path) == pictures.digest_of(results["environment"][key])
        assert path.stat().st_size < 120_000


def test_the_picture_of_confidence_has_a_panel_for_each_judge_and_the_points_of_its_bins():
    figure = pictures.draw_reliability(made_up()["environment"])
    assert [axis.get_title() for axis in figure.axes] == [
        "ours, statistics: error 0.050",
        "ours, probes: error 0.100",
    ]
    for axis in figure.axes:
        points = next(line for line in axis.lines if line.get_marker() == "o")
        assert points.get_xydata().tolist() == [[0.25, 0.2], [0.95, 1.0]]
        assert [text.get_text() for text in axis.texts] == ["20", "40"]
    pictures.plt.close(figure)


def test_the_picture_of_confusion_has_every_count_in_its_place():
    figure = pictures.draw_confusion(made_up()["environment"])
    axis = figure.axes[0]
    columns = [label.get_text() for label in axis.get_xticklabels()]
    rows = [label.get_text() for label in axis.get_yticklabels()]
    assert rows == ["optimizer", "normal"]
    assert columns == ["learning_rate", "optimizer", "normal"]
    placed = {
        (rows[int(text.get_position()[1])], columns[int(text.get_position()[0])]): text.get_text()
        for text in axis.texts
    }
    assert placed == {
        ("normal", "normal"): "30",
        ("normal", "learning_rate"): "2",
        ("optimizer", "optimizer"): "5",
        ("optimizer", "normal"): "1",
    }
    assert axis.get_title() == "ours, statistics: causes 5 of 6, normal 30 of 32 on the diagonal"
    pictures.plt.close(figure)


def test_results_in_which_nothing_was_answered_are_drawn_as_well(tmp_path):
    results = made_up()
    results["environment"] |= {"reliability": [], "confusion": {}}
    results["rows"] = []
    pictures.draw_all(results, tmp_path)
    assert shown.fluctuation_table(results).count(shown.NOT_MEASURED) == 17
