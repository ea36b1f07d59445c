"""docs/fluctuation_reports.md is what the recorded runs print."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "report_texts.py"


def test_the_page_of_reports_is_what_the_runs_print():
    spec = importlib.util.spec_from_file_location("report_texts", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text("utf-8") == script.write_page()
    assert script.PAGE.read_text("utf-8").count("\nProblem ") == 15
