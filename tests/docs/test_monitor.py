"""The code of docs/monitor.md runs; its Keras part runs in tests/peers."""

import json
from pathlib import Path

from checkout import code_in, page_of

PAGE = page_of("monitor.md")


def test_the_loop_in_torch_can_be_typed(in_tmp_path, capsys):
    names = {}
    exec(code_in(PAGE)[0], names)
    assert "FLUCTUATION REPORT   150 train / 50 validation windows, 2 classes" in (
        capsys.readouterr().out
    )
    record = names["monitor"].record
    assert record.fixed_loss.shape == (20,)
    assert record.val_margin.shape == (20, 50)
    assert "<html" in Path("report.html").read_text("utf-8")
    assert len(json.loads(Path("history.json").read_text())) == 20
