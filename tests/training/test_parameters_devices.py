import pytest
import torch

from sensorseq.ops.choice import choose
from sensorseq.ops.cuda_kernels import ALL_KERNELS, HOPPER
from sensorseq.training import parameters


@pytest.mark.parametrize(
    ("capability", "there", "hidden_size", "dtype", "chosen"),
    [
        (HOPPER, True, 64, torch.float32, "cuda"),
        (HOPPER, True, 257, torch.float32, "cpu"),
        (HOPPER, True, 64, torch.float64, "cpu"),
        ((8, 6), True, 64, torch.float32, "cuda"),
        ((8, 6), True, 97, torch.float32, "cpu"),
        (HOPPER, False, 64, torch.float32, "cpu"),
    ],
)
def test_auto_chooses_a_gpu_only_if_a_kernel_supports_the_network(
    monkeypatch, capability, there, hidden_size, dtype, chosen
):
    def choose_here(device, dtype, **of_call):
        return choose(
            device.type,
            dtype,
            capability=capability,
            is_built=True,
            verified=ALL_KERNELS,
            **of_call,
        )

    monkeypatch.setattr(parameters, "choose_here", choose_here)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    resolved = parameters.resolve_device("auto", hidden_size=hidden_size, dtype=dtype)
    assert resolved.type == chosen
