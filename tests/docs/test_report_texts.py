"""docs/fluctuation_reports.md is what the recorded runs print."""

from pathlib import Path

from checkout import script

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "report_texts.py"


def test_the_page_of_reports_is_what_the_runs_print():
    module = script(SCRIPT)
    assert module.PAGE.read_text("utf-8") == module.write_page()
    assert module.PAGE.read_text("utf-8").count("\nProblem ") == 7
