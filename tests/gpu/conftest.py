"""The devices of these tests: the CPU everywhere, and the GPU if there is one."""

import os
import warnings

import pytest
import torch

if (
    torch.cuda.is_available()
):  # unless the variable is set, the kernels are tested even if their check failed
    os.environ.setdefault("SENSORSEQ_CUDA_KERNELS", "1")

from layer_laws import PRECISIONS

from sensorseq.ops.cuda_kernels import ALL_KERNELS

NO_GPU = "needs a GPU: torch sees none here"
SIZES = sorted({size for _, size in ALL_KERNELS})
WIDEST = (*SIZES, 512)  # the sizes of the kernels, and a larger size, which torch computes


def pytest_addoption(parser):
    parser.addoption(
        "--padded-hidden",
        type=lambda text: [int(size) for size in text.split(",")],
        help="run only GPU tests of layers that use kernels of these sizes; 0: of no single size",
    )


def pytest_collection_modifyitems(config, items):
    wanted = config.getoption("--padded-hidden", None)
    if wanted is None:
        return
    chosen = [item for item in items if padded_hidden(item) in wanted and not is_on_cpu(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def padded_hidden(item):
    """Return the hidden size of the kernel that a test runs, or 0 if it runs none or several."""
    arguments = parameters(item)
    hidden_size = arguments.get("hidden_size") or getattr(
        arguments.get("variant"), "hidden_size", 0
    )
    return hidden_size and min(size for size in WIDEST if size >= hidden_size)


def is_on_cpu(item):
    arguments = parameters(item)
    return "cpu" in (arguments.get("device"), arguments.get("place", [None])[0])


def parameters(item):
    return item.callspec.params if hasattr(item, "callspec") else {}


@pytest.fixture(autouse=True)
def _expected_warnings():
    """Ignore the warnings about unchecked kernels and about cuDNN weights in separate tensors."""
    for message in ("SENSORSEQ_CUDA_KERNELS=1", "RNN module weights are not part of"):
        warnings.filterwarnings("ignore", message)


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip(NO_GPU)
    return request.param


@pytest.fixture(params=[("cpu", "float32"), *(("cuda", name) for name in PRECISIONS)], ids=":".join)
def place(request):
    """A device, and a precision for which it has kernels."""
    device, _ = request.param
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip(NO_GPU)
    return request.param


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        pytest.skip(NO_GPU)
    yield "cuda"
    torch.cuda.synchronize()  # an error in a kernel must fail the test that queued it
    torch.cuda.empty_cache()
