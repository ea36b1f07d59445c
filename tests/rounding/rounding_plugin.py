"""Runs tests with changed last digits (`pytest --rounding SEED`); see `rounding_moves`.

`--rounding none` moves nothing and records which tests train. With `--rounding-rows FILE`, each
test writes a line of JSON with its outcome, the numbers in its assertions, and the number of
training runs and moves in the test and its fixtures.
"""

import contextlib
import functools
import json
import os
import re
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import rounding_moves as nudge

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d*)?(?:e[+-]?\d+)?(?![\w.])")
_MOST_FIGURES = 2000  # per test


def add_options(parser):
    group = parser.getgroup("rounding")
    group.addoption("--rounding", metavar="SEED", help="move first weights by a last digit")
    group.addoption("--rounding-rows", metavar="FILE", help="append a line of JSON for each test")
    group.addoption("--rounding-only", metavar="FILE", help="run only the tests named in FILE")


def configure(config):
    rounding = config.getoption("rounding")
    if rounding is None:
        return
    if rounding != "none" and not rounding.isdigit():
        raise pytest.UsageError(f"--rounding {rounding}: expected an integer or none")
    controller = getattr(config, "workerinput", {})
    rows = config.getoption("rounding_rows")
    log = controller.get("rounding_log") or (
        f"{rows}.log" if rows else tempfile.mkstemp(prefix="rounding-", suffix=".log")[1]
    )
    nudge.install(None if rounding == "none" else int(rounding), log)
    config.pluginmanager.register(Rounding(config, rounding, Path(log)), "rounding")


class Rounding:
    """The records of a run with one rounding."""

    def __init__(self, config, seed, log):
        self.seed, self.log = seed, log
        rows = config.getoption("rounding_rows")
        self.rows = rows and Path(rows)
        only = config.getoption("rounding_only")
        self.only = only and set(Path(only).read_text().split("\n"))
        self.figures = defaultdict(list)
        self.outcomes = {}
        self.seconds = Counter()
        self.fixtures = {}
        self.is_worker = hasattr(config, "workerinput")
        if self.rows:
            _watch_numpy_and_torch(self._saw)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node):
        node.workerinput["rounding_log"] = str(self.log)

    def pytest_collection_modifyitems(self, config, items):
        if self.only is not None:
            left = [item for item in items if item.nodeid in self.only]
            config.hook.pytest_deselected(items=[i for i in items if i.nodeid not in self.only])
            items[:] = left

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        with _shared(_import(collector) if isinstance(collector, pytest.Module) else None):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        with _shared(None if fixturedef.scope == "function" else _key(fixturedef)):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item):
        chains = item._fixtureinfo.name2fixturedefs.values()
        shared = [_key(chain[-1]) for chain in chains if chain[-1].scope != "function"]
        self.fixtures[item.nodeid] = [*shared, _import(item.getparent(pytest.Module))]
        for kept in vars(item.module).values():  # clear caches that tests share
            if isinstance(kept, functools._lru_cache_wrapper):
                kept.cache_clear()
        return (yield)

    def pytest_assertion_pass(self, item, lineno, orig, expl):
        self._saw(item.nodeid, expl)

    def _saw(self, test, text):
        kept = self.figures[test]
        if len(kept) < _MOST_FIGURES:
            kept += [float(n) for n in _NUMBER.findall(text)]

    def pytest_runtest_logreport(self, report):
        worst = {"passed": 0, "skipped": 1, "failed": 2}
        earlier = self.outcomes.get(report.nodeid, "passed")
        if worst[report.outcome] >= worst[earlier]:
            self.outcomes[report.nodeid] = report.outcome
        self.seconds[report.nodeid] += report.duration
        # two processes get each report, but only the process that ran the test writes the row
        if report.when == "teardown" and self.rows and report.nodeid in self.fixtures:
            self._write(report.nodeid)

    def _write(self, test):
        row = {
            "test": test,
            "outcome": self.outcomes[test],
            "seconds": round(self.seconds[test], 2),
            "fixtures": self.fixtures.get(test, []),
            "figures": self.figures.pop(test, [])[:_MOST_FIGURES],
        }
        with self.rows.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def pytest_terminal_summary(self, terminalreporter):
        if self.is_worker:
            return
        count = Counter()
        for what, _, _, n in nudge.read_log(self.log):
            count[what] += n
        terminalreporter.write_line(
            f"rounding {self.seed}: {count['trained']} trainings,"
            f" {count['moved']} values moved by a last digit"
        )
        if not self.rows:
            self.log.unlink(missing_ok=True)


def _key(fixturedef):
    return f"{fixturedef.baseid}::{fixturedef.argname}"


def _import(module):
    return f"{module.nodeid}::import"


@contextlib.contextmanager
def _shared(key):
    """Within the block, count actions for every test that uses this fixture or file."""
    if key:
        os.environ[nudge.FIXTURE] = key
    try:
        yield
    finally:
        if key:
            os.environ.pop(nudge.FIXTURE, None)


def _watch_numpy_and_torch(saw):
    """Record the numbers that the assertion functions of numpy and torch compare."""

    def watch(home, name):
        plain = getattr(home, name)

        @functools.wraps(plain)
        def watched(*args, **kwargs):
            test = os.environ.get("PYTEST_CURRENT_TEST", "").rsplit(" ", 1)[0]
            for value in args[:2]:
                try:
                    flat = np.asarray(value, float).ravel()
                except (TypeError, ValueError, RuntimeError):
                    continue
                saw(test, " ".join(f"{x:.6g}" for x in (*flat[:50], *flat[-50:])))
            return plain(*args, **kwargs)

        setattr(home, name, watched)

    for name in ("assert_allclose", "assert_array_equal", "assert_array_less", "assert_equal"):
        watch(np.testing, name)
    import torch

    watch(torch.testing, "assert_close")
