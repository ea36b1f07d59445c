"""Both sides of `benchmarks/bench_fit.py` do the same work, so its ratios are meaningful."""

import math
import sys
from pathlib import Path

import pytest
from checkout import script

pytestmark = pytest.mark.peers
FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench_fit():
    sys.path.insert(0, str(FOLDER))
    try:
        module = script(FOLDER / "bench_fit.py")
    finally:
        sys.path.remove(str(FOLDER))
    return module


def test_every_side_learns(bench_fit):
    sizes = *bench_fit.make_windows(), 16, 32, 40
    losses = {name: make(*sizes)() for name, make in bench_fit.PEERS.items()}
    losses["ours"] = bench_fit.fit_ours(*sizes)()
    for name, loss in losses.items():
        assert 0.01 < loss < 0.9 * math.log(6), name


def test_models_side_by_side_equal_those_of_two_halves(bench_fit, monkeypatch):
    monkeypatch.setattr(bench_fit, "MODEL_EPOCHS", 2)
    together = bench_fit.train_models(range(3), 8, 5)
    assert len(set(together)) == 3
    assert bench_fit.train_one_by_one([0, 1], 8, 5) == together[:2]
    assert bench_fit.train_one_by_one([2], 8, 5) == together[2:]
