"""What the README says can be found where it says it comes from."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


ENVIRONMENT = {"processor": "P", "cores": 2, "isa": "avx9", "torch": "2.99"}


@pytest.fixture(scope="module")
def tables():
    path = ROOT / "benchmarks" / "readme_table.py"
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("readme_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_tables_are_what_the_results_say(tables):
    assert "cpu" in {name for _, name, _ in tables.MARKED.findall(README)}
    assert tables.with_tables(README) == README


def test_a_benchmark_table_says_means_lowest_and_every_shape(tables):
    rows = [
        {"what": what, "threads": threads, "shape": [1, 2, 3, size], "ratio": ratio, **share}
        for what, share in (("inference", {"ours_of_peak": 0.5}), ("one step", {}))
        for threads, ratio in ((1, 2.0), (2, 8.0))
        for size, ratio in ((4, ratio), (5, 4 * ratio))
    ]
    text = tables.cpu_table({"environment": ENVIRONMENT, "rows": rows})
    assert "| inference | 2 | 4.00x | 2.00x | 16.00x | 8.00x |" in text
    assert "| one step | 2 | 4.00x | 2.00x | 16.00x | 8.00x |" in text
    assert "| 1 x 2 x 3 x 4 | 2.00x / 8.00x, 50 % |" in text
    assert "| 1 x 2 x 3 x 5 | 8.00x / 32.00x, 50 % |" in text
    assert "P, 2 cores, avx9, torch 2.99." in text


def test_the_table_of_fits_says_each_peers_ratio(tables):
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
    assert "| batch | H | torch | Keras |" in text
    assert "| 2 | 32 | 2.0x / 4.0x | 3.0x / 6.0x |" in text
    assert "| 98 | 32 | 98.0x / 196.0x | 147.0x / 294.0x |" in text


def test_the_table_of_the_estimator_says_each_row_with_its_spread(tables):
    ratios = {"ratio": 1.5, "ratio_p10": 1.25, "ratio_p90": 2.0}
    rows = [
        {"what": "search", "against": "theirs", "shape": [98, 100, 1, 16], "batch": 4, **ratios},
        {"what": "predict", "against": "op", "shape": [1, 2, 3], "overhead_us": 84.6, **ratios},
    ]
    text = tables.estimator_table({"environment": ENVIRONMENT, "rows": rows})
    assert "| search | theirs | 98 x 100 x 1 x 16, 4 | 1.50x | 1.25 to 2.00 |" in text
    assert "| predict, 85 us beyond it | op | 1 x 2 x 3 | 1.50x | 1.25 to 2.00 |" in text


def test_every_file_and_make_target_it_names_exists():
    targets = re.findall(r"`make ([a-z-]+)`", README)
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets
    assert set(targets) <= rules
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link
