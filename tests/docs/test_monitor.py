"""What docs/monitor.md tells its reader to type works."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sensorseq.fluctuation import TorchMonitor

PAGE = Path(__file__).resolve().parents[2] / "docs" / "monitor.md"
PLAIN, MORE, LIGHTNING, CLIPPING, _ = re.findall(  # the last is run in tests/peers
    r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S
)


def test_the_loops_in_plain_torch_can_be_typed_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(PLAIN, names)
    assert "FLUCTUATION REPORT   150 train / 50 validation windows, 2 classes" in (
        capsys.readouterr().out
    )
    record = names["monitor"].record
    assert len(record.steps["loss"]) == 200
    assert record.fixed_loss.shape == (20,)
    assert record.val_margin.shape == (20, 50)
    assert "<html" in (tmp_path / "report.html").read_text("utf-8")
    exec(MORE, names)
    assert len(json.loads((tmp_path / "history.json").read_text())) == 3
    assert len(names["monitor"].record.fixed_rows) == 75


class _Module(nn.Module):
    """What a LightningModule is to the pattern of the page."""

    def __init__(self):
        super().__init__()
        self.linear, self.criterion = nn.Linear(4, 2), nn.CrossEntropyLoss()

    def forward(self, x):
        return self.linear(x)


@pytest.mark.parametrize("clips", [False, True])
def test_the_pattern_for_lightning_works_where_its_hooks_are_called_in_its_order(clips, capsys):
    torch.manual_seed(0)
    names = {"LightningModule": _Module, "TorchMonitor": TorchMonitor, "torch": torch}
    exec(LIGHTNING, names)
    exec(CLIPPING, names)
    module = names["Watched"]()
    y = torch.arange(40) % 2
    x = torch.randn(40, 4) + y[:, None]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    loader = DataLoader(TensorDataset(x, y), batch_size=16)
    module.trainer = SimpleNamespace(optimizers=[optimizer], val_dataloaders=loader)
    norms = []

    def closure():  # Lightning takes its steps by one, which clips as well
        loss = module.criterion(module(x), y)
        optimizer.zero_grad()
        loss.backward()
        if clips:
            names["on_before_optimizer_step"](module, optimizer)
            norms.append(nn.utils.clip_grad_norm_(module.parameters(), 0.01).item())
        return loss

    module.on_train_start()
    for _ in range(3):
        optimizer.step(closure=closure)
        module.on_train_epoch_end()
    module.on_train_end()
    assert "40 train / 40 validation windows" in capsys.readouterr().out
    record = module.monitor.record
    assert record.steps["n_windows"].tolist() == [40, 40, 40]
    if clips:
        assert record.steps["grad_norm"] == pytest.approx(norms)
