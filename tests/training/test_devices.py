import pytest
import torch

from sensorseq.training import devices


@pytest.mark.parametrize(
    ("kernel", "there", "chosen"),
    [("reference", True, "cpu"), ("native", True, "cuda"), ("native", False, "cpu")],
)
def test_auto_is_a_gpu_only_where_a_kernel_serves_it(monkeypatch, kernel, there, chosen):
    monkeypatch.setattr(devices, "kernel_for", lambda device_type, dtype: kernel)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert devices.resolve_device("auto").type == chosen
