"""Tests of the hardening programs: changed files, repaired checksums, and missing parts."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fits import learn_few_features

sys.path.insert(0, str(Path(__file__).parent))

import drawn_calls
import exports_agree
import live_input
import mutations
import parsers
import run as harden


def test_changes_depend_on_the_seed_alone_and_json_stays_json():
    text = b'{"a": [1, "two", null], "b": {"c": 0.5}}'
    changed = [mutations.mutate_json(random.Random(seed), text) for seed in range(60)]
    assert changed == [mutations.mutate_json(random.Random(seed), text) for seed in range(60)]
    normalized = [json.dumps(json.loads(changed_text)) for changed_text in changed]
    assert sum(changed_text != json.dumps(json.loads(text)) for changed_text in normalized) > 30
    plain = [mutations.mutate(random.Random(seed), text) for seed in range(60)]
    assert sum(changed_text != text for changed_text in plain) > 30


@pytest.mark.parametrize("name", ["toml", "event file", "manifest", "ulog", "edge impulse json"])
def test_good_files_are_read_and_changed_ones_read_or_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(parsers, "FINDINGS", tmp_path / "findings")
    session = parsers.Session(name, tmp_path)
    for data in session.seeds:
        assert session.parser.repair(data) == data
        session.run(data)
    assert session.state["refused"] == 0
    rng = random.Random(0)
    for _ in range(40):
        session.run(session.change(rng, rng.choice(session.seeds)))
    assert session.state["refused"] > 0
    assert session.state["findings"] == {}


def test_drawn_models_are_loaded_or_refused():
    drawn_calls.counts.clear()
    for seed in range(20):
        drawn_calls.models(random.Random(seed), n_spoiled=seed % 2)
    assert drawn_calls.counts["models done"] >= 10  # every model that is not spoiled must load
    assert drawn_calls.counts["models refused"] > 0
    assert drawn_calls.counts["models when right"] == 0


def test_live_lines_are_compared_with_the_drawn_samples(monkeypatch):
    assert [live_input.check(seed) for seed in range(12)] == [""] * 12
    exact = live_input.read

    def miscounted(parser, blocks):
        samples, problem, n_unreadable = exact(parser, blocks)
        return samples, problem, n_unreadable + (len(blocks) == 1)

    monkeypatch.setattr(live_input, "read", miscounted)
    assert "differ from the drawn ones" in live_input.check(0)


@pytest.mark.parametrize("seed", [4, 17, 22])
def test_the_exports_of_drawn_models_agree(seed, tmp_path, monkeypatch):
    """Three models, of several sensors, of recordings with a step, and of arrays."""
    learn_few_features(monkeypatch)
    trial = exports_agree.Trial(seed, tmp_path).run()
    assert trial.differences.keys() >= {"estimator", "prediction", "onnx", "c"}
    assert trial.failures() == {}, str(trial)


def test_an_export_that_answers_a_refused_window_is_a_failure(tmp_path):
    expected = np.array([[0.25, 0.75], [np.nan, np.nan]])
    assert exports_agree.difference(expected, expected) == 0
    assert exports_agree.difference([[0.25, 0.5], [np.nan, np.nan]], expected) == 0.25
    assert exports_agree.difference(np.full((2, 2), 0.5), expected) == np.inf
    assert exports_agree.difference(expected[:1], expected) == np.inf


def test_an_unknown_error_is_a_finding_and_its_file_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(parsers, "FINDINGS", tmp_path / "findings")
    session = parsers.Session("toml", tmp_path)
    monkeypatch.setattr(session.parser, "parse", lambda path: {}["no such"])
    session.run(b"a = 1")
    assert list(session.state["findings"]) == ["KeyError at ?"]
    (kept,) = (tmp_path / "findings").glob("*.toml")
    assert kept.read_bytes() == b"a = 1"


def test_a_missing_part_is_reported_as_absent(monkeypatch):
    monkeypatch.setitem(harden.PARTS, "memory", ("no_such.py", None, 1, "nothing"))
    row = harden.run("memory")
    assert row["state"] == "absent"
    assert "| memory | nothing | 0 | 0 | absent |" in harden.table([row])


KEEPING = """
import sys
sys.path.insert(0, sys.argv[1])
import flat_memory
kept, n_bytes = [], int(sys.argv[2])
facts, is_flat = flat_memory.judge(flat_memory.measure(lambda number: kept.append(b"x" * n_bytes)))
print(is_flat, facts["bytes_each"])
"""


@pytest.mark.parametrize(("n_bytes", "is_flat"), [(0, "True"), (4000, "False")])
def test_work_that_keeps_memory_is_distinguished_from_work_that_does_not(n_bytes, is_flat):
    # in its own process, because this process would reuse memory that other tests have freed
    command = [sys.executable, "-c", KEEPING, str(Path(__file__).parent), str(n_bytes)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert printed[0] == is_flat
    assert abs(int(printed[1]) - n_bytes) < 0.1 * n_bytes + 100
