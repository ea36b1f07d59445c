"""One binary works with every torch from 2.11 on: it loads under the oldest and newest version."""

import subprocess
import venv

import pytest

from sensorseq.ops import _extension

PROBE = """
import sys, torch
torch.ops.load_library(sys.argv[1])
torch.manual_seed(0)
lstm = torch.nn.LSTM(3, 20, batch_first=True, bidirectional=True)
x = torch.randn(9, 30, 3, requires_grad=True)
parts = [
    torch.stack([getattr(lstm, n + "_l0" + s).detach() for s in ("", "_reverse")])[None]
    for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
]
expected, _ = lstm(x)
arguments = (parts[0], parts[1], parts[2] + parts[3], None, None, None)
hidden, _, _, saved = torch.ops.sensorseq.lstm(x.detach()[None], None, *arguments, True)
assert (hidden[0] - expected).abs().max() < 1e-6
expected.sum().backward()
grads = torch.ops.sensorseq.lstm_backward(
    torch.ones_like(hidden), None, None, x.detach()[None], None, *arguments, saved, True
)
assert (grads[0][0] - x.grad).abs().max() < 1e-5
try:
    torch.ops.sensorseq.lstm(x.detach()[None].double(), None, *arguments, True)
except RuntimeError as error:
    assert "has another dtype" in str(error)
else:
    raise AssertionError("no error")
print(torch.__version__, torch.ops.sensorseq.cpu_isa())
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2.11.0", "2.13.0"])
def test_the_library_loads_and_computes_under(version, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "numpy", f"torch=={version}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if install.returncode:
        pytest.skip(f"torch {version} cannot be installed here: {install.stderr.strip()[-200:]}")
    library = _extension.load()
    finished = subprocess.run(
        [python, "-c", PROBE, str(library)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(version)
