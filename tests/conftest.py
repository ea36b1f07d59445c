"""Fixed seeds, and a report that begins with what was really tested."""

import importlib.util
import random

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _fixed_seeds():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  libraries under test may still use the global generator
    if importlib.util.find_spec("torch"):
        import torch

        torch.manual_seed(0)
