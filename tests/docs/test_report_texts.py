"""docs/fluctuation_reports.md shows the output for the recorded runs."""

from pathlib import Path

from checkout import script

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "report_texts.py"


def test_the_page_of_reports_agrees_with_the_output_of_the_runs():
    module = script(SCRIPT)
    assert module.PAGE.read_text("utf-8") == module.write_page()
    assert module.PAGE.read_text("utf-8").count("\nProblem ") == 2
