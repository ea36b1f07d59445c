"""Tutorials become notebooks, which run and show their reports; the site has them as pages."""

import re

import pytest
from checkout import ROOT, script

TUTORIALS = {p.stem: p for p in (ROOT / "docs" / "tutorials").glob("*.md") if p.stem != "README"}


@pytest.fixture(scope="module")
def notebooks():
    for package in ("ipykernel", "jupytext", "nbclient"):
        pytest.importorskip(package, reason="needs requirements/notebooks.txt")
    return script(ROOT / "scripts" / "make_notebooks.py")


@pytest.mark.parametrize("name", sorted(TUTORIALS))
def test_a_tutorial_keeps_its_code_and_gets_its_reports(notebooks, name):
    text = TUTORIALS[name].read_text("utf-8")
    cells = [c.source for c in notebooks.convert(text).cells if c.cell_type == "code"]
    code = re.findall(r"^```(?:python|sh)\n(.*?)\n```$", text, re.M | re.S)
    reports = re.findall(r"^`print\((\S+)\)`", text, re.M)
    assert sorted(c.removeprefix("%%sh\n") for c in cells) == sorted([*code, *reports])
    assert "your figures may differ" not in str(cells)


@pytest.mark.long
def test_a_notebook_runs_and_becomes_a_page(notebooks):
    text = (
        "# T\n\n[a](../look.md) [b](no_leaks.md)\n\n```python\nfrom sensorseq import"
        " FluctuationReport\n\nloss = [2 / (n + 1) for n in range(20)]\nreport ="
        " FluctuationReport.from_history({'loss': loss, 'val_loss': loss}, 50)\nprint(6 * 7)\n```\n"
        "\n```text\n0\n```\n\n`print(report)` is more.\n\n```sh\nsensorseq --version\n```\n"
    )
    notebook = notebooks.convert(text)
    notebooks.execute(notebook)
    page = notebooks.as_page(notebook, "t")
    assert "```text\n42\n```" in page
    assert "```text\n0\n" not in page
    assert "[a](../docs/look.md) [b](../docs/tutorials/no_leaks.md)" in page
    assert '<iframe src="data:text/html' in page
    assert re.search(r"```sh\nsensorseq --version\n```\n\n```text\nsensorseq \d", page)
