"""Every device these tests take: the CPU everywhere, and the GPU where there is one."""

import pytest
import torch
from layer_laws import PRECISIONS

NO_GPU = "needs a GPU: torch sees none here"


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip(NO_GPU)
    return request.param


@pytest.fixture(params=[("cpu", "float32"), *(("cuda", name) for name in PRECISIONS)], ids=":".join)
def place(request):
    """A device and a precision that it has kernels for."""
    device, _ = request.param
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip(NO_GPU)
    return request.param


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        pytest.skip(NO_GPU)
    yield "cuda"
    torch.cuda.synchronize()  # what went wrong in a kernel fails the test that queued it
    torch.cuda.empty_cache()
