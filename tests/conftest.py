"""Fixed seeds, and a report that begins with what was really tested."""

import importlib.util
import os
import random

import numpy as np
import pytest

try:
    from hypothesis import settings
    from hypothesis.internal.conjecture import providers
except ImportError:  # a bare machine with a GPU has none, and tests/gpu needs none
    settings = None

# scikit-learn's array-API checks run only where scipy was told so before its import
os.environ.setdefault("SCIPY_ARRAY_API", "1")
# waiting threads sleep instead of spinning: machines that run tests are seldom idle
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A test says the same of the same tree each time; `make fuzz` draws anew.
if settings is not None:
    settings.register_profile("repeatable", derandomize=True, deadline=None)
    settings.register_profile("fuzz", derandomize=False, max_examples=1000, deadline=None)
    settings.load_profile("repeatable")


def pytest_configure(config):
    """Keep literals of the code out of what is drawn: each change of one would draw anew."""
    if settings is not None and config.getoption("--hypothesis-profile", "") != "fuzz":
        assert hasattr(providers, "_get_local_constants"), "hypothesis has it under another name"
        none = providers.Constants()
        providers._get_local_constants = lambda: none


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
def _fixed_seeds():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  libraries under test may still use the global generator
    if importlib.util.find_spec("torch"):
        import torch

        torch.manual_seed(0)
