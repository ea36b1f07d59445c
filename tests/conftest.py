"""Fix the seeds, and begin the report with the versions that were actually tested."""

import fcntl
import importlib.util
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # a bare GPU machine may lack hypothesis; tests/gpu does not need it
    settings = None

sys.path += [str(Path(__file__).parent / name) for name in ("rounding", "support")]
import remembered
import rounding_plugin as rounding

# scikit-learn's array-API checks run only if this variable is set before scipy is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests that a shell starts in the background ignore Ctrl-C, but some tests need to receive it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Profiles for the number of drawn inputs per test: `dev` during development, `ci` before a change
# is merged, and `fuzz` to look for new failures. `dev` and `ci` draw the same inputs each time.
if settings is not None:
    # a slow test on a busy machine is not a failure
    patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("dev", max_examples=10, derandomize=True, **patient)
    settings.register_profile("ci", max_examples=40, derandomize=True, **patient)
    settings.register_profile("fuzz", max_examples=1000, **patient)
    settings.load_profile("dev")


def pytest_addoption(parser):
    rounding.add_options(parser)


def pytest_configure(config):
    rounding.configure(config)
    config.pluginmanager.register(remembered.Remembered(config))


def pytest_collection_modifyitems(items):
    # what compiles for minutes comes first, so that no process is left alone with it at the end
    items.sort(key=lambda item: item.get_closest_marker("native") is None)


def pytest_report_header():
    if not importlib.util.find_spec("torch"):
        return "torch is not installed"
    import torch

    try:
        from sensorseq.ops import _extension

        isa = f"{_extension.cpu_isa()} of {', '.join(_extension.cpu_isas())}"
    except (ImportError, RuntimeError) as error:
        isa = f"no native core ({error})"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return f"instruction set: {isa}; GPU: {gpu}; torch {torch.__version__}"


@pytest.fixture(autouse=True)
def _fixed_seeds_and_no_interrupt_before():
    if engine := sys.modules.get("sensorseq.training.engine"):
        engine._last_interrupt_s = float("-inf")  # two interrupts within 2 s would end all tests
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  libraries under test may still use the global generator
    if importlib.util.find_spec("torch"):
        import torch

        torch.manual_seed(0)


@pytest.fixture(scope="session")
def built_once(request, tmp_path_factory):
    """Return a function that takes a name and `build(folder)`; only one process calls `build`."""
    base = tmp_path_factory.getbasetemp()
    # a worker of pytest-xdist; workers share the parent folder
    if hasattr(request.config, "workerinput"):
        base = base.parent

    def built(name, build):
        folder, unfinished = base / name, base / f"{name}-unfinished"
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                build(unfinished)
                unfinished.rename(folder)
        return folder

    return built


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test in its temporary folder, and return that folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def few_features() -> Iterator[None]:
    """Limit the features in a module's fits, so that compiling takes less time."""
    from fits import learn_few_features

    with pytest.MonkeyPatch.context() as patch:
        learn_few_features(patch)
        yield


@pytest.fixture
def without_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes the import of a module fail."""
    return lambda name: monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def two_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept a second interrupt even if it comes late on a busy machine."""
    monkeypatch.setattr("sensorseq.training.engine.INTERRUPTED_TWICE_S", 60.0)


@pytest.fixture
def lstm_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the networks a nonzero weight even if they add nothing to the features."""
    _change_lstm_weight(monkeypatch, lambda weight: max(weight, 0.1))


@pytest.fixture
def lstm_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the networks weight 0."""
    _change_lstm_weight(monkeypatch, lambda weight: 0.0)


def _change_lstm_weight(monkeypatch: pytest.MonkeyPatch, change: Callable[[float], float]) -> None:
    from sensorseq.learners import weigh

    fit_weights = weigh.fit_weights

    def changed(*given: Any) -> Any:
        weights, bias = fit_weights(*given)
        weights[0] = change(weights[0])
        return weights, bias

    monkeypatch.setattr(weigh, "fit_weights", changed)
