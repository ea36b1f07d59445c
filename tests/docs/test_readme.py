"""The numbers in the README agree with their sources, and its code runs."""

import json
import re
import sys
from pathlib import Path

import pytest
from checkout import ROOT, code_in, script
from page_links import leads_somewhere

from sensorseq import SensorLSTMClassifier

README = (ROOT / "README.md").read_text()

ENVIRONMENT = {"processor": "P", "cores": 2, "isa": "avx9", "torch": "2.99"}


@pytest.fixture(scope="module")
def tables():
    path = ROOT / "benchmarks" / "readme_table.py"
    sys.path.insert(0, str(path.parent))
    return script(path)


def sentences(page):
    """Return the sentences of a page, without code, tables and the targets of links."""
    text = re.sub(r"^(```.*?^```|    .*?|\|.*?|<!--.*?-->)$", "\n", page, flags=re.M | re.S)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return [s for part in re.split(r"\n\n|\n- ", text) for s in re.split(r"(?<=[.?!])\W*\s", part)]


def test_it_can_be_read_in_two_minutes():
    # the list of measurements grows by a line for each date on which results were measured
    text = re.sub(r"<!-- bench:measured -->.*?<!-- /bench -->\n", "", README, flags=re.DOTALL)
    assert len(text.splitlines()) <= 117
    long = [s for s in sentences(README) if len(re.findall(r"[\w.,'/+-]+|%", s)) > 25]
    assert long == []


def test_its_pictures_are_small():
    pictures = re.findall(r"\((docs/images/[^)]*)\)", README)
    assert [Path(name).stem for name in pictures] == ["page", "look", "timeline"]
    assert all((ROOT / name).stat().st_size < 150_000 for name in pictures)


def test_the_benchmark_tables_agree_with_the_results(tables):
    pages = {name: (ROOT / name).read_text() for name in tables.PAGES}
    assert "README.md" in pages
    assert "cpu" in {name for _, name, _ in tables.MARKED.findall(pages["docs/benchmarks.md"])}
    for name, page in pages.items():
        assert tables.with_tables(page) == page, f"{name}: run python benchmarks/readme_table.py"


PAGE = """<!-- bench:cpu -->
table
<!-- /bench -->
<!-- bench:gpu -->
<!-- /bench -->
<!-- bench:verdict -->
table
<!-- /bench -->
<!-- bench:measured -->
{}<!-- /bench -->
"""


def listed(tables, folder, monkeypatch, **environments):
    """Return the list of measurements on a page with tables of these results."""
    for name, facts in environments.items():
        monkeypatch.setitem(tables.TABLES, name, lambda results: "table")
        (folder / f"{name}.json").write_text(json.dumps({"environment": facts, "rows": []}))
    page = tables.with_tables(PAGE.format("- stale\n"), folder)
    head, tail = PAGE.split("{}")
    assert page.startswith(head)
    assert page.endswith(tail)
    return page.removeprefix(head).removesuffix(tail).splitlines()


def test_a_page_lists_the_commits_dates_and_processors_that_are_stored(
    tables, tmp_path, monkeypatch
):
    first = {"digest": "d", "commit": "1234567", "date": "2026-12-02", "processor": "P"}
    second = {**first, "commit": "unknown", "date": "2026-12-03"}
    of_first = "- Measured on 2026-12-02 at commit 1234567. P: `cpu.json`"
    of_second = "- Measured on 2026-12-03 at commit unknown. P: `verdict.json`."
    for other, lines in (
        ({**first, "digest": "e"}, [f"{of_first}, `verdict.json`."]),
        ({**first, "processor": "Q"}, [f"{of_first}; Q: `verdict.json`."]),
        (second, [f"{of_first}.", of_second]),
        ({**second, "measurements": [first, second]}, [f"{of_first}, `verdict.json`.", of_second]),
    ):
        assert listed(tables, tmp_path, monkeypatch, cpu=first, verdict=other) == lines


def test_a_page_says_that_results_without_a_digest_are_of_another_version(
    tables, tmp_path, monkeypatch
):
    old = {"commit": "1234567-dirty", "processor": "P"}
    summary = {"commit": "7654321", "processor": "Q", "measured": {"processor": ["P", "R"]}}
    words = "- Measured before 30 November 2026, on another version."
    lines = listed(tables, tmp_path, monkeypatch, cpu=old, verdict=summary)
    assert lines == [f"{words} P: `cpu.json`; P and R: `verdict.json`."]
    rows = {"measurements": [{}, {"commit": "7654321"}]}  # of earlier runs
    lines = listed(tables, tmp_path, monkeypatch, cpu=rows, verdict=old)
    assert lines == [f"{words} a processor that was not noted: `cpu.json`; P: `verdict.json`."]


def test_results_of_other_code_can_be_listed(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    script = tmp_path / "benchmarks" / "bench_cpu.py"
    script.parent.mkdir()
    script.write_text("")
    now = {"digest": tables.digest_of(script), "benchmark": "benchmarks/bench_cpu.py"}
    for name, facts in (("cpu", now), ("fit", {}), ("verdict", {"measurements": [now, {}]})):
        text = json.dumps({"environment": facts, "rows": []})
        (tmp_path / f"{name}.json").write_text(text)
    assert tables.differing(tmp_path) == ["fit.json", "verdict.json"]
    script.write_text("#")
    assert tables.differing(tmp_path) == ["cpu.json", "fit.json", "verdict.json"]


def test_every_page_has_its_tables_and_one_list_of_measurements(tables):
    for name, shown in tables.PAGES.items():
        marked = [marker for _, marker, _ in tables.MARKED.findall((ROOT / name).read_text())]
        assert sorted(marked) == sorted((*shown, "measured")), name


def test_every_table_is_on_one_page(tables):
    shown = [marker for markers in tables.PAGES.values() for marker in markers]
    assert sorted(shown) == sorted(tables.TABLES)


def one_rate(row, rate, runs, judge="ours"):
    held = {"row": row, "judge": judge, "kind": "all", "runs": runs, "rate": rate}
    return {**held, "hits": round(rate * runs)}


def write_results(folder):
    """Write invented results, including rows that must not affect the README's numbers."""
    step, other = "training, train_epoch", {"threads": 2, "ratio": 99.0}
    cpu = [
        *({"what": step, "threads": 1, "ratio": ratio} for ratio in (2.0, 8.0)),
        {"what": "inference", "threads": 1, "ratio": 1.25},
        {"what": step, **other},
        {"what": "inference", **other},
    ]
    fit = [
        *({"what": "fit", "peer": "torch", "threads": 1, "ratio": ratio} for ratio in (1.0, 9.0)),
        {"what": "fit", "peer": "torch", **other},
        {"what": "fit", "peer": "keras", "threads": 1, "ratio": 99.0},
    ]
    verdict = [
        one_rate(row, rate, runs, judge)
        for judge, less in (("ours", 0.0), ("AutoTrainer", 0.25))
        for row, rate, runs in (
            ("made faulty", 0.9, 10),
            ("plain healthy", 0.4, 20),
            ("noisy but normal", 0.3, 30),
        )
        for rate in (rate - less,)
    ]
    rows = {"cpu": cpu, "fit": fit, "verdict": verdict}
    for name, of_table in rows.items():
        text = json.dumps({"environment": ENVIRONMENT, "rows": of_table})
        (folder / f"{name}.json").write_text(text)


HEADLINES = "<!-- bench:headlines -->\n{}<!-- /bench -->\n"


def test_the_lines_on_speed_and_verdict_agree_with_the_results(tables, tmp_path):
    write_results(tmp_path)
    text = " ".join(tables.with_tables(HEADLINES.format(""), tmp_path).split())
    assert "training steps are 4.0 times as fast as `torch.nn.LSTM`" in text
    assert "inference 1.2 times, and fits 3.0 times. Some shapes gain only 2.0 times" in text
    assert "(avx9)" in text
    assert "flags 90 % of 10 faulty runs. It flags 40 % of 20 healthy runs, and 30 % of 30" in text
    assert "AutoTrainer flag 65 %, 15 % and 5 %" in text


@pytest.mark.parametrize("missing", ["cpu", "fit", "verdict"])
def test_without_all_results_there_are_no_lines(tables, tmp_path, missing):
    write_results(tmp_path)
    (tmp_path / f"{missing}.json").unlink()
    stale = HEADLINES.format("- **Speed:** 99 times\n")
    assert tables.with_tables(stale, tmp_path) == HEADLINES.format("")


def test_its_table_shows_the_best_other_method_beside_the_model(tables, tmp_path):
    scores = [
        {"what": "scores", "task": task, "method": method, "accuracy": accuracy}
        for task, method, accuracy in (
            *(("A", "defaults", 0.8), ("A", "motors", 0.85), ("A", "boosting", 0.9)),
            *(("OSULeaf", "defaults", 1.0), ("OSULeaf", "hydra", 0.5)),
        )
    ]
    interval = {"what": "difference", "low": -0.2, "high": 0.01}
    pairs = [
        {**interval, "task": "A", "method": "defaults", "peer": "boosting", "difference": -0.1},
        {**interval, "task": "A", "method": "motors", "peer": "boosting", "difference": -0.05},
        {**interval, "task": "OSULeaf", "method": "defaults", "peer": "hydra", "difference": 0.5},
    ]
    ranks = [
        {"what": "rank", "kind": kind, "method": method, "mean_rank": rank}
        for kind, method, rank in (
            *(("shapes", "defaults", 2.5), ("shapes", "hydra", 1.5), ("shapes", "quant", 3.0)),
            ("robots", "quant", 1.0),
        )
    ]
    (tmp_path / "accuracy.json").write_text(json.dumps({"rows": [*scores, *pairs, *ranks]}))
    marked = "<!-- bench:best -->\n<!-- /bench -->"
    _, _, *rows, last = tables.with_tables(marked, tmp_path).splitlines()[1:-1]
    first, second = (row.split(" | ") for row in rows)
    assert first[1:] == ["80.0 %", "boosting 90.0 %", "-10.0 points (-20.0 to +1.0) |"]
    assert second[1:3] == ["85.0 %", "boosting 90.0 %"]
    assert " 2.5 | Hydra 1.5 | " in last


def test_its_code_runs(in_tmp_path, capsys):
    (text,) = code_in(README)
    few = "[one for one in load_surfaces() if one.group < 'robot_03']"
    assert "= load_surfaces()" in text
    text = text.replace("load_surfaces()", few)
    exec(text.replace("random_state=0", "max_epochs=2, random_state=0"), {})
    score, *report = capsys.readouterr().out.splitlines()
    assert 0.0 <= float(score) <= 1.0
    assert report[0].startswith("FLUCTUATION REPORT")
    assert Path("report.html").is_file()
    assert SensorLSTMClassifier.load("surfaces.safetensors").classes_.size == 6


def test_a_benchmark_table_has_means_and_the_lowest(tables):
    rows = [
        {"what": what, "threads": threads, "shape": [1, 2, 3, size], "ratio": ratio}
        for what in ("inference", "one step")
        for threads, ratio in ((1, 2.0), (2, 8.0))
        for size, ratio in ((4, ratio), (5, 4 * ratio))
    ]
    text = tables.cpu_table({"environment": ENVIRONMENT, "rows": rows})
    assert "| inference | 2 | 4.00x | 2.00x | 16.00x | 8.00x |" in text
    assert "| one step | 2 | 4.00x | 2.00x | 16.00x | 8.00x |" in text
    assert "2 cores, avx9, torch 2.99." in text


def test_the_table_of_fits_has_each_peers_ratio(tables):
    rows = [
        {
            "what": "fit",
            "batch": batch,
            "hidden_size": 32,
            "threads": threads,
            "peer": peer,
            "ratio": batch * threads * ratio,
        }
        for batch in (2, 98)
        for threads in (1, 2)
        for peer, ratio in (("torch", 1.0), ("Keras", 1.5))
    ]
    text = tables.fit_table({"environment": ENVIRONMENT, "rows": rows})
    assert "| H | torch | Keras |" in text
    assert "| 32 | 14.0x / 28.0x | 21.0x / 42.0x |" in text
    assert "geometric means over batches of 2, 98." in text


def test_the_table_of_the_estimator_has_each_row_with_its_spread(tables):
    ratios = {"ratio": 1.5, "ratio_p10": 1.25, "ratio_p90": 2.0}
    rows = [
        {"what": "search", "against": "theirs", "shape": [98, 100, 1, 16], "batch": 4, **ratios},
        {"what": "predict", "against": "op", "shape": [1, 2, 3], "overhead_us": 84.6, **ratios},
    ]
    text = tables.estimator_table({"environment": ENVIRONMENT, "rows": rows})
    assert "| search | theirs | 98 x 100 x 1 x 16, 4 | 1.50x | 1.25 to 2.00 |" in text
    assert "| predict, 85 us slower | op | 1 x 2 x 3 | 1.50x | 1.25 to 2.00 |" in text


def test_every_file_and_make_target_it_names_exists():
    targets = re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+)", README, re.MULTILINE)
    targets = [code or line for code, line in targets]
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo"} <= set(targets) <= rules
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("http") or leads_somewhere(ROOT / "README.md", link), link
